"""Training runs: an engine is bound to frozen versions. The fee is held, and charged once the artifact is stored.

request -> (Celery) run -> ModelVersion + charge + log entry in one transaction, or the hold is released with a reason.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from django.conf import settings as site
from django.db import transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from attribution import cards, fitting
from attribution.models import Artifact
from datanets import leaders, licences
from datanets import services as datanets
from datanets.models import Datanet, Version
from ledger import chart
from ledger import services as ledger

from . import access, audit, charges, listings, notifications, rules, tasks
from .errors import Invalid, NotAllowed, NotReady
from .models import DatanetTerms, ListedModel, ModelVersion, TrainingRun

logger = logging.getLogger(__name__)

VERSIONS_MAX = 5
TRAINING_HOLD_S = 7 * 86400
RING_AGAIN_S = 60
NOT_OVER = (TrainingRun.Status.WAITING, TrainingRun.Status.RUNNING)


def fee_nano(datanet: Datanet) -> int:
    """What a training run on a Datanet costs now."""
    terms = DatanetTerms.objects.filter(datanet=datanet).order_by("-adopted_at", "-pk").first()
    return terms.training_fee_nano if terms else 0


@transaction.atomic
def set_fee(datanet: Datanet, *, by: User, training_fee_nano: int) -> DatanetTerms:
    """Publish a training fee; it holds for runs requested after it."""
    if not datanets.can_own(by, datanet):
        raise NotAllowed(_("Only the owner of a Datanet may set its fee."))
    if not 0 <= training_fee_nano <= listings.PRICE_NANO_MAX:
        raise Invalid(_("A fee is 0 or more, and at most a million OPEN."))
    audit.record(by, "set_training_fee", f"datanet:{datanet.pk}", training_fee_nano=str(training_fee_nano))
    return DatanetTerms.objects.create(datanet=datanet, training_fee_nano=training_fee_nano, adopted_by=by)


@transaction.atomic
def request(*, model: ListedModel, by: User, versions: Sequence[Version], settings: dict | None = None) -> TrainingRun:
    """Ask for a training run: check the rights, hold the fee, ring the worker.

    Raises:
        NotAllowed: not the model's owner, no access to a Datanet, or a licence that forbids training or this mixture.
        NotReady: the model is retired, or one that no Datanet shapes, or a run of it is not over: a double click is paid once.
        Invalid: no version, more than five, several kinds or schemas.
        ledger.InsufficientFunds: the wallet holds less than the fee. Nothing was held.
    """
    if model.owner_id != by.pk:
        raise NotAllowed(_("Only the owner of a model may train it."))
    # The row of the model is the lock that makes two clicks wait for each other.
    model = ListedModel.objects.select_for_update(of=("self",)).select_related("owner").get(pk=model.pk)
    if model.is_operator_model:
        raise NotReady(_("No Datanet shapes this model, so it is not trained. Nothing was held."))
    if model.retire_from is not None:
        raise NotReady(_("A retired model cannot be trained. Create a new one."))
    if model.training_runs.filter(status__in=NOT_OVER).exists():
        raise NotReady(_("A training run of this model is not over yet. Nothing was held."))
    _check_versions(by, versions)
    fee = sum(fee_nano(version.datanet) for version in versions)
    run = TrainingRun.objects.create(
        model=model,
        requested_by=by,
        settings=settings or {},
        split_rule=rules.training_rule(),
        fee_nano=fee,
        hold_id=ledger.new_id() if fee else None,
        posting_id=ledger.new_id(),
    )
    run.versions.set(versions)
    if run.hold_id:
        ledger.hold(
            id=run.hold_id,
            account=chart.wallet(by.pk),
            amount_nano=fee,
            expires_in_s=TRAINING_HOLD_S,
            owner=f"training:{run.pk}",
        )
    # Robust: the run is stored, and `ring_waiting` rings again where the broker was down.
    transaction.on_commit(lambda: tasks.train.delay(str(run.pk)), robust=True)
    return run


def ring_waiting() -> int:
    """Ring again for the runs that no worker has begun. Returns for how many."""
    asked_before = timezone.now() - timedelta(seconds=RING_AGAIN_S)
    waiting = TrainingRun.objects.filter(status=TrainingRun.Status.WAITING, created_at__lt=asked_before)
    ids = list(waiting.order_by("created_at").values_list("pk", flat=True))
    for pk in ids:
        tasks.train.delay(str(pk))
    return len(ids)


def run(training_run_id: UUID | str) -> TrainingRun:
    """Do a training run. Ringing twice, or after a killed worker, ends in one version and one charge.

    While another worker is at it, nothing happens.
    """
    with ledger.only_one(f"training:{training_run_id}") as alone:
        return _run(training_run_id) if alone else TrainingRun.objects.get(pk=training_run_id)


def _run(training_run_id: UUID | str) -> TrainingRun:
    training = TrainingRun.objects.select_related("model__owner", "split_rule").get(pk=training_run_id)
    if training.status not in NOT_OVER:
        return training
    TrainingRun.objects.filter(pk=training.pk).update(status=TrainingRun.Status.RUNNING, started_at=timezone.now())
    versions = list(training.versions.select_related("datanet").order_by("created_at", "pk"))
    try:
        artifact = fitting.fit(engine=training.model.engine, versions=versions, settings=training.settings)
    except fitting.CannotFit as problem:
        return _fail(training, code=problem.code, params=problem.params)
    return _finish(training, artifact, versions)


@transaction.atomic
def _finish(training: TrainingRun, artifact: Artifact, versions: Sequence[Version]) -> TrainingRun:
    """The artifact is stored: a version, the charge and the log entry, all or nothing."""
    model = ListedModel.objects.select_for_update(of=("self",)).select_related("owner").get(pk=training.model_id)
    training = TrainingRun.objects.select_for_update(of=("self",)).select_related("split_rule").get(pk=training.pk)
    if training.status not in NOT_OVER:
        return training
    number = (model.versions.aggregate(last=Max("number"))["last"] or 0) + 1
    version = ModelVersion.objects.create(
        model=model, number=number, artifact_sha256=artifact.sha256, training_run=training
    )
    if training.hold_id:
        posting = charges.build(
            id=training.posting_id,
            kind=ledger.Kind.TRAINING_CHARGED,
            reference=f"training:{training.pk}",
            payer=chart.wallet(training.requested_by_id),
            version=version,
            rule=training.split_rule,
            amount_nano=training.fee_nano,
            pool="training",
            private={"buyer": chart.wallet(training.requested_by_id)},
        )
        ledger.draw([ledger.Draw(hold_id=training.hold_id, posting=posting, close=True)])
        charges.ring_attribution(posting, source="training", version=version, rule=training.split_rule)
    ledger.record_fact(
        id=version.pk,
        reference=f"model_version:{version.pk}",
        entry=ledger.Entry(
            type="model.published",
            public={
                "model_id": str(model.pk),
                "version": version.number,
                "artifact": f"sha256:{artifact.sha256}",
                "versions": [str(v.pk) for v in versions],
            },
        ),
    )
    training.status, training.finished_at = TrainingRun.Status.DONE, timezone.now()
    training.save(update_fields=["status", "finished_at"])
    cards.ask(artifact_sha256=artifact.sha256, model_id=model.pk, model_version_id=version.pk)
    listings.announce_catalogue()
    notifications.notify(model.owner, "training_done", model=version.path)
    url = notifications.address_of("model", model.owner.username, model.slug)
    notifications.tell_users(access.users_of(model), "version_published", url=url, model=version.path)
    return training


@transaction.atomic
def _fail(training: TrainingRun, *, code: str, params: Mapping[str, str]) -> TrainingRun:
    """Nothing was made: the whole fee is released, and the page says why, in the language of its reader."""
    training = TrainingRun.objects.select_for_update(of=("self",)).select_related("model").get(pk=training.pk)
    if training.status not in NOT_OVER:
        return training
    training.status, training.finished_at = TrainingRun.Status.FAILED, timezone.now()
    training.error_code, training.error_params = code, dict(params)
    training.save(update_fields=["status", "finished_at", "error_code", "error_params"])
    if training.hold_id:
        ledger.close(training.hold_id)
    notifications.notify(training.requested_by, "training_failed", model=training.model.slug, code=code, **params)
    logger.warning("training run %s failed: %s", training.pk, code)
    return training


def fail_overdue() -> int:
    """End runs whose worker died for good (twice the hard limit ago), so that no fee stays held. Returns how many."""
    limit = timezone.now() - timedelta(seconds=2 * site.CELERY_TASK_TIME_LIMIT)
    overdue = TrainingRun.objects.filter(status__in=NOT_OVER, created_at__lt=limit)
    for training in overdue:
        _fail(training, code="worker_lost", params={})
    return len(overdue)


def _check_versions(user: User, versions: Sequence[Version]) -> None:
    if not 1 <= len(versions) <= VERSIONS_MAX or len({version.datanet_id for version in versions}) != len(versions):
        raise Invalid(_("Choose one to five versions, each of another Datanet."))
    pools = [version.datanet for version in versions]
    schemas = [leaders.asked_of(pool.schema) for pool in pools]
    if len({pool.kind for pool in pools}) > 1 or any(schema != schemas[0] for schema in schemas):
        raise Invalid(_("All versions must be of one kind, and tables of one schema."))
    for pool in pools:
        if not datanets.can_read(user, pool):
            raise NotAllowed(_("You have no access to the Datanet %(path)s.") % {"path": pool.path})
    allowed, reason = licences.mixture_allowed([pool.licence for pool in pools])
    if not allowed:
        raise NotAllowed(_("These licences do not allow this training: %(reason)s.") % {"reason": reason})

"""Noise: judged per epoch, put before people, and the money of it meanwhile and afterwards.

    opened              what the rows earned through the model and is pending is held; nothing is taken
    upheld              as before, until the time to appeal is over or the appeal is answered
    returned            of each lot the rows' part goes to the model's unattributed account, as an entry of its own; so does
                        what they earn through the model later. The rest of each lot goes on its way
    cleared, lapsed     the lots are let go, and vest when they are due

What has vested is nobody's to take back. Who decides is `attribution.noise_cases`.
"""

from __future__ import annotations

import logging

from django.db import transaction
from django.db.models import Q, Sum
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.models import User
from attribution import bundles, disputed, frozen, noise_cases, noise_judging, reversals
from attribution.models import Epoch, NoiseCase, NoiseReport, PlannedPosting, Transfer
from ledger import chart
from ledger import services as ledger

from . import audit, holds, notifications
from .errors import NotBookedYet
from .models import ERASED, ListedModel

logger = logging.getLogger(__name__)

Status = NoiseCase.Status


# --- By the clock


def judge_due() -> int:
    """Judge the newest epoch of each model, once. Returns how many were judged.

    One worker at a time does this, and a model after the other: it may take half a minute of one core each, and no
    deadline waits for it.
    """
    judged = 0
    with ledger.only_one("noise") as mine:
        for epoch in noise_judging.waiting() if mine else ():
            try:
                judged += bool(judge_epoch(epoch))
            except (bundles.Damaged, FileNotFoundError) as problem:
                logger.error("epoch %s cannot be judged: %s", epoch.pk, problem)
            except NotBookedYet:
                logger.info("noise cases of epoch %s wait for a settlement", epoch.pk)
    return judged


def judge_epoch(epoch: Epoch) -> list[NoiseReport]:
    """Judge the versions called in an epoch, and store what was found with its cases. The second time nothing happens.

    The science runs outside the transaction. Raises NotBookedYet: earnings of accused rows are between two accounts.
    """
    if epoch.noise_reports.exists():
        return []
    found = noise_judging.findings(epoch)
    with transaction.atomic():
        # mutation: without this lock, a plan that is stored meanwhile would make a lot that nobody holds
        reversals.lock_every()
        if epoch.noise_reports.exists():
            return []
        reports = []
        for finding in found:
            report = NoiseReport.objects.create(
                epoch=epoch, model_id=epoch.model_id, model_version_id=finding.model_version_id, **finding.fields
            )
            reports.append(report)
            for accused in finding.convicted:
                _open(report, accused)
        return reports


def hold_new_lots() -> int:
    """Remember the lots that came in, held, while a case runs. Returns how many."""
    held = 0
    for pk in list(NoiseCase.objects.filter(ended_at=None).values_list("pk", flat=True)):
        with transaction.atomic():
            case = NoiseCase.objects.select_for_update(no_key=True).get(pk=pk)
            if case.ended_at is None:
                held += holds.hold_for_noise(case, [stake.lot for stake in _stakes(case) if stake.lot])
    return held


def end_overdue() -> int:
    """End the cases whose time is over. Returns how many; one whose money is being booked ends the next time."""
    ended = 0
    for overdue in list(NoiseCase.objects.filter(ended_at=None, due_at__lte=noise_cases.clock())):
        try:
            with transaction.atomic():
                case = noise_cases.end_overdue(overdue)
                if case is not None:
                    _ended(case, by=None)
                    ended += 1
        except NotBookedYet:
            logger.info("noise case %s waits for a settlement", overdue.pk)
    return ended


def return_new() -> int:
    """Of rows that are not paid: move what came in since. Returns how many lots that were."""
    moved = 0
    with_pending = NoiseCase.objects.filter(status=Status.RETURNED)
    for case in list(with_pending):
        if any(stake.lot for stake in _stakes(case)):
            with transaction.atomic():
                reversals.lock_every()
                moved += _return(case)
    return moved


# --- What people do


@transaction.atomic
def state(case: NoiseCase, *, by: User, text: str) -> NoiseCase:
    """The contributor's side. Raises what `attribution.noise_cases.state` raises."""
    # Not in the audit log: administrators, who decide, read there who did what.
    return noise_cases.state(case, by=by, text=text)


@transaction.atomic
def decide(case: NoiseCase, *, by: User, uphold: bool, note: str) -> NoiseCase:
    """Say whether the rows are noise. A first "yes" takes nothing: it may be appealed.

    Raises what `attribution.noise_cases.decide` raises; NotBookedYet: earnings of theirs are between two accounts.
    """
    case = noise_cases.decide(case, by=by, uphold=uphold, note=note)
    if case.ended_at is None:
        audit.record(by, "decide_noise_case", _target(case), decision=case.status)
        _tell(case, case.contributor, "noise_upheld")
    else:
        _ended(case, by=by)
    return case


@transaction.atomic
def appeal(case: NoiseCase, *, by: User, text: str) -> NoiseCase:
    """Ask for a second look. Raises what `attribution.noise_cases.appeal` raises."""
    case = noise_cases.appeal(case, by=by, text=text)
    _tell_deciders(case)
    return case


def held_nano(case: NoiseCase) -> int:
    """What the rows earned that is held now, in lots that are held whole."""
    if case.ended_at is not None:
        return 0
    held = [stake for stake in _stakes(case) if stake.lot]
    return sum(sum(disputed.left_of(stake, case.contributor_id).values()) for stake in held)


def returned_nano(case: NoiseCase) -> int:
    """What went to the unattributed account, less what went back with calls that were refunded since."""
    return Transfer.objects.filter(noise=case).with_kept().aggregate(total=Sum("kept_nano"))["total"] or 0


def forget_words_of(user: User) -> None:
    """Erase what was written in cases about a person's records, and what they wrote as a decider. What was decided stands."""
    about = NoiseCase.objects.filter(contributor=user)
    about.exclude(statement="").update(statement=ERASED)
    about.exclude(appeal="").update(appeal=ERASED)
    NoiseCase.objects.filter(Q(contributor=user) | Q(decided_by=user)).exclude(note="").update(note=ERASED)
    NoiseCase.objects.filter(Q(contributor=user) | Q(second_by=user)).exclude(second_note="").update(second_note=ERASED)


def _open(report: NoiseReport, accused: noise_judging.Convicted) -> NoiseCase:
    _check_is_folded(accused.contributor_id)
    case = noise_cases.open_case(report, accused)
    stakes = _stakes(case)
    holds.hold_for_noise(case, [stake.lot for stake in stakes if stake.lot])
    for stake in stakes:
        if stake.lot is None:
            frozen.hold_ahead(stake)
    # What vested before this moment is not in question; what is held from it on does not vest.
    case.opened_at = noise_cases.clock()
    case.save(update_fields=["opened_at"])
    audit.record(None, "open_noise_case", _target(case), records=len(accused.record_ids))
    _tell(case, case.contributor, "noise_opened", records=str(len(accused.record_ids)))
    _tell_deciders(case)
    return case


def _ended(case: NoiseCase, *, by: User | None) -> None:
    """Let the lots go, or take the rows' part out of them, and tell the contributor."""
    # mutation: without this lock, a lot could be let go while a plan holds it ahead
    reversals.lock_every()
    _check_is_folded(case.contributor_id)
    if case.status == Status.RETURNED:
        _return(case)
    holds.let_go(case)
    for stake in _stakes(case):
        if stake.lot is None:
            frozen.hold_ahead(stake)
        else:
            holds.apply(stake.lot.id)
    audit.record(by, "decide_noise_case" if by else "end_noise_case", _target(case), decision=case.status)
    told = {"amount_nano": str(returned_nano(case))} if case.status == Status.RETURNED else {}
    _tell(case, case.contributor, f"noise_{case.status}", **told)


def _return(case: NoiseCase) -> int:
    """Move the rows' part of each lot to the unattributed account, and let the rest go. Call it under the lock."""
    moved = 0
    for stake in _stakes(case):
        if stake.lot is None:
            continue
        left_nano = disputed.left_of(stake, case.contributor_id)
        if not left_nano:
            continue
        posting = ledger.Posting(
            id=ledger.new_id(),
            kind=ledger.Kind.ADJUSTMENT,
            reference=f"noise:{case.pk}:{stake.posting_id}",
            moves=[ledger.Move(stake.account, chart.unattributed(case.model_id), sum(left_nano.values()))],
            takes_from=stake.posting_id,
        )
        ledger.post_many([posting])
        Transfer.objects.bulk_create(
            [
                Transfer(
                    noise=case,
                    epoch_id=stake.epoch_id,
                    source=stake.source,
                    record_id=record_id,
                    payee_id=case.contributor_id,
                    amount_nano=amount_nano,
                    settlement_id=stake.posting_id,
                    posting_id=posting.id,
                )
                for record_id, amount_nano in left_nano.items()
            ]
        )
        holds.apply(stake.lot.id)
        moved += 1
    return moved


def _stakes(case: NoiseCase) -> list[disputed.Stake]:
    """Where the pending money of the rows lies that they earned through this model."""
    record_ids = list(case.records.values_list("record_id", flat=True))
    account = chart.pending(case.contributor_id)
    lots = {lot.posting_id: lot for lot in ledger.pending_of(account)}
    postings = PlannedPosting.objects.filter(
        Q(pk__in=lots) | Q(epoch__status=Epoch.Status.PLANNED), epoch__model_id=case.model_id
    )
    return disputed.stakes_in(postings, account, record_ids, lots)


def _check_is_folded(contributor_id: int) -> None:
    try:
        disputed.check_is_folded(contributor_id)
    except disputed.Unsettled as moving:
        raise NotBookedYet(
            _("Earnings of these records are being booked at this moment. Nothing was changed; try again in a minute.")
        ) from moving


def _tell_deciders(case: NoiseCase) -> None:
    for person in noise_cases.deciders_of(case):
        _tell(case, person, "noise_to_decide")


def _tell(case: NoiseCase, user: User, kind: str, **params: str) -> None:
    url = notifications.without_language(reverse("noise_case", args=[case.pk]))
    model = ListedModel.objects.select_related("owner").get(pk=case.model_id)
    notifications.notify(user, kind, url=url, datanet=case.datanet.path, model=model.path, **params)


def _target(case: NoiseCase) -> str:
    return f"noise:{case.pk}"

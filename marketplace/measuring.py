"""Score cards on wish: who may have a version measured again."""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from attribution import cards
from attribution.models import ScoreCard

from . import audit
from .errors import NotAllowed, NotReady
from .models import ModelVersion


@transaction.atomic
def measure_again(version: ModelVersion, *, by: User) -> ScoreCard:
    """Have a version measured once more, from another seed. While it is being measured, that card is returned.

    What it says holds for epochs that close after it is done.

    Raises:
        NotAllowed: neither the model's owner nor an admin. NotReady: an operator model, which no data shaped.
    """
    if not (by.is_staff or version.model.owner_id == by.pk):
        raise NotAllowed(_("Only the owner of a model or an admin may have it measured again."))
    if version.model.is_operator_model:
        raise NotReady(_("No Datanet shaped this model: there is nothing to measure."))
    card = cards.ask(
        artifact_sha256=version.artifact_sha256, model_id=version.model_id, model_version_id=version.pk, wait_s=0
    )
    audit.record(by, "measure_score_card", f"model_version:{version.pk}", card=str(card.pk))
    return card

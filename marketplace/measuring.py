"""Score cards on wish: who may have a version measured again."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from attribution import cards
from attribution.models import ScoreCard

from . import audit
from .errors import NotAllowed, NotReady
from .models import ModelVersion

#: An owner who could ask as often as they like could go on until chance puts a figure above its floor.
OWNER_ASKS_AGAIN_AFTER = timedelta(days=30)


@transaction.atomic
def measure_again(version: ModelVersion, *, by: User) -> ScoreCard:
    """Have a version measured once more, from another seed. While it is being measured, that card is returned.

    What it says holds for epochs that close after it is done.

    Raises:
        NotAllowed: neither the model's owner nor an admin. NotReady: an operator model, which no data shaped; or the owner
            asks again within 30 days of a card whose figures were all measured.
    """
    if not (by.is_staff or version.model.owner_id == by.pk):
        raise NotAllowed(_("Only the owner of a model or an admin may have it measured again."))
    if version.model.is_operator_model:
        raise NotReady(_("No Datanet shaped this model: there is nothing to measure."))
    if not by.is_staff and _is_measured_lately(version):
        raise NotReady(
            _("This version was measured less than 30 days ago. An admin may have it measured again at any time.")
        )
    card = cards.ask(
        artifact_sha256=version.artifact_sha256, model_id=version.model_id, model_version_id=version.pk, wait_s=0
    )
    audit.record(by, "measure_score_card", f"model_version:{version.pk}", card=str(card.pk))
    return card


def _is_measured_lately(version: ModelVersion) -> bool:
    last = (
        ScoreCard.objects.filter(model_version_id=version.pk, status=ScoreCard.Status.DONE).order_by("-number").first()
    )
    return (
        last is not None
        and last.asked_at > timezone.now() - OWNER_ASKS_AGAIN_AFTER
        and not any(figure.get("failed") for figure in last.figures.values())
    )

"""Who may judge whom: curators of the Datanet, never the contributor, never their organisation."""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from accounts.models import User

from . import services
from .errors import NotAllowed, SelfReview
from .models import Membership, Submission


def curating() -> QuerySet[Membership]:
    """What makes somebody a curator, Datanet by Datanet; of one person `Datanet.objects.curated_by` tells which."""
    return Membership.objects.filter(role__in=Membership.CURATING)


def curators_of(datanet_id: UUID) -> QuerySet[User]:
    """Who reviews in a Datanet; `services.can_curate` asks it of one person."""
    return User.objects.filter(pk__in=curating().filter(datanet=datanet_id).values("user"))


def require_reviewer(submission: Submission, curator: User) -> None:
    """Raises SelfReview, NotAllowed."""
    require_unrelated(submission, curator)
    if not services.can_curate(curator, submission.datanet):
        raise NotAllowed(_("Only curators of this Datanet review its records."))


def require_unrelated(submission: Submission, curator: User) -> None:
    """Raises SelfReview."""
    if submission.contributor_id == curator.pk:
        raise SelfReview
    if are_colleagues(submission.contributor, curator):
        raise SelfReview(_("You cannot review records of your own organisation. Nothing was changed."))


def are_colleagues(one: User, other: User) -> bool:
    """Whether both name the same organisation; who names none has no colleagues."""
    theirs = one.organisation.strip().casefold()
    return bool(theirs) and theirs == other.organisation.strip().casefold()


def may_review(submission: Submission, curator: User) -> bool:
    """Whether `decide` would let this person vote on it at all."""
    try:
        require_reviewer(submission, curator)
    except (NotAllowed, SelfReview):
        return False
    return True

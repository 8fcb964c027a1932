"""Datanets and their people: create, curate, ask to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.requests import Visitor

from . import licences, questions, schemas
from .errors import Invalid, NotAllowed, NotReady
from .models import AccessRequest, Datanet, Membership, RuleChange

Role = Membership.Role

# What an owner may change later. The others are what records were contributed under, and what addresses and versions say.
CHANGEABLE = frozenset(
    "purpose guidelines attribution_note answers topics access approvals_needed preview_rows export_allowed".split()
)
# What of it is a rule, whose every change is kept and public; the others say what the Datanet is about.
RULES = ("access", "approvals_needed", "preview_rows", "export_allowed", "guidelines", "attribution_note")
PREVIEW_ROWS_MAX = 10_000
PURPOSE_CHARS_MAX = 300


@transaction.atomic
def create_datanet(
    *,
    owner: User,
    name: str,
    purpose: str,
    kind: Datanet.Kind | str,
    licence: str,
    rights_statement: str,
    slug: str = "",
    schema: dict | None = None,
    guidelines: str = "",
    attribution_note: str = "",
    answers: Mapping[str, str] | None = None,
    language: str = "",
    topics: Iterable[str] = (),
    access: Datanet.Access | str = Datanet.Access.OPEN,
    approvals_needed: int = 1,
    preview_rows: int = 200,
    export_allowed: bool = True,
) -> Datanet:
    """Create a Datanet; its owner becomes its first member.

    Raises:
        Invalid: an unknown kind or licence, a schema that does not hold together, a name that is taken.
    """
    if kind not in Datanet.Kind.values or access not in Datanet.Access.values:
        raise Invalid(_("This kind of data or of access does not exist."))
    if licence not in licences.LICENCES:
        raise Invalid(_("This licence is not in the list."))
    if not name.strip() or not purpose.strip() or not rights_statement.strip():
        raise Invalid(_("A Datanet needs a name, a purpose and a rights statement."))
    if not 1 <= approvals_needed <= 3:
        raise Invalid(_("A record needs one, two or three approvals."))
    datanet = Datanet(
        owner=owner,
        slug=slug or slugify(name)[:60],
        name=name.strip(),
        purpose=purpose.strip(),
        kind=kind,
        schema=schemas.checked(kind, schema or {}),
        licence=licence,
        rights_statement=rights_statement.strip(),
        guidelines=guidelines,
        attribution_note=attribution_note,
        answers=questions.checked(answers or {}),
        language=language,
        topics=_trimmed(topics),
        access=access,
        approvals_needed=approvals_needed,
        preview_rows=preview_rows,
        export_allowed=export_allowed,
    )
    if not datanet.slug or slugify(datanet.slug) != datanet.slug:
        raise Invalid(_("The address may hold lower-case letters, digits and hyphens."))
    try:
        with transaction.atomic():
            datanet.save(force_insert=True)
    except IntegrityError as error:
        raise Invalid(_("You already have a Datanet at this address.")) from error
    Membership.objects.create(datanet=datanet, user=owner, role=Role.OWNER)
    return datanet


@transaction.atomic
def change_datanet(datanet: Datanet, *, by: User, **fields: Any) -> list[str]:
    """Change what an owner may change (`CHANGEABLE`). The same values again change nothing.

    Records decided before stay as they are: a new number of approvals counts for the decisions after it.

    Returns:
        The names of the fields that are different now, sorted; `datanet` holds their new values.

    Raises:
        NotAllowed: not the owner. Invalid: a field that never changes, or a value that is not acceptable.
    """
    _require_owner(datanet, by)
    if not fields.keys() <= CHANGEABLE:
        raise Invalid(_("A Datanet keeps its name, address, kind, schema, licence and rights statement."))
    wanted = _checked_changes(fields)
    stored = Datanet.objects.select_for_update(no_key=True).get(pk=datanet.pk)
    changed = sorted(name for name, value in wanted.items() if getattr(stored, name) != value)
    RuleChange.objects.bulk_create(
        RuleChange(datanet=datanet, rule=name, before=getattr(stored, name), after=wanted[name], changed_by=by)
        for name in changed
        if name in RULES
    )
    for name in changed:
        setattr(datanet, name, wanted[name])
    datanet.save(update_fields=changed)
    return changed


def add_curator(datanet: Datanet, *, user: User, by: User) -> Membership:
    """Let somebody review. Repeating changes nothing. Raises NotAllowed."""
    _require_owner(datanet, by)
    return Membership.objects.get_or_create(datanet=datanet, user=user, role=Role.CURATOR)[0]


def remove_curator(datanet: Datanet, *, user: User, by: User) -> None:
    """Their decisions stand and still earn; they decide nothing more. Raises NotAllowed."""
    _require_owner(datanet, by)
    Membership.objects.filter(datanet=datanet, user=user, role=Role.CURATOR).delete()
    user.claims.filter(submission__datanet=datanet).delete()


def add_reader(datanet: Datanet, *, user: User, by: User) -> Membership:
    """Let somebody read a Datanet that is not open. Repeating changes nothing. Raises NotAllowed."""
    _require_owner(datanet, by)
    return Membership.objects.get_or_create(datanet=datanet, user=user, role=Role.READER)[0]


def remove_reader(datanet: Datanet, *, user: User, by: User) -> None:
    """They read no longer; what they have sent stays. Repeating changes nothing. Raises NotAllowed."""
    _require_owner(datanet, by)
    Membership.objects.filter(datanet=datanet, user=user, role=Role.READER).delete()


def note_contributor(datanet: Datanet, user: User) -> None:
    """Who sends data is a member from then on."""
    Membership.objects.get_or_create(datanet=datanet, user=user, role=Role.CONTRIBUTOR)


def request_access(datanet: Datanet, *, user: User, purpose: str) -> AccessRequest:
    """Ask to read an on-request Datanet. A request that waits is returned as it is.

    Raises:
        NotReady: the Datanet is open to this person already, or is closed. Invalid: no purpose.
    """
    if datanet.access != Datanet.Access.ON_REQUEST or can_read(user, datanet):
        raise NotReady(_("There is nothing to ask for: this Datanet is open to you, or takes no requests."))
    if not purpose.strip():
        raise Invalid(_("Say what you want to do with the data."))
    return AccessRequest.objects.get_or_create(
        datanet=datanet, user=user, status=AccessRequest.Status.WAITING, defaults={"purpose": purpose.strip()}
    )[0]


@transaction.atomic
def answer_access_request(request: AccessRequest, *, by: User, grant: bool, answer: str = "") -> AccessRequest:
    """Grant or refuse. The same answer again changes nothing. Raises NotAllowed, NotReady (answered otherwise)."""
    request = AccessRequest.objects.select_for_update(of=("self",)).select_related("datanet").get(pk=request.pk)
    _require_owner(request.datanet, by)
    wanted = AccessRequest.Status.GRANTED if grant else AccessRequest.Status.REFUSED
    if request.status == wanted:
        return request
    if request.status != AccessRequest.Status.WAITING:
        raise NotReady(_("This request has been answered already."))
    request.status, request.answer, request.answered_by, request.answered_at = wanted, answer, by, timezone.now()
    request.save(update_fields=["status", "answer", "answered_by", "answered_at"])
    if grant:
        Membership.objects.get_or_create(datanet=request.datanet, user=request.user, role=Role.READER)
    return request


def can_read(user: Visitor, datanet: Datanet) -> bool:
    """Whether a person may read a Datanet, at least its preview: `Datanet.objects.readable_by` says who may."""
    if datanet.access == Datanet.Access.OPEN:
        return True
    return Datanet.objects.readable_by(user).filter(pk=datanet.pk).exists()


def can_curate(user: Visitor, datanet: Datanet) -> bool:
    """Whether a person reviews in a Datanet: `Datanet.objects.curated_by` says who does."""
    return Datanet.objects.curated_by(user).filter(pk=datanet.pk).exists()


def curates_any(user: User) -> bool:
    """Whether somebody reviews in any Datanet at all."""
    return Datanet.objects.curated_by(user).exists()


def can_own(user: Visitor, datanet: Datanet) -> bool:
    return user is not None and user.is_authenticated and datanet.owner_id == user.pk


def _checked_changes(fields: dict[str, Any]) -> dict[str, Any]:
    """The values as they are stored. Raises Invalid."""
    wanted = dict(fields)
    for name in ("purpose", "guidelines", "attribution_note"):
        if name in wanted:
            wanted[name] = wanted[name].strip()
    if "answers" in wanted:
        wanted["answers"] = questions.checked(wanted["answers"])
    if "topics" in wanted:
        wanted["topics"] = _trimmed(wanted["topics"])
    if not wanted.get("purpose", "-") or len(wanted.get("purpose", "")) > PURPOSE_CHARS_MAX:
        raise Invalid(_("A Datanet needs a purpose of at most %(n)s characters.") % {"n": PURPOSE_CHARS_MAX})
    if wanted.get("access", Datanet.Access.OPEN) not in Datanet.Access.values:
        raise Invalid(_("This kind of data or of access does not exist."))
    if not 1 <= wanted.get("approvals_needed", 1) <= 3:
        raise Invalid(_("A record needs one, two or three approvals."))
    if not 0 <= wanted.get("preview_rows", 0) <= PREVIEW_ROWS_MAX:
        raise Invalid(_("A preview shows at most %(n)s rows.") % {"n": PREVIEW_ROWS_MAX})
    return wanted


def _trimmed(topics: Iterable[str]) -> list[str]:
    return [topic.strip()[:60] for topic in topics if topic.strip()]


def _require_owner(datanet: Datanet, by: User) -> None:
    if not can_own(by, datanet):
        raise NotAllowed(_("Only the owner of this Datanet may do this."))

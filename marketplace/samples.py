"""Calls that their buyers choose to show: price, split and receipt, never what was asked or answered."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User

from . import keeping, querysets, roles
from .errors import NotAllowed, NotReady
from .models import Call


def show(call: Call, *, by: User, shown: bool) -> Call:
    """Show a call on the home page, or stop showing it. Repeating changes nothing.

    Raises:
        NotAllowed: somebody else's call. NotReady: it cost nothing, so there is nothing to show.
    """
    if not roles.may_manage(call.buyer, by):
        raise NotAllowed(_("Only the buyer of a call may show it."))
    if shown and not call.cost_nano:
        raise NotReady(_("This call cost nothing, so there is no split to show."))
    if shown != (call.published_at is not None):
        call.published_at = timezone.now() if shown else None
        call.save(update_fields=["published_at"])
        transaction.on_commit(lambda: keeping.forget(querysets.SAMPLE_KEY))
    return call

"""Money that somebody moves between accounts by themselves: asked for under a reference of theirs, and moved once."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from accounts.models import User
from ledger import services as ledger

from .errors import Invalid
from .models import SUPPLY_NANO, PromotionTransfer, WalletTransfer

REFERENCE_CHARS_MAX = 64
Transfer = TypeVar("Transfer", PromotionTransfer, WalletTransfer)


def once(model: type[Transfer], *, user: User, amount_nano: int, reference: str, **way: Any) -> tuple[Transfer, bool]:
    """The transfer of this reference, and whether it is new: then whoever asked posts it. Call it in a transaction.

    Args:
        way: Fields that say from where and to where; with the amount they are what a repeat must say again.

    Raises:
        Invalid: the amount, the reference, or it was used for another transfer. Nothing was moved.
    """
    reference = reference.strip()
    if not 0 < amount_nano <= SUPPLY_NANO:
        raise Invalid(_("Move more than 0, and at most the whole supply."))
    if not 0 < len(reference) <= REFERENCE_CHARS_MAX:
        raise Invalid(_("Give a reference of 1 to 64 characters: it makes a repeat harmless."))
    said = {"amount_nano": amount_nano, **way}
    try:
        # The unique reference decides, also between two requests at once.
        with transaction.atomic():
            return model.objects.create(user=user, reference=reference, posting_id=ledger.new_id(), **said), True
    except IntegrityError:
        known = model.objects.filter(user=user, reference=reference).first()
        if known is None:
            raise
        if any(getattr(known, name) != value for name, value in said.items()):
            raise Invalid(_("This reference was used for another transfer. Nothing was moved.")) from None
        return known, False

"""The promotion wallet: what a developer sets aside to pay the free calls of their models."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from ledger import chart
from ledger import services as ledger

from . import audit, transfers
from .errors import NotReady
from .models import PromotionTransfer


@dataclass(frozen=True)
class Summary:
    """What pays free calls: left, and set aside by gateways for calls that run."""

    available_nano: int
    held_nano: int

    @property
    def total_nano(self) -> int:
        return self.available_nano + self.held_nano


def summary(user: User) -> Summary:
    """What is in a person's promotion wallet."""
    found = ledger.balance(chart.promotion(user.pk))
    return Summary(available_nano=found.available_nano, held_nano=found.held_nano)


def fund(user: User, *, amount_nano: int, reference: str) -> PromotionTransfer:
    """Set money of the wallet aside for free calls. The view asks for re-authentication first.

    Args:
        reference: The asker's own name for this act. The same again, with the same amount, is the first result.

    Raises:
        Invalid: the amount is not positive, or the reference was used for something else.
        ledger.InsufficientFunds: the wallet has less available. Nothing was moved.
    """
    return _move(user, PromotionTransfer.Direction.FUND, amount_nano, reference)


def take_back(user: User, *, amount_nano: int, reference: str) -> PromotionTransfer:
    """Take money back into the wallet. What gateways have set aside comes back within a minute of the last free call.

    Raises:
        Invalid: as in `fund`. NotReady: the promotion wallet has less available. Nothing was moved.
    """
    try:
        return _move(user, PromotionTransfer.Direction.TAKE_BACK, amount_nano, reference)
    except ledger.InsufficientFunds as short:
        raise NotReady(
            _("Your promotion wallet has less available; running calls may hold a part of it. Nothing was moved.")
        ) from short


@transaction.atomic
def _move(user: User, direction: str, amount_nano: int, reference: str) -> PromotionTransfer:
    transfer, is_new = transfers.once(
        PromotionTransfer, user=user, amount_nano=amount_nano, reference=reference, direction=direction
    )
    if not is_new:
        return transfer
    wallet, promotion = chart.wallet(user.pk), chart.promotion(user.pk)
    is_funding = direction == PromotionTransfer.Direction.FUND
    source, target = (wallet, promotion) if is_funding else (promotion, wallet)
    ledger.post(
        id=transfer.posting_id,
        kind=ledger.Kind.PROMOTION_FUNDED if is_funding else ledger.Kind.PROMOTION_RETURNED,
        reference=f"promotion:{transfer.pk}",
        moves=[ledger.Move(source, target, amount_nano)],
    )
    act = "fund_promotion" if is_funding else "take_back_promotion"
    audit.record(user, act, f"user:{user.pk}", amount_nano=str(amount_nano), transfer=str(transfer.pk))
    return transfer

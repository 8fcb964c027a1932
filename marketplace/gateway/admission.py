"""Whether a call may run, and at what cost at most: its key's access, its address, the price and the cost it named.

Each check is of one reason, and raises the ApiError that tells it.
"""

from __future__ import annotations

from marketplace import pricing

from . import bodies, embedding
from .catalogue import CHAT_ENGINES, EMBEDDING, Version, endpoints_of
from .chatting import Prepared as PreparedChat
from .engines import Prepared as PreparedInput
from .errors import ApiError, insufficient, invalid
from .keyring import Key
from .leases import SUPPLY_NANO

Prepared = PreparedChat | PreparedInput | embedding.Prepared
CHATS = ("chat", "completions")
EMBEDDINGS = "embeddings"


def check_access(key: Key, version: Version) -> None:
    """Raises ApiError 403: the key may see this model, and not call it."""
    if not key.may_call(version):
        raise ApiError(
            403,
            "This key may not call this model. Buy a pass, or ask for an invitation.",
            code="no_access",
            retry=False,
        )


def check_endpoint(version: Version, endpoint: str) -> None:
    """Raises ApiError 400: the model is of a kind that answers at another address."""
    if (version.engine in CHAT_ENGINES, version.engine == EMBEDDING) != (endpoint in CHATS, endpoint == EMBEDDINGS):
        raise invalid(f"This model answers at {endpoints_of(version)[0]}.", "model")


def worst_nano(version: Version, prepared: Prepared) -> int:
    """The most that this call can cost. Raises ApiError 402 where no wallet could hold it."""
    worst_nano = pricing.cost_nano(
        version.price_list.prices, prompt_tokens=prepared.prompt_tokens, answer_tokens=prepared.max_tokens
    )
    if worst_nano > SUPPLY_NANO:  # no wallet has that much, and the ledger takes no such number
        raise insufficient()
    return worst_nano


def check_price(version: Version, terms: bodies.Terms) -> None:
    """Raises ApiError 409: the caller names a price list that is no longer in force."""
    if terms.price_version and terms.price_version != version.price_list.sha256:
        raise ApiError(
            409,
            "The price has changed since this price_version. Ask for a quote, and send the new one.",
            code="price_changed",
            param="price_version",
            retry=False,
        )


def check_cost(terms: bodies.Terms, worst_nano: int) -> None:
    """For calls that their buyer pays. Raises ApiError 402: it may cost more than the caller allows."""
    if terms.max_cost_nano is not None and worst_nano > terms.max_cost_nano:
        raise ApiError(
            402,
            f"This call can cost up to {pricing.nano_to_open(worst_nano)} OPEN, more than max_cost. Nothing was charged.",
            code="max_cost_exceeded",
            param="max_cost",
            retry=False,
        )

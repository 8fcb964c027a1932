"""From a finished call to what is stored of it: cost, parts, posting, sealed content, outbox row. Pure but for the clock.

The amounts come from marketplace.pricing, the targets from marketplace.splitting: the same functions as everywhere.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import UUID

import orjson

from attribution import content, payloads
from ledger import chart, ids
from ledger.legs import legs
from marketplace import pricing, splitting

from .catalogue import CHAT_ENGINES, EMBEDDING, Version

CONTENT_DAYS_MAX = 30  # as of the model: this process knows none
DAY_S = 86_400
CHARGED = ("succeeded", "left", "abstained")


@dataclass
class Call:
    """A paid call on its way. `id` is also the receipt's.

    Args:
        free: Its buyer pays nothing, the developer pays the price.
        cap_id: The lease on its key's spend caps from which its cost is counted; None: the key has no cap.
        is_test: Test money pays it, and nobody earns from it.
        content_days: How long its key has its content kept; 0: until it is attributed.
    """

    version: Version
    buyer_id: int
    key_id: str
    endpoint: str
    streamed: bool
    request_sha256: str
    idempotency_key: str = ""
    free: bool = False
    request_bytes: int = 0
    cap_id: str | None = None
    is_test: bool = False
    content_days: int = CONTENT_DAYS_MAX
    id: UUID = field(default_factory=ids.new_id)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    name: str = field(init=False)  # the id as text

    def __post_init__(self) -> None:
        self.name = str(self.id)

    @property
    def payer(self) -> str:
        """The account that is charged."""
        if self.is_test:
            return chart.test_wallet(self.buyer_id)
        return chart.promotion(self.version.owner_id) if self.free else chart.wallet(self.buyer_id)

    @property
    def kept_as(self) -> str:
        """The Idempotency-Key as it is stored: a test call never answers a real one. No header can have the line break."""
        return f"test\n{self.idempotency_key}" if self.is_test else self.idempotency_key

    @cached_property
    def envelope(self) -> dict[str, Any]:
        """What a chat's answer, and each event of it, says of itself."""
        prefix = "cmpl" if self.endpoint == "completions" else "chatcmpl"
        created = int(self.started_at.timestamp())
        return {"id": f"{prefix}-{self.id.hex}", "created": created, "model": self.version.path}

    @property
    def paid_by(self) -> str:
        return "developer" if self.free else "buyer"


@dataclass
class Outcome:
    """How a call ended.

    Args:
        status: succeeded, left, abstained, failed or refused. Only the first three cost something.
        prompt_tokens, answer_tokens: Never more than was reserved for.
        response: What the buyer gets (or got a part of), without `open`.
        context: Of a linear or neighbours answer: what recomputes its attribution.
        kept: Further content to keep under seal: the messages, the passages, the answer.
        told: Further fields of `open`.
        answer_bytes: About how long the response is, where its tokens do not tell.
        delivered: Whether all that was streamed went to the client; if not, it can ask again with its Idempotency-Key.
    """

    status: str
    prompt_tokens: int = 0
    answer_tokens: int = 0
    response: Mapping[str, Any] = field(default_factory=dict)
    context: dict[str, Any] | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    error_code: str = ""
    answer_bytes: int = 0
    delivered: bool = True


@dataclass(frozen=True)
class Charge:
    """A call ready to be captured, and the answer the buyer gets then: `open` tells what it cost."""

    cost_nano: int
    row: dict[str, Any]
    response: dict[str, Any]
    response_bytes: bytes


def charge(call: Call, outcome: Outcome, *, content_key: str, kept_s: int, vest_after_s: int, site_url: str) -> Charge:
    """Build what the capture stores. Without `hold_id`: the caller knows from which lease it is drawn."""
    version = call.version
    cost_nano = 0
    if outcome.status == "abstained":
        cost_nano = version.price_list.prices.price_abstain_nano
    elif outcome.status in CHARGED:
        cost_nano = pricing.cost_nano(
            version.price_list.prices, prompt_tokens=outcome.prompt_tokens, answer_tokens=outcome.answer_tokens
        )
    parts = pricing.split_charge(cost_nano, version.rule_parts)
    told = {
        "receipt_id": call.name,
        "cost_nano": cost_nano,
        "cost": pricing.nano_to_open(cost_nano),
        "paid_by": call.paid_by,
        "price_version": version.price_list.sha256,
        "model_version": version.path,
        "split": {role: part_nano for role, part_nano in parts.items() if part_nano or role != "owner"},
        "attribution_url": f"{site_url}/r/{call.name}",
        **({"test": True} if call.is_test else {}),
        **outcome.told,
    }
    response = {**outcome.response, "open": told}
    response_bytes = orjson.dumps(response)
    row: dict[str, Any] = {"call": _columns(call, outcome, cost_nano, parts)}
    if call.free:
        row["free_call"] = True
    if call.idempotency_key:
        row["idempotency_key"] = call.kept_as
    if outcome.status in CHARGED:
        written = orjson.Fragment(response_bytes)  # it is written already
        kept = {**outcome.kept, "endpoint": call.endpoint, "streamed": call.streamed, "response": written}
        sealed, sealed_key = map(_base64, content.seal(content_key, call.id, orjson.dumps(kept)))
        row["content"] = {
            "sealed": sealed,
            "sealed_key": sealed_key,
            "kept_s": min(kept_s, call.content_days * DAY_S),
        }
        if cost_nano and call.is_test:
            row["posting"] = _test_posting(call, cost_nano)
        elif cost_nano:
            row["posting"] = _posting(call, outcome, cost_nano, parts, response_bytes, vest_after_s)
            if version.engine != EMBEDDING:
                row["outbox"] = _outbox(call, outcome, parts, sealed, sealed_key)
    return Charge(cost_nano, row, response, response_bytes)


def stored_bytes(call: Call, outcome: Outcome) -> int:
    """About how much `charge` has to write and seal: the request, and the answer at some eight bytes a token."""
    return call.request_bytes + 8 * outcome.answer_tokens + outcome.answer_bytes


def request_digest(path: str, raw: bytes) -> bytes:
    """What makes two requests the same: address and body."""
    return hashlib.sha256(path.encode() + b"\n" + raw).digest()


def _outbox(call: Call, outcome: Outcome, parts: Mapping[str, int], sealed: str, sealed_key: str) -> dict[str, Any]:
    """What attribution reads of a charge: whose data and curation parts are to be divided."""
    version = call.version
    abstained = outcome.status == "abstained"
    is_chat = version.engine in CHAT_ENGINES and not abstained
    return {
        "topic": payloads.TOPIC,
        "reference": f"call:{call.name}",
        "payload": payloads.payload_of(
            charge_id=call.name,
            source="call",
            model_id=version.model_id,
            model_version_id=version.version_id,
            artifact_sha256=version.artifact_sha256,
            engine=version.engine,
            rule_sha256=version.rule_sha256,
            data_nano=parts["data"],
            curation_nano=parts["curation"],
            abstained=abstained,
            context=outcome.context,
            sealed=sealed if is_chat else None,
            sealed_key=sealed_key if is_chat else None,
        ),
    }


def _base64(raw: bytes) -> str:
    return b2a_base64(raw, newline=False).decode()


def _columns(call: Call, outcome: Outcome, cost_nano: int, parts: Mapping[str, int]) -> dict[str, Any]:
    version = call.version
    return {
        "id": call.name,
        "buyer_id": call.buyer_id,
        "key_id": call.key_id,
        **version.columns,
        "endpoint": call.endpoint,
        "status": outcome.status,
        "error_code": outcome.error_code[:40],
        "streamed": call.streamed,
        "is_test": call.is_test,
        "prompt_tokens": outcome.prompt_tokens,
        "answer_tokens": outcome.answer_tokens,
        "cost_nano": cost_nano,
        "data_nano": parts["data"],
        "curation_nano": parts["curation"],
        "developer_nano": parts["developer"],
        "platform_nano": parts["platform"],
        "owner_nano": parts["owner"],
        "started_at": call.started_at.isoformat(),
    }


def _test_posting(call: Call, cost_nano: int) -> dict[str, Any]:
    """Test money goes back to where it came from. No entry: the public log has no charge of it."""
    accounts, amounts = legs([(call.payer, chart.TEST_WORLD, cost_nano)], posting=str(call.id))
    return {
        "id": str(call.id),
        "kind": "test_charged",
        "reference": f"call:{call.id}",
        "accounts": accounts,
        "amounts": amounts,
    }


def _posting(
    call: Call, outcome: Outcome, cost_nano: int, parts: Mapping[str, int], response: bytes, vest_after_s: int
) -> dict[str, Any]:
    version = call.version
    targets = splitting.role_targets(
        model_id=version.model_id,
        pool="calls",
        parts=parts,
        developer_id=version.owner_id,
        owner_ids=version.owner_ids,
    )
    payer = call.payer
    moves = [(payer, account, part_nano) for _role, account, part_nano in targets]
    accounts, amounts = legs(moves, posting=call.name)
    # The ledger refuses a window where nothing moves into a pending account.
    has_pending = bool(parts["developer"] or parts["owner"])
    return {
        "id": call.name,
        "kind": "call_charged",
        "reference": f"call:{call.name}",
        "accounts": accounts,
        "amounts": amounts,
        "entry": {
            "type": "call.charged",
            "public": version.public_entry,
            "private": {
                "buyer": chart.wallet(call.buyer_id),
                "paid_by": call.paid_by,
                "request": call.request_sha256,
                "response": hashlib.sha256(response).hexdigest(),
                "tokens": {"in": outcome.prompt_tokens, "out": outcome.answer_tokens},
                "price": str(cost_nano),
            },
            "split": splitting.split_lines(targets),
        },
        "vest_after_s": vest_after_s if has_pending else None,
        "takes_from": None,
    }

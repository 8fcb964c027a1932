"""What goes to a webhook endpoint, after the Standard Webhooks specification: secret, body, signature; and when again.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

_MARK = "whsec_"
_SECRET_BYTES = 32
_FIRST_WAIT_S, _WAIT_MAX_S = 5, 4 * 3600


def new_secret() -> str:
    """A secret of the form that libraries of the specification take."""
    return _MARK + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def body_of(*, type: str, at: datetime, told: Mapping[str, Any]) -> bytes:
    """The body of an event: always the same bytes for the same event, however often it is sent."""
    said = {"type": type, "timestamp": at.isoformat(), "data": told}
    return json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def headers_of(*, id: str, timestamp: int, body: bytes, keys: Iterable[str]) -> dict[str, str]:
    """The headers of one attempt, signed with each secret: while one is replaced, receivers may know either."""
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(key, f"{id}.{timestamp}.".encode() + body) for key in keys),
    }


def wait_s(failures: int, *, chance: float) -> float:
    """How long to wait after this many failures: twice as long each time, up to four hours.

    chance: Evenly from 0 to 1. Half of the time hangs on it, so that what failed together does not come back together.
    """
    longest = min(_WAIT_MAX_S, _FIRST_WAIT_S * 2 ** min(failures - 1, 20))
    return longest * (1 + chance) / 2


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_MARK))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()

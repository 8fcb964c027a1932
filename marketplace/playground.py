"""Calls that a person makes from a model's page, through the gateway, with a key of their own and its limit.

The key is made when it is first needed; its secret stays sealed in the session. A playground call is a call like any
other: charged, attributed, with a receipt.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from datanets.models import Datanet

from . import keys, listings
from .models import ApiKey, ListedModel

KEY_NAME = "Playground of this site"
KEY_CAP_NANO = 5 * 10**9
KEY_DAYS = 7
TIMEOUT_S = 120
_SESSION = "playground"


@dataclass(frozen=True)
class Answer:
    """What the gateway said. `problem` is a sentence when it did not answer."""

    body: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    status: int = 200

    @property
    def receipt_id(self) -> str:
        return str(self.body.get("open", {}).get("receipt_id", ""))


def secret_of(user: User, session: SessionBase) -> str:
    """The secret of this session's playground key, made now if there is none that works."""
    kept = session.get(_SESSION)
    if kept and _works(kept["key_id"], user):
        return listings.open_field(kept["token"])
    # One key per person: the secret of an older session's key is lost with that session.
    for stale in ApiKey.objects.filter(owner=user, name=KEY_NAME, revoked_at__isnull=True):
        keys.revoke(stale, by=user)
    key, secret = keys.create(
        owner=user, name=KEY_NAME, spend_cap_nano=KEY_CAP_NANO, expires_at=timezone.now() + timedelta(days=KEY_DAYS)
    )
    session[_SESSION] = {"key_id": str(key.pk), "token": listings.seal_field(secret)}
    return secret


def _works(key_id: str, user: User) -> bool:
    soon = timezone.now() + timedelta(minutes=5)
    return ApiKey.objects.filter(pk=key_id, owner=user, revoked_at__isnull=True, expires_at__gt=soon).exists()


def endpoint_of(model: ListedModel, datanet: Datanet | None) -> str:
    """Where a model is asked: chat, classify, or predict for a label that is a number."""
    if model.engine in (ListedModel.Engine.RETRIEVAL, ListedModel.Engine.CONNECTED) or datanet is None:
        return "/v1/chat/completions"
    return "/v1/predict" if datanet.schema.get("label_type") == "number" else "/v1/classify"


def ask(endpoint: str, body: dict, *, secret: str, idempotency_key: str = "") -> Answer:
    """Send one request to the gateway. Repeating with the same key gives the same answer and is charged once."""
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    if idempotency_key:
        headers["idempotency-key"] = idempotency_key
    request = urllib.request.Request(  # noqa: S310  (our own gateway)
        settings.GATEWAY_URL + endpoint, data=json.dumps(body).encode(), headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return Answer(body=json.load(answer))
    except urllib.error.HTTPError as refused:
        return Answer(problem=_message(refused.read(10_000)), status=refused.code)
    except (OSError, ValueError):
        return Answer(problem=_("The gateway does not answer. Nothing was charged; try again in a minute."), status=503)


def keep(session: SessionBase, model: ListedModel, question: str, answer: Answer) -> None:
    """Remember the last answer of this session, sealed, so that the page after the redirect can show it."""
    said = json.dumps({"model": str(model.pk), "question": question[:4000], "answer": answer.body})
    session["playground_answer"] = listings.seal_field(said)


def kept(session: SessionBase, model: ListedModel) -> dict[str, Any] | None:
    """The last answer of this session, if it is of this model: {"question", "answer"}."""
    if "playground_answer" not in session:
        return None
    said = json.loads(listings.open_field(session["playground_answer"]))
    return said if said["model"] == str(model.pk) else None


def _message(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return _("The gateway refused the call. Nothing was charged.")

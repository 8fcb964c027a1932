"""Calls that a person makes from a model's page, through the gateway, with a key that the page makes for itself.

The key is made when it is first needed, without a fresh proof of who asks: so it calls this model only, ends within
hours, and may spend what is left of a small daily sum, counted per person. Its secret stays sealed in the session. A
playground call is a call like any other: charged, attributed, with a receipt.
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
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from datanets.models import Datanet

from . import keys, listings
from .models import ApiKey, Call, ListedModel

DAY_CAP_NANO = 10**9
KEY_HOURS = 2
TIMEOUT_S = 120
_SESSION = "playground"
# The gateway speaks English, to programs. Here its codes become sentences; what has none is shown as it was said.
REFUSALS = {
    "insufficient_balance": gettext_lazy(
        "Your wallet does not cover the most this call can cost. Nothing was charged. Add OPEN to it, then ask again."
    ),
    "spend_cap_reached": gettext_lazy(
        "The playground may spend 1 OPEN a day for you, and this call could exceed it. Nothing was charged. Make an API "
        "key of your own to go on."
    ),
    "max_cost_exceeded": gettext_lazy("This call could cost more than you allowed. Nothing was charged."),
    "price_changed": gettext_lazy("The price has just changed. Nothing was charged; reload the page to see it."),
    "no_access": gettext_lazy("You may not call this model. Buy a pass, or ask its developer for an invitation."),
    "model_not_found": gettext_lazy("This model does not answer calls now. Nothing was charged."),
    "invalid_api_key": gettext_lazy(
        "The key of this page has ended. Nothing was charged; reload the page and ask again."
    ),
    "rate_limit_exceeded": gettext_lazy("You asked too often in a minute. Nothing was charged; wait a little."),
    "context_length_exceeded": gettext_lazy("The question is too long for this model. Nothing was charged."),
    "body_too_large": gettext_lazy("What you sent is too large. Nothing was charged."),
    "invalid_value": gettext_lazy("The model cannot use one of these values. Nothing was charged."),
    "model_busy": gettext_lazy("The model is busy. Nothing was charged; try again in a moment."),
    "upstream_unavailable": gettext_lazy(
        "The model does not answer at the moment. Nothing was charged; try again later."
    ),
    "model_unavailable": gettext_lazy("The model’s files cannot be read. Nothing was charged."),
    "upstream_error": gettext_lazy("The model failed on this call. Nothing was charged."),
    "upstream_timeout": gettext_lazy("The model did not answer in time. Nothing was charged."),
    "usage_missing": gettext_lazy("The model did not say what it used. Nothing was charged."),
    "content_filter": gettext_lazy("The model’s filter stopped this answer. Nothing was charged."),
    "outcome_unknown": gettext_lazy(
        "The books stopped answering while this call was stored. Your usage page will show whether it was charged."
    ),
    "unavailable": gettext_lazy("The books cannot be reached. Nothing was charged; try again in a minute."),
    "idempotency_in_progress": gettext_lazy("This question is being answered already. Ask again in a moment."),
    "idempotency_mismatch": gettext_lazy("This page was used for another question already. Reload it and ask again."),
    "idempotency_erased": gettext_lazy("The stored answer was erased. Reload the page and ask again."),
    "internal_error": gettext_lazy("The gateway failed. Your usage page shows whether the call was charged."),
}


@dataclass(frozen=True)
class Answer:
    """What the gateway said. `problem` is a sentence when it did not answer."""

    body: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    status: int = 200

    @property
    def receipt_id(self) -> str:
        return str(self.body.get("open", {}).get("receipt_id", ""))


@transaction.atomic
def secret_of(user: User, session: SessionBase, model: ListedModel) -> str:
    """The secret of this session's playground key for a model, made now if there is none that works."""
    # One key per person, so that the sum of a day is one sum: two pages that ask at once wait for each other.
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    mine = ApiKey.objects.filter(owner=user, is_playground=True, revoked_at__isnull=True)
    soon = timezone.now() + timedelta(minutes=5)
    kept = session.get(_SESSION)
    if kept and mine.filter(pk=kept["key_id"], allowed_models=model, expires_at__gt=soon).exists():
        return listings.open_field(kept["token"])
    for stale in mine:
        keys.revoke(stale, by=user)
    key, secret = keys.create(
        owner=user,
        name=model.path,
        # A key of 0 would have no limit; with one nano the gateway itself says that nothing is left.
        spend_cap_nano=max(DAY_CAP_NANO - _spent_today_nano(user), 1),
        expires_at=timezone.now() + timedelta(hours=KEY_HOURS),
        models=[model],
        is_playground=True,
    )
    session[_SESSION] = {"key_id": str(key.pk), "token": listings.seal_field(secret)}
    return secret


def _spent_today_nano(user: User) -> int:
    yesterday = timezone.now() - timedelta(days=1)
    recent = Call.objects.filter(buyer=user, key__is_playground=True, finished_at__gte=yesterday, free=False)
    return recent.aggregate(total=Sum("cost_nano"))["total"] or 0


def endpoint_of(model: ListedModel, datanet: Datanet | None) -> str:
    """Where a model is asked: embeddings, chat, classify, or predict for a label that is a number."""
    if model.is_operator_model:
        return "/v1/embeddings"
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


def refusals() -> dict[str, str]:
    """Every sentence by its code, in the reader's language: for the page that asks the gateway by itself."""
    return {code: str(sentence) for code, sentence in REFUSALS.items()}


def _message(raw: bytes) -> str:
    try:
        said = json.loads(raw)["error"]
        return str(REFUSALS.get(said["code"], said["message"]))
    except (ValueError, KeyError, TypeError):
        return _("The gateway refused the call. Nothing was charged.")

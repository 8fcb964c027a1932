"""What the demo's buyer does: real calls through the gateway, with a key of his own."""

from __future__ import annotations

import base64
import json
import logging
import urllib.error
import urllib.request

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from demo import files, progress, state
from demo.names import EMBEDDINGS, MODELS, NEIGHBOURS
from demo.people import person
from marketplace import keyformat, keys
from marketplace.models import ApiKey

logger = logging.getLogger(__name__)

STEP = "calls"
AT_ONCE = 8
REFUSED = ""  # in place of a receipt's id
QUESTIONS = (
    "May I sell software that contains code under the MIT licence?",
    "What must I do when I change files under the Apache licence?",
    "Does the zlib licence let me claim that I wrote the original software?",
    "Who is liable for damages under the ISC licence?",
    "May I use the name of the copyright holder of BSD software to promote my product?",
    "What does the Unlicense say about copyright?",
)


class Refused(Exception):
    """The gateway refuses this call, and would again: somebody emptied the wallet or took the model away."""


def buyer_calls() -> bool:
    """The demo's calls, a few each time this is rung."""
    wanted = [*_classify_calls(), *_chat_calls(), *_embedding_calls()]
    done = len(progress.made(STEP))
    secret = key_secret()
    for number, (path, body) in list(enumerate(wanted))[done : done + AT_ONCE]:
        try:
            # Under the same key a call that was made, but not remembered, is answered again without being made again.
            answer = post_call(path, body, secret, idempotency_key=f"demo-{number}")
            receipt = answer["open"]["receipt_id"]
        except Refused:
            logger.warning("the demo's call %d is left out", number, exc_info=True)
            receipt = REFUSED
        progress.remember(STEP, str(number), receipt)
    return done >= len(wanted)


def receipts() -> list[str]:
    """The ids of the calls that were made, in their order."""
    return [receipt for receipt in progress.made(STEP).values() if receipt != REFUSED]


def key_secret() -> str:
    """The secret in demo.json, if its key still works; else that of a new key, which is written there."""
    told = state.read()
    secret = told.get("api_key", "")
    alive = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
    if not ApiKey.objects.filter(alive, sha256=keyformat.digest(secret)).exists():
        _key, secret = keys.create(owner=person("dan"), name="Demo")
        state.write(told | {"api_key": secret})
    return secret


def post_call(path: str, body: dict, secret: str, *, idempotency_key: str) -> dict:
    """One call as any program would make it.

    Raises:
        Refused: for a reason that stays. OSError: for one that passes.
    """
    request = urllib.request.Request(
        settings.GATEWAY_URL + path,
        data=json.dumps(body).encode(),
        headers={
            "authorization": f"Bearer {secret}",
            "content-type": "application/json",
            "idempotency-key": idempotency_key,
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        said = f"{path} answered {error.code}: {error.read()[:200]!r}"
        raise (Refused if error.code in (402, 403, 404) else OSError)(said) from error


def _classify_calls() -> list[tuple[str, dict]]:
    calls = [("/v1/classify", {"model": f"devi/{MODELS['tabular']}", "input": row}) for row in files.unseen_tumours(40)]
    for number, picture in enumerate(files.unseen_digits(20)):
        model = MODELS["image"] if number % 2 else NEIGHBOURS
        calls.append(
            ("/v1/classify", {"model": f"devi/{model}", "input": {"image": base64.b64encode(picture).decode()}})
        )
    _header, firms = files.grunfeld_rows()
    for _invest, value, capital, firm, year in firms[::22]:
        row = {"value": float(value) * 1.1, "capital": float(capital), "firm": firm, "year": int(year)}
        calls.append(("/v1/predict", {"model": f"devi/{MODELS['financial']}", "input": row}))
    return calls


def _chat_calls() -> list[tuple[str, dict]]:
    return [
        (
            "/v1/chat/completions",
            {
                "model": f"devi/{MODELS['chat']}",
                "messages": [{"role": "user", "content": question}],
                "max_tokens": 48,
                "temperature": 0,
            },
        )
        for question in QUESTIONS
    ]


def _embedding_calls() -> list[tuple[str, dict]]:
    """Of a model without a Datanet: what it costs goes to its developer and the platform."""
    return [("/v1/embeddings", {"model": f"devi/{EMBEDDINGS}", "input": list(QUESTIONS)})]

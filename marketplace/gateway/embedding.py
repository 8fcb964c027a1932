"""Embeddings: texts in, vectors of the bundled model out. Its tokenizer counts them first: a call costs what it reserved."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bodies import DIMENSIONS, EmbeddingRequest
from .charging import Call, Outcome
from .errors import upstream_failed
from .upstreams import Upstreams

VECTOR_BYTES = 16 * DIMENSIONS  # of an answer, about, for each text


@dataclass
class Prepared:
    """Texts that can be embedded, and exactly how many tokens they are."""

    request: EmbeddingRequest
    prompt_tokens: int
    max_tokens: int = 0


async def prepare(upstreams: Upstreams, request: EmbeddingRequest) -> Prepared:
    """Count the tokens. Raises ApiError: 400 too many for one call, 5xx the models process does not answer."""
    return Prepared(request, await upstreams.count_embedded(request.texts, input_type=request.input_type))


async def answer(upstreams: Upstreams, call: Call, prepared: Prepared) -> Outcome:
    """Embed all texts, or none. A test call gets the first unit vector for each: no model is asked.

    A client that leaves does not end it: what is computed is charged, and an Idempotency-Key gets it.

    Raises:
        ApiError: the models process is busy, failed or was too slow.
    """
    request, tokens = prepared.request, prepared.prompt_tokens
    if call.is_test:
        data = [_item(place, _test_vector(request.encoding)) for place in range(len(request.texts))]
    else:
        found = await upstreams.embed_all(request.texts, input_type=request.input_type, encoding=request.encoding)
        try:
            data = [_item(place, found["data"][place]["embedding"]) for place in range(len(request.texts))]
            tokens = min(int(found["usage"]["prompt_tokens"]), tokens)
        except (LookupError, TypeError, ValueError) as error:
            raise upstream_failed() from error
    response = {
        "object": "list",
        "model": call.version.path,
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Outcome("succeeded", prompt_tokens=tokens, response=response, answer_bytes=VECTOR_BYTES * len(data))


def _item(place: int, embedding: Any) -> dict[str, Any]:
    return {"object": "embedding", "index": place, "embedding": embedding}


def _test_vector(encoding: str) -> list[float] | str:
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[0] = 1.0
    return base64.b64encode(vector.tobytes()).decode() if encoding == "base64" else vector.tolist()

"""Chat: what is sent to a model, and what it may cost at most. Retrieval puts passages of the Datanet into the prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import orjson
from psycopg2.extensions import cursor as Cursor

from attribution.bundles import Bundle
from attribution.engines import retrieval

from . import config, guard, offloop
from .bodies import ChatRequest, question_of
from .catalogue import Shelf, Version
from .database import DatabaseThread
from .engines import Engines
from .errors import ApiError
from .upstreams import Upstream, Upstreams

QUESTION_CHARS_MAX = 2000  # of the last message: embedding more takes longer than it finds
EXCERPT_CHARS = 280
_PASSAGES = "SELECT record_id, identity, title, text, datanet FROM gateway_passages WHERE record_id = ANY (%s)"


@dataclass
class Prepared:
    """A chat call ready to run, the same for each of `upstreams` but for the name of the model.

    Args:
        prompt_tokens: The most that any of them may count.
        counted_tokens: What the tokenizer of the bundled model counted, if that is one of them.
        abstention: Why no upstream is asked; what is prepared otherwise says what an answer may have cost.
    """

    request: ChatRequest
    upstreams: Sequence[Upstream]
    body: dict[str, Any]
    prompt_tokens: int
    max_tokens: int
    counted_tokens: int | None
    passages: list[retrieval.Passage] = field(default_factory=list)
    sources: Sequence[Mapping[str, str]] = ()
    support: float | None = None  # where the caller requires something of it
    abstention: guard.Abstention | None = None

    def counted_by(self, upstream: Upstream | None) -> int | None:
        """The exact length of the prompt for who answered, or (None) whoever would have; None if nobody counted it."""
        bundled = upstream.bundled if upstream else all(one.bundled for one in self.upstreams)
        return self.counted_tokens if bundled else None

    def kept(self, answer: str, upstream: Upstream | None) -> dict[str, Any]:
        """What is kept under seal besides the response; attribution reads it."""
        return {
            "messages": self.request.messages,
            "passages": [asdict(passage) for passage in self.passages],
            "answer": answer,
            "scorable": upstream is not None and upstream.bundled and bool(answer),
        }

    def citations(self, answer: str) -> list[dict[str, Any]]:
        """The quoted records, by the marker under which the answer may cite them."""
        cited = set(re.findall(r"\[(\d+)\]", answer))
        return [
            {"marker": f"[{number}]", "cited": str(number) in cited, **source}
            for number, source in enumerate(self.sources, start=1)
        ]


class Chats:
    """Prepares chat calls."""

    def __init__(self, *, upstreams: Upstreams, engines: Engines, database: DatabaseThread, shelf: Shelf):
        self._upstreams, self._engines, self._database, self._shelf = upstreams, engines, database, shelf

    async def prepare(
        self, version: Version, request: ChatRequest, *, size_bytes: int, requirement: guard.Requirement | None = None
    ) -> Prepared:
        """Find passages, build the prompt, count it, and force a token cap. Judge what its caller requires.

        Args:
            size_bytes: Of the request as it came.
            requirement: Only passages that meet its conditions are found.

        Raises:
            ApiError: 400 the messages do not fit the context; 5xx the models process does not answer.
        """
        upstreams = self._upstreams.of(version)
        bundled, foreign = ([one for one in upstreams if one.bundled is ours] for ours in (True, False))
        passages: list[retrieval.Passage] = []
        sources: dict[int, dict[str, str]] = {}
        if version.engine == "retrieval":
            passages, sources = await self._retrieve(version, request, requirement)
        wanted = min(request.max_tokens or version.max_output_tokens, version.max_output_tokens)
        while True:
            messages = request.messages
            if version.engine == "retrieval":
                messages = retrieval.build_messages(request.messages, passages)
            body = {"model": upstreams[0].model, "messages": messages, **request.options}
            counted_tokens = await self._upstreams.count_tokens(messages=messages) if bundled else None
            written = await offloop.run(size_bytes, orjson.dumps, body) if foreign else b""
            bound = len(written) + config.PROMPT_MARGIN_TOKENS if foreign else 0
            prompt_tokens = max(counted_tokens or 0, bound)
            room = wanted if counted_tokens is None else version.context_tokens - counted_tokens
            if room >= min(wanted, 64) or not passages:
                break
            passages = _without_farthest(passages)
        if room < 1:
            raise ApiError(
                400,
                f"The messages are {counted_tokens} tokens; the model reads at most {version.context_tokens - 1}.",
                code="context_length_exceeded",
                param="messages",
            )
        max_tokens = min(wanted, room)
        body |= {"max_tokens": max_tokens, "stream": request.stream}
        if request.stream:
            body["stream_options"] = {"include_usage": True}
        support, abstention = _judged(version, requirement, passages)
        return Prepared(
            request=request,
            upstreams=upstreams,
            body=body,
            prompt_tokens=prompt_tokens,
            max_tokens=max_tokens,
            counted_tokens=counted_tokens,
            passages=passages,
            sources=[sources[place] for place in retrieval.cited_records(passages)],
            support=support,
            abstention=abstention,
        )

    async def _retrieve(
        self, version: Version, request: ChatRequest, requirement: guard.Requirement | None
    ) -> tuple[list[retrieval.Passage], dict[int, dict[str, str]]]:
        """Passages with their words, and where each record (by its place) comes from."""
        bundle = await self._engines.bundle(version.artifact_sha256)
        question = question_of(request.messages)[-QUESTION_CHARS_MAX:]
        if not question.strip():
            return [], {}
        meets = None if requirement is None else await self._engines.sources.meeting(requirement, version, bundle)
        if meets is not None and not meets.any():
            return [], {}
        embedding, _ = await self._upstreams.embed(question, input_type="query")
        found = await self._engines.in_thread(_nearest, bundle, embedding, self._shelf.now.withdrawn, meets)
        record_ids = [bundle.record_ids[passage.record] for passage in found]

        def act(cursor: Cursor) -> dict[int, tuple]:
            cursor.execute(_PASSAGES, [record_ids])
            return {row[0]: row[1:] for row in cursor.fetchall()}

        rows = await self._database.run(act) if record_ids else {}
        passages: list[retrieval.Passage] = []
        sources: dict[int, dict[str, str]] = {}
        for passage, record_id in zip(found, record_ids, strict=True):
            row = rows.get(record_id)
            if row is None or row[2] is None:  # withdrawn or erased this moment
                continue
            identity, title, text, datanet = row
            words = text[passage.start : passage.end]
            passages.append(replace(passage, text=words))
            sources.setdefault(
                passage.record,
                {"title": title, "excerpt": words[:EXCERPT_CHARS], "datanet": datanet, "record": identity},
            )
        return passages, sources


def _nearest(
    bundle: Bundle, embedding: list[float], withdrawn: frozenset[int], meets: np.ndarray | None
) -> list[retrieval.Passage]:
    excluded = {place for place, record_id in enumerate(bundle.record_ids) if record_id in withdrawn}
    if meets is not None:
        excluded |= set(np.flatnonzero(~meets).tolist())
    return retrieval.retrieve(bundle.artifact, np.asarray(embedding, dtype=np.float64), excluded_records=excluded)


def _judged(
    version: Version, requirement: guard.Requirement | None, passages: Sequence[retrieval.Passage]
) -> tuple[float | None, guard.Abstention | None]:
    """The support that the passages are for an answer, and why there is none."""
    if requirement is None:
        return None, None
    if version.engine != "retrieval":
        return None, guard.judge_whole(requirement, version)
    support = round(retrieval.support(passages), guard.SUPPORT_PLACES)
    records = len(retrieval.cited_records(passages))
    return support, guard.judge_support(requirement, support=support, records=records)


def _without_farthest(passages: list[retrieval.Passage]) -> list[retrieval.Passage]:
    farthest = min(passages, key=lambda passage: passage.similarity)
    return [passage for passage in passages if passage is not farthest]

"""Linear and neighbours models: an answer per input, computed here. Small ones on the event loop, others in a thread."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from attribution import features
from attribution.bundles import Bundle
from attribution.engines import ENGINES, Answer, neighbours

from . import config, guard
from .artifacts import Artifacts
from .catalogue import Version
from .charging import Outcome
from .errors import invalid
from .upstreams import Upstreams

IMAGE_BYTES_MAX = 3 * 1024 * 1024
IMAGE_PIXELS_MAX = 4096 * 4096
_FORMATS = ("PNG", "JPEG", "WEBP")
TEXT_CHARS_MAX = 20_000


@dataclass
class Prepared:
    """An input that can be answered. Text becomes features only after the money is reserved: embedding is work."""

    bundle: Bundle
    prompt_tokens: int  # at most
    vector: np.ndarray | None
    text: str = ""
    max_tokens: int = 0
    requirement: guard.Requirement | None = None
    meets: np.ndarray | None = None  # which records meet its conditions; None: all
    abstention: guard.Abstention | None = None  # what is known before the model is asked


class Engines:
    """Answers from the artifacts of the models that are called; one thread for what is too long for the event loop."""

    def __init__(self, upstreams: Upstreams, artifacts: Artifacts, sources: guard.Sources):
        self._upstreams, self._artifacts, self.sources = upstreams, artifacts, sources
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engines")

    def stop(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def bundle(self, sha256: str) -> Bundle:
        """The bundle of an artifact. Raises ApiError 503."""
        return await self._artifacts.bundle(sha256)

    async def in_thread(self, act, *arguments) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, act, *arguments)

    async def prepare(
        self,
        version: Version,
        fields: dict[str, Any],
        *,
        endpoint: str,
        requirement: guard.Requirement | None = None,
    ) -> Prepared:
        """Read and check the input, and find which records meet what its caller requires. Raises ApiError 400."""
        bundle = await self.bundle(version.artifact_sha256)
        prepared = await self._read(bundle, fields, endpoint=endpoint)
        if requirement is not None and version.engine == "neighbours":
            prepared.requirement = requirement
            prepared.meets = await self.sources.meeting(requirement, version, bundle)
        elif requirement is not None:
            prepared.abstention = guard.judge_whole(requirement, version)
        return prepared

    async def _read(self, bundle: Bundle, fields: dict[str, Any], *, endpoint: str) -> Prepared:
        predicts = bundle.artifact.settings.get("task") == "regression"
        if predicts != (endpoint == "predict"):
            other = "/v1/predict" if predicts else "/v1/classify"
            raise invalid(f"This model answers at {other}.", "model")
        if "input" not in fields:
            raise invalid("input is missing.", "input")
        given = fields.pop("input")
        spec = bundle.serving["spec"]
        try:
            if spec["kind"] == "text":
                if not isinstance(given, str) or not given.strip() or len(given) > TEXT_CHARS_MAX or "\x00" in given:
                    raise invalid(f"input must be a text of 1 to {TEXT_CHARS_MAX} characters.", "input")
                bound = len(given.encode("utf-8", "surrogatepass")) + config.PROMPT_MARGIN_TOKENS
                return Prepared(bundle, bound, None, text=given)
            if spec["kind"] == "tabular":
                if not isinstance(given, dict):
                    raise invalid("input must be an object: a value for each column.", "input")
                if len(spec["names"]) <= config.INLINE_COLUMNS_MAX:
                    vector = features.transform(spec, [given])[0]
                else:
                    vector = (await self.in_thread(features.transform, spec, [given]))[0]
            else:
                vector = await self.in_thread(_image_features, spec, given)
        except ValueError as problem:
            raise invalid(str(problem), "input") from None
        return Prepared(bundle, 0, vector)

    async def answer(
        self, version: Version, prepared: Prepared, *, endpoint: str, call_id: str, is_test: bool = False
    ) -> Outcome:
        """Answer, or abstain. To a test call the model says what it says of nothing, whatever the input was.

        Raises:
            ApiError: 5xx, a text cannot be embedded.
        """
        if prepared.abstention is not None:
            return _abstained(version, prepared.bundle, prepared.abstention, endpoint=endpoint, call_id=call_id)
        bundle, vector, tokens = prepared.bundle, prepared.vector, 0
        if vector is None:
            embedding, tokens = await self._upstreams.embed(prepared.text, input_type="passage")
            vector = features.transform(bundle.serving["spec"], [embedding])[0]
            tokens = min(tokens, prepared.prompt_tokens)
        if is_test:
            vector = np.zeros_like(vector)
        engine = ENGINES[bundle.artifact.engine]
        found: Answer = (
            engine.answer(bundle.artifact, vector)
            if runs_on_the_loop(bundle)
            else await self.in_thread(engine.answer, bundle.artifact, vector)
        )
        told = {}
        if prepared.requirement is not None:
            support, records = neighbours.support(bundle.artifact, found, meets=prepared.meets)
            told["support"] = round(support, guard.SUPPORT_PLACES)
            abstention = guard.judge_support(prepared.requirement, support=told["support"], records=records)
            if abstention is not None:
                return _abstained(version, bundle, abstention, endpoint=endpoint, call_id=call_id)
        outputs = dict(found.outputs)
        if "neighbours" in outputs:
            # A record is known outside by its commitment only.
            identities = bundle.serving["identities"]
            outputs["neighbours"] = [
                {"record": identities[one["index"]], "distance": one["distance"]} for one in outputs["neighbours"]
            ]
        response = _response(version, outputs, tokens, endpoint=endpoint, call_id=call_id)
        return Outcome("succeeded", prompt_tokens=tokens, response=response, context=found.context, told=told)


def _response(version: Version, outputs: dict[str, Any], tokens: int, *, endpoint: str, call_id: str) -> dict[str, Any]:
    return {
        "id": call_id,
        "object": "prediction" if endpoint == "predict" else "classification",
        "created": int(time.time()),
        "model": version.path,
        **outputs,
        "usage": {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens},
    }


def _abstained(
    version: Version, bundle: Bundle, abstention: guard.Abstention, *, endpoint: str, call_id: str
) -> Outcome:
    """No answer, in the form of one. Nothing is counted: it costs one price, whatever the input was."""
    outputs: dict[str, Any] = {"value": None} if endpoint == "predict" else {"label": None, "probabilities": {}}
    if bundle.artifact.engine == "neighbours":
        outputs["neighbours"] = []
    response = _response(version, outputs, 0, endpoint=endpoint, call_id=call_id)
    return Outcome(guard.STATUS, response=response, told={"abstained": abstention.told()})


def runs_on_the_loop(bundle: Bundle) -> bool:
    """Whether an answer is computed on the event loop: a table's numbers, and classes x features of them at most."""
    spec, arrays = bundle.serving["spec"], bundle.artifact.arrays
    if spec["kind"] != "tabular" or len(spec["names"]) > config.INLINE_COLUMNS_MAX:
        return False
    if bundle.artifact.engine == "linear":
        return int(arrays["theta"].size) <= config.INLINE_MULTIPLICATIONS_MAX
    # Neighbours are sorted by distance as well: some ten multiplications' time for each of them.
    return int(arrays["X"].size) + 10 * len(arrays["X"]) <= config.INLINE_MULTIPLICATIONS_MAX


def _image_bytes(given: Any) -> bytes:
    text = given.get("image") if isinstance(given, dict) else given
    if not isinstance(text, str):
        raise invalid('input must be {"image": "<base64 of a PNG, JPEG or WebP file>"}.', "input")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("input.image is not base64.", "input") from None
    if not raw or len(raw) > IMAGE_BYTES_MAX:
        raise invalid(f"input.image must have 1 to {IMAGE_BYTES_MAX} bytes.", "input")
    return raw


def _image_features(spec: dict, given: Any) -> np.ndarray:
    raw = _image_bytes(given)
    try:
        with Image.open(io.BytesIO(raw), formats=_FORMATS) as picture:
            if picture.width * picture.height > IMAGE_PIXELS_MAX:
                raise ValueError("The image has too many pixels.")
            picture.load()
            return features.transform(spec, [picture])[0]
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("The image cannot be read. Send a PNG, JPEG or WebP file.") from error

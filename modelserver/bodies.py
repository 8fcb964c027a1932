"""Request bodies into typed requests. Strict: an unknown field is refused rather than silently ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelserver.asgi import ApiError, invalid
from modelserver.chat import Sampling
from modelserver.config import CHAT_MODEL, EMBEDDING_MODEL
from modelserver.embeddings import DIMENSIONS, INPUT_TYPES
from modelserver.tokens import Message

MESSAGES_MAX = 256
INPUTS_MAX = 256
CONTEXTS_MAX = 64
DOCUMENTS_MAX = 6
MAX_TOKENS_DEFAULT = 512

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# Fields that the `openai` client may send and that change nothing here.
_HARMLESS = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
# Fields that only ask for what is the case anyway.
_ONLY: dict[str, tuple[Any, ...]] = {
    "n": (1, None),
    "logprobs": (False, None),
    "response_format": ({"type": "text"}, None),
    "tools": ([], None),
    "tool_choice": ("none", None),
    "parallel_tool_calls": (False, None),
}


@dataclass(frozen=True)
class ChatRequest:
    messages: list[Message]
    sampling: Sampling
    stream: bool
    include_usage: bool


@dataclass(frozen=True)
class EmbeddingRequest:
    texts: list[str]
    input_type: str
    base64: bool


@dataclass(frozen=True)
class ScoreRequest:
    """`subsets` is None for the form that brings its own prompts."""

    prompts: list[list[Message]]
    answer: str
    subsets: list[int] | None


def chat_request(body: dict[str, Any]) -> ChatRequest:
    fields = dict(body)
    _model(fields, CHAT_MODEL)
    messages = _messages(fields.pop("messages", None), "messages")
    stream = _boolean(fields, "stream")
    options = fields.pop("stream_options", None) or {}
    if not isinstance(options, dict):
        raise invalid("stream_options must be an object.", "stream_options")
    limits = [_number(fields, name, 1, 1 << 20, whole=True) for name in ("max_completion_tokens", "max_tokens")]
    sampling = Sampling(
        max_tokens=next((limit for limit in limits if limit is not None), MAX_TOKENS_DEFAULT),
        temperature=_number(fields, "temperature", 0, 2) or 0.0,
        top_p=_number(fields, "top_p", 0, 1, default=Sampling.top_p),
        seed=_number(fields, "seed", -(1 << 63), (1 << 63) - 1, whole=True),
        stop=_stop(fields.pop("stop", None)),
        presence_penalty=_number(fields, "presence_penalty", -2, 2) or 0.0,
        frequency_penalty=_number(fields, "frequency_penalty", -2, 2) or 0.0,
    )
    _nothing_else(fields)
    return ChatRequest(messages, sampling, stream, include_usage=options.get("include_usage") is True)


def embedding_request(body: dict[str, Any]) -> EmbeddingRequest:
    fields = dict(body)
    _model(fields, EMBEDDING_MODEL)
    texts, input_type = _texts_to_embed(fields)
    encoding = fields.pop("encoding_format", None) or "float"
    if encoding not in ("float", "base64"):
        raise invalid("encoding_format must be float or base64.", "encoding_format")
    if fields.pop("dimensions", None) not in (None, DIMENSIONS):
        raise invalid(f"dimensions can only be {DIMENSIONS}.", "dimensions")
    _nothing_else(fields)
    return EmbeddingRequest(texts, input_type, encoding == "base64")


def embedded_tokens_request(body: dict[str, Any]) -> tuple[list[str], str]:
    """Texts whose tokens the embedding model counts, and their input type."""
    fields = dict(body)
    wanted = _texts_to_embed(fields)
    _nothing_else(fields)
    return wanted


def tokenize_request(body: dict[str, Any]) -> tuple[list[Message] | str, bool]:
    """Messages or a text, and whether the tokens themselves are wanted."""
    fields = dict(body)
    want_tokens = _boolean(fields, "return_tokens")
    if ("messages" in fields) == ("text" in fields):
        raise invalid("Give either messages or text.", "messages")
    if "text" in fields:
        content: list[Message] | str = _text(fields.pop("text"), "text", empty=True)
    else:
        content = _messages(fields.pop("messages"), "messages")
    _nothing_else(fields)
    return content, want_tokens


def score_request(body: dict[str, Any]) -> ScoreRequest:
    fields = dict(body)
    answer = _text(fields.pop("answer", None), "answer")
    if "prompts" in fields:
        prompts = fields.pop("prompts")
        if not isinstance(prompts, list) or not 1 <= len(prompts) <= CONTEXTS_MAX:
            raise invalid(f"prompts must be a list of 1 to {CONTEXTS_MAX} conversations.", "prompts")
        request = ScoreRequest([_messages(prompt, "prompts") for prompt in prompts], answer, None)
    else:
        request = _subset_request(fields, answer)
    _nothing_else(fields)
    return request


def _subset_request(fields: dict[str, Any], answer: str) -> ScoreRequest:
    """One context per subset: the system text, followed by the subset's documents exactly as given, in their order."""
    system = _text(fields.pop("system", None), "system", empty=True)
    user = _text(fields.pop("user", None), "user")
    documents = fields.pop("documents", None)
    if not isinstance(documents, list) or len(documents) > DOCUMENTS_MAX:
        raise invalid(f"documents must be a list of at most {DOCUMENTS_MAX} texts.", "documents")
    documents = [_text(document, "documents", empty=True) for document in documents]
    subsets = fields.pop("subsets", None)
    if subsets is None:
        subsets = list(range(1 << len(documents)))
    all_whole = isinstance(subsets, list) and all(type(mask) is int for mask in subsets)
    if not all_whole or not subsets or len(subsets) > CONTEXTS_MAX:
        raise invalid(f"subsets must be a list of 1 to {CONTEXTS_MAX} bit masks.", "subsets")
    if not all(0 <= mask < 1 << len(documents) for mask in subsets):
        raise invalid("A mask in subsets names a document that is not there.", "subsets")
    prompts = []
    for mask in subsets:
        chosen = "".join(document for i, document in enumerate(documents) if mask >> i & 1)
        prompts.append([{"role": "system", "content": system + chosen}, {"role": "user", "content": user}])
    return ScoreRequest(prompts, answer, subsets)


def _texts_to_embed(fields: dict[str, Any]) -> tuple[list[str], str]:
    given = fields.pop("input", None)
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not 1 <= len(texts) <= INPUTS_MAX:
        raise invalid(f"input must be a text or a list of 1 to {INPUTS_MAX} texts.", "input")
    texts = [_text(text, "input") for text in texts]
    input_type = fields.pop("input_type", None) or INPUT_TYPES[0]
    if input_type not in INPUT_TYPES:
        raise invalid("input_type must be passage or query.", "input_type")
    return texts, input_type


def _model(fields: dict[str, Any], name: str) -> None:
    asked = fields.pop("model", None)
    if asked is None:
        raise invalid("model is missing.", "model")
    if asked != name:
        message = f"This address serves the model {name} only."
        raise ApiError(404, message, code="model_not_found", param="model")


def _messages(given: Any, param: str) -> list[Message]:
    if not isinstance(given, list) or not 1 <= len(given) <= MESSAGES_MAX:
        raise invalid(f"{param} must hold 1 to {MESSAGES_MAX} messages.", param)
    return [_message(message, param) for message in given]


def _message(given: Any, param: str) -> Message:
    role = given.get("role") if isinstance(given, dict) else None
    if not isinstance(role, str) or role not in _ROLES:
        raise invalid(f"Each message needs a role of {', '.join(_ROLES)}.", param)
    content = given.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(texts) < len(content):
            raise invalid("Only parts of type text are understood.", param)
        content = "".join(_text(text, param, empty=True) for text in texts)
    return {"role": _ROLES[role], "content": _text(content, param, empty=True)}


def _text(given: Any, param: str, *, empty: bool = False) -> str:
    if not isinstance(given, str) or (not given and not empty):
        raise invalid(f"{param} must be {'a text' if empty else 'a text that is not empty'}.", param)
    if "\x00" in given:
        raise invalid(f"{param} holds a NUL character.", param)
    return given


def _stop(given: Any) -> tuple[str, ...]:
    stops = [given] if isinstance(given, str) else given or []
    if not isinstance(stops, list) or len(stops) > 4:
        raise invalid("stop must be a text or a list of at most 4 texts.", "stop")
    return tuple(_text(stop, "stop") for stop in stops)


def _boolean(fields: dict[str, Any], name: str) -> bool:
    value = fields.pop(name, None)
    if value not in (None, True, False):
        raise invalid(f"{name} must be true or false.", name)
    return bool(value)


def _number(
    fields: dict[str, Any], name: str, low: float, high: float, *, whole: bool = False, default: Any = None
) -> Any:
    value = fields.pop(name, None)
    if value is None:
        return default
    kinds = (int,) if whole else (int, float)
    if type(value) not in kinds or not low <= value <= high:
        raise invalid(f"{name} must be a {'whole ' if whole else ''}number from {low} to {high}.", name)
    return value


def _nothing_else(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if name in _HARMLESS or (name in _ONLY and value in _ONLY[name]):
            continue
        raise ApiError(400, f"The field {name[:100]} is not supported.", code="unsupported_parameter", param=name[:100])

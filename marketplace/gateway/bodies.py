"""Request bodies into typed requests. Strict: an unknown field is refused rather than silently ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marketplace import pricing

from .errors import ApiError, invalid

MESSAGES_MAX = 256
TEXT_BYTES_MAX = 512 * 1024
EMBEDDED_TEXTS_MAX = 256
EMBEDDED_BYTES_MAX = (
    128 * 1024
)  # of all texts of a call: more would be more tokens than the models process embeds at once
DIMENSIONS = 384  # of the bundled embedding model
INPUT_TYPES = ("passage", "query")
ENCODINGS = ("float", "base64")

# Fields that the `openai` client may send and that change nothing here.
_HARMLESS = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
# Fields that only ask for what is the case anyway.
_ONLY: dict[str, tuple[Any, ...]] = {
    "n": (1, None),
    "best_of": (1, None),
    "echo": (False, None),
    "suffix": (None, ""),
    "logprobs": (False, None),
    "parallel_tool_calls": (False, None),
}
# Fields that a model's own server may understand; the bundled one does not.
_FOREIGN = ("tools", "tool_choice", "response_format", "logit_bias", "reasoning_effort", "top_k")
_SAMPLING = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "seed": (-(1 << 63), (1 << 63) - 1),
}


@dataclass(frozen=True)
class Terms:
    """What a caller asks of the price: the most a call may cost, and the price list it was quoted."""

    max_cost_nano: int | None
    price_version: str


@dataclass(frozen=True)
class ChatRequest:
    """Chat messages, or (`completion`) a prompt that becomes one user message."""

    messages: list[dict[str, Any]]
    options: dict[str, Any]
    max_tokens: int | None
    stream: bool
    include_usage: bool
    completion: bool


@dataclass(frozen=True)
class EmbeddingRequest:
    """Texts to embed, as passages or as queries that look for them, and how the vectors are written."""

    texts: list[str]
    input_type: str
    encoding: str


def model_name(fields: dict[str, Any]) -> str:
    """Take `model` out of a body."""
    name = fields.pop("model", None)
    if not isinstance(name, str) or not name:
        raise invalid("model is missing: name it as owner/model or owner/model@v3.", "model")
    return name


def terms(fields: dict[str, Any], *, max_cost_header: str, price_version_header: str) -> Terms:
    """Take the price terms out of a body; headers say the same for clients that cannot add fields."""
    amounts = []
    for name, said in (("max_cost", fields.pop("max_cost", None)), ("x-max-cost", max_cost_header or None)):
        if said is None:
            continue
        try:
            amounts.append(pricing.open_to_nano(said if isinstance(said, str) else ""))
        except ValueError:
            raise invalid(f'{name} must be an amount of OPEN as text, like "0.05".', name) from None
    nano = fields.pop("max_cost_nano", None)
    if nano is not None:
        if type(nano) is not int or not 0 <= nano <= 10**18:
            raise invalid("max_cost_nano must be a whole number of nano-OPEN.", "max_cost_nano")
        amounts.append(nano)
    version = fields.pop("price_version", None) or price_version_header
    if not isinstance(version, str):
        raise invalid("price_version must be a text.", "price_version")
    return Terms(min(amounts) if amounts else None, version)


def chat_request(fields: dict[str, Any], *, completion: bool, foreign: bool) -> ChatRequest:
    """Read a chat or completion request. `foreign`: the model's own server also gets the fields only it knows."""
    if completion:
        prompt = fields.pop("prompt", None)
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        messages = [{"role": "user", "content": _text(prompt, "prompt")}]
    else:
        messages = _messages(fields.pop("messages", None))
    stream = _boolean(fields, "stream")
    stream_options = fields.pop("stream_options", None)
    stream_options = {} if stream_options is None else stream_options
    if not isinstance(stream_options, dict):
        raise invalid("stream_options must be an object.", "stream_options")
    limits = [_number(fields, name, 1, 1 << 20, whole=True) for name in ("max_completion_tokens", "max_tokens")]
    options: dict[str, Any] = {}
    for name, (low, high) in _SAMPLING.items():
        value = _number(fields, name, low, high, whole=name == "seed")
        if value is not None:
            options[name] = value
    stop = fields.pop("stop", None)
    if stop is not None:
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(one, str) and one for one in stops):
            raise invalid("stop must be a text or a list of at most 4 texts.", "stop")
        options["stop"] = stops
    if foreign:
        options |= {name: fields.pop(name) for name in _FOREIGN if fields.get(name) is not None}
    elif fields.get("response_format") in (None, {"type": "text"}):
        fields.pop("response_format", None)
    if not foreign and fields.get("tools") in (None, []):
        fields.pop("tools", None)
    if not foreign and fields.get("tool_choice") in (None, "none", "auto"):
        fields.pop("tool_choice", None)
    nothing_else(fields)
    return ChatRequest(
        messages=messages,
        options=options,
        max_tokens=min((limit for limit in limits if limit is not None), default=None),
        stream=stream,
        include_usage=stream_options.get("include_usage") is True,
        completion=completion,
    )


def embedding_request(fields: dict[str, Any]) -> EmbeddingRequest:
    """Read an embedding request."""
    given = fields.pop("input", None)
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise invalid(
            "input must be a text or a list of texts. Arrays of tokens are not understood: send text.", "input"
        )
    if not 1 <= len(texts) <= EMBEDDED_TEXTS_MAX:
        raise invalid(f"input must hold 1 to {EMBEDDED_TEXTS_MAX} texts.", "input")
    texts = [_text(text, "input") for text in texts]
    if sum(len(text.encode()) for text in texts) > EMBEDDED_BYTES_MAX:
        raise invalid(f"The texts of input are longer than {EMBEDDED_BYTES_MAX} bytes together.", "input")
    input_type, encoding = fields.pop("input_type", None), fields.pop("encoding_format", None)
    if input_type not in (*INPUT_TYPES, None):
        raise invalid("input_type must be passage or query.", "input_type")
    if encoding not in (*ENCODINGS, None):
        raise invalid("encoding_format must be float or base64.", "encoding_format")
    dimensions = fields.pop("dimensions", None)
    if dimensions is not None and (type(dimensions) is not int or dimensions != DIMENSIONS):
        raise invalid(f"dimensions can only be {DIMENSIONS}.", "dimensions")
    nothing_else(fields)
    return EmbeddingRequest(texts, input_type or INPUT_TYPES[0], encoding or ENCODINGS[0])


def nothing_else(fields: Mapping[str, Any]) -> None:
    """Refuse the fields that nobody took."""
    for name, value in fields.items():
        if name in _HARMLESS or (name in _ONLY and value in _ONLY[name]):
            continue
        raise ApiError(400, f"The field {name[:100]} is not supported.", code="unsupported_parameter", param=name[:100])


def question_of(messages: list[dict[str, Any]]) -> str:
    """The words of the last thing a user wrote."""
    for message in reversed(messages):
        if message["role"] == "user":
            return str(message["content"])
    raise invalid("A message of the role user is needed.", "messages")


def _messages(given: Any) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not 1 <= len(given) <= MESSAGES_MAX:
        raise invalid(f"messages must hold 1 to {MESSAGES_MAX} messages.", "messages")
    return [_message(message) for message in given]


def _message(given: Any) -> dict[str, Any]:
    role = given.get("role") if isinstance(given, dict) else None
    if role not in ("system", "developer", "user", "assistant", "tool"):
        raise invalid("Each message needs a role of system, developer, user, assistant or tool.", "messages")
    message = {"role": "system" if role == "developer" else role}
    content = given.get("content")
    if isinstance(content, list):
        texts: list[Any] = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content
        ]
        if not all(isinstance(text, str) for text in texts):
            raise invalid("Only parts of type text are understood.", "messages")
        content = "".join(texts)
    if content is None and role == "assistant":
        content = ""
    message["content"] = _text(content, "messages", empty=True)
    for name in ("tool_calls", "tool_call_id", "name"):
        if given.get(name) is not None:
            message[name] = given[name]
    return message


def _text(given: Any, param: str, *, empty: bool = False) -> str:
    if not isinstance(given, str) or (not given and not empty):
        raise invalid(f"{param} must be {'a text' if empty else 'a text that is not empty'}.", param)
    if "\x00" in given:
        raise invalid(f"{param} holds a NUL character.", param)
    if len(given.encode("utf-8", "surrogatepass")) > TEXT_BYTES_MAX:
        raise invalid(f"{param} is longer than {TEXT_BYTES_MAX} bytes.", param)
    return given


def _boolean(fields: dict[str, Any], name: str) -> bool:
    value = fields.pop(name, None)
    if value is not None and type(value) is not bool:  # 1 == True
        raise invalid(f"{name} must be true or false.", name)
    return bool(value)


def _number(fields: dict[str, Any], name: str, low: float, high: float, *, whole: bool = False) -> Any:
    value = fields.pop(name, None)
    if value is None:
        return None
    kinds = (int,) if whole else (int, float)
    if type(value) not in kinds or not low <= value <= high:
        raise invalid(f"{name} must be a {'whole ' if whole else ''}number from {low} to {high}.", name)
    return value

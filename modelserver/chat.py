"""The bundled chat model: SmolLM2-135M-Instruct on llama.cpp, inside this process."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from modelserver import tokens
from modelserver.config import CHAT_MODEL, Settings

# Prompt tokens between two looks at whether the caller is still there.
_BATCH_TOKENS = 256


class ModelFailed(Exception):
    """The runtime gave up on this call; it goes on serving others."""


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. temperature 0: always the likeliest, so `seed` and `top_p` do nothing."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 0.95
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


@dataclass(frozen=True)
class Piece:
    """A piece of the answer, usually one token."""

    text: str


@dataclass(frozen=True)
class End:
    """The answer is complete. `reason`: stop or length. Counts are tokens, the end-of-turn token included."""

    reason: str
    prompt_tokens: int
    completion_tokens: int


class ChatModel:
    """The loaded runtime. Answers `settings.chats_running` callers at once, each with its own context."""

    def __init__(self, weights: Path, settings: Settings):
        """Load the weights (about 1 s).

        Raises:
            RuntimeError: the file's chat template is not the one `tokens.chat_fragments` writes.
        """
        import xllamacpp  # loads native code: only where weights are installed

        key = secrets.token_hex(32)
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(weights)
        parameters.model_alias = CHAT_MODEL
        parameters.n_parallel = settings.chats_running
        parameters.n_ctx = settings.context_tokens * settings.chats_running
        parameters.n_batch = parameters.n_ubatch = _BATCH_TOKENS
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = settings.threads
        # Its own HTTP port (loopback, random) cannot be switched off, so nobody but this process has its key.
        parameters.api_keys = [key]
        parameters.cors_origins = "null"
        parameters.endpoint_slots = parameters.ui = False
        parameters.offline = True
        parameters.n_threads_http = 4
        # No prompt outlives its call: not in memory, and not as a difference in time that other buyers could see.
        parameters.cache_ram_mib = 0
        parameters.cache_prompt = False
        parameters.verbosity = 0
        self._server = xllamacpp.Server(parameters)
        self._threads = ThreadPoolExecutor(settings.chats_running, thread_name_prefix="chat")
        self.weights = weights
        self.context_tokens = settings.context_tokens
        self.tokenizer = tokens.Tokenizer(self._server.listening_address, key)
        self._check_template()

    def close(self) -> None:
        """Stop the runtime. Callers must have left."""
        self._threads.shutdown(wait=True)
        self._server = None

    @asynccontextmanager
    async def generate(self, prompt: list[int], sampling: Sampling) -> AsyncIterator[AsyncIterator[Piece | End]]:
        """Answer a prompt; use it as `async with model.generate(...) as events`.

        Leaving the block early stops the generation before its next token and waits for that, so that the place of
        this caller is really free.

        Raises (while iterating):
            ModelFailed: the runtime reported an error.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Piece | End | ModelFailed] = asyncio.Queue()
        stop = threading.Event()

        def tell(event: Piece | End | ModelFailed) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        work = loop.run_in_executor(self._threads, self._run, prompt, sampling, tell, stop)
        try:
            yield _until_end(events)
        finally:
            stop.set()
            await asyncio.wait([work])

    def _run(
        self,
        prompt: list[int],
        sampling: Sampling,
        tell: Callable[[Piece | End | ModelFailed], None],
        stop: threading.Event,
    ) -> None:
        ended = False

        def receive(chunk: dict) -> bool:
            """Called for every chunk; true stops the generation."""
            nonlocal ended
            if stop.is_set() or ended:
                return True
            if "error" in chunk:
                ended = True
                tell(ModelFailed(str(chunk["error"].get("message", "unknown"))))
                return True
            for choice in chunk.get("choices", ()):
                if choice["text"]:
                    tell(Piece(choice["text"]))
                if choice["finish_reason"]:
                    ended = True
                    usage = chunk["usage"]
                    tell(End(choice["finish_reason"], usage["prompt_tokens"], usage["completion_tokens"]))
            return False

        try:
            self._server.handle_completions(_request(prompt, sampling), receive)
        except Exception as error:
            tell(ModelFailed(str(error)))
        else:
            if not ended and not stop.is_set():
                tell(ModelFailed("the answer ended without its last part"))

    def _check_template(self) -> None:
        conversation = [
            {"role": "user", "content": " Two  spaces\n"},
            {"role": "assistant", "content": "\nYes."},
            {"role": "user", "content": "Why?"},
        ]
        for messages in (conversation, [{"role": "system", "content": "Be brief."}, *conversation]):
            ours = self.tokenizer.encode(tokens.chat_fragments(messages))
            if ours != self.tokenizer.encode_template(messages):
                raise RuntimeError("the weights have another chat template than SmolLM2-Instruct")


async def _until_end(events: asyncio.Queue[Piece | End | ModelFailed]) -> AsyncIterator[Piece | End]:
    while True:
        event = await events.get()
        if isinstance(event, ModelFailed):
            raise event
        yield event
        if isinstance(event, End):
            return


def _request(prompt: list[int], sampling: Sampling) -> dict:
    """The runtime's own request. It knows many more fields (grammars, slots, files): none comes from a caller."""
    request = {
        "prompt": prompt,
        "stream": True,
        "stream_options": {"include_usage": True},
        # Reports between batches of the prompt give `receive` a chance to stop before the first token.
        "return_progress": True,
        "cache_prompt": False,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": list(sampling.stop),
    }
    if sampling.seed is not None:
        # 32 bits; the largest value means "any seed" to the runtime, so no caller's seed becomes that one.
        request["seed"] = sampling.seed % 0xFFFFFFFF
    return request

"""Small work runs on the event loop, large work in a thread, so that nobody waits for somebody else's large request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from . import config

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def run(
    size_bytes: int, act: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Result:
    """Run `act`, whose work grows with `size_bytes`: a thread costs about 0.1 ms, as much as a small act takes."""
    if size_bytes <= config.INLINE_BYTES_MAX:
        return act(*arguments, **named)
    return await asyncio.to_thread(act, *arguments, **named)

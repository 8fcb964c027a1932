"""The gateway on a loop that times its steps: `python -m tests.gateway.measured --port P`. They go to the file STEPS_FILE.

A step is what one callback does before anything else can run. What counts is the processor time of the loop's own thread,
so a step is not longer because it had to wait. The product runs on uvloop, whose callbacks cannot be timed from outside; they are
the same ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path

from marketplace.gateway import __main__ as product  # first: it says before NumPy is loaded how many threads that has

import uvicorn  # isort: skip
from django.conf import settings

from marketplace.gateway.protocol import Protocol  # isort: skip

steps: list[tuple[float, float, str]] = []


def measure() -> None:
    """From now on keep of each step of a loop when it ended, how long it took in ms, and what it was."""
    run = asyncio.Handle._run

    def measured(handle: asyncio.Handle) -> None:
        began_s = time.thread_time()
        run(handle)
        took_ms = (time.thread_time() - began_s) * 1000
        if took_ms > 1:
            steps.append((time.time(), round(took_ms, 2), _name(handle)))

    asyncio.Handle._run = measured


def _name(handle: asyncio.Handle) -> str:
    task = getattr(handle._callback, "__self__", None)
    return task.get_coro().__qualname__ if isinstance(task, asyncio.Task) else repr(handle._callback)


class Measured(product.Application):
    async def start(self) -> None:
        await super().start()
        measure()

    async def stop(self) -> None:
        Path(os.environ["STEPS_FILE"]).write_text(json.dumps(steps))
        await super().stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    uvicorn.run(
        Measured(settings), port=port, loop="asyncio", http=Protocol, ws="none", log_config=None, access_log=False
    )


if __name__ == "__main__":
    main()

"""Run pytest in forks of a process that has the libraries imported already: what takes most of a short run's time.

`Nursery(libraries)` starts the process; `run` forks it, and the fork imports our code anew from where it is told. Nothing
of ours may be imported before: then a fork would test the code that its parent found.

    python -m tests.nursery    reads one order a line from standard input, and answers with the exit code of each
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from devstack.children import bound_to_parent, stop


class Nursery:
    """The process that forks. One run at a time."""

    def __init__(self, libraries: Sequence[str], *, ours: Path) -> None:
        """Start it.

        Args:
            libraries: Modules to import beforehand, in the order in which a program imported them: some are two halves
                that depend on it, such as asyncio's.
            ours: The folder of `tests`, from which nothing else is imported.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            cwd=ours,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ours)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=bound_to_parent(signal.SIGTERM),
        )
        self._ask({"libraries": [*libraries]})

    def run(
        self, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path, timeout_s: float
    ) -> int:
        """Run pytest in a folder. Returns its exit code. Raises TimeoutError: it was ended after this time."""
        order = {"arguments": [*arguments], "folder": str(folder), "environment": {**environment}, "log": str(log)}
        code = self._ask(order | {"timeout_s": timeout_s})
        if code == _TIMED_OUT:
            raise TimeoutError
        return code

    def stop(self) -> None:
        stop(self._process, signal.SIGTERM, 10)

    def _ask(self, order: dict[str, object]) -> int:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the process that forks ended: {self._process.wait()}"
        return int(answer)


_TIMED_OUT = -1


def _serve() -> None:
    ours = Path.cwd()
    for name in json.loads(sys.stdin.readline())["libraries"]:
        # Some look for Django's settings, which the fork will have. It imports those itself.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    print(0, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        bind = bound_to_parent(signal.SIGTERM)
        if (pid := os.fork()) == 0:
            bind()  # and lead a group of its own, so that what it starts can be ended with it
            _become(order, ours)
        print(_outcome(pid, order["timeout_s"]), flush=True)


def _become(order: dict, ours: Path) -> NoReturn:
    import pytest

    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, number)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = ["pytest", *order["arguments"]]
    sys.path[:] = [order["folder"], *(path for path in sys.path if path and Path(path) != ours)]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "devstack")]:
        del sys.modules[name]
    sys.exit(pytest.main(order["arguments"]))


def _outcome(pid: int, timeout_s: float) -> int:
    def give_up(_number: int, _frame: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except TimeoutError:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return _TIMED_OUT
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    _serve()

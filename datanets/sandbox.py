"""Read a file from a stranger in a process that can do nothing else.

The parent starts a new Python with an empty environment and closed descriptors. Before it reads a byte, the child sets
resource limits, asks the kernel for an empty network namespace, a seccomp filter and Landlock (each where the kernel has
it), and installs an audit hook that refuses sockets, new processes and files outside its temporary folder. The parent
kills it at 512 MiB resident or at its deadline. Records come back as JSON lines on a pipe, pictures as files in the
temporary folder.

What each layer is for: the kernel's layers hold even when a C decoder is taken over; the audit hook always exists and
holds parsers written in Python. `active_protections()` says what is active on this machine.

Pure: no Django. One child per file; a crash, a leak or an endless loop ends with it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datanets.kinds.shapes import MEBIBYTE, Limits, Problem, Refused

ROOT = Path(__file__).resolve().parent.parent
ADDRESS_SPACE_BYTES = 1536 * MEBIBYTE
RESIDENT_BYTES_MAX = 512 * MEBIBYTE
TIMEOUT_S = 10.0
LINE_BYTES_MAX = 32 * MEBIBYTE

_START = "import sys; sys.path.insert(0, {root!r}); from datanets import sandbox_child; sandbox_child.main()"
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # the pooled allocators reserve address space by the GiB
    "MALLOC_ARENA_MAX": "2",
}
_MEDIA_NAME = re.compile(r"media-[0-9]{1,9}")
_WATCH_S = 0.02

__all__ = [
    "Refused",
    "SandboxCrash",
    "SandboxError",
    "SandboxMemory",
    "SandboxTimeout",
    "active_protections",
    "parse_file",
]


class SandboxError(Exception):
    """The child could not finish; nothing it said may be used. code: what happened, for the page."""

    code = "sandbox.crash"


class SandboxTimeout(SandboxError):
    """No end within the time allowed."""

    code = "sandbox.timeout"


class SandboxMemory(SandboxError):
    """More memory than allowed."""

    code = "sandbox.memory"


class SandboxCrash(SandboxError):
    """The child died or spoke nonsense. The message ends with its last words, for the operator's log only."""

    code = "sandbox.crash"


def parse_file(
    path: str | Path,
    *,
    kind: str,
    schema: dict,
    name: str,
    limits: Limits | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[dict]:
    """Parse one uploaded file in a sandbox, event by event, in constant memory.

    Args:
        path: the stored file. kind: a key of datanets.kinds.KINDS. name: what its contributor called it.
        timeout_s: wall time the child may work, not counting the time in which the caller holds an event;
            its CPU time is limited to the same. Ten seconds are enough for 50 MiB; allow more for larger files.

    Yields:
        {"type": "record", "position", "line", "name", "body", "media": bytes | None, "media_type"} or
        {"type": "problem", "line", "column", "name", "code", "reason", "params", "message", "values"}.
        position counts records from 1 over the whole file.

    Raises:
        Refused: the file as a whole is not acceptable (also when it holds problems only in part: what was yielded
            before does not count). SandboxTimeout, SandboxMemory, SandboxCrash: likewise.
    """
    limits = limits or Limits()
    size = os.path.getsize(path)
    if size > limits.file_bytes_max:
        raise Refused("size", "size.file", {"limit_mib": limits.file_bytes_max // MEBIBYTE})
    with tempfile.TemporaryDirectory(prefix="openledger-sandbox-") as folder:
        job: dict[str, Any] = {
            "kind": kind,
            "schema": schema,
            "name": name,
            "limits": asdict(limits),
            "path": str(Path(path).resolve()),
        }
        job |= {"cpu_s": int(timeout_s) + 2, "address_space_bytes": ADDRESS_SPACE_BYTES}
        Path(folder, "job.json").write_text(json.dumps(job), encoding="utf-8")
        position = 0
        with _Child(folder, timeout_s=timeout_s) as child:
            for event in child.events():
                if event["type"] == "record":
                    position += 1
                    event["position"] = position
                    event["media"] = _take_media(folder, event.pop("media_name"))
                elif event["type"] == "problem":
                    event["message"] = Problem(event["line"], event["code"], event["reason"], event["params"]).message
                else:
                    raise Refused(event["code"], event["reason"], event["params"], line=event["line"])
                yield event


def active_protections() -> dict[str, bool]:
    """What a child really has on this machine, by asking one: resource limits, audit hook, and the kernel's layers."""
    with tempfile.TemporaryDirectory(prefix="openledger-sandbox-") as folder:
        job = {"probe": True, "path": folder, "cpu_s": 5, "address_space_bytes": ADDRESS_SPACE_BYTES}
        Path(folder, "job.json").write_text(json.dumps(job), encoding="utf-8")
        with _Child(folder, timeout_s=TIMEOUT_S) as child:
            return next(iter(child.events()))["protections"]


class _Child:
    """One sandboxed process: started on entry, certainly gone on exit."""

    def __init__(self, folder: str, *, timeout_s: float):
        self._folder, self._timeout_s = folder, timeout_s
        self._over_memory = False

    def __enter__(self) -> _Child:
        with open(Path(self._folder, "stderr"), "wb") as errors:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-X",
                    "utf8",
                    "-c",
                    _START.format(root=str(ROOT)),
                    self._folder,
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                close_fds=True,
                env=_ENVIRONMENT,
                cwd=self._folder,
                start_new_session=True,
            )
        if self._process.stdout is None:
            raise SandboxCrash("the sandbox has no way to answer")
        self._pipe = self._process.stdout
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch_memory, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._watcher.join()
        self._pipe.close()

    def events(self) -> Iterator[dict]:
        """What the child says, until it says that it is done."""
        for line in self._lines():
            try:
                event = json.loads(line)
                kind = event["type"]
            except (ValueError, KeyError, TypeError) as error:
                raise SandboxCrash("the sandbox sent something that is no event") from error
            if kind == "done":
                return
            yield event
        self._raise_death()

    def _lines(self) -> Iterator[bytes]:
        used_s, buffer = 0.0, bytearray()
        pipe = self._pipe.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while True:
                started = time.monotonic()
                ready = selector.select(max(0.0, self._timeout_s - used_s))
                chunk = os.read(pipe, MEBIBYTE) if ready else b""
                used_s += time.monotonic() - started
                if not ready:
                    raise SandboxTimeout(f"no end after {self._timeout_s:g} s")
                if not chunk:
                    return
                searched = len(buffer)
                buffer += chunk
                while (end := buffer.find(b"\n", searched)) >= 0:
                    line, searched = bytes(buffer[:end]), 0
                    del buffer[: end + 1]
                    yield line
                if len(buffer) > LINE_BYTES_MAX:
                    raise SandboxCrash("the sandbox sent an endless line")

    def _watch_memory(self) -> None:
        page = resource.getpagesize()
        while not self._ended.wait(_WATCH_S):
            try:
                with open(f"/proc/{self._process.pid}/statm", "rb") as statm:
                    resident = int(statm.read().split()[1]) * page
            except (OSError, IndexError, ValueError):
                return  # gone, or no /proc here: RLIMIT_AS alone holds
            if resident > RESIDENT_BYTES_MAX:
                self._over_memory = True
                self._process.kill()
                return

    def _raise_death(self) -> None:
        status = self._process.wait()
        if self._over_memory:
            raise SandboxMemory(f"more than {RESIDENT_BYTES_MAX // MEBIBYTE} MiB resident")
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            raise SandboxTimeout("out of CPU time")
        with open(Path(self._folder, "stderr"), "rb") as errors:
            errors.seek(max(0, errors.seek(0, 2) - 2000))
            words = errors.read().decode("utf-8", "replace")
        raise SandboxCrash(f"the sandbox ended with status {status}: {words}")


def _take_media(folder: str, name: str | None) -> bytes | None:
    """Read and delete one picture. The name comes from the child: only the pattern it should use, and no link."""
    if name is None:
        return None
    if not _MEDIA_NAME.fullmatch(name):
        raise SandboxCrash("the sandbox named a file it may not name")
    path = os.path.join(folder, name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise SandboxCrash("the sandbox named a file that is not there") from error
    with os.fdopen(descriptor, "rb") as file:
        media = file.read(Limits().file_bytes_max)
    os.unlink(path)
    return media

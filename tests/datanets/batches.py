"""Many files through one locked process: a start costs more than most files. For files that do not kill it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datanets import sandbox

_PROGRAM = """
import gc, json, sys, time
from pathlib import Path
root, folder = {root!r}, {folder!r}
sys.path.insert(0, root)
from datanets import sandbox_child
from datanets.kinds.shapes import Limits, Refused

class Heard:
    def __init__(self): self.codes = set()
    def record(self, parsed, *, media_name): self.codes.add("ok")
    def problem(self, problem): self.codes.add(problem.code)

jobs = json.loads(Path(folder, "jobs.json").read_text())
status = open("/proc/self/status")  # getrusage's peak would count the process that started this one, too
for ending in (".zip", ".parquet"):
    sandbox_child._load_readers("a" + ending)
sandbox_child.lock_down(folder=folder, input_path=folder, cpu_s=10 * len(jobs), address_space_bytes={address_space})
for job in jobs:
    gc.collect()  # what one file left must not count for the next
    heard, started = Heard(), time.monotonic()
    try:
        sandbox_child._parse(job, folder=folder, limits=Limits(), say=heard)
    except Refused as refused:
        heard.codes = {{refused.code}}
    except MemoryError:
        heard.codes = {{"size"}}
    except RecursionError:
        heard.codes = {{"content"}}
    except Exception as error:
        heard.codes = {{"broke: " + repr(error)[:200]}}
    status.seek(0)
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) // 1024
    print(json.dumps([sorted(heard.codes), time.monotonic() - started, peak]), flush=True)
"""


class Told(NamedTuple):
    """What became of a file: as in hostile.py, or "broke: ..." where the parser did not expect it. peak_mib: of the
    process until then."""

    codes: frozenset[str]
    seconds: float
    peak_mib: int


def parse_all(
    files: Sequence[tuple[str, str, bytes]], *, schemas: dict[str, dict], timeout_s: float = 120
) -> list[Told]:
    """Parse (name, kind, content) one after the other. Shorter than `files` when one of them killed the process: the first
    that is missing."""
    with tempfile.TemporaryDirectory(prefix="openledger-batch-") as folder:
        jobs = []
        for number, (name, kind, content) in enumerate(files):
            path = Path(folder, f"upload-{number}")
            path.write_bytes(content)
            jobs.append({"kind": kind.split("_")[0], "schema": schemas[kind], "name": name, "path": str(path)})
        Path(folder, "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
        program = _PROGRAM.format(root=str(sandbox.ROOT), folder=folder, address_space=sandbox.ADDRESS_SPACE_BYTES)
        command = [sys.executable, "-I", "-X", "utf8", "-c", program]
        try:
            done = subprocess.run(command, capture_output=True, env=sandbox._ENVIRONMENT, cwd=folder, timeout=timeout_s)
            lines = done.stdout.splitlines()
        except subprocess.TimeoutExpired as expired:
            lines = (expired.stdout or b"").splitlines()
        return [Told(frozenset(codes), seconds, peak) for codes, seconds, peak in map(json.loads, lines)]

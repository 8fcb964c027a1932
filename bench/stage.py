"""What bench/gateway.py measures and what serves it, on two cores: one for what is measured, one for all else.

The gateway runs as in production: one process, a durable PostgreSQL, the money of every call committed before its answer.
LiteLLM runs as one worker with a master key and without a database, so it keeps no money. The bare upstream is a second one.
These three take turns on the first core; this program with its clients, the upstream and PostgreSQL share the second.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from bench import load, paid, peers
from bench.books import ROOT, Books, books
from devstack.children import bound_to_parent, free_port, stop
from devstack.services import APP_ROLE

LITELLM_KEY = "sk-bench"
_STOP_S = 30


@dataclass
class Sample:
    """One round of one system: calls a second, median latency, CPU of a call, and how busy both cores were: with what is
    measured, with what serves it, and with strangers, the machine's other processes."""

    rate: float
    p50_ms: float
    cpu_us: float
    postgres_us: float
    tested: float
    others: float
    strangers: float


@dataclass
class System:
    """One that is called: its port, the keys of its clients, the name of a model, and whose CPU is counted."""

    port: int
    keys: Sequence[str]
    process: subprocess.Popen
    log: Path
    models: str = "{}"
    receipts: list[str] = field(default_factory=list)

    def requests(self, model: str, *, stream: bool = False) -> list[bytes]:
        return [load.request(self.models.format(model), key=key, stream=stream) for key in self.keys]


@dataclass
class Stage:
    """Everything that runs, and how often and how long it is measured."""

    site: Books
    upstream: subprocess.Popen
    ours: System
    litellm: System
    bare: System
    rounds: int
    seconds: float
    litellm_version: str

    def sample(self, system: System, clients: int, *, model: str, stream: bool = False, hot: bool = False) -> Sample:
        """Put a load on a system; `hot`: with its first key only. Ends the run if a call fails."""
        requests = system.requests(model, stream=stream)[: 1 if hot else None]
        before = self._cpu(system)
        done = put(system, requests, clients=clients, seconds=self.seconds)
        taken = (now - then for now, then in zip(self._cpu(system), before, strict=True))
        tested_s, postgres_s, others_s, all_s = taken
        return Sample(
            rate=done.rate,
            p50_ms=done.p50_ms,
            cpu_us=tested_s / done.succeeded * 1e6,
            postgres_us=postgres_s / done.succeeded * 1e6,
            tested=tested_s / done.seconds,
            others=(postgres_s + others_s) / done.seconds,
            strangers=max(0.0, all_s - tested_s - postgres_s - others_s) / done.seconds,
        )

    def stop_gateway(self) -> None:
        """End the gateway as a site does: it gives back what it holds."""
        self.ours.process.send_signal(signal.SIGTERM)
        if self.ours.process.wait(_STOP_S):
            raise SystemExit("the gateway did not end in order")

    def _cpu(self, system: System) -> tuple[float, float, float, float]:
        others_s = cpu_s(self.upstream.pid) + time.process_time()
        return cpu_s(system.process.pid), cpu_s(self.site.postgres.process.pid), others_s, machine_cpu_s()


def put(
    system: System, requests: Sequence[bytes], *, clients: int, seconds: float, refused: Sequence[int] = ()
) -> load.Load:
    """Put a load on a system. Ends the run if a call fails, unless by a status in `refused`."""
    done = uvloop.run(load.put(system.port, requests, clients=clients, seconds=seconds))
    if done.failed.keys() - set(refused):
        raise SystemExit(f"calls failed, by status: {dict(done.failed)}\n{system.log.read_text()[-3000:]}")
    system.receipts += done.receipts
    return done


def cpu_s(root: int) -> float:
    """CPU seconds of a process and all below it, those that ended included."""
    parents, ticks = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended
            fields = file.read_text().rpartition(")")[2].split()
            pid = int(file.parent.name)
            parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
    total, below = 0, [root]
    while below:
        pid = below.pop()
        total += ticks.get(pid, 0)
        below += [child for child, parent in parents.items() if parent == pid]
    return total / os.sysconf("SC_CLK_TCK")


def machine_cpu_s() -> float:
    """CPU seconds of everything that ran on this machine."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def fdatasync_ms(folder: Path, times: int = 200) -> float:
    """Median of writing 8 kB over what is there and flushing it, as PostgreSQL does at a commit."""
    taken = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(bytes(1 << 20))
        os.fsync(file.fileno())
        for _ in range(times):
            start = time.perf_counter()
            os.pwrite(file.fileno(), bytes(8192), 0)
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


@contextlib.contextmanager
def stage(folder: Path, *, buyers: int, rounds: int, seconds: float) -> Iterator[Stage]:
    """Start everything: upstream, books with buyers, our gateway, LiteLLM and a second upstream."""
    tested, others = _cores()
    python = peers.litellm()
    os.sched_setaffinity(0, {others})  # and so PostgreSQL, which inherits it
    ports = {name: free_port() for name in ("upstream", "ours", "litellm", "bare")}
    upstream = [sys.executable, "-m", "bench.upstream", "--port"]
    os.environ["OUTBOUND_ALLOW"] = f"127.0.0.1:{ports['upstream']}"
    with contextlib.ExitStack() as started:

        def start(name: str, command: Sequence[str], core: int, environment: Mapping[str, str]) -> subprocess.Popen:
            log = folder / f"{name}.log"
            return started.enter_context(_running(command, ports[name], core=core, environment=environment, log=log))

        fake = start("upstream", [*upstream, str(ports["upstream"])], others, os.environ)
        site = started.enter_context(books())
        keys = paid.open_shop(f"http://127.0.0.1:{ports['upstream']}/v1", buyers=buyers)
        ours = start(
            "ours",
            [sys.executable, "-m", "marketplace.gateway", "--port", str(ports["ours"])],
            tested,
            os.environ | {"DATABASE_URL": site.postgres.url(APP_ROLE), "WITNESS_QUORUM": "0"},
        )
        told = [str(ports["litellm"]), str(ports["upstream"]), LITELLM_KEY, str(folder)]
        peer = start("litellm", [str(python), "bench/peer_litellm.py", *told], tested, _bare_environment(folder))
        bare = start("bare", [*upstream, str(ports["bare"])], tested, os.environ)
        yield Stage(
            site=site,
            upstream=fake,
            ours=System(ports["ours"], keys, ours, folder / "ours.log", models=f"{paid.SELLER}/{{}}"),
            litellm=System(ports["litellm"], [LITELLM_KEY], peer, folder / "litellm.log"),
            bare=System(ports["bare"], ["none"], bare, folder / "bare.log"),
            rounds=rounds,
            seconds=seconds,
            litellm_version=_pinned("litellm"),
        )


@contextlib.contextmanager
def _running(
    command: Sequence[str], port: int, *, core: int, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen]:
    """A process on one core, from when it listens to the end of the block."""
    bound = bound_to_parent(signal.SIGTERM)

    def prepare() -> None:
        bound()
        os.sched_setaffinity(0, {core})

    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, preexec_fn=prepare, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        give_up_at = time.monotonic() + 120
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise SystemExit(f"{' '.join(command[:3])} does not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield process
    finally:
        stop(process, signal.SIGTERM, _STOP_S)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _bare_environment(folder: Path) -> dict[str, str]:
    """For LiteLLM nothing of ours: no secrets, no database, no home; and it asks nobody outside."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
    }


def _cores() -> tuple[int, int]:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise SystemExit("This needs two cores: one for what is measured, one for all else.")
    return allowed[0], allowed[1]


def _pinned(name: str) -> str:
    pins = (peers.HERE / "requirements-litellm.txt").read_text(encoding="utf-8")
    return re.search(rf"^{name}==(\S+)", pins, flags=re.M)[1]

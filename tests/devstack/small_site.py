"""A site without Django, for tests of the supervisor: `python -m tests.devstack.small_site STATE`.

Servers, guardian, gunicorn and Celery are the real ones, their commands those of the process table; only what they
serve is small, so that a broken page is not reported here a second time.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from celery import Celery

from devstack import probes
from devstack.children import free_port
from devstack.processes import PROCESSES
from devstack.supervisor import Site, run

celery = Celery("small", broker=os.environ.get("REDIS_URL"), backend=os.environ.get("REDIS_URL"))


@celery.task(name=probes.PING)
def ping():
    return "pong"


def application(environment, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environment["PATH_INFO"].encode()]


class SmallSite(Site):
    def up(self):
        places = {"marketplace.wsgi": "tests.devstack.small_site", "marketplace": "tests.devstack.small_site:celery"}
        self.begin()
        self.start_processes(
            replace(process, command=tuple(places.get(part, part) for part in process.command))
            for process in PROCESSES
            if process.name in ("web", "worker", "beat")
        )
        self._wait("a background task", lambda: probes.task_finishes(self.environment["REDIS_URL"]), log="worker")
        self.announce()
        self.keep_alive()


if __name__ == "__main__":
    state = Path(sys.argv[1])
    state.mkdir(parents=True, exist_ok=True)
    if not (state / "ports.json").exists():  # as if these were its last ones: 8000 is for a site that people look at
        (state / "ports.json").write_text(json.dumps({"web": free_port(), "gateway": free_port()}))
    sys.exit(run(SmallSite(state, web_port=None, gateway_port=None, demo=False)))

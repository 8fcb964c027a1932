"""Files that break the checks, machines that are too slow for a moment, and what killed processes leave behind."""

from __future__ import annotations

import io
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from datanets import checking, findings, sandbox, storage, submissions, sweeping, uploads
from datanets.models import BrokenRow, CheckResult, Record, RecordBody, SubmissionFile
from tests.datanets import hostile
from tests.datanets.cast import make_datanet, measured, person, send, table, upload

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _storage(settings, tmp_path):
    settings.STORAGE_DIR = tmp_path / "storage"


def started(name: str = "Tumours"):
    return submissions.start(datanet=make_datanet(name), contributor=person("alice"))


def recheck() -> int:
    return checking.recheck_waiting_files(older_than=timedelta(0))


def test_a_file_that_breaks_the_checks_stops_no_other_and_fails_in_the_end(monkeypatch):
    submission = started()
    poisoned, good = (upload(submission, table(measured(3)), name=name, check=False) for name in ("a.csv", "b.csv"))
    run_checks = findings.run_checks

    def break_on_the_first(file):
        if file.pk == poisoned.pk:
            raise RuntimeError("poison")
        return run_checks(file)

    monkeypatch.setattr(findings, "run_checks", break_on_the_first)
    assert recheck() == 2
    good.refresh_from_db()
    assert good.status == "ready"

    for _ in range(checking.ATTEMPTS_MAX):
        recheck()

    poisoned.refresh_from_db()
    submission.refresh_from_db()
    assert (poisoned.status, poisoned.error_code) == ("failed", "check.gave_up")
    assert submission.status_params == {"rows": 0, "files": 1}
    assert recheck() == 0


@pytest.mark.parametrize("death", [sandbox.SandboxTimeout, sandbox.SandboxCrash])
def test_a_sandbox_that_dies_once_is_tried_again_and_the_second_time_counts(monkeypatch, death):
    deaths = [death("the machine is busy")]
    parse_file = sandbox.parse_file

    def die_first(*given, **options):
        events = parse_file(*given, **options)
        yield next(events)
        if deaths:
            raise deaths.pop()
        yield from events

    monkeypatch.setattr(sandbox, "parse_file", die_first)
    good = upload(started(), table(measured(3)))
    assert (good.status, good.records_ok) == ("ready", 3)

    deaths += [death("once"), death("twice")]
    bad = upload(started("Second"), table(measured(3)))
    assert (bad.status, bad.error_code, bad.storage_key) == ("failed", death.code, "")


def test_a_file_dropped_during_its_checks_leaves_no_word_behind(monkeypatch):
    alice, submission = person("alice"), started()
    run_checks = findings.run_checks

    def drop_meanwhile(file):
        checked = run_checks(file)
        submissions.drop_file(file, by=alice)
        CheckResult.objects.create(
            submission=submission, file=file, check_name="late", check_version="1", severity="info"
        )
        BrokenRow.objects.create(file=file, line=9, code="schema.number")
        return checked

    monkeypatch.setattr(findings, "run_checks", drop_meanwhile)
    upload(submission, table([*measured(3), ("wide", "17.5", "benign")]))

    assert not CheckResult.objects.exists()
    assert not BrokenRow.objects.exists()
    assert not RecordBody.objects.exists()


def test_bytes_that_no_row_names_are_swept_after_a_day(django_capture_on_commit_callbacks):
    """A process is killed after it stored bytes and before it stored the row that names them."""
    with django_capture_on_commit_callbacks(execute=True):
        pictures = send(make_datanet("Pictures", kind="image"), hostile.png(300, 300), name="a.png")
    half = uploads.add_file(started(), name="rows.csv", size_bytes=10)
    uploads.receive_chunk(half, offset_bytes=0, stream=io.BytesIO(b"12345"))
    kept = {key for folder in ("incoming", "originals", "records", "thumbs") for key in storage.keys_in(folder)}
    assert len(kept) == 4

    lost = [storage.new_key(folder) for folder in ("originals", "records", "thumbs")]
    lost += [f"incoming/{half.pk}/lost", "incoming/nobody/lost"]
    for key in lost:
        storage.put(key, b"lost")
    assert sweeping.sweep() == 0  # somebody may still be about to name them
    unfinished = Path(settings.STORAGE_DIR, "originals", ".unfinished")
    unfinished.write_bytes(b"lost")
    for place, _, names in os.walk(settings.STORAGE_DIR):
        for name in names:
            os.utime(Path(place, name), times=(time.time() - 90_000,) * 2)

    assert sweeping.sweep() == len(lost)
    assert sweeping.sweep() == 0

    assert {key for folder in ("incoming", "originals", "records", "thumbs") for key in storage.keys_in(folder)} == kept
    assert not unfinished.exists()
    assert pictures.records.get().body.media_key in kept


def test_what_a_killed_check_left_of_a_dropped_file_is_swept():
    file = upload(started(), table([*measured(3), ("wide", "17.5", "benign")]))
    Record.objects.filter(file=file).update(status="checking")
    SubmissionFile.objects.filter(pk=file.pk).update(dropped_at=timezone.now() - timedelta(days=2))

    sweeping.sweep()

    assert not BrokenRow.objects.exists()
    assert not CheckResult.objects.exists()
    assert not RecordBody.objects.exists()
    assert set(Record.objects.values_list("status", flat=True)) == {"withdrawn"}

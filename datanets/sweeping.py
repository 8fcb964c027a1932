"""What processes that were killed left behind: bytes that no row names, and words about files that were dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import islice
from uuid import UUID

from django.utils import timezone

from . import findings, registration, storage
from .models import GoldItem, Record, RecordBody, SubmissionFile

# Bytes are stored before the row that names them; no request and no task lives as long as this.
OLDER_THAN = timedelta(days=1)
_BATCH = 1_000


def sweep() -> int:
    """Delete what no row names. Returns how many keys. Repeating changes nothing."""
    _forget_dropped()
    named_by: dict[str, Callable[[list[str]], set[str]]] = {
        "incoming": _parts,
        "originals": lambda keys: (
            _named(SubmissionFile.objects.all(), "storage_key", keys)
            | _named(GoldItem.objects.all(), "storage_key", keys)
        ),
        "records": lambda keys: _named(RecordBody.objects.all(), "media_key", keys),
        "thumbs": lambda keys: _named(RecordBody.objects.all(), "thumb_key", keys),
    }
    deleted = 0
    for folder, named in named_by.items():
        for keys in _batches(storage.keys_in(folder, older_than=OLDER_THAN)):
            lost = set(keys) - named(keys)
            storage.delete_all(lost)
            deleted += len(lost)
    return deleted


def _forget_dropped() -> None:
    """A check that ran while its file was dropped cleans up behind itself, unless it was killed."""
    dropped = SubmissionFile.objects.filter(dropped_at__lt=timezone.now() - OLDER_THAN)
    for file in (
        dropped.filter(broken_rows__isnull=False).distinct() | dropped.filter(check_results__isnull=False).distinct()
    ):
        findings.forget(file)
    registration.discard(list(Record.objects.filter(file__in=dropped, status=Record.Status.CHECKING)[:_BATCH]))


def _named(rows, field: str, keys: list[str]) -> set[str]:
    return set(rows.filter(**{f"{field}__in": keys}).values_list(field, flat=True))


def _parts(keys: list[str]) -> set[str]:
    ids = {key.split("/")[1] for key in keys}
    files = SubmissionFile.objects.filter(pk__in=[each for each in ids if _is_uuid(each)])
    return {part for parts in files.values_list("parts", flat=True) for part in parts}


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while batch := list(islice(left, _BATCH)):
        yield batch

"""The first records that were read from each file, so that a contributor sees whether they were read as meant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from django.db.models import F, Window
from django.db.models.functions import RowNumber

from datanets import columns
from datanets.models import CheckResult, Record, Submission, SubmissionFile

from . import reading

FILES_SHOWN = 3
RECORDS_SHOWN = 10
COLUMNS_SHOWN = 8
CELL_CHARS = 160
_CHECKED = (SubmissionFile.Status.READY, SubmissionFile.Status.NEEDS_AUTHOR)


def of(
    submission: Submission,
    files: Iterable[SubmissionFile],
    first: Sequence[Record],
    findings: dict[int, list[CheckResult]],
) -> list[dict]:
    """For the first checked files: {"file", "columns", "rows"}; a row has its record, its cells and what checks said.

    first, findings: `records_of` these files, and what checks said of them.
    """
    datanet = submission.datanet
    names = [column.name for column in columns.columns_of(datanet.kind, datanet.schema)][:COLUMNS_SHOWN]
    readings = reading.read(
        first,
        datanet=datanet,
        viewer=submission.contributor,
        with_leaders=False,
        chars=CELL_CHARS,
        findings=findings,
    )
    rows: dict[object, list[dict]] = defaultdict(list)
    for each in readings:
        rows[each.record.file_id].append(_row(each, names))
    return [{"file": file, "columns": names, "rows": rows[file.pk]} for file in files if rows[file.pk]]


def records_of(files: Iterable[SubmissionFile]) -> list[Record]:
    """The first records of the first checked files, in one query."""
    shown = [file for file in files if file.status in _CHECKED][:FILES_SHOWN]
    standing = Record.objects.filter(file__in=shown).exclude(status=Record.Status.WITHDRAWN)
    order = ("position", "id")
    place = Window(RowNumber(), partition_by=[F("file_id")], order_by=order)
    first = standing.annotate(place=place).filter(place__lte=RECORDS_SHOWN)
    return list(first.select_related("body").defer("signature", "bands").order_by(*order))


def _row(shown: reading.Reading, names: list[str]) -> dict:
    cells = {field.name: field for field in shown.fields}
    return {
        "record": shown.record,
        "picture_url": shown.picture_url,
        "cells": [cells.get(name) for name in names],
        "remarks": sorted({remark.title for remark in shown.remarks}),
    }

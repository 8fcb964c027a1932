"""The first records that were read from each file, so that a contributor sees whether they were read as meant."""

from __future__ import annotations

from datanets import columns
from datanets.models import Record, Submission, SubmissionFile

from . import reading

FILES_SHOWN = 3
RECORDS_SHOWN = 10
COLUMNS_SHOWN = 8
CELL_CHARS = 160
_CHECKED = (SubmissionFile.Status.READY, SubmissionFile.Status.NEEDS_AUTHOR)


def of(submission: Submission) -> list[dict]:
    """For the first checked files: {"file", "columns", "rows"}; a row has its record, its cells and what checks said."""
    files = submission.files.filter(dropped_at=None, status__in=_CHECKED).order_by("created_at", "pk")
    shown = [_file(file, submission) for file in files[:FILES_SHOWN]]
    return [each for each in shown if each["rows"]]


def _file(file: SubmissionFile, submission: Submission) -> dict:
    datanet = submission.datanet
    names = [column.name for column in columns.columns_of(datanet.kind, datanet.schema)][:COLUMNS_SHOWN]
    records = Record.objects.filter(file=file).exclude(status=Record.Status.WITHDRAWN).select_related("body")
    readings = reading.read(
        list(records.defer("signature", "bands").order_by("position", "id")[:RECORDS_SHOWN]),
        datanet=datanet,
        viewer=submission.contributor,
        with_leaders=False,
        chars=CELL_CHARS,
    )
    return {"file": file, "columns": names, "rows": [_row(each, names) for each in readings]}


def _row(shown: reading.Reading, names: list[str]) -> dict:
    cells = {field.name: field for field in shown.fields}
    return {
        "record": shown.record,
        "picture_url": shown.picture_url,
        "cells": [cells.get(name) for name in names],
        "remarks": sorted({remark.title for remark in shown.remarks}),
    }

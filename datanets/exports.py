"""A version as a file: Parquet, CSV or JSON lines. Records withdrawn since the freeze are left out."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from django.utils.translation import gettext as _

from accounts.requests import Visitor

from . import services, storage
from .columns import Column, columns_of
from .errors import Invalid
from .models import Datanet, Record, Version

BATCH_ROWS = 2_000
BATCH_BYTES = 64 * 1024**2  # of pictures: 2,000 photographs at once would fill the memory
FORMATS = ("parquet", "csv", "jsonl")
IDENTITY, PICTURE = "record_identity", "image"
# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ARROW = {"number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_()}


def may_export(user: Visitor, datanet: Datanet, *, reads: bool | None = None) -> bool:
    """Owners may always; readers of the whole Datanet where its owner allows it.

    reads: `services.can_read`, for who has asked already.
    """
    if user is None or not user.is_authenticated:
        return False
    if services.can_own(user, datanet):
        return True
    return datanet.export_allowed and (services.can_read(user, datanet) if reads is None else reads)


def write(version: Version, *, fmt: str) -> str:
    """Write a version's rows into storage; returns the key. What was written before is used again until a record of the
    version is withdrawn.

    The first column is the record's public identity. Pictures stand in Parquet only, as bytes. In CSV a text that a
    spreadsheet would run as a formula begins with an apostrophe.

    Raises:
        Invalid: another format.
    """
    if fmt not in FORMATS:
        raise Invalid(_("Exports are Parquet, CSV or JSON lines."))
    datanet = version.datanet
    columns = columns_of(datanet.kind, datanet.schema)
    withdrawn = _withdrawn_count(version)
    key = f"{_folder(version)}/{withdrawn}.{fmt}"
    if storage.exists(key):
        return key
    with tempfile.TemporaryFile() as file:
        _WRITERS[fmt](file, columns, _rows(version), datanet.kind == Datanet.Kind.IMAGE)
        file.seek(0)
        storage.put(key, file)
    if _withdrawn_count(version) != withdrawn:  # it may hold what was withdrawn while it was written
        storage.delete(key)
        return write(version, fmt=fmt)
    return key


def forget(version: Version) -> None:
    """Delete what was written of a version. Repeating changes nothing."""
    storage.delete_all(list(storage.keys_in(_folder(version))))


def file_name(version: Version, *, fmt: str) -> str:
    """What a browser should call the file."""
    return Path(f"{version.datanet.slug}-v{version.number}.{fmt}").name


def neutral(value: object) -> object:
    """A cell that no spreadsheet runs: an apostrophe before a text that looks like a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _folder(version: Version) -> str:
    return f"versions/{version.pk}/exports"


def _withdrawn_count(version: Version) -> int:
    return Record.objects.in_version(version).filter(status=Record.Status.WITHDRAWN).count()


def _rows(version: Version) -> Iterator[tuple[str, dict, str]]:
    members = Record.objects.in_version(version).exclude(status=Record.Status.WITHDRAWN).order_by("id")
    rows = members.filter(body__isnull=False).values_list("identity", "body__body", "body__media_key")
    return rows.iterator(chunk_size=BATCH_ROWS)


def _write_parquet(file: BinaryIO, columns: tuple[Column, ...], rows: Iterator, with_pictures: bool) -> None:
    fields = [pa.field(IDENTITY, pa.string())]
    fields += [pa.field(column.name, _ARROW.get(column.type, pa.string())) for column in columns]
    if with_pictures:
        fields.append(pa.field(PICTURE, pa.binary()))
    schema = pa.schema(fields)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _batches(rows, with_pictures):
            arrays = [pa.array([identity for identity, _body, _key in batch], pa.string())]
            for column in columns:
                cells = [_cell(body.get(column.name), column) for _identity, body, _key in batch]
                arrays.append(pa.array(cells, _ARROW.get(column.type, pa.string())))
            if with_pictures:
                arrays.append(pa.array([storage.get(key) for _identity, _body, key in batch], pa.binary()))
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _write_csv(file: BinaryIO, columns: tuple[Column, ...], rows: Iterator, with_pictures: bool) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow([neutral(name) for name in (IDENTITY, *(column.name for column in columns))])
    for identity, body, _key in rows:
        writer.writerow([identity, *(neutral(body.get(column.name)) for column in columns)])
    text.flush()
    text.detach()


def _write_jsonl(file: BinaryIO, columns: tuple[Column, ...], rows: Iterator, with_pictures: bool) -> None:
    for identity, body, _key in rows:
        row = {IDENTITY: identity} | {column.name: body.get(column.name) for column in columns}
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


_WRITERS: dict[str, Callable] = {"parquet": _write_parquet, "csv": _write_csv, "jsonl": _write_jsonl}


def _cell(value: object, column: Column) -> object:
    if value is None or column.type in ("integer", "boolean"):
        return value
    return float(str(value)) if column.type == "number" else str(value)


def _batches(rows: Iterator, with_pictures: bool) -> Iterator[list]:
    batch: list = []
    size_bytes = 0
    for row in rows:
        batch.append(row)
        size_bytes += storage.size_bytes(row[2]) if with_pictures else 0
        if len(batch) == BATCH_ROWS or size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch

"""Tables: one row is one record, read against the Datanet's schema.

Schema: {"columns": [{"name", "type": number|integer|text|boolean|category, "required", "min", "max", "values"}],
"label": column or None, "label_type": "category"|"number"}. Body: {column: value}, in the schema's order; a missing value
is null.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import rfc8785

from datanets.kinds import content, rows
from datanets.kinds.shapes import MEBIBYTE, Limits, Parsed, Problem, Refused

ACCEPTS = (".csv", ".jsonl", ".parquet")
FIELDS: dict[str, str] = {}  # the Datanet's schema names them

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_INTEGER = re.compile(r"[+-]?[0-9]+(?:\.0+)?")
_TRUE, _FALSE = ("true", "yes", "1", "t", "y"), ("false", "no", "0", "f", "n")
_BATCH_ROWS = 256
_FOOTER_BYTES_MAX = 8 * MEBIBYTE


class _Misfit(Exception):
    """A value does not fit its column: reason and parameters of the sentence."""


def parse(path: str | Path, *, schema: dict, limits: Limits, name: str = "") -> Iterator[Parsed | Problem]:
    """The rows of a table that fit the schema as records, the others as problems with line and column.

    The line of a Parquet row is its number, from 1. Run it in the sandbox only.

    Raises:
        Refused: the file as a whole is not acceptable.
    """
    name = name or Path(path).name
    extension = content.require_accepted(name, ACCEPTS)
    shown = content.clean_name(name)
    read = {".csv": _csv, ".jsonl": rows.json_rows, ".parquet": _parquet}[extension]
    with open(path, "rb") as file:
        content.require_content(file, extension=extension, limits=limits)
        events = read(file, limits=limits)
        found, told = 0, False
        for event in events:
            if isinstance(event, list):
                yield from _judge_header(event, schema)
                told = True
                continue
            found += 1
            if isinstance(event, Problem):
                yield event
                continue
            if not told:  # JSON lines have no header: the first row's keys stand for it
                yield from _judge_header(list(event.values), schema, missing_allowed=True)
                told = True
            read_row = row(event.values, schema=schema, line=event.line, limits=limits)
            yield read_row if isinstance(read_row, Problem) else Parsed(event.line, shown, read_row)
    if not found:
        raise Refused("empty", "empty.rows")


def row(values: dict, *, schema: dict, line: int | None, limits: Limits) -> dict | Problem:
    """One row as a record's body, or the first thing that is wrong with it. Also reads a row corrected by its author.

    values: by column; text is read as CSV does, other values must have the column's type.
    """
    body = {}
    for column in schema["columns"]:
        try:
            body[column["name"]] = _read(values.get(column["name"]), column, limits=limits)
        except _Misfit as misfit:
            reason, params = misfit.args
            # Whole values: the author corrects one of them on the page, and the others must come back as they were.
            sent = {key: "" if value is None else str(value) for key, value in values.items()}
            return Problem(line, "schema", reason, params, column=column["name"], values=sent)
    return body


def canonical(body: dict) -> bytes:
    """The bytes that define equality: all values under their columns' names as RFC 8785 JSON (1.0 equals 1).

    The same for a body that has been through jsonb, which gives 1e17 back as an integer.
    """
    return rfc8785.dumps({key: _plain(value) for key, value in body.items()})


def preview(body: dict) -> dict:
    """What a list shows: the first eight columns, long texts cut."""
    return {key: value[:80] if isinstance(value, str) else value for key, value in list(body.items())[:8]}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip()
    return float(value) if isinstance(value, int) and abs(value) > rows.INTEGER_MAX else value


def _judge_header(header: list[str], schema: dict, *, missing_allowed: bool = False) -> Iterator[Problem]:
    known = [column["name"] for column in schema["columns"]]
    needed = [column["name"] for column in schema["columns"] if column.get("required")]
    missing = [name for name in needed if name not in header]
    if not missing_allowed and (missing or not set(known) & set(header)):
        raise Refused("schema", "schema.columns_missing", {"columns": ", ".join((missing or known)[:10])}, line=1)
    for name in header[:200]:
        if name not in known:
            yield Problem(1, "schema", "schema.column_unknown", {"column": str(name)[:80]}, column=str(name)[:80])


def _read(value: object, column: dict, *, limits: Limits) -> object:
    name = column["name"]
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "":
        if column.get("required"):
            raise _Misfit("schema.required", {"column": name})
        return None
    if isinstance(value, (list, dict)):
        raise _Misfit("schema.nested", {"column": name})
    value = _READERS[column["type"]](value, name)
    if isinstance(value, str) and len(value) > limits.cell_chars_max:
        raise _Misfit("size.cell", {"limit": limits.cell_chars_max})
    _require_bounds(value, column)
    return value


def _require_bounds(value: object, column: dict) -> None:
    name, low, high, allowed = column["name"], column.get("min"), column.get("max"), column.get("values")
    if allowed and value not in allowed:
        listed = ", ".join(str(each) for each in allowed[:12])
        raise _Misfit("schema.category", {"column": name, "values": listed, "value": _shown(value)})
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = {"min": "-∞" if low is None else low, "max": "∞" if high is None else high}
        raise _Misfit("schema.range", {"column": name, "value": _shown(value)} | bounds)


def _number(value: object, name: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _Misfit("schema.number", {"column": name, "value": _shown(value)})
    if isinstance(value, str):
        if value.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            raise _Misfit("schema.finite", {"column": name, "value": _shown(value)})
        if not _NUMBER.fullmatch(value) or len(value) > 400:
            raise _Misfit("schema.number", {"column": name, "value": _shown(value)})
        value = float(value)
    if not math.isfinite(value) or (isinstance(value, int) and abs(value) > rows.INTEGER_MAX):
        raise _Misfit("schema.finite", {"column": name, "value": _shown(value)})
    return value


def _integer(value: Any, name: str) -> int:
    whole = (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
        or (isinstance(value, str) and len(value) <= 40 and _INTEGER.fullmatch(value))
    )
    if not whole:
        raise _Misfit("schema.integer", {"column": name, "value": _shown(value)})
    number = int(value.split(".")[0]) if isinstance(value, str) else int(value)
    if abs(number) > rows.INTEGER_MAX:
        raise _Misfit("schema.finite", {"column": name, "value": _shown(value)})
    return number


def _boolean(value: object, name: str) -> bool:
    told = str(value).lower()
    if told not in _TRUE + _FALSE:
        raise _Misfit("schema.boolean", {"column": name, "value": _shown(value)})
    return told in _TRUE


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise _Misfit("schema.text", {"column": name})
    return value


def _category(value: object, name: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


_READERS = {"number": _number, "integer": _integer, "boolean": _boolean, "text": _text, "category": _category}


def _shown(value: object) -> str:
    return str(value)[:80]


def _csv(file: BinaryIO, *, limits: Limits) -> Iterator[list[str] | rows.Row | Problem]:
    header, events = rows.csv_rows(file, limits=limits, cell_chars_max=limits.cell_chars_max)
    yield header
    yield from events


def _parquet(file: BinaryIO, *, limits: Limits) -> Iterator[list[str] | rows.Row | Problem]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    _require_footer(file)
    try:
        table = pq.ParquetFile(file, pre_buffer=False, thrift_string_size_limit=_FOOTER_BYTES_MAX)
        header = _judge_metadata(table, limits=limits)
        yield header
        texts = [field.name for field in table.schema_arrow if _is_text(field.type)]
        # Text stays packed as a dictionary, so that a page that repeats one huge value is seen before it is expanded.
        table = pq.ParquetFile(file, pre_buffer=False, read_dictionary=texts)
        number = 0
        for batch in table.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
            for column in batch.columns:
                _require_small_words(column, limits=limits)
            for values in _expanded(batch, limits=limits):
                number += 1
                yield rows.Row(number, values)
    except (Refused, MemoryError):
        raise
    except (pa.ArrowException, OSError, ValueError, UnicodeError) as error:
        raise Refused("parquet", "parquet.broken") from error


def _require_footer(file: BinaryIO) -> None:
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    end = file.read(8)
    if size < 12 or end[4:] != b"PAR1" or int.from_bytes(end[:4], "little") > min(size - 12, _FOOTER_BYTES_MAX):
        raise Refused("parquet", "parquet.broken")
    file.seek(0)


def _judge_metadata(table, *, limits: Limits) -> list[str]:
    import pyarrow as pa

    about = table.metadata
    if about.num_columns > limits.columns_max:
        raise Refused("schema", "schema.columns_many", {"count": about.num_columns, "limit": limits.columns_max})
    if about.num_rows > limits.rows_max:
        raise Refused("size", "size.rows", {"limit": limits.rows_max})
    if about.num_rows == 0:
        raise Refused("empty", "empty.rows")
    expanded = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    if expanded > limits.expanded_bytes_max or expanded < 0:
        raise Refused("parquet", "parquet.expanded", {"limit_mib": limits.expanded_bytes_max // MEBIBYTE})
    names = []
    for field in table.schema_arrow:
        kind = field.type
        simple = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, _is_text)
        if not any(test(kind) for test in simple) and not pa.types.is_null(kind):
            raise Refused("schema", "schema.type", {"column": field.name[:80], "found": str(kind)[:80]})
        if field.name in names:
            raise Refused("schema", "schema.header_twice", {"column": field.name[:80]})
        names.append(field.name)
    return names


def _require_small_words(column, *, limits: Limits) -> None:
    """Refuse a text far above the limit of a cell before each row that repeats it gets a copy."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = column.dictionary if pa.types.is_dictionary(column.type) else column
    if _is_text(words.type) and (pc.max(pc.binary_length(words)).as_py() or 0) > limits.cell_chars_max * 4:
        raise Refused("parquet", "size.cell", {"limit": limits.cell_chars_max})


def _is_text(kind) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _expanded(batch, *, limits: Limits) -> Iterator[dict]:
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        columns[name] = column.to_pylist()
    for values in zip(*columns.values(), strict=True):
        for value in values:
            if isinstance(value, str) and content.has_control(value):
                raise Refused("content", "content.nul")
        yield dict(zip(columns, values, strict=True))

"""Strict rows from CSV and JSON lines. A broken row is a Problem with its line; the next row goes on."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from datanets.kinds.shapes import Limits, Problem, Refused

INTEGER_MAX = 2**53 - 1  # what every JSON reader and a float64 hold exactly

_DELIMITERS = (",", ";", "\t")
_RESUMES_MAX = 100  # an open quotation mark swallows lines that are read again: bounded, or it would be quadratic
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"')
_NOT_BRACKETS = re.compile(r"[^\[\]{}]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Row:
    """One row of a file: its line (of its beginning), and its values by column; from CSV all values are text."""

    line: int
    values: dict


def csv_rows(file: BinaryIO, *, limits: Limits, cell_chars_max: int) -> tuple[list[str], Iterator[Row | Problem]]:
    """A CSV file: the names in its header, and a Row or a Problem for each of its rows.

    The delimiter is comma, semicolon or tab: the one that divides the header most. After an open quotation mark,
    reading goes on at the next line.

    Raises:
        Refused: schema (no header, a name twice or missing, too many columns), size (too many rows).
    """
    lines = _Lines(file, limits=limits)
    header_line = next((line for line in lines if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header_line.count)
    csv.field_size_limit(limits.line_bytes_max)
    lines.push_back([header_line])
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise Refused("schema", "schema.quote", line=1) from error
    _require_header(header, limits=limits)
    return header, _csv_rows(reader, lines, header, limits=limits, cell_chars_max=cell_chars_max, delimiter=delimiter)


def _csv_rows(
    reader, lines: _Lines, header: list[str], *, limits: Limits, cell_chars_max: int, delimiter: str
) -> Iterator[Row | Problem]:
    rows = resumes = 0
    while True:
        lines.taken.clear()
        line = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            rows, resumes = rows + 1, resumes + 1
            yield Problem(line, "schema", "schema.quote", values={header[0]: lines.taken[0][:200].rstrip("\r\n")})
            if resumes > _RESUMES_MAX:
                raise Refused("schema", "schema.quote", line=line)
            lines.push_back(lines.taken[1:])
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            continue
        if not cells or not any(cell.strip() for cell in cells):
            continue
        rows += 1
        if rows > limits.rows_max:
            raise Refused("size", "size.rows", {"limit": limits.rows_max})
        yield _checked(cells, header, line=line, cell_chars_max=cell_chars_max)


def _checked(cells: list[str], header: list[str], *, line: int, cell_chars_max: int) -> Row | Problem:
    values = dict(zip(header, cells, strict=False))
    long = next((name for name, cell in values.items() if len(cell) > cell_chars_max), None)
    if long is not None:
        return Problem(line, "schema", "size.cell", {"limit": cell_chars_max}, column=long)
    if len(cells) != len(header):
        found = {"found": len(cells), "expected": len(header)}
        return Problem(line, "schema", "schema.ragged", found, values=values)
    return Row(line, values)


def json_rows(file: BinaryIO, *, limits: Limits) -> Iterator[Row | Problem]:
    """Objects of a JSON lines file. See `strict_object` for what is not accepted.

    Raises:
        Refused: size (too many rows).
    """
    rows = 0
    lines = _Lines(file, limits=limits)
    for text in lines:
        if not text.strip():
            continue
        rows += 1
        if rows > limits.rows_max:
            raise Refused("size", "size.rows", {"limit": limits.rows_max})
        if len(text) > limits.line_bytes_max:
            yield Problem(lines.number, "json", "size.line", {"limit": limits.line_bytes_max})
            continue
        try:
            yield Row(lines.number, strict_object(text, limits=limits))
        except Refused as refused:
            yield Problem(lines.number, refused.code, refused.reason, refused.params)


def strict_object(text: str, *, limits: Limits) -> dict:
    """One JSON object, or Refused("json"): no NaN, no infinite or unsafe numbers, no key twice, no lone surrogate,
    no deep nesting. The depth is counted before the text is parsed, because the parser recurses."""
    if _depth(text) > limits.json_depth_max:
        raise Refused("json", "json.depth", {"limit": limits.json_depth_max})
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_safe_integer,
        )
    except json.JSONDecodeError as error:
        raise Refused("json", "json.syntax", {"at": error.colno}) from error
    except RecursionError as error:
        raise Refused("json", "json.depth", {"limit": limits.json_depth_max}) from error
    if not isinstance(value, dict):
        raise Refused("json", "json.object")
    return value


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in _NOT_BRACKETS.sub("", _QUOTED.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _unique(pairs: list[tuple[str, object]]) -> dict:
    found: dict[str, object] = {}
    for key, value in pairs:
        for text in (key, value):
            if isinstance(text, str):
                _require_characters(text)
            elif isinstance(text, list):
                _require_characters_in(text)
        if key in found:
            raise Refused("json", "json.twice", {"key": key[:80]})
        found[key] = value
    return found


def _require_characters_in(values: list) -> None:
    for value in values:
        if isinstance(value, str):
            _require_characters(value)
        elif isinstance(value, list):
            _require_characters_in(value)


def _require_characters(text: str) -> None:
    if _SURROGATE.search(text):
        raise Refused("json", "json.surrogate")
    if _ESCAPED_CONTROL.search(text):
        raise Refused("json", "json.nul")


def _no_constant(name: str) -> None:
    raise Refused("json", "json.constant", {"value": name})


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Refused("json", "json.number")
    return value


def _safe_integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > INTEGER_MAX:
        raise Refused("json", "json.number")
    return int(text)


def _require_header(header: list[str], *, limits: Limits) -> None:
    if not header:
        raise Refused("schema", "schema.header_missing", line=1)
    if len(header) > limits.columns_max:
        raise Refused("schema", "schema.columns_many", {"count": len(header), "limit": limits.columns_max}, line=1)
    seen: set[str] = set()
    for position, name in enumerate(header, start=1):
        if not name:
            raise Refused("schema", "schema.header_empty", {"position": position}, line=1)
        if name.casefold() in seen:
            raise Refused("schema", "schema.header_twice", {"column": name[:80]}, line=1)
        seen.add(name.casefold())


class _Lines:
    """Decoded lines of a file with their numbers; a line is cut at the limit, so that no line fills the memory.

    taken: the lines read since it was last cleared, for a reader that wants to give some back.
    """

    def __init__(self, file: BinaryIO, *, limits: Limits):
        self._file, self._max = file, limits.line_bytes_max
        self._pushed: deque[str] = deque()
        self.number = 0
        self.taken: list[str] = []

    def push_back(self, lines: list[str]) -> None:
        self._pushed.extendleft(reversed(lines))
        self.number -= len(lines)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._pushed.popleft() if self._pushed else self._read()
        self.number += 1
        self.taken.append(line)
        return line

    def _read(self) -> str:
        raw = self._file.readline(self._max + 2)
        if not raw:
            raise StopIteration
        if len(raw) > self._max and raw[-1:] != b"\n":
            while (rest := self._file.readline(self._max)) and rest[-1:] != b"\n":
                pass  # the rest of a line over the limit is skipped; its length says that it was
        # strict decoding was checked before; only a cut line can break here
        return raw.decode("utf-8", "replace").removeprefix("\ufeff" if self.number == 0 else "")

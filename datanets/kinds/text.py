"""Text: one document is one record; of CSV and JSON lines, one row is one record.

Body: {"title", "text"} and, where given, "label" and "source_url".
"""

from __future__ import annotations

import io
import re
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import rfc8785

from datanets.kinds import archives, content, rows
from datanets.kinds.shapes import Limits, Parsed, Problem, Refused

ACCEPTS = (".txt", ".md", ".jsonl", ".csv", ".pdf", ".docx", ".zip")
FIELDS = {"title": "text", "text": "text", "label": "category", "source_url": "url"}

_TEXT_COLUMNS = ("text", "content", "body")
_HEADING = re.compile(r"\s*#*\s*(.*\S)")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")
_TITLE_CHARS_MAX = 120
_EXCERPT_CHARS = 240


def parse(path: str | Path, *, schema: dict, limits: Limits, name: str = "") -> Iterator[Parsed | Problem]:
    """The records of a text file, and the rows or members that could not be read. Run it in the sandbox only.

    name: what the contributor called the file; the stored file has a generated name.

    Raises:
        Refused: the file as a whole is not acceptable.
    """
    name = name or Path(path).name
    extension = content.require_accepted(name, ACCEPTS)
    with open(path, "rb") as file:
        content.require_content(file, extension=extension, limits=limits)
        if extension == ".zip":
            yield from _members(file, limits=limits)
        else:
            yield from _file(file, extension=extension, name=content.clean_name(name), limits=limits)


def canonical(body: dict) -> bytes:
    """The bytes that define equality: text (NFC, line ends and trailing blanks unified) and label, as RFC 8785 JSON.

    Title and address do not count: the same text under another title is the same record.
    """
    lines = unicodedata.normalize("NFC", body["text"]).split("\n")
    text = "\n".join(line.rstrip() for line in lines).strip()
    return rfc8785.dumps({"label": body.get("label"), "text": text})


def preview(body: dict) -> dict:
    """What a list shows: title, the first words, the length, the label."""
    text = " ".join(body["text"][: _EXCERPT_CHARS * 4].split())
    excerpt = text if len(text) <= _EXCERPT_CHARS else text[: _EXCERPT_CHARS - 1].rstrip() + "…"
    return {"title": body["title"], "excerpt": excerpt, "chars": len(body["text"]), "label": body.get("label")}


def _members(file: BinaryIO, *, limits: Limits) -> Iterator[Parsed | Problem]:
    archive = archives.Archive(file, limits=limits)
    members = archive.members()
    if not members:
        raise Refused("empty", "empty.archive")
    for member in members:
        yield from _member(archive, member, limits=limits)


def _member(archive: archives.Archive, member: zipfile.ZipInfo, *, limits: Limits) -> Iterator[Parsed | Problem]:
    name = content.clean_name(member.filename)
    data = archive.read(member)
    archives.refuse_nested(member.filename, data, accepted=ACCEPTS)
    stream = io.BytesIO(data)
    try:
        extension = content.require_accepted(name, ACCEPTS[:-1])
        content.require_content(stream, extension=extension, limits=limits)
        yield from _file(stream, extension=extension, name=name, limits=limits)
    except Refused as refused:
        if refused.code in ("malware", "archive"):
            raise
        yield refused.as_problem(name=name)


def _file(file: BinaryIO, *, extension: str, name: str, limits: Limits) -> Iterator[Parsed | Problem]:
    if extension == ".csv":
        yield from _csv(file, name=name, limits=limits)
    elif extension == ".jsonl":
        yield from _jsonl(file, name=name, limits=limits)
    else:
        read = {".txt": _plain, ".md": _plain, ".pdf": _pdf, ".docx": _docx}[extension]
        yield Parsed(None, name, _document(read(file, limits=limits), name=name, limits=limits))


def _document(text: str, *, name: str, limits: Limits) -> dict:
    text = _tidy(text)
    if not text:
        raise Refused("empty", "empty.text")
    if len(text) > limits.record_chars_max:
        raise Refused("size", "size.record", {"limit": limits.record_chars_max})
    return {"title": _title(text) or name, "text": text}


def _tidy(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").removeprefix("\ufeff")
    return _UNPRINTABLE.sub("", text).strip("\n \t")


def _title(text: str) -> str:
    heading = _HEADING.match(text[:2000])
    title = " ".join(heading[1].split("\n")[0].split()) if heading else ""
    return title if len(title) <= _TITLE_CHARS_MAX else title[: _TITLE_CHARS_MAX - 1].rstrip() + "…"


def _plain(file: BinaryIO, *, limits: Limits) -> str:
    size = file.seek(0, 2)
    file.seek(0)
    if size > limits.record_chars_max * 4:
        raise Refused("size", "size.record", {"limit": limits.record_chars_max})
    return file.read().decode("utf-8")


def _pdf(file: BinaryIO, *, limits: Limits) -> str:
    import pypdf  # here, so that text rows are read without loading it

    try:
        reader = pypdf.PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Refused("content", "content.encrypted")
        pages = len(reader.pages)
        if pages > limits.pages_max:
            raise Refused("size", "size.pages", {"limit": limits.pages_max})
        texts, chars = [], 0
        for page in reader.pages:
            texts.append(page.extract_text())
            chars += len(texts[-1])
            if chars > limits.record_chars_max:
                raise Refused("size", "size.record", {"limit": limits.record_chars_max})
    except (Refused, MemoryError):
        raise
    except Exception as error:  # pypdf fails on hostile files in many ways; each of them means the same
        raise Refused("content", "content.broken", {"detail": type(error).__name__}) from error
    return "\n\n".join(texts)


def _docx(file: BinaryIO, *, limits: Limits) -> str:
    import docx

    archive = archives.Archive(file, limits=limits)
    parts = {member.filename.lower(): member for member in archive.members()}
    if "word/document.xml" not in parts:
        raise Refused("content", "content.mismatch", {"extension": ".docx", "found": "zip"})
    if any(name.endswith("vbaproject.bin") for name in parts):
        raise Refused("content", "content.macros")
    for name, member in parts.items():
        if name.endswith((".xml", ".rels")) and b"<!DOCTYPE" in archive.read(member)[:4096].upper():
            raise Refused("content", "content.doctype")
    file.seek(0)
    try:
        document = docx.Document(file)
        paragraphs = [paragraph.text for paragraph in document.paragraphs]
        cells = [" | ".join(cell.text for cell in row.cells) for table in document.tables for row in table.rows]
    except MemoryError:
        raise
    except Exception as error:
        raise Refused("content", "content.broken", {"detail": type(error).__name__}) from error
    return "\n".join(paragraphs + cells)


def _csv(file: BinaryIO, *, name: str, limits: Limits) -> Iterator[Parsed | Problem]:
    header, events = rows.csv_rows(file, limits=limits, cell_chars_max=limits.record_chars_max)
    if not any(column.casefold() in _TEXT_COLUMNS for column in header):
        raise Refused("schema", "schema.columns_missing", {"columns": "text"}, line=1)
    yield from _rows(events, name=name, limits=limits)


def _jsonl(file: BinaryIO, *, name: str, limits: Limits) -> Iterator[Parsed | Problem]:
    yield from _rows(rows.json_rows(file, limits=limits), name=name, limits=limits)


def _rows(events: Iterator[rows.Row | Problem], *, name: str, limits: Limits) -> Iterator[Parsed | Problem]:
    found = 0
    for event in events:
        found += 1
        yield _row(event, name=name, limits=limits) if isinstance(event, rows.Row) else event
    if not found:
        raise Refused("empty", "empty.rows")


def _row(row: rows.Row, *, name: str, limits: Limits) -> Parsed | Problem:
    values = {column.casefold(): value for column, value in row.values.items() if value is not None}
    body: dict[str, str] = {}
    column = next((column for column in _TEXT_COLUMNS if column in values), "text")
    for field, source in (("title", "title"), ("text", column), ("label", "label"), ("source_url", "source_url")):
        value = values.get(source, "")
        if field == "label" and isinstance(value, (int, float, bool)):
            value = str(value)
        if not isinstance(value, str):
            return Problem(row.line, "schema", "schema.text", {"column": source}, column=source)
        if len(value) > limits.record_chars_max:
            return Problem(row.line, "size", "size.record", {"limit": limits.record_chars_max}, column=source)
        if tidy := _tidy(value):
            body[field] = tidy
    if "text" not in body:
        return Problem(row.line, "schema", "schema.required", {"column": "text"}, column="text", values=row.values)
    if "source_url" in body and not re.fullmatch(r"https?://[^\s<>\"']{3,500}", body["source_url"]):
        return Problem(
            row.line, "schema", "schema.url", {"column": "source_url"}, column="source_url", values=row.values
        )
    body["title"] = " ".join(body.get("title", "").split())[:_TITLE_CHARS_MAX] or _title(body["text"]) or name
    return Parsed(row.line, name, body)

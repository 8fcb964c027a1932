"""What a file really is. Types come from content; a name only chooses among kinds of plain text."""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import PurePosixPath
from typing import BinaryIO

import puremagic

from datanets.kinds.shapes import MEBIBYTE, Limits, Refused

TEXT_EXTENSIONS = frozenset({".txt", ".md", ".csv", ".jsonl"})

# In two halves, so that this file is not taken for what it looks for.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD" + rb"-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE" + b"-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"PK\x03\x04", ".zip"),
    (b"PK\x05\x06", ".zip"),
    (b"PK\x07\x08", ".zip"),
    (b"%PDF-", ".pdf"),
    (b"PAR1", ".parquet"),
)
# All-ASCII formats that decode as text and are something else.
_MARKUP = re.compile(
    rb"\A(?:\xef\xbb\xbf)?(?:\s|<!--.{0,2000}?-->)*"
    rb"(<!doctype\b|<html\b|<head\b|<body\b|<\?xml\b|<\?php\b|<svg\b|<script\b|<iframe\b|<math\b|%!ps|\{\\rtf|%pdf-)",
    re.IGNORECASE | re.DOTALL,
)
# Tab, newline, return and form feed are text; licence texts use form feeds between pages.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_CHUNK = MEBIBYTE


def extension_of(name: str) -> str:
    """The lower-case ending of a name, with its dot; .jpeg is .jpg, .markdown is .md."""
    ending = PurePosixPath(name.replace("\\", "/")).suffix.lower()
    return {".jpeg": ".jpg", ".markdown": ".md", ".ndjson": ".jsonl"}.get(ending, ending)


def require_accepted(name: str, accepted: tuple[str, ...]) -> str:
    """The extension of a name, or Refused("type")."""
    extension = extension_of(name)
    if extension not in accepted:
        raise Refused(
            "type", "type.extension", {"extension": extension or clean_name(name), "accepted": " ".join(accepted)}
        )
    return extension


def require_content(file: BinaryIO, *, extension: str, limits: Limits) -> int:
    """Check that a file is what its extension says, and nothing known to be harmful. Returns its size in bytes.

    Raises:
        Refused: empty, size, malware or content. Text files are read once to the end: they are valid UTF-8 without
            control characters, so that later readers need not fail in the middle.
    """
    size = file.seek(0, 2)
    file.seek(0)
    if size > limits.file_bytes_max:
        raise Refused("size", "size.file", {"limit_mib": limits.file_bytes_max // MEBIBYTE})
    head = file.read(8192)
    if not head:
        raise Refused("empty", "empty.file")
    refuse_malware(file)
    file.seek(0)
    if extension in TEXT_EXTENSIONS:
        _require_text(file, head=head, extension=extension)
    else:
        found = binary_type(head)
        wanted = {".docx": ".zip"}.get(extension, extension)
        if found != wanted:
            raise Refused("content", "content.mismatch", {"extension": extension, "found": describe(head)})
    file.seek(0)
    return size


def binary_type(head: bytes) -> str:
    """The extension that the first bytes stand for, or "" when they are none of ours."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    return next((extension for magic, extension in _MAGIC if head.startswith(magic)), "")


def describe(head: bytes) -> str:
    """A few words for what the first bytes look like, for the message."""
    markup = _MARKUP.match(head)
    if markup:
        return markup[1].decode("ascii", "replace").lower()
    try:
        guesses = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return "plain text" if _looks_like_text(head) else "unknown binary data"
    return guesses[0].name[:80] if guesses else "unknown binary data"


def refuse_malware(file: BinaryIO) -> None:
    """Search a whole file for the test signatures every scanner knows. Raises Refused("malware").

    A real scanner (ClamAV) stands before this, where one is configured; this is what always works.
    """
    file.seek(0)
    tail = b""
    while chunk := file.read(_CHUNK):
        window = tail + chunk
        for name, signature in (("EICAR", EICAR), ("GTUBE", GTUBE)):
            if signature in window:
                raise Refused("malware", "malware.signature", {"signature": name})
        tail = window[-128:]


def clean_name(name: str) -> str:
    """A file name fit to be shown: its last part, without control, bidi and zero-width characters, at most 120 long."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(c for c in last if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
    return unicodedata.normalize("NFC", kept).strip()[:120] or "unnamed"


def _require_text(file: BinaryIO, *, head: bytes, extension: str) -> None:
    found = binary_type(head)
    if found:
        raise Refused("content", "content.mismatch", {"extension": extension, "found": describe(head)})
    markup = _MARKUP.match(head)
    if markup:
        raise Refused("content", "content.markup", {"found": markup[1].decode("ascii", "replace").lower()})
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    line, blank = 1, True
    while True:
        chunk = file.read(_CHUNK)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            if b"\0" in chunk:
                raise Refused("content", "content.nul") from error
            # error.start counts from bytes the decoder had kept, at most three: the line is right but for those
            before = chunk[: max(0, error.start)]
            raise Refused("content", "content.encoding", {"line": line + before.count(b"\n")}) from error
        control = _CONTROL.search(text)
        if control:
            if control[0] == "\0":
                raise Refused("content", "content.nul")
            at = line + text.count("\n", 0, control.start())
            raise Refused("content", "content.control", {"line": at, "character": f"U+{ord(control[0]):04X}"})
        line += text.count("\n")
        blank = blank and not text.strip("\ufeff \t\r\n\f\u00a0\u200b")
        if not chunk:
            break
    if blank:
        raise Refused("empty", "empty.file")


def _looks_like_text(head: bytes) -> bool:
    try:
        return not _CONTROL.search(head.decode("utf-8", "ignore")) and bool(head.decode("utf-8", "ignore"))
    except UnicodeDecodeError:
        return False


def has_control(text: str) -> bool:
    """True when a text holds NUL, an escape sequence or another control character that is not white space."""
    return _CONTROL.search(text) is not None

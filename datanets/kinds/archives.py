"""Zip archives from strangers: the whole structure is judged before a single byte is expanded."""

from __future__ import annotations

import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from datanets.kinds.content import binary_type, clean_name
from datanets.kinds.shapes import MEBIBYTE, Limits, Refused

_END = struct.Struct("<4s4H2LH")  # end of central directory
_LOCAL = struct.Struct("<4s5H3L2H")  # local file header
_CENTRAL_ENTRY_BYTES_MAX = 46 + 1024
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LEFTOVERS = ("__macosx/", ".ds_store", "thumbs.db", "desktop.ini")


class Archive:
    """A zip whose directory has been found honest. `members()` lists its files; `read(member)` expands one."""

    def __init__(self, file: BinaryIO, *, limits: Limits):
        self._limits = limits
        self._zip, self._entries = _judge(file, limits=limits)

    def members(self) -> list[zipfile.ZipInfo]:
        """The files that mean something: no folders, no leftovers of operating systems; in the archive's order."""
        return [
            entry
            for entry in self._entries
            if not entry.is_dir() and not any(part in entry.filename.lower() for part in _LEFTOVERS)
        ]

    def read(self, member: zipfile.ZipInfo) -> bytes:
        """Expand one member into memory: never more than it declared, which is below the limit.

        Raises:
            Refused: archive, when the bytes are damaged or not as many as declared.
        """
        try:
            with self._zip.open(member) as stream:
                content = stream.read(member.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise Refused("archive", "archive.lies", {"name": clean_name(member.filename)}) from error
        if len(content) != member.file_size:
            raise Refused("archive", "archive.lies", {"name": clean_name(member.filename)})
        return content


def refuse_nested(name: str, content: bytes, *, accepted: tuple[str, ...]) -> None:
    """Refuse an archive inside an archive. A .docx is one by nature, where text is accepted."""
    if binary_type(content[:16]) == ".zip" and not (".docx" in accepted and name.lower().endswith(".docx")):
        raise Refused("archive", "archive.nested", {"name": clean_name(name)})
    packed = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x28\xb5\x2f\xfd")
    if content.startswith(packed) or content[257:262] == b"ustar":
        raise Refused("archive", "archive.nested", {"name": clean_name(name)})


def _judge(file: BinaryIO, *, limits: Limits) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    directory_start = _require_directory(file, limits=limits)
    try:
        archive = zipfile.ZipFile(file)
        entries = archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, OSError, NotImplementedError, UnicodeError) as error:
        raise Refused("archive", "archive.broken") from error
    if len(entries) > limits.entries_max:
        raise Refused("archive", "archive.entries", {"limit": limits.entries_max})
    seen: set[str] = set()
    for entry in entries:
        _judge_name(entry, seen)
        _judge_entry(entry, limits=limits)
    if sum(entry.file_size for entry in entries) > limits.expanded_bytes_max:
        raise Refused("archive", "archive.expanded", {"limit_mib": limits.expanded_bytes_max // MEBIBYTE})
    _require_apart(file, entries, directory_start=directory_start)
    return archive, entries


def _require_directory(file: BinaryIO, *, limits: Limits) -> int:
    """Find the directory by hand: zipfile would load any number of entries first. Returns where it starts."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 65_557))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise Refused("archive", "archive.broken")
    _, disk, directory_disk, here, entries, directory_bytes, directory_start, comment = _END.unpack_from(tail, at)
    end_at = size - len(tail) + at
    if disk or directory_disk or here != entries or comment != len(tail) - at - _END.size:
        raise Refused("archive", "archive.broken")
    if entries > limits.entries_max or directory_bytes > limits.entries_max * _CENTRAL_ENTRY_BYTES_MAX:
        # also every zip64 directory: its counts here are 0xFFFF, and files of this size need none
        raise Refused("archive", "archive.entries", {"limit": limits.entries_max})
    if directory_start + directory_bytes != end_at:
        raise Refused("archive", "archive.broken")
    if entries == 0:
        raise Refused("empty", "empty.archive")
    file.seek(0)
    if file.read(4) != b"PK\x03\x04":
        raise Refused("archive", "archive.broken")
    file.seek(0)
    return directory_start


def _judge_name(entry: zipfile.ZipInfo, seen: set[str]) -> None:
    name = entry.orig_filename
    shown = {"name": clean_name(name)}
    bad = (
        not name
        or len(name) > 255
        or name.startswith("/")
        or "\\" in name
        or (len(name) > 1 and name[1] == ":")
        or ".." in name.split("/")
        or any(ord(c) < 32 or ord(c) == 127 for c in name)
    )
    if bad:
        raise Refused("archive", "archive.name", shown)
    folded = unicodedata.normalize("NFKC", name.rstrip("/")).casefold()
    if folded in seen:
        raise Refused("archive", "archive.twice", shown)
    seen.add(folded)


def _judge_entry(entry: zipfile.ZipInfo, *, limits: Limits) -> None:
    shown = {"name": clean_name(entry.filename)}
    mode = entry.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Refused("archive", "archive.link", shown)
    if entry.flag_bits & 0x2041:  # encrypted, strongly encrypted, masked headers
        raise Refused("archive", "archive.encrypted")
    if entry.compress_type not in _METHODS:
        raise Refused("archive", "archive.method", shown)
    if entry.file_size > limits.member_bytes_max:
        raise Refused("archive", "archive.member", shown | {"limit_mib": limits.member_bytes_max // MEBIBYTE})
    if entry.file_size > MEBIBYTE and entry.file_size > limits.ratio_max * max(1, entry.compress_size):
        raise Refused("archive", "archive.ratio", shown)


def _require_apart(file: BinaryIO, entries: list[zipfile.ZipInfo], *, directory_start: int) -> None:
    """Every entry has bytes of its own, and its local header says the same as the directory."""
    end = 0
    for entry, (start, data_end) in sorted(_extents(file, entries), key=lambda pair: pair[1]):
        if start < end:
            raise Refused("archive", "archive.overlap")
        end = data_end
        if end > directory_start:
            raise Refused("archive", "archive.lies", {"name": clean_name(entry.filename)})


def _extents(file: BinaryIO, entries: list[zipfile.ZipInfo]) -> Iterator[tuple[zipfile.ZipInfo, tuple[int, int]]]:
    for entry in entries:
        file.seek(entry.header_offset)
        header = file.read(_LOCAL.size)
        lies = Refused("archive", "archive.lies", {"name": clean_name(entry.filename)})
        if len(header) < _LOCAL.size:
            raise lies
        magic, _, flags, method, _, _, _, packed, expanded, name_bytes, extra_bytes = _LOCAL.unpack(header)
        name = file.read(name_bytes).decode("utf-8" if flags & 0x800 else "cp437", "replace")
        if magic != b"PK\x03\x04" or method != entry.compress_type or name != entry.orig_filename:
            raise lies
        # bit 3: sizes follow the data; 0xFFFFFFFF: sizes stand in a zip64 field
        told = not flags & 0x8 and 0xFFFFFFFF not in (packed, expanded)
        if told and (packed, expanded) != (entry.compress_size, entry.file_size):
            raise lies
        start = entry.header_offset
        yield entry, (start, start + _LOCAL.size + name_bytes + extra_bytes + entry.compress_size)

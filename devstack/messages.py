"""Compiles locale/*/LC_MESSAGES/*.po into .mo with the standard library: GNU gettext is rarely installed.

Reads what Django writes: msgctxt, msgid, msgid_plural, msgstr, msgstr[n], comments, flags. Entries that are
untranslated or marked fuzzy are left out, as msgfmt does.
"""

from __future__ import annotations

import ast
import os
import re
import struct
from pathlib import Path

_MAGIC = 0x950412DE
_KEYWORD = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr(?:\[(\d+)\])?)\s+(".*")$')


def compile_all(locale: Path) -> list[Path]:
    """Compile every catalogue below `locale` that is newer than its .mo; returns what was written."""
    written = []
    for source in sorted(locale.glob("*/LC_MESSAGES/*.po")):
        target = source.with_suffix(".mo")
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            unfinished = target.with_suffix(f".{os.getpid()}.part")
            unfinished.write_bytes(mo_bytes(read_po(source.read_text(encoding="utf-8"))))
            unfinished.replace(target)  # two test processes may do this at once
            written.append(target)
    return written


def read_po(text: str) -> dict[str, str]:
    """The catalogue as gettext keys it: `context EOT id NUL plural` -> forms joined by NUL.

    Raises:
        ValueError: a line is neither a comment, a keyword nor a continuation; its number is named.
    """
    catalogue: dict[str, str] = {}
    entry: dict[str, str] = {}
    fuzzy, field = False, ""

    def finish() -> None:
        nonlocal entry, fuzzy, field
        forms = [entry[name] for name in sorted((n for n in entry if n.startswith("msgstr")), key=_form_number)]
        if "msgid" in entry and forms and all(forms) and not (fuzzy and entry["msgid"]):
            key = entry["msgid"] + ("\0" + entry["msgid_plural"] if "msgid_plural" in entry else "")
            if "msgctxt" in entry:
                key = entry["msgctxt"] + "\4" + key
            catalogue[key] = "\0".join(forms)
        entry, fuzzy, field = {}, False, ""

    for number, raw in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            if any(name.startswith("msgstr") for name in entry):
                finish()
            if line.startswith("#,") and "fuzzy" in line:
                fuzzy = True
        elif match := _KEYWORD.match(line):
            starts = match[1] == "msgctxt" or (match[1] == "msgid" and "msgctxt" not in entry)
            if (starts or match[1] == "msgid") and any(name.startswith("msgstr") for name in entry):
                finish()
            field = match[1]
            entry[field] = _unquoted(match[3])
        elif line.startswith('"') and field:
            entry[field] += _unquoted(line)
        else:
            raise ValueError(f"line {number} is not part of a catalogue: {line[:60]}")
    finish()
    return catalogue


def mo_bytes(catalogue: dict[str, str]) -> bytes:
    """The binary catalogue (GNU gettext manual, "The Format of GNU MO Files"), without its optional hash table."""
    pairs = sorted((key.encode(), value.encode()) for key, value in catalogue.items())
    table_bytes = 8 * len(pairs)
    header = struct.pack("<7I", _MAGIC, 0, len(pairs), 28, 28 + table_bytes, 0, 28 + 2 * table_bytes)
    offset = 28 + 2 * table_bytes
    tables: list[bytes] = []
    strings: list[bytes] = []
    for column in (0, 1):
        for pair in pairs:
            tables.append(struct.pack("<2I", len(pair[column]), offset))
            strings.append(pair[column] + b"\0")
            offset += len(pair[column]) + 1
    return header + b"".join(tables) + b"".join(strings)


def _form_number(field: str) -> int:
    return int(field[7:-1]) if "[" in field else 0


def _unquoted(quoted: str) -> str:
    value = ast.literal_eval(quoted)  # the escapes of .po are C's, which Python shares
    if not isinstance(value, str):
        raise ValueError(f"not a string: {quoted[:60]}")
    return value


if __name__ == "__main__":
    for catalogue in compile_all(Path(__file__).resolve().parent.parent / "locale"):
        print(catalogue)

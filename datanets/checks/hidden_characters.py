"""Hidden characters: bidirectional overrides, zero-width characters and tags, which make a text say one thing and show
another. Joiners inside scripts and emoji that need them are left alone."""

from __future__ import annotations

import re
import unicodedata

from datanets.checks.shapes import Checked, Context, Finding, spans, summary, texts_of

NAME, VERSION = "hidden_characters", "2"

_HIDDEN = re.compile(
    "(?P<bidi>[\u202a-\u202e\u2066-\u2069]+)|(?P<tags>[\U000e0000-\U000e007f]+)"
    "|(?P<zero_width>[\u200b\u200c\u200d\u2060-\u2064\ufeff\u00ad\u180e\u034f\u115f\u1160\u3164\uffa0]+)"
    "|(?P<variation>[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,})"
)
_MARKS = re.compile("[\u200e\u200f\u061c]+")


def run(records: list[Checked], context: Context) -> list[Finding]:
    """A flag for each record with hidden characters. number: how many characters."""
    findings = []
    for record in records:
        found = [(field, *place) for field, text in texts_of(record, context) for place in find(text)]
        if found:
            hidden = sum(end - start for _, start, end, _ in found)
            params = {"count": hidden, "kinds": ", ".join(sorted({what for *_, what in found}))}
            findings.append(Finding(NAME, record.key, "flag", hidden, "hidden_characters.found", params, spans(found)))
    return [summary(NAME, flagged=len(findings), of=len(records)), *findings]


def find(text: str) -> list[tuple[int, int, str]]:
    """(start, end, kind) of every run of hidden characters."""
    if text.isascii():
        return []
    found = [(*match.span(), match.lastgroup or "") for match in _HIDDEN.finditer(text) if not _needed(text, match)]
    if not re.search("[\u0590-\u08ff]", text):  # marks of direction have no use without such a script
        found += [(*match.span(), "bidi") for match in _MARKS.finditer(text)]
    return sorted(found)


def _needed(text: str, match: re.Match) -> bool:
    """A single joiner between two characters of a script that joins, or between emoji; a soft hyphen inside a word."""
    if len(match[0]) != 1 or match[0] not in "\u200c\u200d\u00ad":
        return False
    before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    if not before or not after:
        return False
    if match[0] == "\u00ad":
        return before.isalpha() and after.isalpha()
    joining = re.compile("[\u0600-\u0dff\u0e00-\u109f\u1780-\u18af\ufb50-\ufeff]")
    emoji = unicodedata.category(after) == "So" and (unicodedata.category(before) in ("So", "Sk") or before == "\ufe0f")
    return bool(joining.match(before) and joining.match(after)) or (match[0] == "\u200d" and emoji)

"""Values of the public log as they are hashed: RFC 8785 JSON of few kinds, numbers and base64 with one spelling each.

Everything that has a second spelling is `Malformed`. docs/receipt.md has the rules. Pure.

Source: RFC 8785 (canonical JSON).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

RECEIPT_CHARS_MAX = 16 * 1024 * 1024
NESTING_MAX = 16

_HEX32 = re.compile(r"[0-9a-f]{64}")
_AMOUNT = re.compile(r"0|[1-9][0-9]{0,18}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")


class Malformed(ValueError):
    """The text is not what the format says, to the letter."""


def canonical(value: object) -> bytes:
    """Write a value as RFC 8785 canonical JSON.

    Strings, integers from 0 to 2^53 - 1, lists, and objects with ASCII keys only: there the sorted, compact output of
    the standard library is already canonical (tests compare it with an RFC 8785 library), and several times faster.

    Raises:
        Malformed: anything else in the value, floats, booleans and None included.
    """
    check_value(value)
    return ENCODER.encode(value).encode()


ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)


def parse_json(text: str | bytes) -> object:
    """Read JSON without any of its freedoms: no duplicate or non-ASCII keys, floats, booleans, null, or signs."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if len(text) > RECEIPT_CHARS_MAX:
            raise Malformed("the text is too long")
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
        check_value(value)
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed("the text is not JSON") from error
    return value


def is_number(text: str) -> bool:
    """Say whether a text is a size or index as the formats write it: decimal, no sign, no leading zeros."""
    return _NUMBER.fullmatch(text) is not None


def decode_hash(text: str) -> bytes:
    """Read one base64 line of a proof. Raises Malformed unless it is 32 bytes, canonically written."""
    return decode_base64(text, 32)


def encode_hash(digest: bytes) -> str:
    """Write one base64 line of a proof."""
    return encode_base64(digest)


def amount(value: object) -> str:
    """Return an amount as it is. Raises Malformed unless it is written as amounts are."""
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
        raise Malformed("an amount is a decimal string of nano-OPEN without leading zeros")
    return value


def check_value(value: Any, levels_left: int = NESTING_MAX) -> None:
    """Raise Malformed if canonical JSON has no spelling for this value."""
    kind = type(value)
    if not levels_left:
        raise Malformed("the value nests too deeply")
    if kind is str:
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise Malformed("a string holds half a surrogate pair")
    elif kind is int:
        if not 0 <= value < 2**53:
            raise Malformed("an integer is from 0 to 2^53 - 1")
    elif kind is list:
        for item in value:
            check_value(item, levels_left - 1)
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                raise Malformed("a key is an ASCII string")
            check_value(item, levels_left - 1)
    else:
        raise Malformed(f"{kind.__name__} is not a value of an entry")


def _object(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Malformed("a key stands twice")
    return result


def _integer(digits: str) -> int:
    if not _NUMBER.fullmatch(digits):
        raise Malformed("an integer is from 0 to 2^53 - 1")
    return int(digits)


def _refuse_number(text: str) -> object:
    raise Malformed("numbers are integers")


def is_hex32(value: object) -> bool:
    """Say whether this is a hash or a salt: 64 lower-case hex digits."""
    return isinstance(value, str) and _HEX32.fullmatch(value) is not None


def encode_base64(data: bytes) -> str:
    """Write bytes as base64."""
    return base64.b64encode(data).decode()


def decode_base64(text: str, size: int | None = None) -> bytes:
    """Read base64 in its one spelling, of this many bytes. Raises Malformed."""
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise Malformed("not base64") from error
    # The decoder ignores bits after the last byte; one text per value keeps a changed file from passing.
    if encode_base64(data) != text or (size is not None and len(data) != size):
        raise Malformed("base64 that is not canonical, or of the wrong length")
    return data

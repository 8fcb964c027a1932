"""Numbers as people read them, in their language. Exact: integers and decimals only, money never passes through a float.

`1,204.50` in English, `1 204,50` in French. French groups with U+00A0: the narrow U+202F all but vanishes in this
typeface's bold figures. The unit follows after a no-break space. A minus is U+2212.
"""

import math
import re
from collections.abc import Sequence
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

from django.utils.formats import date_format
from django.utils.translation import get_language, gettext

NANO_PER_OPEN = 1_000_000_000
PLACES_MAX = 9
MINUS = "\u2212"
NBSP = "\u00a0"
# language -> (decimal mark, thousands mark, what stands before a percent sign)
_MARKS = {"fr": (",", NBSP, "\u202f")}
_MARKS_ELSE = (".", ",", "")


def number_text(value: int | float | Decimal | Fraction, places: int = 0) -> str:
    """A number with `places` decimals (half to even), thousands grouped."""
    scaled = round(Fraction(value) * 10**places)
    return _sign(scaled) + _digits(abs(scaled), places)


def significant_text(value: int | float, digits: int = 4) -> str:
    """A measured value in so many significant digits: 12.35, 0.00001234, 1.2e-9; whole numbers keep all of theirs."""
    if value == 0:
        return "0"
    whole_digits = math.floor(math.log10(abs(value))) + 1
    if not -5 <= whole_digits <= 15:  # nobody counts that many zeros
        return f"{value:.{digits}g}".replace(".", _marks()[0]).replace("-", MINUS)
    places = max(0, digits - whole_digits)
    text = number_text(value, places)
    return text.rstrip("0").removesuffix(_marks()[0]) if places else text


def open_text(amount_nano: int, places: int = PLACES_MAX, *, signed: bool = False) -> str:
    """An amount in OPEN without its unit. Exact with 9 places (the default), else rounded half to even.

    An amount that is not zero is never shown as zero: 5 nano with four places reads `<0.0001`. Whoever shows parts
    beside their total rounds them together first, with `round_to_add_up`.
    """
    scaled = _round_nano(amount_nano, places)
    if scaled == 0 and amount_nano != 0:
        smallest = _digits(1, places)
        return f"<{smallest}" if amount_nano > 0 else f">{MINUS}{smallest}"
    plus = "+" if signed and scaled > 0 else ""
    return plus + _sign(scaled) + _digits(abs(scaled), places)


def plain(text: str) -> str:
    """An amount as a page shows it or as people type it, with a point and without grouping: the way back from `open_text`.

    "1 204,50" in French and "1,204.50" in English give "1204.50". What is written otherwise stays as it is, so that its
    reader refuses it: "1,5" and "1,204" in English, where a comma may have been meant as the decimal mark.
    """
    decimal, thousands, _percent = _marks()
    whole, mark, places = text.strip().partition(decimal)
    for grouping in (thousands, " ", "\u202f"):
        is_clear = mark or grouping != ","
        if is_clear and re.fullmatch(rf"[1-9]\d{{0,2}}(?:{re.escape(grouping)}\d{{3}})+", whole):
            whole = whole.replace(grouping, "")
    return f"{whole}.{places}" if mark else whole


def decimal_mark() -> str:
    """What stands before the decimals in the language of the page."""
    return _marks()[0]


def is_exact(amount_nano: int, places: int) -> bool:
    """Whether `places` decimals say the whole amount."""
    return amount_nano % 10 ** (PLACES_MAX - places) == 0


def round_to_add_up(parts_nano: Sequence[int], places: int) -> list[int]:
    """Round parts so that, shown with `places` decimals, they add up to their total shown with `places` decimals.

    The total is rounded half to even; each part is rounded down, and the units still missing go to the largest
    remainders (ties to the earlier part). Returns nano amounts in the same order, each within one unit of its part.
    """
    unit = 10 ** (PLACES_MAX - places)
    floors = [part // unit for part in parts_nano]
    missing = _round_nano(sum(parts_nano), places) - sum(floors)
    by_remainder = sorted(range(len(parts_nano)), key=lambda i: (-(parts_nano[i] % unit), i))
    for i in by_remainder[:missing]:
        floors[i] += 1
    return [floor * unit for floor in floors]


def share_text(value: int | float | Decimal | Fraction, places: int | None = None) -> str:
    """A share as a percentage: an int is basis points (3500 is 35%), anything else a ratio (0.31 is 31.0%).

    Basis points show the decimals they have; a ratio shows one unless `places` says otherwise.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        percent = Fraction(value, 100)
        if places is None:
            places = next(p for p in (0, 1, 2) if (percent * 10**p).denominator == 1)
    else:
        percent = Fraction(value) * 100
        places = 1 if places is None else places
    if percent != 0 and round(percent * 10**places) == 0:
        bound = _digits(1, places)
        return f"<{bound}{_marks()[2]}%" if percent > 0 else f">{MINUS}{bound}{_marks()[2]}%"
    return f"{number_text(percent, places)}{_marks()[2]}%"


def bytes_text(size_bytes: int) -> str:
    """A file size in decimal units: 184 MB, in French 184 Mo."""
    letter = "o" if _language() == "fr" else "B"
    if size_bytes < 1000:
        return f"{number_text(size_bytes)}{NBSP}{letter}"
    power = 1
    while power < 4 and Decimal(size_bytes).scaleb(-3 * power) >= Decimal("999.5"):
        power += 1
    size = Decimal(size_bytes).scaleb(-3 * power)
    places = 1 if size < 10 else 0
    size = size.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)
    return f"{number_text(size, places)}{NBSP}{'kMGT'[power - 1]}{letter}"


def compact_text(value: int) -> str:
    """A count in three figures: 912, 48.2 k, 6.41 M."""
    for bound, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if abs(value) >= bound:
            size = Fraction(value, bound)
            places = 2 if abs(size) < 10 else 1 if abs(size) < 100 else 0
            return f"{number_text(size, places)}{NBSP}{suffix}"
    return number_text(value)


def _round_nano(amount_nano: int, places: int) -> int:
    if not 0 <= places <= PLACES_MAX:
        raise ValueError(f"OPEN has {PLACES_MAX} decimals, {places} were asked for")
    return round(Fraction(amount_nano, 10 ** (PLACES_MAX - places)))


def _digits(scaled: int, places: int) -> str:
    mark, thousands, _ = _marks()
    whole, rest = divmod(scaled, 10**places)
    text = f"{whole:,}".replace(",", thousands)
    return f"{text}{mark}{rest:0{places}}" if places else text


def _sign(scaled: int) -> str:
    return MINUS if scaled < 0 else ""


def _marks() -> tuple[str, str, str]:
    return _MARKS.get(_language(), _MARKS_ELSE)


def _language() -> str:
    return (get_language() or "en").split("-")[0]


def day_text(day: date) -> str:
    """A day without its year, as the axis of a chart has it: 22 Nov, 22 nov."""
    return date_format(day, gettext("j M"))

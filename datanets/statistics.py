"""Statistics of columns over all rows, as pandas' `describe` gives them on the same values. Pure.

Numbers: mean, standard deviation with ddof = 1, quartiles by linear interpolation. Sums are rounded once (math.fsum), so that
the order of rows changes no digit.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from datanets.columns import Column

TOP_VALUES = 20
BINS = 20
_SHOWN_CHARS = 120


def describe(columns: Sequence[Column], rows: Iterable[dict]) -> dict:
    """{"rows": n, "columns": [one dict per column, in order]} over rows given as {column: value}; None is missing."""
    gathered = [(_Numbers if column.type in ("number", "integer") else _Words)(column) for column in columns]
    count = 0
    for row in rows:
        count += 1
        for column in gathered:
            column.add(row.get(column.name))
    return {"rows": count, "columns": [column.described(count) for column in gathered]}


class _Numbers:
    def __init__(self, column: Column):
        self.name, self._type = column.name, column.type
        self._values = array("d")

    def add(self, value: float | None) -> None:
        if value is not None:
            self._values.append(value)

    def described(self, rows: int) -> dict:
        values = np.frombuffer(self._values, dtype=np.float64) if self._values else np.empty(0)
        about = {"name": self.name, "type": self._type, "count": len(values), "missing": rows - len(values)}
        if not len(values):
            return about | {"distinct": 0}
        mean = math.fsum(values) / len(values)
        squares = math.fsum((values - mean) ** 2)
        low, q25, q50, q75, high = (float(each) for each in np.percentile(values, [0, 25, 50, 75, 100]))
        counts, edges = np.histogram(values, bins=BINS if high > low else 1)
        return about | {
            "mean": mean,
            "std": math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None,
            "min": low,
            "q25": q25,
            "q50": q50,
            "q75": q75,
            "max": high,
            "distinct": len(np.unique(values)),
            "histogram": {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]},
        }


class _Words:
    """Categories, truth values and texts. Of a text that never repeats nothing is quoted, only its length is told."""

    def __init__(self, column: Column):
        self.name, self._type = column.name, column.type
        self._seen: Counter = Counter()
        self._chars = array("q")

    def add(self, value: str | bool | None) -> None:
        if value is None:
            return
        self._seen[value] += 1
        if self._type == "text":
            self._chars.append(len(str(value)))

    def described(self, rows: int) -> dict:
        count = self._seen.total()
        about = {"name": self.name, "type": self._type, "count": count, "missing": rows - count}
        about["distinct"] = len(self._seen)
        if not count:
            return about
        # most_common keeps the order of first appearance among equals
        repeated = [(value, times) for value, times in self._seen.most_common(TOP_VALUES) if self._quoted(times)]
        if repeated:
            about |= {"top": _shown(repeated[0][0]), "freq": repeated[0][1]}
        about["values"] = [[_shown(value), times] for value, times in repeated]
        if self._type == "text":
            lengths = np.frombuffer(self._chars, dtype=np.int64)
            about["chars"] = {
                "min": int(lengths.min()),
                "mean": math.fsum(lengths) / len(lengths),
                "q50": float(np.median(lengths)),
                "max": int(lengths.max()),
            }
        return about

    def _quoted(self, times: int) -> bool:
        return self._type != "text" or times > 1


def _shown(value: str | bool) -> str | bool:
    return value if isinstance(value, bool) else str(value)[:_SHOWN_CHARS]

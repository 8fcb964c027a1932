"""The records of an artifact in the order in which equal remainders are served: by commitment, then by id. Pure.

All vectors of settlement are in this order, so that a tie of two records goes to the earlier place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Roster:
    """Who takes part, by place.

    Args:
        record_ids: Shape (n,), int64: the record at each place.
        fit_order: Shape (n,), int64: where that record stands in the vectors of the engine.
    """

    record_ids: np.ndarray
    fit_order: np.ndarray

    @classmethod
    def of(cls, record_ids: Sequence[int], commitments: Sequence[str]) -> Roster:
        """Out of records in the order of the fit, with their commitments."""
        order = sorted(range(len(record_ids)), key=lambda i: (commitments[i], record_ids[i]))
        fit_order = np.array(order, dtype=np.int64)
        return cls(record_ids=np.array(record_ids, dtype=np.int64)[fit_order], fit_order=fit_order)

    def __len__(self) -> int:
        return len(self.record_ids)

    def __contains__(self, record_id: int) -> bool:
        return record_id in self._known

    @cached_property
    def _known(self) -> frozenset[int]:
        return frozenset(self.record_ids.tolist())

    @cached_property
    def _by_id(self) -> np.ndarray:
        return np.argsort(self.record_ids)

    def places_of(self, record_ids: Iterable[int]) -> np.ndarray:
        """The place of each of these records, in the order asked.

        Raises:
            KeyError: one of them takes no part.
        """
        asked = np.fromiter(record_ids, dtype=np.int64)
        if not len(asked):
            return asked
        found = self._by_id[np.searchsorted(self.record_ids, asked, sorter=self._by_id).clip(max=len(self) - 1)]
        if len(strangers := asked[self.record_ids[found] != asked]):
            raise KeyError(f"record {strangers[0]} is not in the artifact")
        return found

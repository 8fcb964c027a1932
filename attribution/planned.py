"""The rows that a plan makes, before they are stored: what settlement stores, shards hand over, and a replay compares. Pure."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import numpy as np


class PlannedLine(NamedTuple):
    """A payment to a payee, or to nobody with a reason."""

    source: str
    source_id: UUID
    role: str
    payee_id: int | None
    reason: str
    record_count: int
    amount_nano: int


class PlannedRecordLine(NamedTuple):
    """What one record earned in one charge."""

    source_id: UUID
    record_id: int
    score: int
    amount_nano: int


class PlannedRecordEpoch(NamedTuple):
    """A record's running sums after this epoch."""

    model_version_id: UUID
    record_id: int
    net: int
    positive: int
    phi: int
    gated: bool
    call_count: int
    amount_nano: int
    given_back_nano: int
    payee_id: int | None


class PlannedRecordFee(NamedTuple):
    """What one record earned from the fees of one source in the epoch."""

    source: str
    record_id: int
    amount_nano: int
    equal_nano: int
    payee_id: int | None


class Planned(NamedTuple):
    """All rows of an epoch."""

    lines: list[PlannedLine]
    record_lines: list[PlannedRecordLine]
    record_epochs: list[PlannedRecordEpoch]
    record_fees: list[PlannedRecordFee]


class Part(NamedTuple):
    """What became of some calls of a version. `earned`, `used`: by place, nano and calls."""

    lines: list[PlannedLine]
    record_lines: list[PlannedRecordLine]
    earned: np.ndarray
    used: np.ndarray

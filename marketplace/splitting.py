"""Where the parts of a charge go, and what the public log commits to. Pure: the gateway uses it without Django."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from uuid import UUID

from ledger import chart

from . import pricing


def role_targets(
    *, model_id: UUID | str, pool: chart.PoolFor, parts: Mapping[str, int], developer_id: int, owner_ids: Sequence[int]
) -> list[tuple[str, str, int]]:
    """Return (role of the log, account, nano) for every part. A rule without owners' money needs no owners."""
    targets = [(role, account, parts[part]) for part, role, account in _accounts(model_id, pool, developer_id)]
    if parts["owner"]:
        shares = pricing.split_equally(parts["owner"], len(owner_ids))
        targets += [
            ("owner", chart.pending(owner_id), share) for owner_id, share in zip(owner_ids, shares, strict=True)
        ]
    return targets


@lru_cache(maxsize=1000)
def _accounts(model_id: UUID | str, pool: chart.PoolFor, developer_id: int) -> tuple[tuple[str, str, str], ...]:
    """(part of the rule, role of the log, account). Remembered: a model's are the same at each of its calls."""
    return (
        ("data", "data-pool", chart.pool(model_id, pool, "data")),
        ("curation", "curation-pool", chart.pool(model_id, pool, "curation")),
        ("developer", "developer", chart.pending(developer_id)),
        ("platform", "platform", chart.FEES),
    )


def split_lines(targets: Sequence[tuple[str, str, int]]) -> list[dict[str, str]]:
    """The role lines that the log commits to; they add up to the price."""
    return [
        {"payee": account, "role": role, "item": "", "amount": str(part_nano)}
        for role, account, part_nano in targets
        if part_nano
    ]

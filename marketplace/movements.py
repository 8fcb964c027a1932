"""Movements as rows: one function reads them, and the screen, CSV, Parquet and the API all show these.

A person has three accounts: the wallet, what is pending, and what pays free calls. A page is read by key, so a movement
that is booked between two pages neither doubles nor hides another. Amounts are whole nano-OPEN, beside them the text
with nine decimals.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import BinaryIO

from accounts.models import User
from ledger import chart
from ledger import services as ledger

from . import pricing

COLUMNS = (
    *("at", "kind", "reference", "receipt_id", "amount_nano", "amount"),
    *("balance_after_nano", "balance_after", "unit", "leaf_index"),
)
WHOLE = {"amount_nano", "balance_after_nano", "leaf_index"}
FILE_PAGE = 1000  # rows read, and written, at once: a file costs the same memory however long it is
CURSOR_DIGITS_MAX = 18

ACCOUNTS: dict[str, Callable[[int], str]] = {
    "wallet": chart.wallet,
    "pending": chart.pending,
    "promotion": chart.promotion,
}


@dataclass(frozen=True)
class Page:
    """Movements, newest first, and the cursor of the next page ("": none)."""

    rows: list[ledger.StatementRow]
    next: str = ""


def account_of(user: User, name: str) -> str:
    """The code of one of a person's accounts: wallet, pending or promotion."""
    return ACCOUNTS[name](user.pk)


def is_cursor(text: str) -> bool:
    """Whether a page can be asked for with this text."""
    return text.isascii() and text.isdigit() and len(text) <= CURSOR_DIGITS_MAX


def page(account: str, *, after: str = "", limit: int) -> Page:
    """One page of an account's movements; a cursor that cannot be read counts as none."""
    rows = ledger.statement_of(account, after=int(after) if is_cursor(after) else None, limit=limit + 1)
    shown = rows[:limit]
    return Page(shown, str(shown[-1].cursor) if len(rows) > limit else "")


def every(account: str) -> Iterator[ledger.StatementRow]:
    """All movements of an account, newest first, read page by page."""
    after = ""
    while True:
        found = page(account, after=after, limit=FILE_PAGE)
        yield from found.rows
        if not found.next:
            return
        after = found.next


def values(row: ledger.StatementRow) -> dict[str, object]:
    """A movement in the columns of every file. A leaf_index of None: the posting is not in the public log yet."""
    return {
        "at": row.at.astimezone(UTC).isoformat(),
        "kind": str(row.kind),
        "reference": row.reference,
        "receipt_id": str(row.posting_id),
        "amount_nano": row.amount_nano,
        "amount": pricing.nano_to_open(row.amount_nano),
        "balance_after_nano": row.balance_after_nano,
        "balance_after": pricing.nano_to_open(row.balance_after_nano),
        "unit": "OPEN",
        "leaf_index": row.leaf_index,
    }


def as_csv(rows: Iterable[ledger.StatementRow]) -> Iterator[str]:
    """CSV, line by line: UTF-8, ISO moments, dot decimals. No cell is a person's own text."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    yield out.getvalue()
    for row in rows:
        out.seek(0)
        out.truncate()
        writer.writerow("" if value is None else value for value in values(row).values())
        yield out.getvalue()


def write_parquet(rows: Iterable[ledger.StatementRow], out: BinaryIO) -> None:
    """Parquet with the same columns and the same text: whole numbers are int64, so no amount becomes a float."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.int64() if name in WHOLE else pa.string()) for name in COLUMNS])
    with pq.ParquetWriter(out, schema) as writer:
        some: list[dict[str, object]] = []
        for row in rows:
            some.append(values(row))
            if len(some) == FILE_PAGE:
                writer.write_table(pa.Table.from_pylist(some, schema=schema))
                some = []
        writer.write_table(pa.Table.from_pylist(some, schema=schema))

"""Earnings as rows: one function makes them, and the screen, CSV, Parquet, JSON and the API all show these.

A *payment* is what one epoch of one model paid a person in one role. Amounts are whole nano-OPEN inside and nine
decimals outside, everywhere.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Exists, F, OuterRef, QuerySet, Subquery, Sum, Window
from django.db.models.functions import Coalesce, RowNumber
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from attribution.models import Epoch, Line, PlannedPosting, RecordEpoch, RecordFee, Reversal, Trace, paid_to
from ledger import chart
from ledger import services as ledger

from . import holds, pricing, querysets
from .models import Access, Call, ListedModel, TrainingRun

COLUMNS = (
    *("day", "model", "datanets", "role", "charges", "records", "amount", "refunded", "unit", "state", "available_on"),
    *("why_url", "receipt_id"),
)
STATES = {
    "planned": _("Planned"),
    "pending": _("Pending"),
    "held": _("Held"),
    "available": _("Available"),
    "refunded": _("Refunded"),
}
#: Of lines: they were paid, and went back with a refund.
GIVEN_BACK = Exists(Reversal.objects.filter(charge_id=OuterRef("source_id"), was_settled=True))
PAGE_EPOCHS = 20
RECORDS_SHOWN = 5


@dataclass(frozen=True)
class Filters:
    """What a statement shows: days are UTC, both ends included; None or "" filters nothing.

    A Datanet or a record chooses the payments of contributors that it has a part in; each is shown whole.
    """

    model_id: UUID | None = None
    since: date | None = None
    until: date | None = None
    state: str = ""
    datanet_id: UUID | None = None
    record_id: int | None = None


@dataclass(frozen=True)
class Payment:
    """What one epoch of one model paid a person in one role.

    Args:
        price_nano: What buyers paid for the charges in which this person has a part.
        part_nano: The data (or curation) part of those charges.
        refunded_nano: What of the amount went back with calls that were refunded.
        state: planned, pending, held, available or, where all of it went back, refunded; `due_at` is when a pending one
            becomes available.
        datanets: Names of the Datanets whose records earned it; empty for curation.
        top: The largest records of a contributor's payment in calls.
    """

    epoch_id: UUID
    number: int
    at: datetime
    model_id: UUID
    model: str
    role: str
    charges: int
    records: int
    price_nano: int
    part_nano: int
    amount_nano: int
    refunded_nano: int
    state: str
    due_at: datetime | None = None
    reason: str = ""
    datanets: list[str] = field(default_factory=list)
    top: list[RecordEpoch] = field(default_factory=list)

    @property
    def state_label(self) -> str:
        return str(STATES[self.state])

    @property
    def role_label(self) -> str:
        return str(Line.Role(self.role).label)

    @property
    def url(self) -> str:
        return reverse("earnings_payment", args=[self.epoch_id, self.role])


@dataclass(frozen=True)
class PaymentPage:
    """Payments, newest first, and the cursors of the neighbouring pages ("": none)."""

    rows: list[Payment]
    previous: str = ""
    next: str = ""


# --- Rows


def page(
    user: User,
    filters: Filters,
    *,
    after: str = "",
    before: str = "",
    lots: list[ledger.LotRow] | None = None,
    paths: Mapping[UUID, str] | None = None,
) -> PaymentPage:
    """One page of a person's payments: twenty epochs, each with one row per role.

    lots, paths: What waits for this person, and the models' paths by id, for who has read them already.
    """
    open_lots = lots_by_posting(waiting(user) if lots is None else lots)
    found = querysets.page_by(
        _epochs(user, filters, open_lots), "closed_at", after=after, before=before, limit=PAGE_EPOCHS
    )
    return PaymentPage(_payments(user, filters, found.rows, open_lots, paths), found.previous, found.next)


def payment(user: User, epoch: Epoch, role: str) -> Payment | None:
    """One payment; None when this epoch paid this person nothing in this role."""
    rows = _payments(user, Filters(), [epoch], lots_by_posting(waiting(user)))
    return next((row for row in rows if row.role == role), None)


def every(user: User, filters: Filters) -> Iterator[Payment]:
    """All payments of a statement, newest first, read page by page."""
    after = ""
    while True:
        found = page(user, filters, after=after)
        yield from found.rows
        if not found.next:
            return
        after = found.next


def values(row: Payment) -> dict[str, object]:
    """A payment in the columns that every output shares. Amounts are text with nine decimals, days are ISO."""
    return {
        "day": row.at.astimezone(UTC).date().isoformat(),
        "model": row.model,
        "datanets": "; ".join(row.datanets),
        "role": row.role,
        "charges": row.charges,
        "records": row.records,
        "amount": pricing.nano_to_open(row.amount_nano),
        "refunded": pricing.nano_to_open(row.refunded_nano),
        "unit": "OPEN",
        "state": row.state,
        "available_on": row.due_at.astimezone(UTC).date().isoformat() if row.due_at else "",
        "why_url": settings.SITE_URL + row.url,
        "receipt_id": str(row.epoch_id),
    }


def _epochs(user: User, filters: Filters, open_lots: dict[UUID, ledger.LotRow]) -> QuerySet[Epoch]:
    mine = Line.objects.filter(payee=user, epoch=OuterRef("pk"))
    found = Epoch.objects.exclude(status=Epoch.Status.CLOSED).filter(Exists(mine))
    if filters.model_id:
        found = found.filter(model_id=filters.model_id)
    if filters.datanet_id or filters.record_id:
        found = found.filter(Exists(_parts(RecordEpoch, user, filters)) | Exists(_parts(RecordFee, user, filters)))
    if filters.since:
        found = found.filter(closed_at__gte=datetime.combine(filters.since, datetime.min.time(), UTC))
    if filters.until:
        end = datetime.combine(filters.until + timedelta(days=1), datetime.min.time(), UTC)
        found = found.filter(closed_at__lt=end)
    if filters.state == "planned":
        found = found.filter(status=Epoch.Status.PLANNED)
    elif filters.state in ("pending", "held"):
        chosen = [posting for posting, lot in open_lots.items() if lot.state == filters.state]
        found = found.filter(postings__in=chosen).distinct()
    elif filters.state == "refunded":
        found = found.filter(Exists(mine.filter(GIVEN_BACK)))
    elif filters.state == "available":
        # An epoch whose other role still waits is read as well; `_payments` drops that row.
        found = found.filter(status=Epoch.Status.POSTED)
    return found.defer("charge_ids", "lines_secret")


def _parts(sums: type[RecordEpoch] | type[RecordFee], user: User, filters: Filters) -> QuerySet:
    """What the chosen records earned in an epoch, in calls or from fees."""
    found = sums.objects.filter(paid_to(user.pk), epoch=OuterRef("pk"), amount_nano__gt=0)
    if filters.datanet_id:
        found = found.filter(record__datanet=filters.datanet_id)
    return found.filter(record=filters.record_id) if filters.record_id else found


def _payments(
    user: User, filters: Filters, epochs: list[Epoch], open_lots, paths: Mapping[UUID, str] | None = None
) -> list[Payment]:
    if not epochs:
        return []
    if paths is None:
        paths = names({epoch.model_id for epoch in epochs})
    sums = _sums(user, epochs)
    datanets, top = _datanets(user, epochs), _top_records(user, epochs)
    lots = _lots_by_role(epochs, open_lots)
    of_records = filters.datanet_id or filters.record_id
    roles = (Line.Role.DATA,) if of_records else (Line.Role.DATA, Line.Role.CURATION)
    rows = []
    for epoch in epochs:
        for role in roles:
            found = sums.get((epoch.pk, role))
            if found is None:
                continue
            lot = lots.get((epoch.pk, role))
            is_data = role == Line.Role.DATA
            row = Payment(
                epoch_id=epoch.pk,
                number=epoch.number,
                at=epoch.closed_at,
                model_id=epoch.model_id,
                model=paths.get(epoch.model_id, str(epoch.model_id)),
                role=str(role),
                charges=found["charges"],
                records=found["records"],
                price_nano=found["price"] or 0,
                part_nano=found["data" if is_data else "curation"] or 0,
                amount_nano=found["amount"],
                refunded_nano=found["refunded"] or 0,
                state=_state(epoch, found, lot),
                due_at=lot.due_at if lot else None,
                reason=holds.sentence(lot) if lot and lot.state == "held" else "",
                datanets=datanets[epoch.pk] if is_data else [],
                top=top[epoch.pk] if is_data else [],
            )
            if not filters.state or row.state == filters.state:
                rows.append(row)
    return rows


def _state(epoch: Epoch, sums: dict, lot: ledger.LotRow | None) -> str:
    if epoch.status == Epoch.Status.PLANNED:
        return "planned"
    if sums["refunded"] == sums["amount"]:
        return "refunded"
    return lot.state if lot else "available"


def names(model_ids: set[UUID]) -> dict[UUID, str]:
    """Model id -> its path, in one query."""
    return {model.pk: model.path for model in ListedModel.objects.filter(pk__in=model_ids).select_related("owner")}


def _sums(user: User, epochs: Iterable[Epoch]) -> dict[tuple[UUID, str], dict]:
    trace = Trace.objects.filter(charge_id=OuterRef("source_id"))
    price = Coalesce(
        Subquery(Call.objects.filter(pk=OuterRef("source_id")).values("cost_nano")),
        Subquery(Access.objects.filter(posting_id=OuterRef("source_id")).values("price_nano")),
        Subquery(TrainingRun.objects.filter(posting_id=OuterRef("source_id")).values("fee_nano")),
    )
    found = (
        Line.objects.filter(payee=user, epoch__in=[epoch.pk for epoch in epochs])
        .annotate(
            charge_price=price,
            charge_data=Subquery(trace.values("data_nano")),
            charge_curation=Subquery(trace.values("curation_nano")),
        )
        .values("epoch_id", "role")
        .annotate(
            amount=Sum("amount_nano"),
            refunded=Sum("amount_nano", filter=GIVEN_BACK),
            charges=Count("pk"),
            records=Sum("record_count"),
            price=Sum("charge_price"),
            data=Sum("charge_data"),
            curation=Sum("charge_curation"),
        )
    )
    return {(row["epoch_id"], row["role"]): dict(row) for row in found}


def _datanets(user: User, epochs: Iterable[Epoch]) -> dict[UUID, list[str]]:
    calls, fees = (
        sums.objects.filter(paid_to(user.pk), epoch__in=[e.pk for e in epochs], amount_nano__gt=0)
        .order_by()
        .values_list("epoch_id", "record__datanet__name")
        for sums in (RecordEpoch, RecordFee)
    )
    found: dict[UUID, list[str]] = defaultdict(list)
    for epoch_id, name in calls.union(fees).order_by("record__datanet__name"):
        found[epoch_id].append(name)
    return found


def _top_records(user: User, epochs: Iterable[Epoch]) -> dict[UUID, list[RecordEpoch]]:
    rows = (
        RecordEpoch.objects.filter(paid_to(user.pk), epoch__in=[e.pk for e in epochs], amount_nano__gt=0)
        .annotate(
            place=Window(
                RowNumber(), partition_by=[F("epoch_id")], order_by=[F("amount_nano").desc(), F("record_id").asc()]
            )
        )
        .filter(place__lte=RECORDS_SHOWN)
        .select_related("record__datanet__owner")
        .defer("record__signature", "record__bands")
        .order_by("epoch_id", "place")
    )
    found: dict[UUID, list[RecordEpoch]] = defaultdict(list)
    for row in rows:
        found[row.epoch_id].append(row)
    return found


def waiting(user: User) -> list[ledger.LotRow]:
    """What is pending or held for a person, the next one due first."""
    return ledger.pending_of(chart.pending(user.pk))


def lots_by_posting(lots: Iterable[ledger.LotRow]) -> dict[UUID, ledger.LotRow]:
    """What is still pending or held, by the posting that brought it."""
    return {lot.posting_id: lot for lot in lots}


def _lots_by_role(epochs: Iterable[Epoch], open_lots) -> dict[tuple[UUID, str], ledger.LotRow]:
    """The lot that a payment waits for: of several, a held one, else the last one due.

    Each posting of a settlement empties one pool, "pool:<model>:<source>:<role>": its first leg names it.
    """
    found: dict[tuple[UUID, str], ledger.LotRow] = {}
    rows = PlannedPosting.objects.filter(epoch__in=[e.pk for e in epochs], pk__in=list(open_lots))
    for posting_id, epoch_id, pool in rows.values_list("pk", "epoch_id", "moves__0__0"):
        key, lot = (epoch_id, pool.rsplit(":", 1)[1]), open_lots[posting_id]
        known = found.get(key)
        if known is None or (lot.state == "held", lot.due_at) > (known.state == "held", known.due_at):
            found[key] = lot
    return found


# --- Outputs


def as_csv(rows: Iterable[Payment]) -> Iterator[str]:
    """CSV, line by line: UTF-8, ISO days, dot decimals, the unit in a column, no cell that starts a formula."""
    yield csv_line(COLUMNS)
    for row in rows:
        yield csv_line([neutral(str(value)) for value in values(row).values()])


def as_json(rows: Iterable[Payment]) -> bytes:
    """`{"columns": [...], "rows": [{...}]}`; amounts stay text, so that no reader makes floats of them."""
    found = [values(row) for row in rows]
    return json.dumps({"columns": list(COLUMNS), "rows": found}, ensure_ascii=False, indent=1).encode()


def as_parquet(rows: Iterable[Payment]) -> bytes:
    """Parquet with the same columns; `amount` and `refunded` are decimal(28, 9)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, whole = list(rows), {"charges", "records"}
    kinds = dict.fromkeys(("amount", "refunded"), pa.decimal128(28, 9)) | dict.fromkeys(whole, pa.int64())
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    amounts = [
        {
            name: Decimal(pricing.nano_to_open(nano))
            for name, nano in (("amount", row.amount_nano), ("refunded", row.refunded_nano))
        }
        for row in rows
    ]
    found = [values(row) | exact for row, exact in zip(rows, amounts, strict=True)]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(found, schema=schema), out)
    return out.getvalue()


def neutral(text: str) -> str:
    """A cell that a spreadsheet does not take for a formula. Plain negative numbers stay numbers."""
    if text[:1] in ("=", "+", "@", "\t", "\r") or (text[:1] == "-" and not text[1:].replace(".", "", 1).isdigit()):
        return f"'{text}"
    return text


def csv_line(cells: Iterable[object]) -> str:
    """One row of a CSV file, with its line feed."""
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()

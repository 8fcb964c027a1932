"""What accounts hold, how they came to it, and sums over the journal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Subquery

from ledger import chart, database
from ledger.models import Entry, Leaf, LedgerAccount
from ledger.postings import Kind


@dataclass(frozen=True)
class Balance:
    """The state of an account in nano-OPEN.

    Attributes:
        available_nano: What it can pay or set aside now: credited - debited - held (for `world`: the supply outside).
        held_nano: What open holds set aside.
        credited_nano: Everything it ever received, as far as folded.
        debited_nano: Everything it ever paid.
    """

    available_nano: int = 0
    held_nano: int = 0
    credited_nano: int = 0
    debited_nano: int = 0


@dataclass(frozen=True)
class Movement:
    """Sums of one account and one kind over a period."""

    account: str
    kind: Kind
    credited_nano: int
    debited_nano: int
    postings: int


@dataclass(frozen=True)
class Flow:
    """Sums of one account and one kind over a period, by what paid. `paid_from` and `earned_from` are sorts of accounts:
    "wallet", "promotion", "pool:data"; `earned_from` is "" unless a lot is taken from: then, what had paid that.
    """

    account: str
    kind: Kind
    paid_from: str
    earned_from: str
    credited_nano: int
    debited_nano: int


@dataclass(frozen=True)
class StatementRow:
    """One line of a statement. `leaf_index` is None until the posting is in the public log."""

    cursor: int
    posting_id: UUID
    reference: str
    kind: Kind
    at: datetime
    amount_nano: int
    balance_after_nano: int
    leaf_index: int | None


def balance(account: str) -> Balance:
    """Read one account; an account nobody used yet is zero."""
    return balances([account])[account]


def balance_nano(account: str) -> int:
    """Read what an account can pay now."""
    return balance(account).available_nano


def balances(accounts: Iterable[str]) -> dict[str, Balance]:
    """Read many accounts in one query, in the order asked for."""
    wanted = list(accounts)
    found = database.rows(
        """SELECT a.code, a.base_nano + p.credited_nano - s.debited_nano - s.held_nano, s.held_nano, p.credited_nano,
                  s.debited_nano
           FROM ledger_account a JOIN ledger_spend s ON s.account_id = a.id JOIN ledger_position p ON p.account_id = a.id
           WHERE a.code = ANY (%s)""",
        wanted,
    )
    read = {code: Balance(*amounts) for code, *amounts in found}
    return {account: read.get(account, Balance()) for account in wanted}


def accounts_of_nobody(*, after: str = "", limit: int) -> list[tuple[str, Balance]]:
    """Read accounts that are no person's, by code; the next page comes with `after=codes[-1]`."""
    found = database.rows(
        """SELECT a.code, a.base_nano + p.credited_nano - s.debited_nano - s.held_nano, s.held_nano, p.credited_nano,
                  s.debited_nano
           FROM ledger_account a JOIN ledger_spend s ON s.account_id = a.id JOIN ledger_position p ON p.account_id = a.id
           WHERE a.code > %s AND split_part(a.code, ':', 1) <> ALL (%s) ORDER BY a.code LIMIT %s""",
        *(after, list(chart.OF_PERSONS), limit),
    )
    return [(code, Balance(*amounts)) for code, *amounts in found]


def total_by_prefix(prefix: str) -> int:
    """Add up the balances, as their statements end, of all accounts whose code starts with `prefix`."""
    return database.value(
        """SELECT coalesce(sum(e.balance_after_nano), 0)::bigint
           FROM ledger_account a JOIN LATERAL (
             SELECT balance_after_nano FROM ledger_entry WHERE account_id = a.id ORDER BY seq DESC LIMIT 1) e ON true
           WHERE starts_with(a.code, %s)""",
        prefix,
    )


def movements(
    *,
    prefix: str | None = None,
    accounts: Sequence[str] | None = None,
    kinds: Sequence[Kind] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Movement]:
    """Sum the journal per account and kind, for postings with since <= at < until. None: no such limit.

    It reads the journal and nothing derived from it, so it can be compared with what is.
    """
    found = database.rows(
        """SELECT a.code, j.kind, coalesce(sum(u.amount) FILTER (WHERE u.amount > 0), 0)::bigint,
                  coalesce(-sum(u.amount) FILTER (WHERE u.amount < 0), 0)::bigint, count(*)
           FROM ledger_journal j CROSS JOIN LATERAL unnest(j.accounts, j.amounts) AS u(account, amount)
           JOIN ledger_account a ON a.id = u.account
           WHERE (%s::text IS NULL OR starts_with(a.code, %s)) AND (%s::text[] IS NULL OR a.code = ANY (%s::text[]))
             AND (%s::text[] IS NULL OR j.kind = ANY (%s::text[]))
             AND j.at >= coalesce(%s::timestamptz, '-infinity') AND j.at < coalesce(%s::timestamptz, 'infinity')
           GROUP BY a.code, j.kind ORDER BY a.code, j.kind""",
        *(prefix, prefix),
        *[None if accounts is None else list(accounts)] * 2,
        *[None if kinds is None else [Kind(kind).value for kind in kinds]] * 2,
        *(since, until),
    )
    return [Movement(code, Kind(kind), *sums) for code, kind, *sums in found]


def flows(*, since: datetime | None = None, until: datetime | None = None) -> list[Flow]:
    """Sum the whole journal per account, kind and sort of payer, for postings with since <= at < until.

    Like `movements`, it reads nothing that is derived from the journal.
    """
    found = database.rows(
        """WITH sort AS (  -- "pool:<model>:calls:data" is of the sort "pool:data"
             SELECT id, code, concat_ws(':', split_part(code, ':', 1), nullif(split_part(code, ':', 4), '')) AS name
             FROM ledger_account)
           SELECT a.code, j.kind, payer.name, coalesce(earned_payer.name, ''),
                  coalesce(sum(u.amount) FILTER (WHERE u.amount > 0), 0)::bigint,
                  coalesce(-sum(u.amount) FILTER (WHERE u.amount < 0), 0)::bigint
           FROM ledger_journal j CROSS JOIN LATERAL unnest(j.accounts, j.amounts) AS u(account, amount)
           JOIN ledger_account a ON a.id = u.account
           JOIN sort payer ON payer.id = j.accounts[1]
           LEFT JOIN ledger_journal earned ON earned.id = j.takes_from
           LEFT JOIN sort earned_payer ON earned_payer.id = earned.accounts[1]
           WHERE j.at >= coalesce(%s::timestamptz, '-infinity') AND j.at < coalesce(%s::timestamptz, 'infinity')
           GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4""",
        *(since, until),
    )
    return [Flow(code, Kind(kind), *rest) for code, kind, *rest in found]


def statement_of(
    account: str,
    *,
    after: int | None = None,
    limit: int = 50,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[StatementRow]:
    """Read an account's statement, newest first; the next page comes with `after=rows[-1].cursor`."""
    # By the number of one account the newest lines are the end of the index. By a join all its lines are sorted first: of
    # the platform's account, with a line for each call, that is the whole history for every page.
    number = LedgerAccount.objects.filter(code=account).values("pk")
    found = Entry.objects.filter(account_id=Subquery(number))
    if after is not None:
        found = found.filter(seq__lt=after)
    if since is not None:
        found = found.filter(posting__at__gte=since)
    if until is not None:
        found = found.filter(posting__at__lt=until)
    page = list(found.select_related("posting").order_by("-seq")[:limit])
    leaves = dict(
        Leaf.objects.filter(entry_id__in=[entry.posting_id for entry in page]).values_list("entry_id", "index")
    )
    return [
        StatementRow(
            cursor=entry.seq,
            posting_id=entry.posting_id,
            reference=entry.posting.reference,
            kind=Kind(entry.posting.kind),
            at=entry.posting.at,
            amount_nano=entry.amount_nano,
            balance_after_nano=entry.balance_after_nano,
            leaf_index=leaves.get(entry.posting_id),
        )
        for entry in page
    ]

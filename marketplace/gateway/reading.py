"""What a buyer can look up: receipts, calls, usage, credits. Reads only."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg2.extensions import cursor as Cursor

from attribution import payloads
from ledger import chart, commitments, merkle, receipts
from marketplace import pricing

from .catalogue import uuid_of
from .errors import ApiError, invalid

PAGE_MAX = 200
USAGE_DAYS_MAX = 366
_CALL_COLUMNS = (
    *("id", "key_id", "model", "price_version", "endpoint", "status", "error_code", "streamed", "free"),
    *("prompt_tokens", "answer_tokens", "cost_nano", "data_nano", "curation_nano", "developer_nano", "platform_nano"),
    *("owner_nano", "started_at", "finished_at"),
)


def not_found() -> ApiError:
    return ApiError(404, "There is nothing of yours at this address.", code="not_found")


def receipt_of(
    cursor: Cursor, *, call_id: UUID, buyer_id: int, made_by: int, part: str, quorum: int, epoch_s: int
) -> Any:
    """The receipt of a buyer's call as (status, body): 200 with the receipt, or 202 with where it stands.

    Args:
        part: "" for the charge, "attribution" for who was paid for it.

    Raises:
        ApiError: 404 a call of somebody else, or none; or the second part of a call that was refunded before its plan, or of
            which nothing is for data or curation.
    """
    cursor.execute(
        "SELECT status, cost_nano, is_test, data_nano + curation_nano FROM gateway_calls "
        "WHERE id = %s AND buyer_id = %s AND made_by_id = %s",
        [str(call_id), buyer_id, made_by],
    )
    call = cursor.fetchone()
    if call is None:
        raise not_found()
    if call[2]:
        raise ApiError(404, "This was a test call: test money has no receipts.", code="no_receipt")
    if call[1] == 0:
        raise ApiError(
            404, f"This call ended as {call[0]} and cost nothing, so there is no receipt.", code="no_receipt"
        )
    if part and call[3] == 0:
        raise ApiError(
            404, "Nothing of this charge is for data or curation, so nobody's data is paid for it.", code="no_receipt"
        )
    entry_id = payloads.attributed_entry_id(call_id) if part else call_id
    cursor.execute("SELECT index, type, body FROM ledger_leaf WHERE entry_id = %s", [str(entry_id)])
    leaf = cursor.fetchone()
    if leaf is None:
        if part:
            cursor.execute("SELECT FROM attribution_reversal WHERE charge_id = %s AND NOT was_settled", [str(call_id)])
            if cursor.fetchone() is not None:
                raise ApiError(
                    404,
                    "This call was refunded before its epoch was settled: nobody is paid for it.",
                    code="no_receipt",
                )
            now_s = int(time.time())
            ends_at = datetime.fromtimestamp((now_s // epoch_s + 1) * epoch_s, UTC)
            return 202, {"status": "waiting", "epoch_ends_at": ends_at.isoformat(timespec="seconds")}
        return 202, {"status": "waiting"}
    index, type, body = leaf
    head = _head(cursor, quorum)
    if head is None or head[0] <= index:
        return 202, {"status": "sequenced"}
    size, signed = head
    hashes = merkle.inclusion_proof(index, size, _stored(cursor, index, size))
    cursor.execute("SELECT private, split, secret FROM ledger_opening WHERE entry_id = %s", [str(entry_id)])
    opening = cursor.fetchone()
    opened = commitments.openings(opening[0], opening[1], bytes(opening[2])) if opening else None
    entry = commitments.with_header(type, entry_id, body)
    return 200, receipts.build_receipt(entry, opened, index, hashes, signed)


def calls_of(cursor: Cursor, *, buyer_id: int, made_by: int, is_test: bool, query: dict[str, str]) -> dict[str, Any]:
    """A page of (test) calls, newest first. Filters: status, model, since, until; next page: after=<id of the last>."""
    limit = _whole(query, "limit", 50, PAGE_MAX)
    wheres: list[str] = ["buyer_id = %s", "made_by_id = %s", "is_test = %s"]
    values: list[Any] = [buyer_id, made_by, is_test]
    for name in ("status", "model"):
        if query.get(name):
            wheres.append(f"{name} = %s")
            values.append(query[name])
    for name, comparison in (("since", ">="), ("until", "<")):
        if query.get(name):
            wheres.append(f"finished_at {comparison} %s")
            values.append(_moment(query[name], name))
    if query.get("after"):
        if uuid_of(query["after"]) is None:
            raise invalid("after must be the id of a call.", "after")
        wheres.append("(finished_at, id) < (SELECT finished_at, id FROM gateway_calls WHERE id = %s AND buyer_id = %s)")
        values += [query["after"], buyer_id]
    cursor.execute(
        f"SELECT {', '.join(_CALL_COLUMNS)} FROM gateway_calls WHERE {' AND '.join(wheres)} "  # noqa: S608 - our own words
        "ORDER BY finished_at DESC, id DESC LIMIT %s",
        [*values, limit + 1],
    )
    rows = cursor.fetchall()
    return {
        "object": "list",
        "data": [_call(row) for row in rows[:limit]],
        "has_more": len(rows) > limit,
    }


def usage_of(cursor: Cursor, *, buyer_id: int, made_by: int, is_test: bool, query: dict[str, str]) -> dict[str, Any]:
    """Calls, tokens and cost per day and model, with `by=key` also per key, over the last `days` (30). Free ones cost 0.

    Of the keys of who made this one; with `of=wallet` of all keys of the wallet, for a key that an owner of it made.

    Raises:
        ApiError: 403 who made the key is no owner of the wallet.
    """
    columns = {"day": "to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')", "model": "model", "status": "status"}
    if query.get("by"):
        if query["by"] != "key":
            raise invalid("by can only be key.", "by")
        columns["key_id"] = "key_id::text"
    days = _whole(query, "days", 30, USAGE_DAYS_MAX)
    since = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)
    wheres: list[str] = ["buyer_id = %s", "is_test = %s", "finished_at >= %s"]
    values: list[Any] = [buyer_id, is_test, since]
    if not query.get("of"):
        wheres.append("made_by_id = %s")
        values.append(made_by)
    elif query["of"] != "wallet":
        raise invalid("of can only be wallet.", "of")
    else:
        _require_owner(cursor, buyer_id=buyer_id, made_by=made_by)
    groups = ", ".join(map(str, range(1, len(columns) + 1)))
    cursor.execute(
        f"""SELECT {", ".join(columns.values())}, count(*), count(*) FILTER (WHERE free), sum(prompt_tokens),
                   sum(answer_tokens), coalesce(sum(cost_nano) FILTER (WHERE NOT free), 0)
            FROM gateway_calls WHERE {" AND ".join(wheres)}
            GROUP BY {groups} ORDER BY {groups}""",  # noqa: S608 - our own words
        values,
    )
    counted = ("calls", "free_calls", "prompt_tokens", "answer_tokens", "cost_nano")
    rows = [
        dict(zip(columns, row, strict=False)) | dict(zip(counted, map(int, row[len(columns) :]), strict=True))
        for row in cursor.fetchall()
    ]
    total_nano = sum(row["cost_nano"] for row in rows)
    return {"object": "list", "data": rows, "cost_nano": total_nano, "cost": pricing.nano_to_open(total_nano)}


def _require_owner(cursor: Cursor, *, buyer_id: int, made_by: int) -> None:
    cursor.execute("SELECT FROM gateway_wallet_owners WHERE account_id = %s AND user_id = %s", [buyer_id, made_by])
    if made_by != buyer_id and cursor.fetchone() is None:
        raise ApiError(
            403, "Only a key that an owner of this wallet made may see what all its keys used.", code="no_access"
        )


def credits_of(cursor: Cursor, *, buyer_id: int, is_test: bool) -> dict[str, Any]:
    """What a buyer can spend, or has for tests. `held` includes what gateways have set aside for running calls."""
    account = chart.test_wallet(buyer_id) if is_test else chart.wallet(buyer_id)
    cursor.execute("SELECT available_nano, held_nano FROM gateway_balances WHERE account = %s", [account])
    available_nano, held_nano = cursor.fetchone() or (0, 0)
    return {
        "object": "credits",
        **({"test": True} if is_test else {}),
        "available_nano": available_nano,
        "available": pricing.nano_to_open(available_nano),
        "held_nano": held_nano,
        "held": pricing.nano_to_open(held_nano),
    }


def _head(cursor: Cursor, quorum: int) -> tuple[int, str] | None:
    """Size and signed note of the newest head that enough witnesses have cosigned."""
    # From the cosignatures: after a day without witnesses many thousand heads have none.
    cursor.execute(
        """SELECT c.size, c.note || coalesce((SELECT string_agg(s.line, '' ORDER BY s.witness) FROM ledger_cosignature s
                                            WHERE s.size = c.size), '')
           FROM ledger_checkpoint c
           WHERE %(quorum)s = 0 OR c.size = (SELECT size FROM ledger_cosignature GROUP BY size
                                             HAVING count(*) >= %(quorum)s ORDER BY size DESC LIMIT 1)
           ORDER BY c.size DESC LIMIT 1""",
        {"quorum": quorum},
    )
    return cursor.fetchone()


def _stored(cursor: Cursor, index: int, size: int) -> merkle.HashSource:
    wanted = merkle.required_nodes(merkle.inclusion_proof, index, size)
    kept = merkle.kept_under(wanted)
    cursor.execute(
        """SELECT w.level, w.index, coalesce(n.hash, l.hash)
           FROM unnest(%s::int[], %s::bigint[]) AS w(level, index)
           LEFT JOIN ledger_node n ON n.level = w.level AND n.index = w.index
           LEFT JOIN ledger_leaf l ON w.level = 0 AND l.index = w.index""",
        [[level for level, _ in kept], [index for _, index in kept]],
    )
    return merkle.source_of({(level, place): bytes(digest) for level, place, digest in cursor.fetchall()})


def _call(row: tuple) -> dict[str, Any]:
    told = dict(zip(_CALL_COLUMNS, row, strict=True))
    told["paid_by"] = "developer" if told.pop("free") else "buyer"
    for name in ("id", "key_id"):
        told[name] = str(told[name]) if told[name] else None
    for name in ("started_at", "finished_at"):
        told[name] = told[name].astimezone(UTC).isoformat(timespec="milliseconds")
    return {"object": "call", **told, "cost": pricing.nano_to_open(told["cost_nano"])}


def _whole(query: dict[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= most:
        raise invalid(f"{name} must be a whole number from 1 to {most}.", name)
    return int(text)


def _moment(text: str, name: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(f"{name} must be a time like 2026-11-22T07:00:00Z.", name) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)

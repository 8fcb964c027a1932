"""What the site holds of one person: a copy of it all. (How an account ends: marketplace.people.)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet

from accounts.models import User
from attribution import explain
from datanets import thefts as datanet_thefts
from datanets.models import Datanet, Membership, Record, Report, Submission
from ledger import chart
from ledger import services as ledger

from . import disputes, people, refunds
from .models import Access, ApiKey, Call, Deposit, ListedModel, TrainingRun, Withdrawal


def export(user: User) -> dict[str, Any]:
    """Everything kept about a person, as JSON: ids, moments as ISO text, amounts in nano-OPEN as whole numbers."""
    accounts = ledger.balances([chart.wallet(user.pk), chart.pending(user.pk), chart.promotion(user.pk)])
    return {
        "format": "open-mydata/1",
        "profile": _fields(user, "username", "email", "display_name", "organisation", "language", "date_joined"),
        "identity": people.identity_of(user),
        "consents": _rows(user.consents.order_by("given_at"), "document", "version", "text_sha256", "given_at"),
        "balances_nano": {code: balance.available_nano for code, balance in accounts.items()},
        "memberships": _rows(Membership.objects.filter(user=user), "datanet__slug", "role", "since"),
        "datanets": _rows(Datanet.objects.filter(owner=user), "id", "slug", "name", "licence", "created_at"),
        "submissions": _rows(
            Submission.objects.filter(contributor=user), "id", "title", "description", "source_url", "status", "sent_at"
        ),
        "records": list(_records(user)),
        "reports": _rows(
            Report.objects.filter(reporter=user).order_by("created_at"),
            *("id", "record_id", "reason", "text", "status", "note", "created_at", "closed_at"),
        ),
        "theft_disputes": _rows(
            datanet_thefts.of_party(user),
            *("id", "claimant_id", "contributor_id", "status", "statement", "evidence", "answer", "note", "opened_at"),
            "ended_at",
        ),
        "models": _rows(ListedModel.objects.filter(owner=user), "id", "slug", "name", "engine", "created_at"),
        "training_runs": _rows(TrainingRun.objects.filter(requested_by=user), "id", "status", "fee_nano", "created_at"),
        "passes": _rows(Access.objects.filter(buyer=user), "id", "mode", "price_nano", "starts_at", "ends_at"),
        "api_keys": _rows(ApiKey.objects.filter(owner=user), "id", "name", "prefix", "created_at", "revoked_at"),
        "calls": _rows(
            Call.objects.filter(buyer=user).order_by("started_at"),
            *("id", "endpoint", "status", "prompt_tokens", "answer_tokens", "cost_nano", "free"),
            *("started_at", "finished_at"),
        ),
        "disputes": _rows(
            disputes.seen_by(user), *("call_id", "status", "reason", "answer", "decision", "opened_at", "ended_at")
        ),
        "refunds": _rows(refunds.seen_by(user), "call_id", "amount_nano", "status", "grounds", "reason", "made_at"),
        "held_earnings": _rows(user.lot_holds.all(), "amount_nano", "reason", "until", "placed_at", "released_at"),
        "earnings": _rows(explain.lines_of(user.pk), "source", "source_id", "role", "amount_nano", "record_count"),
        "deposits": _rows(Deposit.objects.filter(user=user), "id", "amount_nano", "status", "created_at"),
        "promotion_transfers": _rows(
            user.promotion_transfers.order_by("created_at"), "id", "direction", "amount_nano", "reference", "created_at"
        ),
        "withdrawals": _rows(Withdrawal.objects.filter(user=user), "id", "amount_nano", "status", "created_at"),
        "notifications": _rows(user.notifications.order_by("created_at"), "kind", "params", "created_at", "read_at"),
    }


def _records(user: User) -> Iterator[dict[str, Any]]:
    found = Record.objects.filter(contributor=user).select_related("body").defer("signature", "bands").order_by("id")
    for record in found.iterator(chunk_size=500):
        body = record.body.body if hasattr(record, "body") else None
        yield _fields(record, "id", "identity", "status", "title", "created_at") | {"content": body}


def _rows(found: QuerySet, *names: str) -> list[dict[str, Any]]:
    return list(found.values(*names))


def _fields(row: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}

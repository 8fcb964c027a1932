"""What the site holds of one person: a copy of it all. (How an account ends: marketplace.people.)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Q, QuerySet
from django.db.models.functions import JSONObject

from accounts.models import User
from attribution import explain, noise_cases
from datanets import thefts as datanet_thefts
from datanets.models import Datanet, Membership, Record, Report, Submission
from ledger import chart
from ledger import services as ledger

from . import disputes, people, refunds
from .models import (
    Access,
    Adjustment,
    ApiKey,
    Call,
    Deposit,
    ListedModel,
    TestCall,
    TrainingRun,
    WalletWatch,
    WebhookEndpoint,
    Withdrawal,
)


def export(user: User) -> dict[str, Any]:
    """Everything kept about a person, as JSON: ids, moments as ISO text, amounts in nano-OPEN as whole numbers."""
    codes = [of(user.pk) for of in (chart.wallet, chart.pending, chart.promotion, chart.test_wallet)]
    accounts = ledger.balances(codes)
    copy: dict[str, Any] = {
        "format": "open-mydata/1",
        "profile": _fields(user, "username", "email", "display_name", "organisation", "language", "date_joined"),
        "identity": people.identity_of(user),
        "consents": _Few(user.consents.order_by("given_at"), "document", "version", "text_sha256", "given_at"),
        "balances_nano": {code: balance.available_nano for code, balance in accounts.items()},
        "memberships": _Few(Membership.objects.filter(user=user), "datanet__slug", "role", "since"),
        "datanets": _Few(Datanet.objects.filter(owner=user), "id", "slug", "name", "licence", "created_at"),
        "submissions": _Few(
            Submission.objects.filter(contributor=user), "id", "title", "description", "source_url", "status", "sent_at"
        ),
        "records": list(_records(user)),
        "reports": _Few(
            Report.objects.filter(reporter=user).order_by("created_at"),
            *("id", "record_id", "reason", "text", "status", "note", "created_at", "closed_at"),
        ),
        "theft_disputes": _Few(
            datanet_thefts.of_party(user),
            *("id", "claimant_id", "contributor_id", "status", "statement", "evidence", "answer", "note", "opened_at"),
            "ended_at",
        ),
        "noise_cases": _Few(
            noise_cases.of_contributor(user),
            *(
                "id",
                "model_id",
                "status",
                "figures",
                "statement",
                "note",
                "appeal",
                "second_note",
                "opened_at",
                "ended_at",
            ),
        ),
        "models": _Few(ListedModel.objects.filter(owner=user), "id", "slug", "name", "engine", "created_at"),
        "training_runs": _Few(TrainingRun.objects.filter(requested_by=user), "id", "status", "fee_nano", "created_at"),
        "passes": _Few(Access.objects.filter(buyer=user), "id", "mode", "price_nano", "starts_at", "ends_at"),
        "api_keys": _Few(
            ApiKey.objects.filter(owner=user), "id", "name", "prefix", "allowed_origins", "created_at", "revoked_at"
        ),
        "calls": _rows(
            Call.objects.filter(buyer=user).order_by("started_at"),
            *("id", "endpoint", "status", "prompt_tokens", "answer_tokens", "cost_nano", "free"),
            *("started_at", "finished_at"),
        ),
        "test_calls": _rows(
            TestCall.objects.filter(buyer=user).order_by("started_at"),
            *("id", "endpoint", "status", "prompt_tokens", "answer_tokens", "cost_nano", "started_at", "finished_at"),
        ),
        "test_grants": _Few(user.test_grants.order_by("day"), "day", "amount_nano", "created_at"),
        "disputes": _Few(
            disputes.seen_by(user), *("call_id", "status", "reason", "answer", "decision", "opened_at", "ended_at")
        ),
        "refunds": _Few(refunds.seen_by(user), "call_id", "amount_nano", "status", "grounds", "reason", "made_at"),
        "held_earnings": _Few(user.lot_holds.all(), "amount_nano", "reason", "until", "placed_at", "released_at"),
        "earnings": _rows(explain.lines_of(user.pk), "source", "source_id", "role", "amount_nano", "record_count"),
        "deposits": _Few(Deposit.objects.filter(user=user), "id", "amount_nano", "status", "created_at"),
        "adjustments": _Few(
            Adjustment.objects.filter(Q(payer=user) | Q(payee=user), status=Adjustment.Status.POSTED),
            *("id", "payer_id", "payee_id", "amount_nano", "reason", "decided_at"),
        ),
        "promotion_transfers": _Few(
            user.promotion_transfers.order_by("created_at"), "id", "direction", "amount_nano", "reference", "created_at"
        ),
        "low_balance": _Few(WalletWatch.objects.filter(user=user), "low_nano"),
        "webhooks": _Few(WebhookEndpoint.objects.filter(owner=user), "id", "url", "events", "paused_at", "created_at"),
        "shared_wallets": _Few(user.wallet_roles.order_by("since"), "wallet__name", "role", "since"),
        "wallet_transfers": _Few(
            user.wallet_transfers.order_by("created_at"), "wallet_id", "amount_nano", "reference", "created_at"
        ),
        "withdrawals": _Few(Withdrawal.objects.filter(user=user), "id", "amount_nano", "status", "created_at"),
        "notifications": _rows(user.notifications.order_by("created_at"), "kind", "params", "created_at", "read_at"),
    }
    return copy | _read(user, {name: part for name, part in copy.items() if isinstance(part, _Few)})


class _Few:
    """Rows that people make by hand, a few of each kind: all kinds are read in one query. Calls and what they cause are not."""

    def __init__(self, found: QuerySet, *names: str) -> None:
        self.found, self.names = found, names

    def as_array(self) -> ArraySubquery:
        return ArraySubquery(self.found.values(row=JSONObject(**{name: name for name in self.names})))

    def rows(self, read: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As `_rows` gives them: columns in their order, moments as moments and not as the database writes them."""
        fields = {name: self.found.model._meta.get_field(name) for name in self.names if "__" not in name}
        return [
            {name: fields[name].to_python(row[name]) if name in fields else row[name] for name in self.names}
            for row in read
        ]


def _read(user: User, parts: dict[str, _Few]) -> dict[str, list[dict[str, Any]]]:
    arrays = [part.as_array() for part in parts.values()]
    found = User.objects.filter(pk=user.pk).values_list(*arrays).get()
    return {name: part.rows(read) for (name, part), read in zip(parts.items(), found, strict=True)}


def _records(user: User) -> Iterator[dict[str, Any]]:
    found = Record.objects.filter(contributor=user).select_related("body").defer("signature", "bands").order_by("id")
    for record in found.iterator(chunk_size=500):
        body = record.body.body if hasattr(record, "body") else None
        yield _fields(record, "id", "identity", "status", "title", "created_at") | {"content": body}


def _rows(found: QuerySet, *names: str) -> list[dict[str, Any]]:
    return list(found.values(*names))


def _fields(row: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}

"""Erasing a person: the account ends, and what they gave, wrote, asked and were answered is gone.

What stays is what others rely on and what the law asks for: amounts by account number, hashes whose salts nobody has, the
names under which they published Datanets and models, and what they agreed to. docs/accounts.md has the list.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import CharField, F, Q
from django.db.models.functions import Cast
from django.utils import timezone

from accounts.models import User
from attribution import forgetting
from datanets import erasure as datanets_erasure
from datanets import submissions
from datanets.models import Record, Report, Submission
from ledger import services as ledger

from . import adjustments, disputes, holds, movements, people, publishing, receipts, refunds
from .models import (
    Access,
    Adjustment,
    ApiKey,
    Call,
    CallContent,
    Deposit,
    Fallback,
    Idempotency,
    ListedModel,
    ModelVersion,
    Notification,
    PromotionTransfer,
    TestCall,
    TestGrant,
    TrainingRun,
    WalletTransfer,
    Withdrawal,
)

_BATCH = 1_000
# What else a wallet's statement tells of nobody but its owner; what it paid is theirs in any case.
_OWN_ARRIVALS = {ledger.Kind.DEPOSIT, ledger.Kind.VESTING, ledger.Kind.WITHDRAWAL_RETURNED}


@transaction.atomic
def erase_person(user: User) -> User:
    """Close an account and erase its person. Repeating changes nothing.

    Raises:
        NotReady: as `people.close_account`. Nothing was erased.
    """
    user = people.close_account(user)
    _withdraw_everything(user)
    _forget_news_of(user)
    datanets_erasure.erase(user)
    _forget_calls(user)
    _forget_shop(user)
    User.objects.filter(pk=user.pk, erased_at=None).update(erased_at=timezone.now())
    forget_what_is_over(user)
    return user


def forget_what_is_over(user: User) -> None:
    """Erase what had to wait: `housekeeping.finish_erasures` repeats it, until entries have leaves and windows are over."""
    forget_openings(user)
    _forget_inputs(user)
    _forget_quotes(user)


def forget_openings(user: User) -> int:
    """Delete what the log's entries of a person commit to: of calls, fees, deposits, withdrawals and withdrawn records.

    An entry without a leaf is left for the next time (`housekeeping.finish_erasures`). Returns how many were deleted.
    """
    forgotten, some = 0, []
    for entry_id in _entries_of(user):
        some.append(entry_id)
        if len(some) == _BATCH:
            forgotten += ledger.erase_openings(some)
            some = []
    return forgotten + ledger.erase_openings(some)


def _withdraw_everything(user: User) -> None:
    over = (Submission.Status.DECIDED, Submission.Status.WITHDRAWN)
    for submission in Submission.objects.filter(contributor=user).exclude(status__in=over):
        submissions.withdraw(submission, by=user)
    for record in Record.objects.filter(contributor=user).exclude(status=Record.Status.WITHDRAWN).order_by("id"):
        publishing.withdraw_record(record, by=user)


def _forget_news_of(user: User) -> None:
    """Delete their inbox, and the lines of other inboxes that quote what they wrote. (Names go when an account closes.)"""
    Notification.objects.filter(user=user).delete()
    involved = Q(reporter=user) | Q(decided_by=user) | Q(contributor=user)
    reports = Report.objects.filter(involved).annotate(text_id=Cast("pk", CharField())).values("text_id")
    records = [f"record:{pk}" for pk in Report.objects.filter(involved).values_list("record_id", flat=True)]
    Notification.objects.filter(Q(subject__in=reports) | Q(subject__in=records)).delete()


def _forget_calls(user: User) -> None:
    calls = Call.objects.filter(buyer=user)
    tests = TestCall.objects.filter(buyer=user)
    both = Q(call_id__in=calls.values("pk")) | Q(call_id__in=tests.values("pk"))
    CallContent.objects.filter(both).update(sealed_key=None, sealed=b"")
    calls.exclude(published_at=None).update(published_at=None)
    Idempotency.objects.filter(owner=user).delete()


def _forget_inputs(user: User) -> None:
    """The numbers they asked about, once their calls are settled and cannot be given back any more."""
    settled_by = timezone.now() - timedelta(seconds=settings.CHALLENGE_WINDOW_S)
    ids = list(Call.objects.filter(buyer=user, finished_at__lte=settled_by).values_list("pk", flat=True))
    due = forgetting.forgettable(ids).values("charge_id")
    over = [call.pk for call in Call.objects.filter(pk__in=due) if not refunds.can_be_refunded(call)]
    forgetting.forget_inputs(over)


def _forget_quotes(user: User) -> None:
    """The sealed content of others' calls whose answers quoted their records. Later only what was not attributed then."""
    since = user.erased_at or timezone.now() - timedelta(seconds=settings.CONTENT_KEPT_S)
    mine = Record.objects.filter(contributor=user).values_list("pk", flat=True)
    quoting = forgetting.charges_that_quote(mine, traced_since=since)
    CallContent.objects.filter(call_id__in=quoting).update(sealed_key=None, sealed=b"")


def _forget_shop(user: User) -> None:
    disputes.forget_words_about(user)
    holds.forget_words_about(user)
    adjustments.forget_words_about(user)
    ApiKey.objects.filter(Q(owner=user) | Q(made_by=user)).update(name="", allowed_origins=[])
    WalletTransfer.objects.filter(user=user).update(reference=Cast(F("pk"), CharField()))
    PromotionTransfer.objects.filter(user=user).update(reference=Cast(F("pk"), CharField()))
    Withdrawal.objects.filter(user=user).update(destination_token="", destination_hint="", returned_reason="")
    ModelVersion.objects.filter(model__owner=user).update(notes="")
    TrainingRun.objects.filter(requested_by=user).update(error_params={})
    mine = ListedModel.objects.filter(owner=user)
    mine.update(purpose="", card="", upstream_model="", upstream_key_token="")
    mine.exclude(upstream_url="").update(upstream_url="https://erased.invalid/")
    Fallback.objects.filter(model__owner=user).delete()


def _entries_of(user: User) -> Iterator[uuid.UUID]:
    """The entries whose openings are this person's alone (receipts.viewing): nobody else loses a receipt."""
    charges: list[uuid.UUID | None] = [
        *Call.objects.filter(buyer=user).values_list("pk", flat=True),
        *Access.objects.filter(buyer=user).values_list("posting_id", flat=True),
        *TrainingRun.objects.filter(requested_by=user).values_list("posting_id", flat=True),
    ]
    for charge_id in filter(None, charges):
        yield charge_id
        yield receipts.attributed_id(charge_id)
    yield from Deposit.objects.filter(user=user).values_list("posting_id", flat=True)
    yield from TestGrant.objects.filter(user=user).values_list("posting_id", flat=True)
    yield from TestCall.objects.filter(buyer=user, cost_nano__gt=0).values_list("pk", flat=True)
    yield from WalletTransfer.objects.filter(user=user).values_list("posting_id", flat=True)
    with_the_platform = Q(payer=user, payee=None) | Q(payer=None, payee=user)
    yield from Adjustment.objects.filter(with_the_platform, status=Adjustment.Status.POSTED).values_list(
        "posting_id", flat=True
    )
    yield from PromotionTransfer.objects.filter(user=user).values_list("posting_id", flat=True)
    for ids in Withdrawal.objects.filter(user=user).values_list("pk", "in_run_posting_id", "end_posting_id"):
        yield from ids
    for row in movements.every(movements.account_of(user, "wallet")):
        if row.kind in _OWN_ARRIVALS:
            yield row.posting_id
    for record in Record.objects.filter(contributor=user, status=Record.Status.WITHDRAWN).only("datanet_id"):
        yield publishing.withdrawal_id(record)

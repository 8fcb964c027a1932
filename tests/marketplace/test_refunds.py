"""Refunds of calls: whole, once, within the window, from where the money is; and what settlement does with such a call."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta

import pytest
from django.conf import settings as site
from django.db import IntegrityError, transaction
from django.utils import timezone

from attribution import explain, explain_records, planning, settlement, traces
from attribution.models import Cut, Epoch, Line, RecordEpoch, RecordLine, Reversal, Trace
from datanets.models import Record
from ledger import chart, database
from ledger import services as ledger
from marketplace import errors, refunds, revenue
from marketplace.gateway import reading
from marketplace.gateway.errors import ApiError
from marketplace.models import AuditEvent, Call, Notification, Payback, Refund
from marketplace.revenue import Period
from tests.datanets.races import race
from tests.marketplace.pages.world import admin, call, failed_call, fund, settle, small_shop
from tests.shop import OPEN, nothing_is_wrong, person, wallet_nano

PRICE = 24_000_000
PAYEES = ("devi", "alice", "bob", "carol")


@pytest.fixture
def version(books, settings):
    """Devi's model, and Dan with 10 OPEN."""
    settings.REVIEW_UNDO_S, settings.CHALLENGE_WINDOW_S = 0, 7 * 86400
    made = small_shop(books)
    fund(books, person("dan"), 10)
    return made


def called(books, version, *, radius: float = 22.0) -> Call:
    """A call of Dan's, folded and in the log."""
    made = Call.objects.get(pk=call(version, person("dan"), radius=radius))
    books.fold()
    books.log()
    return made


def give_back(one: Call) -> Refund:
    return refunds.give_back(one, by=person("devi"), reason="The answer was cut.")


def approve(one: Call, name: str) -> Refund:
    return refunds.approve(one, by=admin(name), reason="It said so twice.")


def plan(books) -> Epoch:
    """Close the epoch and plan it, without posting it."""
    for row in ledger.pending_outbox(traces.TOPIC):
        traces.trace(row.reference)
    settlement.close_due(timezone.now() + timedelta(seconds=site.EPOCH_S * (Cut.objects.count() + 1)))
    return settlement.plan_epoch(Epoch.objects.latest("number").pk)


def balances(version) -> dict[str, int]:
    """Every account that a call pays, at once or when it is settled; Dan's and the payees' wallets too."""
    model_id = version.model_id
    codes = [chart.FEES, chart.unattributed(model_id), chart.wallet(person("dan").pk)]
    codes += [family(person(name).pk) for name in PAYEES for family in (chart.pending, chart.wallet)]
    codes += [chart.pool(model_id, "calls", part) for part in ("data", "curation")]
    return {code: balance.available_nano for code, balance in ledger.balances(codes).items()}


# --- Where the money comes from


def test_before_its_epoch_a_call_is_given_back_by_the_pools(books, version):
    before = balances(version)

    refund = give_back(called(books, version))
    books.fold()
    books.log()

    assert (refund.amount_nano, refund.grounds, refund.was_settled) == (PRICE, "developer", False)
    assert balances(version) == before
    entry = ledger.entry_of(refund.pk)
    assert (entry.type, entry.public) == ("refund.made", {"reverses": str(refund.call_id)})
    assert {line["role"] for line in entry.split} == {"platform", "developer", "data-pool", "curation-pool"}
    assert ledger.receipt(refund.pk, with_openings=False).status == "proved"
    assert nothing_is_wrong()


def test_after_its_settlement_each_payee_gives_back_their_line(books, version):
    """Out of pending lots, never out of wallets; the lines stand, because nothing is edited."""
    before = balances(version)
    one = called(books, version)
    settle(books, epochs_later=1)
    lines = {(line.payee_id, line.role, line.amount_nano) for line in Line.objects.filter(source_id=one.pk)}

    refund = give_back(one)
    books.fold()
    books.log()

    assert refund.was_settled
    assert balances(version) == before
    assert {(line.payee_id, line.role, line.amount_nano) for line in Line.objects.filter(source_id=one.pk)} == lines
    assert {line["role"] for line in ledger.entry_of(refund.pk).split} == {
        *("platform", "developer", "contributor", "curator")
    }
    assert nothing_is_wrong()


def test_what_nothing_supported_comes_back_from_the_unattributed_account(books, version, settings):
    before = balances(version)
    one = called(books, version)
    settings.TRACE_WAIT_S = -86400  # nobody traced it in time
    settlement.close_due(timezone.now() + timedelta(seconds=site.EPOCH_S))
    settlement.plan_epoch(Epoch.objects.get(charge_ids=[str(one.pk)]).pk)
    settlement.post_planned()
    books.fold()
    assert balances(version)[chart.unattributed(version.model_id)] == 9_600_000

    give_back(one)
    books.fold()
    books.log()

    assert balances(version) == before
    assert ("unattributed", "not_attributable") in {
        (line["role"], line["item"]) for line in ledger.entry_of(one.refund.pk).split
    }
    assert nothing_is_wrong()


def test_a_refund_is_told_to_who_is_paid_back_and_to_who_pays_it(books, version):
    one = called(books, version)
    settle(books, epochs_later=1)

    refund = give_back(one)

    told = {(line.user.username, line.kind) for line in Notification.objects.filter(url=f"/r/{refund.pk}")}
    payees = {line.payee.username for line in Line.objects.filter(source_id=one.pk)}
    assert told == {("dan", "call_refunded"), *((name, "earnings_refunded") for name in payees)}
    event = AuditEvent.objects.get(act="refund_call")
    assert (event.actor, event.target) == (person("devi"), f"call:{one.pk}")


# --- What settlement does


def test_a_call_that_was_given_back_before_the_plan_pays_nobody(books, version):
    kept, refunded = called(books, version), called(books, version, radius=12.0)
    give_back(refunded)
    settle(books, epochs_later=1)

    epoch = Epoch.objects.latest("number")
    assert set(epoch.charge_ids) == {str(kept.pk), str(refunded.pk)}
    assert epoch.pool_nano == 9_600_000
    assert not Line.objects.filter(source_id=refunded.pk).exists()
    assert explain.status_of(refunded.pk) == "refunded"
    assert second_receipt(books, kept) == 200
    assert second_receipt(books, refunded) == 404, "there will be none: nobody waits for it"
    assert nothing_is_wrong()


def second_receipt(books, one: Call) -> int:
    """What the gateway answers to who asks for the second part of a receipt."""
    session = books.connect()
    try:
        with session.cursor() as cursor:
            asked = {"call_id": one.pk, "buyer_id": one.buyer_id, "made_by": one.buyer_id, "quorum": 0, "epoch_s": 60}
            return reading.receipt_of(cursor, **asked, part="attribution")[0]
    except ApiError as refused:
        return refused.status
    finally:
        session.close()


def test_an_epoch_of_nothing_but_refunded_calls_is_settled_with_nothing(books, version):
    settle(books, epochs_later=1)
    give_back(called(books, version))
    settle(books, epochs_later=2)

    epoch = Epoch.objects.latest("number")
    assert (epoch.status, epoch.pool_nano, epoch.lines.count(), epoch.postings.count()) == ("posted", 0, 0, 0)
    assert nothing_is_wrong()


def test_between_its_plan_and_its_posting_a_call_waits(books, version):
    one = called(books, version)
    plan(books)
    with pytest.raises(errors.NotBookedYet):
        give_back(one)

    # Nor while the lots are not folded
    settlement.post_planned()
    with pytest.raises(errors.NotBookedYet):
        give_back(one)
    assert not Refund.objects.exists()

    books.fold()
    assert give_back(one).was_settled
    books.fold()
    assert nothing_is_wrong()


def test_a_charge_that_is_not_folded_waits(books, version):
    one = Call.objects.get(pk=call(version, person("dan")))

    with pytest.raises(errors.NotBookedYet):
        give_back(one)


def test_the_running_sums_lose_a_call_that_was_given_back_after_its_settlement(books, version):
    """Or a developer and a buyer who are one could move other people's net factors for nothing."""
    # Given a settled call that is given back, and a later one
    refunded = called(books, version)
    settle(books, epochs_later=1)
    give_back(refunded)
    books.fold()
    kept = called(books, version, radius=12.0)
    settle(books, epochs_later=2)

    # Then the sums are those of the later call alone
    epoch = Epoch.objects.latest("number")
    alone = _sums(kept)
    found = {row.record_id: (int(row.net), int(row.positive)) for row in RecordEpoch.objects.filter(epoch=epoch)}
    assert {record_id: sums for record_id, sums in found.items() if any(sums)} == alone
    assert Reversal.objects.get().netted_in == epoch
    for record in Record.objects.filter(lines__source_id=refunded.pk):
        paid = RecordLine.objects.filter(record=record).exclude(source_id=refunded.pk)
        assert explain_records.why_record(record).earned_nano == sum(line.amount_nano for line in paid)

    # And they lose it once
    called(books, version, radius=12.0)
    settle(books, epochs_later=3)
    again = RecordEpoch.objects.filter(epoch__number=epoch.number + 1)
    assert {row.record_id: int(row.net) for row in again if row.net} == {
        record_id: 2 * net for record_id, (net, _positive) in alone.items()
    }
    assert nothing_is_wrong()


def _sums(one: Call) -> dict[int, tuple[int, int]]:
    """(net, positive) of a single call, per record."""
    trace = Trace.objects.get(charge_id=one.pk)
    scored = planning.epoch_call(trace)
    records = planning.roster_of(trace.artifact_id).record_ids[scored.places].tolist()
    nano = [int(score) * scored.split_nano for score in scored.scores]
    return {record_id: (net, max(net, 0)) for record_id, net in zip(records, nano, strict=True)}


def test_the_revenue_report_takes_a_refund_from_the_rows_that_had_it(books, version):
    settled = called(books, version)
    settle(books, epochs_later=1)
    waiting = called(books, version, radius=12.0)
    middle = timezone.now()
    for one in (settled, waiting):
        give_back(one)
    books.fold()

    before, after, whole = (revenue.report(one) for one in (Period(until=middle), Period(since=middle), Period()))
    assert (before.refunded_nano, after.refunded_nano, whole.refunded_nano) == (0, 2 * PRICE, 2 * PRICE)
    assert Counter({row.role: row.business_nano for row in whole.rows}) == Counter()
    assert after.total_nano("contributor") == -before.total_nano("contributor") != 0
    assert [one.difference_nano for one in (before, after, whole)] == [0, 0, 0]


# --- Who, when, how often


def test_only_the_developer_refunds_alone(books, version):
    one = called(books, version)
    for name in ("dan", "alice"):
        with pytest.raises(errors.NotAllowed):
            refunds.give_back(one, by=person(name), reason="Please")
    with pytest.raises(errors.NotAllowed):
        refunds.approve(one, by=person("devi"), reason="I am no admin.")
    with pytest.raises(errors.Invalid):
        refunds.give_back(one, by=person("devi"), reason=" ")
    assert not Refund.objects.exists()


def test_two_admins_refund_and_one_of_them_twice_counts_once(books, version):
    one = called(books, version)

    for _again in range(2):
        assert approve(one, "erin").status == "waiting"
    books.fold()
    assert wallet_nano(person("dan")) == 10 * OPEN - PRICE
    refund = approve(one, "frank")

    books.fold()
    assert (refund.status, refund.grounds) == ("made", "admins")
    assert wallet_nano(person("dan")) == 10 * OPEN
    assert nothing_is_wrong()


def test_an_admin_does_not_decide_about_a_call_that_they_paid(books, version):
    one = called(books, version)
    admin("dan")

    with pytest.raises(errors.NotAllowed):
        approve(one, "dan")


def test_the_database_refuses_a_refund_by_one_admin(books, version):
    one = called(books, version)
    refund = approve(one, "erin")

    for wrong in (
        {"second_admin": person("erin")},
        {"status": "made", "grounds": "admins", "made_at": timezone.now(), "was_settled": False},
        {"status": "made"},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Refund.objects.filter(pk=refund.pk).update(**wrong)


def test_a_second_refund_of_a_call_changes_nothing(books, version):
    one = called(books, version)
    give_back(one)
    books.fold()
    before = balances(version)

    for again in (lambda: give_back(one), lambda: approve(one, "erin")):
        with pytest.raises(errors.AlreadyRefunded):
            again()
    books.fold()
    assert balances(version) == before
    assert nothing_is_wrong()


def test_after_its_window_a_call_is_not_refunded(books, version, settings):
    """The window is the charge's own: a later change of the setting opens none again."""
    settings.CHALLENGE_WINDOW_S = 0
    one = called(books, version)
    settings.CHALLENGE_WINDOW_S = 7 * 86400

    for act in (lambda: give_back(one), lambda: approve(one, "erin")):
        with pytest.raises(errors.WindowOver):
            act()
    assert not Refund.objects.exists()


def test_after_its_window_a_developer_pays_it_back_out_of_a_wallet(books, version, settings):
    in_time = called(books, version)
    with pytest.raises(errors.NotReady):
        pay_back(in_time)
    settings.CHALLENGE_WINDOW_S = 0
    late = called(books, version)
    before = balances(version)

    payback = pay_back(late)
    for again in (pay_back, give_back):
        with pytest.raises((errors.AlreadyRefunded, errors.WindowOver)):
            again(late)

    books.fold()
    books.log()
    moved = {code: nano - before[code] for code, nano in balances(version).items() if nano != before[code]}
    dan, devi = (chart.wallet(person(name).pk) for name in ("dan", "devi"))
    assert moved == {dan: payback.amount_nano, devi: -payback.amount_nano}
    assert revenue.report().refunded_nano == PRICE
    assert nothing_is_wrong()


def test_only_a_developer_with_money_pays_back(books, version, settings):
    settings.CHALLENGE_WINDOW_S = 0
    late = called(books, version)
    with pytest.raises(errors.NotAllowed):
        refunds.pay_back(late, by=person("dan"), reason="Please")
    devi = chart.wallet(person("devi").pk)
    ledger.post(
        id=ledger.new_id(),
        kind=ledger.Kind.ADJUSTMENT,
        reference="spent",
        moves=[ledger.Move(devi, chart.FEES, ledger.balance_nano(devi))],
    )
    with pytest.raises(ledger.InsufficientFunds):
        pay_back(late)
    assert not Payback.objects.exists()


def pay_back(one: Call) -> Payback:
    return refunds.pay_back(one, by=person("devi"), reason="Better late.")


def test_a_call_that_cost_nothing_is_not_refunded(books, version):
    one = Call.objects.get(pk=failed_call(person("dan")))

    with pytest.raises(errors.Invalid):
        give_back(one)


# --- Races


def test_two_refunds_of_a_call_that_meet_give_it_back_once(books, version):
    """Fails without the row lock in refunds.locked: the second meets the unique call instead of a reason."""
    one = called(books, version)
    approve(one, "erin")
    acts = [lambda: give_back(one), lambda: approve(one, "frank")]
    admin("frank")

    results = race(books, *acts, behind="LOCK TABLE attribution_reversal IN SHARE MODE")

    assert sorted(type(result).__name__ for result in results) == ["AlreadyRefunded", "Refund"]
    books.fold()
    assert wallet_nano(person("dan")) == 10 * OPEN
    assert nothing_is_wrong()


def test_a_plan_that_meets_a_refund_under_way_leaves_the_call_out(books, version):
    """Fails without either lock of the model's settlement: the plan pays what the pools have given back."""
    one, epoch_id = closed_epoch(books, version)

    # The refund is booked, and not committed, when the plan comes
    acts = [lambda: give_back(one), lambda: after_somebody_waits(lambda: settlement.plan_epoch(epoch_id))]
    refund, planned = race(books, *acts, behind="SELECT FROM ledger_spend FOR UPDATE", at_least=1, wait_s=3)

    assert (planned.status, refund.was_settled) == ("planned", False)
    assert planned.pool_nano == 0
    settlement.post_planned()
    books.fold()
    books.log()
    assert nothing_is_wrong()


def test_a_refund_that_meets_a_plan_under_way_waits_for_its_posting(books, version):
    """Fails without either lock of the model's settlement: the pools give back what the plan pays."""
    one, epoch_id = closed_epoch(books, version)

    acts = [lambda: after_somebody_waits(lambda: give_back(one)), lambda: settlement.plan_epoch(epoch_id)]
    refund, planned = race(books, *acts, behind="LOCK TABLE attribution_line IN SHARE MODE", at_least=1, wait_s=3)

    assert (planned.status, type(refund)) == ("planned", errors.NotBookedYet)
    settlement.post_planned()
    books.fold()
    books.log()
    assert nothing_is_wrong()


def closed_epoch(books, version):
    """A traced call, and the id of its epoch, which is closed."""
    one = called(books, version)
    for row in ledger.pending_outbox(traces.TOPIC):
        traces.trace(row.reference)
    settlement.close_due(timezone.now() + timedelta(seconds=site.EPOCH_S))
    return one, Epoch.objects.latest("number").pk


def after_somebody_waits(act):
    """Begin once another session waits for a lock: who is first is no luck."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not database.value(waiting):
        time.sleep(0.02)
    return act()


def test_a_refund_and_the_posting_of_its_epoch_do_not_mix(books, version):
    one = called(books, version)
    plan(books)

    acts = [lambda: give_back(one), settlement.post_planned]
    results = race(books, *acts, behind="LOCK TABLE ledger_journal IN SHARE MODE", at_least=1, wait_s=1)

    assert isinstance(results[0], errors.NotBookedYet)
    books.fold()
    books.log()
    assert give_back(one).was_settled
    books.fold()
    books.log()
    assert nothing_is_wrong()


def test_what_vests_while_it_is_refunded_is_not_refunded_from_a_wallet(books, version):
    """Fails when ledger_take takes from a lot that has vested."""
    one = called(books, version)
    session = books.connect("DATABASE_SUPERUSER_URL")
    with session, session.cursor() as cursor:
        cursor.execute("UPDATE ledger_lot SET due_at = now() WHERE posting_id = %s", [str(one.pk)])
    session.close()

    refund, vested = race(books, lambda: give_back(one), ledger.vest_due, behind="SELECT FROM ledger_spend FOR UPDATE")

    books.fold()
    taken = isinstance(refund, Refund)
    assert taken or isinstance(refund, ledger.LotUnavailable)
    assert vested == (0 if taken else 1)
    assert wallet_nano(person("dan")) == 10 * OPEN - (0 if taken else PRICE)
    assert Refund.objects.exists() == taken

"""Disputes: the developer answers or the buyer wins; what the call paid is held meanwhile. And holds by admins."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings as site
from django.db import IntegrityError, transaction
from django.utils import timezone

from attribution.models import Line
from ledger import chart, sequencer
from ledger import services as ledger
from marketplace import disputes, errors, holds, mydata, refunds, tasks
from marketplace.models import Call, Dispute, LotHold, Notification, Refund
from tests.datanets.races import race
from tests.marketplace.pages.world import admin, call, fund, settle, small_shop
from tests.shop import OPEN, nothing_is_wrong, person, wallet_nano

PAYEES = ("alice", "bob", "carol", "devi")


@pytest.fixture
def one(books, settings) -> Call:
    """A call of Dan's to Devi's model, folded and in the log."""
    settings.REVIEW_UNDO_S, settings.CHALLENGE_WINDOW_S = 0, 7 * 86400
    version = small_shop(books)
    fund(books, person("dan"), 10)
    made = Call.objects.get(pk=call(version, person("dan")))
    books.fold()
    books.log()
    return made


def dispute(one: Call) -> Dispute:
    return disputes.open_dispute(one, by=person("dan"), reason="It answered another question.")


def refused(one: Call) -> Dispute:
    return disputes.refuse(dispute(one), by=person("devi"), answer="It answered what was asked.")


def states(name: str) -> list[str]:
    """The states of a person's open lots."""
    return [lot.state for lot in ledger.pending_of(chart.pending(person(name).pk))]


def held(name: str) -> bool:
    found = states(name)
    return bool(found) and set(found) == {"held"}


def after_the_answer_was_due() -> int:
    return disputes.refund_unanswered(timezone.now() + timedelta(seconds=site.DISPUTE_ANSWER_S))


def a_week_later(books, one: Call) -> None:
    """Let the window of a call be over, as the books tell it."""
    session = books.connect("DATABASE_SUPERUSER_URL")
    with session, session.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(
            "UPDATE ledger_journal SET at = at - interval '8 days' WHERE id = %s; "
            "UPDATE ledger_lot SET due_at = due_at - interval '8 days' WHERE posting_id = %s",
            [str(one.pk), str(one.pk)],
        )
    session.close()


def test_a_dispute_without_an_answer_in_time_is_won_by_the_buyer(books, one):
    opened = dispute(one)
    assert disputes.refund_unanswered() == 0

    assert after_the_answer_was_due() == 1
    assert after_the_answer_was_due() == 0

    books.fold()
    books.log()
    opened.refresh_from_db()
    assert (opened.status, opened.call.refund.grounds) == ("refunded", "dispute")
    assert wallet_nano(person("dan")) == 10 * OPEN
    assert not LotHold.objects.filter(released_at=None).exists()
    assert nothing_is_wrong()


def test_what_a_disputed_call_paid_is_held_until_the_dispute_ends(books, one):
    """Of the call itself at once, of its settlement as soon as it is there; then nothing of it vests."""
    opened = dispute(one)
    assert held("devi")
    settle(books, epochs_later=1)
    payees = {line.payee.username for line in Line.objects.filter(source_id=one.pk)}
    assert disputes.hold_settled_lines() > 0
    assert disputes.hold_settled_lines() == 0
    assert all(held(name) for name in payees)
    session = books.connect("DATABASE_SUPERUSER_URL")
    with session, session.cursor() as cursor:
        cursor.execute("UPDATE ledger_lot SET due_at = now()")
    session.close()
    assert sequencer.vest() == 0

    disputes.withdraw(opened, by=person("dan"))

    assert not any(held(name) for name in PAYEES)
    assert sequencer.vest() > 0
    assert {line.kind for line in Notification.objects.filter(user=person("devi"))} >= {
        *("dispute_opened", "earnings_disputed", "dispute_withdrawn")
    }


def test_a_dispute_of_a_settled_call_is_paid_back_by_its_payees_after_its_window(books, one, settings):
    settle(books, epochs_later=1)
    opened = refused(one)
    settings.DISPUTE_ANSWER_S = 0  # whatever the clocks say now: it stands
    a_week_later(books, one)
    assert not refunds.is_open(one)
    assert sequencer.vest() == 0

    for name in ("erin", "frank"):
        refund = refunds.approve(one, by=admin(name), reason="The buyer is right.")

    opened.refresh_from_db()
    assert (refund.status, refund.was_settled, opened.status) == ("made", True, "refunded")
    books.fold()
    assert wallet_nano(person("dan")) == 10 * OPEN
    assert all(wallet_nano(person(name)) == 0 for name in ("alice", "bob"))


def test_a_developer_who_accepts_refunds_the_call(books, one):
    refund = disputes.accept(dispute(one), by=person("devi"))

    assert (refund.status, refund.grounds) == ("made", "developer")
    assert Dispute.objects.get().status == "refunded"
    books.fold()
    books.log()
    assert nothing_is_wrong()


def test_a_refused_dispute_is_decided_by_the_admins(books, one):
    opened = refused(one)
    assert after_the_answer_was_due() == 0, "an answered dispute is not won by time"
    for who in ("devi", "dan"):
        admin(who)
        with pytest.raises(errors.NotAllowed):
            disputes.keep(opened, by=person(who), decision="Mine.")

    kept = disputes.keep(opened, by=admin("erin"), decision="The answer is complete.")

    assert (kept.status, kept.decided_by.username) == ("kept", "erin")
    assert states("devi") == ["pending"]
    assert not Refund.objects.exists()
    assert {line.user.username for line in Notification.objects.filter(kind="dispute_kept")} == {"dan", "devi"}


def test_only_the_buyer_disputes_and_only_the_developer_answers(books, one):
    with pytest.raises(errors.NotAllowed):
        disputes.open_dispute(one, by=person("devi"), reason="Mine.")
    with pytest.raises(errors.Invalid):
        disputes.open_dispute(one, by=person("dan"), reason=" ")
    opened = dispute(one)
    for act in (
        lambda: disputes.refuse(opened, by=person("dan"), answer="No."),
        lambda: disputes.accept(opened, by=person("dan")),
        lambda: disputes.withdraw(opened, by=person("devi")),
        lambda: disputes.keep(opened, by=person("devi"), decision="No."),
    ):
        with pytest.raises(errors.NotAllowed):
            act()
    with pytest.raises(errors.NotReady):
        disputes.keep(opened, by=admin("erin"), decision="Too early: the developer answers first.")


def test_a_call_is_disputed_once_and_in_its_window(books, one, settings):
    disputes.withdraw(dispute(one), by=person("dan"))
    with pytest.raises(errors.NotReady):
        dispute(one)

    settings.CHALLENGE_WINDOW_S = 0
    late = Call.objects.get(pk=call(one.version, person("dan")))
    books.fold()
    with pytest.raises(errors.WindowOver):
        dispute(late)

    settings.CHALLENGE_WINDOW_S = 7 * 86400
    refunded = Call.objects.get(pk=call(one.version, person("dan")))
    books.fold()
    refunds.give_back(refunded, by=person("devi"), reason="Sorry.")
    with pytest.raises(errors.AlreadyRefunded):
        dispute(refunded)


def test_an_answer_after_its_time_is_none(books, one, settings):
    settings.DISPUTE_ANSWER_S = 0
    opened = dispute(one)

    with pytest.raises(errors.NotReady):
        disputes.refuse(opened, by=person("devi"), answer="I was away.")
    tasks.keep_deadlines()
    opened.refresh_from_db()
    assert opened.status == "refunded"


def test_who_leaves_takes_their_words_along(books, one):
    opened = refused(one)
    assert mydata.export(person("dan"))["disputes"][0]["reason"] == "It answered another question."
    disputes.accept(opened, by=person("devi"))

    for name in ("dan", "devi"):
        disputes.forget_words_of(person(name))

    opened.refresh_from_db()
    assert {opened.reason, opened.answer, Refund.objects.get().reason} == {"\u2014"}


def test_the_database_refuses_a_dispute_in_no_state(books, one):
    opened = dispute(one)

    for wrong in (
        {"status": "refused"},
        {"status": "kept", "ended_at": timezone.now()},
        {"status": "refunded"},
        {"ended_at": timezone.now()},
        {"reason": ""},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Dispute.objects.filter(pk=opened.pk).update(**wrong)


def test_an_answer_that_meets_the_end_of_its_time_counts_or_the_refund_does(books, one):
    """Fails without the lock of the call in disputes._locked: a refused dispute would be refunded, too."""
    opened = dispute(one)
    acts = [lambda: disputes.refuse(opened, by=person("devi"), answer="No."), after_the_answer_was_due]

    answer, refunded = race(books, *acts, behind="SELECT FROM marketplace_call FOR UPDATE")

    opened.refresh_from_db()
    if refunded:
        assert isinstance(answer, errors.NotReady)
    assert (opened.status, Refund.objects.count()) == (("refunded", 1) if refunded else ("refused", 0))


def test_a_refund_that_no_second_admin_approved_in_time_is_dropped(books, one):
    refunds.approve(one, by=admin("erin"), reason="The buyer is right.")
    assert refunds.drop_late() == 0

    a_week_later(books, one)

    assert refunds.drop_late() == 1
    with pytest.raises(errors.WindowOver):
        refunds.approve(one, by=admin("frank"), reason="Yes.")
    assert not Refund.objects.exists()


# --- Holds by admins


def test_an_admin_holds_a_lot_with_a_reason_and_lets_it_go_with_one(books, one):
    (lot,) = ledger.pending_of(chart.pending(person("devi").pk))

    placed = holds.hold(lot.id, by=admin("erin"), reason="The card was stolen.")
    assert states("devi") == ["held"]
    (seen,) = ledger.pending_of(chart.pending(person("devi").pk))
    assert holds.sentence(seen) == "An admin holds this: The card was stolen."
    with pytest.raises(errors.NotReady):
        holds.hold(lot.id, by=admin("frank"), reason="Again.")
    with pytest.raises(errors.Invalid):
        holds.release(placed, by=admin("frank"), reason="")

    for _again in range(2):
        holds.release(placed, by=admin("frank"), reason="It was not.")

    assert states("devi") == ["pending"]
    told = Notification.objects.filter(user=person("devi"), kind__startswith="earnings").order_by("pk")
    assert [line.kind for line in told] == ["earnings_held", "earnings_released"]


def test_a_lot_that_is_held_twice_is_let_go_with_the_last_reason(books, one):
    opened = dispute(one)
    (lot,) = ledger.pending_of(chart.pending(person("devi").pk))
    placed = holds.hold(lot.id, by=admin("erin"), reason="The card was stolen.")

    disputes.withdraw(opened, by=person("dan"))
    assert states("devi") == ["held"]
    holds.release(placed, by=admin("erin"), reason="It was not.")
    assert states("devi") == ["pending"]

    with pytest.raises(errors.NotReady):
        holds.release(opened.holds.get(), by=admin("erin"), reason="I want to.")


def test_a_hold_that_has_an_end_ends_by_itself(books, one):
    (lot,) = ledger.pending_of(chart.pending(person("devi").pk))
    with pytest.raises(errors.Invalid):
        holds.hold(lot.id, by=admin("erin"), reason="Too late.", until=timezone.now())

    holds.hold(lot.id, by=admin("erin"), reason="Until tomorrow.", until=timezone.now() + timedelta(days=1))

    (seen,) = ledger.pending_of(chart.pending(person("devi").pk))
    assert (seen.state, seen.held_until is not None) == ("held", True)
    with pytest.raises(errors.NotAllowed):
        holds.hold(lot.id, by=person("devi"), reason="I am no admin.")
    with pytest.raises(errors.Invalid):
        holds.hold(ledger.new_id(), by=admin("erin"), reason="Which?")

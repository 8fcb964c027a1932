"""Theft disputes: what the records earned is held, and goes to their author to the nano if two others say so."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from attribution import explain, explain_lines, settlement, traces
from attribution import verify as attribution_verify
from attribution.models import Epoch, Line, RecordEpoch, RecordFee, Transfer
from datanets import errors as datanet_errors
from datanets import services
from datanets import verify as datanets_verify
from datanets.models import Record, TheftDispute
from ledger import chart, sequencer
from ledger import services as ledger
from marketplace import earnings, errors, holds, publishing, refunds, statements, thefts
from marketplace.models import ERASED, AuditEvent, Call, LotHold, Notification
from tests.datanets.races import race
from tests.marketplace.pages.world import admin, call, fund, settle, small_shop
from tests.marketplace.test_verify import editing
from tests.shop import nothing_is_wrong, person, wallet_nano

SAID = {"statement": "These are my measurements.", "evidence": "My paper of 2019 has them in table 3."}
WINDOW_S = 7 * 86400


@pytest.fixture
def version(books, settings):
    """Devi's model on records of Alice's and Bob's; Dan has paid a call of it, which is settled."""
    settings.REVIEW_UNDO_S, settings.CHALLENGE_WINDOW_S = 0, WINDOW_S
    version = small_shop(books)
    fund(books, person("dan"), 10)
    call(version, person("dan"))
    settle(books, epochs_later=1)
    return version


def earners(name: str = "alice") -> list[Record]:
    """A contributor's records that calls paid, the best paid first."""
    paid = RecordEpoch.objects.filter(record__contributor=person(name), amount_nano__gt=0).order_by(
        "-amount_nano", "pk"
    )
    return list(dict.fromkeys(row.record for row in paid.select_related("record")))


def opened(*records: Record, by: str = "frank") -> TheftDispute:
    return thefts.open_dispute(records or earners()[:1], by=person(by), **SAID)


def won(dispute: TheftDispute) -> TheftDispute:
    for decider in (person("carol"), admin("ada")):
        dispute = thefts.decide(dispute, by=decider, uphold=True, note="The paper is older.")
    return dispute


def lots(name: str) -> list[ledger.LotRow]:
    return ledger.pending_of(chart.pending(person(name).pk))


def pending_nano(name: str) -> int:
    return sum(lot.open_nano for lot in lots(name))


def all_due(books) -> None:
    """Let the window of every lot be over."""
    session = books.connect("DATABASE_SUPERUSER_URL")
    with session, session.cursor() as cursor:
        cursor.execute(
            "SET session_replication_role = replica; UPDATE ledger_journal SET vest_after_s = 0 "
            "WHERE vest_after_s > 0; UPDATE ledger_lot l SET due_at = j.at FROM ledger_journal j "
            "WHERE j.id = l.posting_id"
        )
    session.close()


def test_a_won_dispute_gives_the_author_what_is_pending_of_the_records_and_no_more(books, version):
    # Given Frank, who says that one of Alice's records is his
    record = earners()[0]
    earned = sum(RecordEpoch.objects.filter(record=record).values_list("amount_nano", flat=True))
    before = pending_nano("alice")
    dispute = opened(record)

    # Then what it earned is held, whole lots, and nobody else's
    assert {lot.state for lot in lots("alice") if lot.open_nano} == {"held"}
    assert {lot.held_by for lot in lots("alice")} == {"theft"}
    assert {lot.state for lot in lots("bob")} == {"pending"}
    all_due(books)
    sequencer.vest()
    books.fold()
    assert wallet_nano(person("alice")) == 0 < wallet_nano(person("bob"))

    # When Carol and an administrator agree
    one = thefts.decide(dispute, by=person("carol"), uphold=True, note="The paper is older.")
    assert (one.status, pending_nano("frank")) == ("upheld", 0)
    ended = thefts.decide(dispute, by=admin("ada"), uphold=True, note="I see the same.")
    books.fold()

    # Then the record's part is Frank's, to the nano, and waits a window of its own; the rest is Alice's
    assert ended.status == "won"
    assert (pending_nano("frank"), pending_nano("alice")) == (earned, before - earned)
    assert thefts.moved_nano(ended) == earned
    assert sequencer.vest() > 0
    books.fold()
    assert (wallet_nano(person("alice")), pending_nano("alice")) == (before - earned, 0)
    assert pending_nano("frank") == earned
    assert nothing_is_wrong()


@pytest.mark.parametrize("ending", ["lost", "withdrawn", "lapsed"])
def test_a_dispute_that_is_not_won_lets_everything_go(books, version, settings, ending):
    if ending == "lapsed":
        settings.THEFT_DECISION_S = 2
    dispute, before = opened(), pending_nano("alice")
    if ending == "lost":
        thefts.decide(dispute, by=person("carol"), uphold=True, note="It may be.")
        thefts.decide(dispute, by=admin("ada"), uphold=False, note="The table has other numbers.")
    elif ending == "withdrawn":
        thefts.withdraw(dispute, by=person("frank"))
    else:
        while thefts.lapse_overdue() == 0:
            assert {lot.state for lot in lots("alice")} <= {"held", "pending"}
        with pytest.raises(datanet_errors.NotReady):
            thefts.decide(dispute, by=person("carol"), uphold=True, note="Late.")

    dispute.refresh_from_db()
    assert dispute.status == ending
    assert {row.state for row in dispute.records.all()} == {"kept"}
    assert {lot.state for lot in lots("alice")} == {"pending"}
    assert not LotHold.objects.filter(released_at=None).exists()
    all_due(books)
    assert sequencer.vest() > 0
    books.fold()
    assert wallet_nano(person("alice")) == before
    assert nothing_is_wrong()
    if ending == "withdrawn":  # else the same earnings could be held again and again
        with pytest.raises(datanet_errors.NotReady):
            opened()


def test_what_comes_in_while_a_dispute_runs_is_held_from_its_first_moment(books, version, settings):
    """Also where nothing waits: with a window of 0 the next round of the sequencer would pay it out."""
    settings.CHALLENGE_WINDOW_S = 0
    record = earners()[0]
    all_due(books)
    sequencer.vest()
    books.fold()
    vested = wallet_nano(person("alice"))
    dispute = opened(record)
    assert lots("alice") == []

    call(version, person("dan"), radius=13.0)
    settle(books, epochs_later=2)
    books.round()

    (lot,) = lots("alice")
    assert (lot.state, lot.held_by) == ("held", "theft")
    assert "decide, by" in holds.sentence(lot)
    assert wallet_nano(person("alice")) == vested
    # The payee's page knows it, once; a reason that ends meanwhile does not let it go
    held = holds.hold(lot.id, by=admin("ada"), reason="A stolen card.")
    holds.release(held, by=admin("ada"), reason="It was not.")
    assert lots("alice")[0].held_by == "theft"
    assert (thefts.hold_new_lots(), thefts.hold_new_lots()) == (1, 0)
    # What had vested before the dispute is nobody's to take back
    earned = RecordEpoch.objects.filter(record=record).order_by("-epoch__number").first().amount_nano
    assert thefts.moved_nano(won(dispute)) == earned
    books.round()
    books.fold()
    assert wallet_nano(person("frank")) == earned
    assert wallet_nano(person("alice")) == vested + lot.open_nano - earned
    assert nothing_is_wrong()


def test_what_is_settled_after_a_won_dispute_pays_the_author_and_the_next_version_leaves_the_records_out(
    books, version
):
    record, other = earners()[:2]
    dispute = won(opened(record))
    made = call(version, person("dan"))
    settle(books, epochs_later=2)

    why = explain.why_call(made)
    paid = explain.payees_of(why)
    assert (paid[record.pk], paid[other.pk]) == (person("frank").pk, person("alice").pk)
    line = Line.objects.get(payee=person("frank"), source_id=made)
    found = explain_lines.sum_of(line)
    assert [(part.record_id, part.amount_nano) for part in found.mine] == [(record.pk, line.amount_nano)]
    page = statements.page(person("frank"), statements.Filters(record_id=record.pk))
    assert [row.amount_nano for row in page.rows] == [line.amount_nano]
    assert [each.record_id for each in page.rows[0].top] == [record.pk]
    totals = earnings.totals(person("frank"), now=timezone.now())
    assert totals.lifetime_nano == line.amount_nano + thefts.moved_nano(dispute)
    assert nothing_is_wrong()

    with pytest.raises(datanet_errors.NotReady):  # another author comes too late for this record
        opened(record, by="grace")
    after = publishing.publish_version(record.datanet, by=record.datanet.owner)
    assert after.removed_count == 1 and record not in Record.objects.in_version(after)
    assert nothing_is_wrong()


def test_a_refund_takes_the_part_of_a_disputed_record_from_whoever_has_it(books, version):
    """Before the dispute is won from the contributor, and so less moves; afterwards from the author."""
    record = earners()[0]
    second, third = (call(version, person("dan"), radius=radius) for radius in (22.0, 21.0))
    settle(books, epochs_later=2)

    def part_of(charge_id) -> int:
        return {share.record_id: share.amount_nano for share in explain.why_call(charge_id).records}[record.pk]

    earned = sum(RecordEpoch.objects.filter(record=record).values_list("amount_nano", flat=True))
    dispute = opened(record)
    refunds.give_back(Call.objects.get(pk=second), by=person("devi"), reason="It answered another question.")
    won(dispute)
    books.fold()
    assert pending_nano("frank") == thefts.moved_nano(dispute) == earned - part_of(second)

    alice = pending_nano("alice")
    line = Line.objects.get(source_id=third, payee=person("alice"), role="data")
    refunds.give_back(Call.objects.get(pk=third), by=person("devi"), reason="This one, too.")
    books.fold()
    books.log()

    assert pending_nano("alice") == alice - (line.amount_nano - part_of(third))
    assert pending_nano("frank") == thefts.moved_nano(dispute) == earned - part_of(second) - part_of(third)
    assert earnings.totals(person("frank"), now=timezone.now()).lifetime_nano == pending_nano("frank")
    assert earnings.totals(person("alice"), now=timezone.now()).lifetime_nano == pending_nano("alice")
    assert nothing_is_wrong()


def test_fees_that_disputed_records_earned_are_held_and_move_like_calls(books, settings):
    settings.REVIEW_UNDO_S, settings.CHALLENGE_WINDOW_S = 0, WINDOW_S
    small_shop(books, fee_open=3)
    settle(books, epochs_later=1)
    fee = RecordFee.objects.filter(record__contributor=person("alice"), amount_nano__gt=0).order_by("pk")[0]
    before = pending_nano("alice")

    dispute = won(opened(fee.record))
    books.fold()

    assert fee.source == "training"
    assert (pending_nano("frank"), pending_nano("alice")) == (fee.amount_nano, before - fee.amount_nano)
    assert Transfer.objects.get(dispute=dispute).amount_nano == fee.amount_nano
    assert nothing_is_wrong()


def test_who_is_told_what_of_a_dispute_and_colleagues_of_a_party_are_told_nothing(books, version):
    # Given a curator and an administrator who are colleagues of a party
    [record, *_others] = earners()
    services.add_curator(record.datanet, user=person("heidi"), by=person("erin"))
    colleagues = [
        (person("frank"), "clinic"),
        (person("heidi"), " Clinic "),
        (person("alice"), "Lab"),
        (admin("bea"), "lab"),
    ]
    for one, organisation in colleagues:
        one.organisation = organisation
        one.save(update_fields=["organisation"])

    dispute = opened(record)
    thefts.answer(dispute, by=person("alice"), text="I measured them myself.")
    ended = won(dispute)
    told = {}
    for line in Notification.objects.filter(kind__startswith="theft_").select_related("user").order_by("pk"):
        told.setdefault(line.user.username, []).append(line.kind)
    assert told["alice"] == ["theft_opened", "theft_records_given"]
    assert told["frank"] == ["theft_answered", "theft_won"]
    assert told["carol"] == ["theft_to_decide"]
    assert set(told["erin"]) == {"theft_to_decide"}  # the owner may give the second decision, too
    assert told.keys() == {"alice", "frank", "carol", "erin", "ada"}
    acts = AuditEvent.objects.filter(target=f"theft:{ended.pk}").order_by("pk").values_list("act", "actor__username")
    assert list(acts) == [
        ("open_theft_dispute", "frank"),
        ("answer_theft_dispute", "alice"),
        ("decide_theft_dispute", "carol"),
        ("decide_theft_dispute", "ada"),
    ]
    # Who leaves takes their words along, and nothing that was decided
    for name in ("frank", "alice", "carol", "ada"):
        thefts.forget_words_of(person(name))
    ended.refresh_from_db()
    assert {ended.statement, ended.evidence, ended.answer, ended.first_note, ended.note} == {ERASED}
    assert ended.status == "won"


# --- Races


def test_two_who_uphold_a_dispute_at_once_are_the_first_and_the_second(books, version):
    dispute, deciders = opened(), (person("carol"), admin("ada"))

    results = race(
        books,
        *(lambda who=who: thefts.decide(dispute, by=who, uphold=True, note="I agree.").status for who in deciders),
        behind="SELECT FROM datanets_theftdispute FOR UPDATE",
    )

    assert sorted(results) == ["upheld", "won"]
    books.fold()
    assert nothing_is_wrong()


def test_what_vests_while_a_dispute_is_being_opened_is_held_or_paid_out_and_never_both(books, version):
    dispute_of = earners()[0]
    all_due(books)

    dispute, vested = race(
        books,
        lambda: opened(dispute_of),
        second_to_come(sequencer.vest),
        behind="SELECT pg_advisory_xact_lock_shared(hashtextextended('settlement', 0))",
        at_least=1,
        wait_s=3,
    )

    assert vested > 0
    assert lots("alice") == []  # it was paid out before the dispute began
    assert nothing_is_wrong()
    assert thefts.moved_nano(won(dispute)) == 0
    assert nothing_is_wrong()


def test_a_dispute_that_meets_a_plan_under_way_holds_what_that_plan_pays(books, version, settings):
    settings.CHALLENGE_WINDOW_S = 0
    record = earners()[0]
    all_due(books)
    sequencer.vest()
    epoch = closed(books, version)

    planned, dispute = race(
        books,
        lambda: settlement.plan_epoch(epoch.pk),
        second_to_come(lambda: opened(record)),
        behind="SELECT FROM ledger_outbox FOR UPDATE",  # where a plan has looked for disputes, and is not stored
    )
    settlement.post_planned()
    books.round()
    books.round()

    assert (planned.status, dispute.status) == ("planned", "open")
    assert [lot.state for lot in lots("alice")] == ["held"]
    assert nothing_is_wrong()


def test_a_decision_that_meets_a_plan_under_way_waits_for_its_posting_and_moves_that_too(books, version):
    record = earners()[0]
    dispute = thefts.decide(opened(record), by=person("carol"), uphold=True, note="I agree.")
    epoch = closed(books, version)

    def second():
        return thefts.decide(dispute, by=admin("ada"), uphold=True, note="So do I.")

    planned, refused = race(
        books,
        lambda: settlement.plan_epoch(epoch.pk),
        second_to_come(second),
        behind="SELECT FROM ledger_outbox FOR UPDATE",
    )
    assert (planned.status, type(refused)) == ("planned", errors.NotBookedYet)
    settlement.post_planned()
    with pytest.raises(errors.NotBookedYet):  # posted, and not folded
        second()
    books.fold()

    # And one that is committed while a plan waits is known to that plan: it pays the author
    later = closed(books, version)
    decided, planned = race(
        books,
        second,
        second_to_come(lambda: settlement.plan_epoch(later.pk)),
        behind="SELECT FROM ledger_spend FOR UPDATE",
    )
    assert (decided.status, planned.status) == ("won", "planned")
    assert RecordEpoch.objects.get(record=record, epoch=later).payee == person("frank")
    assert later.lines.filter(payee=person("frank")).exists()
    settlement.post_planned()
    books.fold()
    books.log()
    assert thefts.moved_nano(decided) == sum(
        RecordEpoch.objects.filter(record=record, payee=None).values_list("amount_nano", flat=True)
    )
    assert nothing_is_wrong()


def test_a_dispute_that_meets_a_posting_under_way_waits_until_its_lots_are_there(books, version):
    record = earners()[0]
    settlement.plan_epoch(closed(books, version).pk)

    posted, refused = race(
        books,
        settlement.post_planned,
        second_to_come(lambda: opened(record)),
        behind="SELECT FROM ledger_spend FOR UPDATE",
    )

    assert (posted, type(refused)) == (1, errors.NotBookedYet)
    assert not TheftDispute.objects.exists()
    books.fold()
    assert opened(record).status == "open"
    assert {lot.state for lot in lots("alice")} == {"held"}


def second_to_come(act):
    """The act, once the other one of a race waits for a lock: the order is the point of the test."""

    def wait_and_act():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 0")
            while not cursor.fetchone()[0]:
                time.sleep(0.02)
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
        return act()

    return wait_and_act


def closed(books, version) -> Epoch:
    """A closed epoch with a call that has a trace, not planned."""
    call(version, person("dan"))
    books.fold()
    books.log()
    for row in ledger.pending_outbox(traces.TOPIC):
        traces.trace(row.reference)
    number = Epoch.objects.count() + 1
    settlement.close_due(timezone.now() + timedelta(seconds=number * settings.EPOCH_S))
    return Epoch.objects.get(number=number)


def test_verify_names_what_is_wrong_with_the_money_of_a_dispute(books, version):
    record, other = earners()[:2]
    refunded = call(version, person("dan"), radius=21.0)
    settle(books, epochs_later=2)
    dispute = won(opened(record))
    books.fold()
    running = opened(other, by="grace")
    refunds.give_back(Call.objects.get(pk=refunded), by=person("devi"), reason="It answered another question.")
    books.fold()
    books.log()
    assert nothing_is_wrong()
    one = "id = (SELECT min(id) FROM attribution_transfer)"
    of_other = "held_by = 'theft' AND taken_nano < amount_nano"
    edits = {
        "ran, and yet the lot": f"UPDATE ledger_lot SET vested_at = clock_timestamp(), vesting_id = id WHERE {of_other}",
        "its author was given 0": f"DELETE FROM attribution_transferreturn; DELETE FROM attribution_transfer WHERE {one}",
        "to the author of records": f"UPDATE attribution_transfer SET amount_nano = amount_nano - 1 WHERE {one}",
        "had given an author": "UPDATE attribution_transferreturn SET amount_nano = amount_nano - 1",
        "its author by a won theft dispute": "UPDATE attribution_recordepoch SET payee_id = record_id",
        "won by one decision": "ALTER TABLE datanets_theftdispute DROP CONSTRAINT two_people_let_a_theft_dispute_be_won;"
        "UPDATE datanets_theftdispute SET first_by_id = decided_by_id",
        "does not fit its record": f"UPDATE datanets_disputedrecord SET state = 'kept' WHERE dispute_id = '{running.pk}'",
        "names another contributor": f"UPDATE datanets_theftdispute SET contributor_id = {person('bob').pk}",
    }
    for sentence, statement in edits.items():
        with editing():
            with connection.cursor() as cursor:
                cursor.execute(statement)
            found = [*attribution_verify.failures(), *datanets_verify.failures()]
        assert [one for one in found if sentence in one.sentence], (sentence, found)
    assert dispute.status == "won"
    assert nothing_is_wrong()

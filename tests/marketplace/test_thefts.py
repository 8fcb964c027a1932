"""Theft disputes: what the records earned is held, and goes to their author to the nano if two others say so."""

from __future__ import annotations

import pytest

from attribution.models import Line, RecordEpoch, Transfer
from datanets.models import DisputedRecord, Record, TheftDispute
from ledger import chart, sequencer
from ledger import services as ledger
from marketplace import earnings, errors, holds, refunds, thefts
from marketplace.models import AuditEvent, Call, LotHold, Notification
from tests.datanets.races import race
from tests.marketplace.pages.world import admin, call, fund, settle, small_shop
from tests.shop import OPEN, nothing_is_wrong, person, wallet_nano

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
    paid = RecordEpoch.objects.filter(record__contributor=person(name), amount_nano__gt=0).order_by("-amount_nano", "pk")
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
        cursor.execute("SET session_replication_role = replica; UPDATE ledger_journal SET vest_after_s = 0 "
                       "WHERE vest_after_s > 0; UPDATE ledger_lot l SET due_at = j.at FROM ledger_journal j "
                       "WHERE j.id = l.posting_id")
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

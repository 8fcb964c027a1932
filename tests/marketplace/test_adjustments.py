"""Money moved by hand: by two admins, for a written reason, told to whose it is."""

import pytest
from django.db import IntegrityError, transaction

from ledger import chart
from ledger import services as ledger
from marketplace import adjustments, erasure
from marketplace.errors import Invalid, NotAllowed, NotReady
from marketplace.models import ERASED, Adjustment, AuditEvent
from tests.datanets.races import race
from tests.shop import OPEN, fund, nothing_is_wrong, person, wallet_nano

REASON = "The bank booked the transfer twice."


def admin(name: str):
    return person(name, is_staff=True)


def proposed(*, payer="dan", payee=None, amount_nano=OPEN, reason=REASON, by="erin") -> Adjustment:
    sides = {side: name and person(name) for side, name in (("payer", payer), ("payee", payee))}
    return adjustments.propose(**sides, amount_nano=amount_nano, reason=reason, by=admin(by))


def test_money_moves_by_hand_once_another_admin_approved_it(books):
    dan = person("dan")
    fund(books, dan, 10)
    adjustment = proposed(reason=f" {REASON} ")
    with pytest.raises(NotAllowed, match="Another admin"):
        adjustments.approve(adjustment, by=admin("erin"))
    with pytest.raises(NotAllowed, match="Only an admin"):
        adjustments.approve(adjustment, by=person("alice"))
    assert wallet_nano(dan) == 10 * OPEN

    adjustments.approve(adjustment, by=admin("frank"))
    adjustments.approve(adjustment, by=admin("frank"))
    books.fold()

    assert (wallet_nano(dan), ledger.balance_nano(chart.FEES)) == (9 * OPEN, OPEN)
    [line] = ledger.statement_of(chart.FEES)
    assert (line.kind, line.reference) == (ledger.Kind.ADJUSTMENT, f"adjustment:{adjustment.pk}")
    assert adjustments.reasons_of([line.posting_id]) == {line.posting_id: REASON}
    assert [one.kind for one in dan.notifications.filter(kind__startswith="adjusted")] == ["adjusted_out"]
    acts = AuditEvent.objects.filter(target=f"adjustment:{adjustment.pk}").order_by("pk")
    assert [(event.act, event.actor.username) for event in acts] == [
        ("propose_adjustment", "erin"),
        ("approve_adjustment", "frank"),
    ]
    with pytest.raises(NotReady, match="Propose the reverse"):
        adjustments.refuse(adjustment, by=admin("frank"))
    assert nothing_is_wrong()


def test_what_was_refused_or_taken_back_moves_nothing(books):
    fund(books, person("dan"), 10)
    refused, taken_back = proposed(payee="alice"), proposed(payee="alice")

    adjustments.refuse(refused, by=admin("frank"))
    adjustments.refuse(refused, by=admin("frank"))
    adjustments.refuse(taken_back, by=admin("erin"))

    for one in (refused, taken_back):
        with pytest.raises(NotReady, match="was refused"):
            adjustments.approve(one, by=admin("frank"))
    books.fold()
    assert (wallet_nano(person("dan")), wallet_nano(person("alice"))) == (10 * OPEN, 0)


def test_more_than_there_is_waits_on(books):
    adjustment = proposed(payer=None, payee="alice")

    with pytest.raises(ledger.InsufficientFunds):
        adjustments.approve(adjustment, by=admin("frank"))

    adjustment.refresh_from_db()
    assert (adjustment.status, adjustment.decided_by) == (Adjustment.Status.WAITING, None)
    assert not AuditEvent.objects.filter(act="approve_adjustment").exists()


def test_no_admin_decides_about_their_own_money(books):
    admin("erin"), admin("frank")
    with pytest.raises(NotAllowed, match="your own money"):
        proposed(payer=None, payee="erin")
    adjustment = proposed(payer=None, payee="frank")

    for decide in (adjustments.approve, adjustments.refuse):
        with pytest.raises(NotAllowed, match="your own money"):
            decide(adjustment, by=admin("frank"))


@pytest.mark.parametrize(
    "wrong",
    [{"reason": " "}, {"reason": "x" * 401}, {"amount_nano": 0}, {"amount_nano": 10**18 + 1}, {"payee": "dan"}],
)
def test_an_adjustment_says_why_how_much_and_between_whom(books, wrong):
    with pytest.raises(Invalid):
        proposed(**wrong)
    with pytest.raises(NotAllowed):
        adjustments.propose(payer=person("dan"), payee=None, amount_nano=OPEN, reason=REASON, by=person("alice"))


def test_the_database_refuses_an_adjustment_that_is_not_of_two_admins(books):
    fund(books, person("dan"), 10)
    adjustment = adjustments.approve(proposed(), by=admin("frank"))

    for name, changed in {
        "adjustment_is_approved_by_another": {"decided_by": admin("erin")},
        "adjustment_says_who_decided": {"decided_by": None},
        "adjustment_has_a_reason": {"reason": ""},
        "adjustment_is_positive": {"amount_nano": 0},
        "adjustment_goes_to_another_account": {"payer": None},
    }.items():
        with pytest.raises(IntegrityError, match=name), transaction.atomic():
            Adjustment.objects.filter(pk=adjustment.pk).update(**changed)


def test_an_approval_and_a_refusal_that_meet_do_not_both_count(books):
    """Fails without the row lock in adjustments._locked: both see that it waits."""
    fund(books, person("dan"), 10)
    adjustment, frank, grace = proposed(), admin("frank"), admin("grace")
    acts = [lambda: adjustments.approve(adjustment, by=frank), lambda: adjustments.refuse(adjustment, by=grace)]

    results = race(books, *acts, behind="LOCK TABLE marketplace_auditevent IN SHARE MODE")

    assert sorted(type(result).__name__ for result in results) == ["Adjustment", "NotReady"]
    books.fold()
    adjustment.refresh_from_db()
    moved = {Adjustment.Status.POSTED: OPEN, Adjustment.Status.REFUSED: 0}[Adjustment.Status(adjustment.status)]
    assert wallet_nano(person("dan")) == 10 * OPEN - moved


def test_who_is_erased_leaves_no_reason_and_no_opening_of_what_was_adjusted(books, settings):
    settings.CHALLENGE_WINDOW_S = 0
    dan, alice = person("dan"), person("alice")
    fund(books, dan, 2)
    with_the_platform, with_alice = proposed(), proposed(payee="alice")
    for one in (with_the_platform, with_alice):
        adjustments.approve(one, by=admin("frank"))
    books.fold()
    books.log()

    erasure.erase_person(dan)

    assert set(Adjustment.objects.values_list("reason", "amount_nano")) == {(ERASED, OPEN)}
    assert "openings" not in ledger.receipt(with_the_platform.posting_id, with_openings=True).body
    assert "openings" in ledger.receipt(with_alice.posting_id, with_openings=True).body, "it is Alice's, too"
    assert wallet_nano(alice) == OPEN

"""The pages of refunds and disputes: for the buyer, the developer, whoever earned, and the admins."""

from __future__ import annotations

import pytest
from django.test import Client

from attribution.models import Line
from ledger import chart
from ledger import services as ledger
from marketplace import disputes
from marketplace.models import Call, Dispute, LotHold, Refund
from tests.api.world import client_of
from tests.marketplace.pages.world import admin, call, fund, settle, small_shop
from tests.shop import OPEN, nothing_is_wrong, person, wallet_nano


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


def as_(name: str) -> Client:
    client = Client()
    client.force_login(admin(name) if name in ("erin", "frank") else person(name))
    return client


def page(client: Client, address: str, *, status: int = 200) -> str:
    answer = client.get(address)
    assert answer.status_code == status, answer.content[:500]
    return answer.content.decode()


def post(client: Client, address: str, **form) -> str:
    """What the page says after an act."""
    answer = client.post(address, form, follow=True)
    assert answer.status_code in (200, 422), answer.content[:500]
    return answer.content.decode()


def test_a_buyer_disputes_from_the_receipt_and_its_developer_accepts(books, one):
    # Given a settled call
    settle(books, epochs_later=1)
    assert "Dispute this call" in page(as_("dan"), f"/r/{one.pk}")
    assert "Dispute this call" not in page(as_("devi"), f"/r/{one.pk}")

    # When Dan disputes it
    said = post(as_("dan"), f"/en/build/calls/{one.pk}/dispute/", reason="It answered another question.")

    # Then he sees it, who earned sees what is held and why, and not what he wrote
    assert "It answered another question." in said
    payee = Line.objects.filter(source_id=one.pk, payee=person("alice")).first()
    assert payee is not None
    earnings = page(as_("alice"), "/en/earnings/")
    assert "A buyer disputes a call that paid a part of this." in earnings
    assert "another question" not in earnings

    # And when Devi accepts, the money is back and everybody sees so
    assert "It answered another question." in page(as_("devi"), "/en/build/refunds/")
    said = post(as_("devi"), f"/en/build/disputes/{Dispute.objects.get().pk}/accept/")
    assert "the whole price went back" in said
    books.fold()
    books.log()
    assert wallet_nano(person("dan")) == 10 * OPEN
    refund = Refund.objects.get()
    for who in ("dan", "devi"):
        assert f"/r/{refund.pk}" in page(as_(who), f"/r/{one.pk}")
    assert "Refunded" in page(as_("dan"), "/en/build/usage/")
    assert "Refunded" in page(as_("alice"), "/en/earnings/")
    assert "A charge was given back, whole." in page(Client(), f"/r/{refund.pk}")
    assert nothing_is_wrong()


def test_a_developer_refunds_a_call_by_its_id(books, one):
    devi = as_("devi")
    assert "None of your models" in page(as_("devi"), "/en/build/refunds/?call=" + str(ledger.new_id()), status=422)
    assert devi.get(f"/en/build/refunds/?call={one.pk}").headers["Location"] == f"/en/build/calls/{one.pk}/refund/"

    assert "the whole price went back" in post(devi, f"/en/build/calls/{one.pk}/refund/", reason="Sorry.")

    books.fold()
    books.log()
    assert wallet_nano(person("dan")) == 10 * OPEN
    assert "refunded before its epoch was settled" in page(as_("dan"), f"/r/{one.pk}")
    assert "refunded already" in post(devi, f"/en/build/calls/{one.pk}/refund/", reason="Again.")


def test_a_developer_refuses_and_an_admin_keeps_the_charge(books, one):
    opened = disputes.open_dispute(one, by=person("dan"), reason="It answered another question.")
    post(as_("devi"), f"/en/build/disputes/{opened.pk}/refuse/", reason="It did not.")

    erin = as_("erin")
    assert "1 dispute waits for a decision" in page(erin, "/en/admin-desk/exceptions/")
    desk = page(erin, "/en/admin-desk/refunds/")
    assert "It did not." in desk
    assert "Both sides are told why" in post(
        erin, f"/en/admin-desk/refunds/disputes/{opened.pk}/keep/", reason="The answer is complete."
    )

    assert "The answer is complete." in page(as_("dan"), "/en/build/refunds/")
    assert not LotHold.objects.filter(released_at=None).exists()


def test_two_admins_refund_a_call(books, one):
    assert "There is no call" in page(as_("erin"), f"/en/admin-desk/refunds/?call={ledger.new_id()}", status=422)
    address = f"/en/admin-desk/refunds/calls/{one.pk}/"
    assert "Another admin must give the second" in post(as_("erin"), address, reason="It said so twice.")
    assert "1 refund waits for a second admin" in page(as_("frank"), "/en/admin-desk/exceptions/")
    assert "erin: It said so twice." in page(as_("frank"), address)

    assert "the whole price went back" in post(as_("frank"), address, reason="Yes.")
    books.fold()
    assert wallet_nano(person("dan")) == 10 * OPEN


def test_an_admin_holds_earnings_and_their_payee_reads_why(books, one):
    erin = as_("erin")
    (lot,) = ledger.pending_of(chart.pending(person("devi").pk))
    assert str(lot.id) in page(erin, "/en/admin-desk/refunds/?handle=devi")

    said = post(erin, "/en/admin-desk/refunds/holds/", lot=lot.id, reason="A stolen card.", until="2099-01-02T03:04")
    assert "Its payee sees the reason" in said
    assert "An admin holds this: A stolen card." in page(as_("devi"), "/en/earnings/")
    post(erin, f"/en/admin-desk/refunds/holds/{LotHold.objects.get().pk}/release/", reason="It was not.")

    assert "A stolen card." not in page(as_("devi"), "/en/earnings/")


def test_a_model_is_retired_from_its_page(books, one):
    devi, address = as_("devi"), f"/en/build/models/{one.model_id}/"
    assert "Announce the retirement" in page(devi, address)

    assert "Who holds a pass is told" in post(devi, f"{address}retire/", on="2099-01-02T03:04")
    assert "retires on" in page(Client(), "/en/models/")
    assert "Takes no calls from" in page(Client(), "/en/models/devi/check/")
    assert "taken back" in post(devi, f"{address}retire/", act="call_off")
    post(devi, f"{address}retire/")
    assert "No calls since" in page(devi, address)


def test_a_call_whose_window_is_over_is_paid_back_from_a_wallet(books, one, settings):
    settings.CHALLENGE_WINDOW_S = 0
    late = Call.objects.get(pk=call(one.version, person("dan")))
    books.fold()
    books.log()
    devi, address = as_("devi"), f"/en/build/calls/{late.pk}/refund/"
    assert "Refund this call" in page(devi, f"/r/{late.pk}")
    assert "Its window is over" in page(devi, address)

    assert "is over" in post(devi, address, reason="Sorry.")
    assert "the whole price went back" in post(devi, address, reason="Sorry.", from_wallet="1")

    assert "out of the developer’s wallet" in page(as_("dan"), f"/r/{late.pk}")


def test_the_api_says_why_it_refuses_a_refund(books, one, settings):
    devi, dan = client_of(person("devi")), client_of(person("dan"))
    settings.CHALLENGE_WINDOW_S = 0
    late = call(one.version, person("dan"))
    books.fold()

    def refund(call_id, **told) -> tuple[int, dict]:
        answer = devi.post(f"/api/v1/calls/{call_id}/refund/", {"reason": "Sorry."} | told, format="json")
        return answer.status_code, answer.json()

    status, made = refund(one.pk)
    assert (status, made["amount_nano"]) == (201, "24000000")
    for call_id, told, wanted in (
        (one.pk, {}, (409, "already_refunded")),
        (late, {}, (410, "window_over")),
        (late, {"reason": " "}, (422, "invalid_value")),
    ):
        status, refused = refund(call_id, **told)
        assert (status, refused["error"]["code"]) == wanted
    assert refund(late, from_wallet=True)[0] == 201

    told = {"reason": "It answered another question."}
    settings.CHALLENGE_WINDOW_S = 7 * 86400
    another = call(one.version, person("dan"))
    books.fold()
    opened = dan.post(f"/api/v1/calls/{another}/dispute/", told, format="json").json()
    assert (opened["cost_nano"], opened["cost_open"]) == ("24000000", "0.024000000")
    assert dan.delete(f"/api/v1/disputes/{opened['id']}/").status_code == 204

    shown = dan.get(f"/api/v1/calls/{one.pk}/").json()
    assert (shown["refunded"], shown["attribution"]) == (str(Refund.objects.get().pk), "refunded")
    lots = devi.get("/api/v1/earnings/lots/").json()["results"]  # of the other two: nothing vests in a test by itself
    assert {(lot["amount_nano"], lot["state"], lot["held_by"]) for lot in lots} == {("13200000", "pending", "")}
    assert dan.get("/api/v1/refunds/").json()["results"][0]["call"] == str(one.pk)

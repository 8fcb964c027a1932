"""What the books refuse: which exception it is, which status a program gets, and that nothing moved."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import transaction
from django.test import override_settings

from ledger import chart, database
from ledger import services as ledger
from ledger.errors import (
    AppendOnly,
    BadAmount,
    BehindWitness,
    HoldClosed,
    HoldExceeded,
    HoldUnknown,
    InsufficientFunds,
    LedgerError,
    LotUnavailable,
    NotAccountOfHold,
    OutOfStep,
    PayloadMismatch,
    ReferenceTaken,
    SupplyExceeded,
    Unbalanced,
    UnknownAccount,
)
from ledger.legs import batch
from marketplace import refunds
from marketplace.errors import AlreadyRefunded, WindowOver, describe
from marketplace.models import Call, Refund
from tests.api.world import client_of
from tests.ledger.builders import ALICE, BOB, hold, payment
from tests.marketplace.pages.world import call, fund, person, small_shop
from tests.shop import nothing_is_wrong

STATUS = {
    LedgerError: (409, "ledger_error"),
    InsufficientFunds: (402, "insufficient_funds"),
    PayloadMismatch: (422, "payload_mismatch"),
    ReferenceTaken: (409, "reference_taken"),
    UnknownAccount: (404, "unknown_account"),
    Unbalanced: (422, "unbalanced"),
    BadAmount: (422, "bad_amount"),
    HoldUnknown: (409, "hold_unknown"),
    HoldClosed: (409, "hold_closed"),
    HoldExceeded: (409, "hold_exceeded"),
    NotAccountOfHold: (409, "not_account_of_hold"),
    SupplyExceeded: (409, "supply_exceeded"),
    AppendOnly: (409, "append_only"),
    LotUnavailable: (409, "lot_unavailable"),
    OutOfStep: (409, "out_of_step"),
    BehindWitness: (409, "behind_witness"),
}
PAYER = chart.wallet(700)
WINDOW_S = int(timedelta(days=7).total_seconds())
NEVER = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def shop(books_of_module) -> Iterator[dict[str, Call]]:
    """Calls of Dan's: one paid, one given back, one whose window is over; and a payer with 1000."""
    with override_settings(REVIEW_UNDO_S=0, CHALLENGE_WINDOW_S=WINDOW_S):
        version = small_shop(books_of_module)
        fund(books_of_module, person("dan"), 5)
        books_of_module.deposit(PAYER, 1000)
        made = {name: Call.objects.get(pk=call(version, person("dan"))) for name in ("paid", "refunded")}
        with override_settings(CHALLENGE_WINDOW_S=0):
            made["late"] = Call.objects.get(pk=call(version, person("dan")))
        books_of_module.fold()
        _give_back(made["refunded"])
        books_of_module.fold()
        yield made


def _give_back(one: Call) -> None:
    refunds.give_back(one, by=person("devi"), reason="The answer was cut.")


def _pay(*moves: tuple[str, str, object], **more) -> None:
    id = ledger.new_id()
    kind, moves = ledger.Kind.ADJUSTMENT, [ledger.Move(*move) for move in moves]
    ledger.post(**{"id": id, "kind": kind, "reference": f"test:{id}", "moves": moves} | more)


def _say(accounts: list[str], amounts: list[int]) -> None:
    """Ask the database itself, past what Python checks."""
    id = str(ledger.new_id())
    said = {"id": id, "kind": "adjustment", "reference": f"test:{id}", "accounts": accounts, "amounts": amounts}
    database.value("SELECT ledger_post(%s)::text", json.dumps(batch([said])))


def _the_same_id_twice(shop) -> None:
    """As the call was charged, but less."""
    charge = ledger.posting_of(shop["paid"].pk)
    _pay(
        *(move._replace(amount_nano=move.amount_nano - 1) for move in charge.moves),
        id=charge.id,
        kind=charge.kind,
        reference=charge.reference,
        vest_after_s=charge.vest_after_s,
    )


def _draw_twice() -> None:
    held = hold(PAYER, 100)
    ledger.draw([ledger.Draw(held, payment(PAYER, BOB, 60)), ledger.Draw(held, payment(PAYER, BOB, 60))])


def _more_than_the_charge(shop) -> None:
    """The developer's part of a call, and one nano of somebody else's."""
    paid = shop["paid"]
    part = (chart.pending(paid.model.owner_id), chart.wallet(paid.buyer_id), paid.developer_nano + 1)
    _pay(part, kind=ledger.Kind.REFUND, takes_from=paid.pk)


BAD: dict[str, tuple[type[Exception], Callable]] = {
    "an unknown account": (UnknownAccount, lambda shop: _pay((PAYER, "purse:1", 5))),
    "an unknown payer": (UnknownAccount, lambda shop: _pay(("purse:1", PAYER, 5))),
    "two payers": (Unbalanced, lambda shop: _pay((PAYER, ALICE, 5), (BOB, ALICE, 5))),
    "a move to its payer": (Unbalanced, lambda shop: _pay((PAYER, PAYER, 5))),
    "unbalanced": (Unbalanced, lambda shop: _say([PAYER, ALICE], [-5, 4])),
    "balanced by two payers": (BadAmount, lambda shop: _say([PAYER, ALICE, BOB], [-5, 10, -5])),
    "no move": (BadAmount, lambda shop: _pay()),
    "no leg": (BadAmount, lambda shop: _say([], [])),
    "moves of nothing": (BadAmount, lambda shop: _pay((PAYER, ALICE, 0), (PAYER, BOB, 0))),
    "a negative amount": (BadAmount, lambda shop: _pay((PAYER, ALICE, -5))),
    "an amount with a fraction": (BadAmount, lambda shop: _pay((PAYER, ALICE, 5.0))),
    "more than the supply": (BadAmount, lambda shop: _pay((PAYER, ALICE, chart.SUPPLY_NANO + 1))),
    "more than the supply in all": (BadAmount, lambda shop: _pay(*[(PAYER, ALICE, chart.SUPPLY_NANO)] * 20)),
    "more than a number holds": (BadAmount, lambda shop: _say([PAYER, ALICE], [-(2**63) - 5, 2**63 + 5])),
    "legs that overflow to a balance": (BadAmount, lambda shop: _say([PAYER, ALICE, BOB], [-(2**63), 2**62, 2**62])),
    "more than is left of the supply": (SupplyExceeded, lambda shop: _pay((chart.WORLD, PAYER, chart.SUPPLY_NANO))),
    "more than the payer has": (InsufficientFunds, lambda shop: _pay((PAYER, ALICE, 1001))),
    "the same id with other content": (PayloadMismatch, _the_same_id_twice),
    "another id with the same reference": (
        ReferenceTaken,
        lambda shop: ledger.post_many([payment(PAYER, ALICE, 1, reference="once") for _ in range(2)]),
    ),
    "draws above the hold": (HoldExceeded, lambda shop: _draw_twice()),
    "a draw from no hold": (HoldUnknown, lambda shop: ledger.draw([ledger.Draw(NEVER, payment(PAYER, BOB, 1))])),
    "a refund above the charge": (LotUnavailable, _more_than_the_charge),
    "a second refund": (AlreadyRefunded, lambda shop: _give_back(shop["refunded"])),
    "a refund after the window": (WindowOver, lambda shop: _give_back(shop["late"])),
}


def test_every_refusal_of_the_books_has_its_status():
    kinds, found = [LedgerError], {}
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        found[kind] = describe(kind("wallet:7 holds 5 nano"))
    assert {kind: said[:2] for kind, said in found.items()} == STATUS
    # People get a sentence of ours: what the books say of themselves names accounts
    assert not any("wallet:7" in sentence for _status, _code, sentence in found.values())


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_by_its_name_and_moves_nothing(shop, name):
    kind, act = BAD[name]
    before = _books()

    with pytest.raises(kind) as refused, transaction.atomic():
        act(shop)

    assert refused.type is kind
    expected = STATUS.get(kind) or (kind.status, kind.code)
    assert describe(refused.value)[:2] == expected
    assert expected[0] in (402, 404, 409, 410, 422)
    assert _books() == before


def test_a_refund_names_no_amount(shop):
    """It is whole or not at all: a program that asks for a part is told so, and gives nothing back."""
    before = _books()

    answer = client_of(person("devi")).post(
        f"/api/v1/calls/{shop['paid'].pk}/refund/", {"reason": "Half of it.", "amount_nano": "1"}, format="json"
    )

    assert answer.status_code == 400, "an unknown field, as everywhere in the API"
    assert list(answer.json()["fields"]) == ["amount_nano"]
    assert _books() == before
    assert not Refund.objects.filter(call=shop["paid"]).exists()


def test_after_all_of_it_nothing_is_wrong(shop):
    assert nothing_is_wrong()


def _books() -> dict[str, list[tuple]]:
    """How many postings there are, what each account may still spend, and every hold."""
    return {
        "journal": database.rows("SELECT count(*) FROM ledger_journal"),
        "spend": database.rows("SELECT * FROM ledger_spend ORDER BY 1"),
        "holds": database.rows("SELECT * FROM ledger_hold ORDER BY 1"),
    }

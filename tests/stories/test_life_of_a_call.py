"""The whole product on one page: from an uploaded file to money in a bank, with a receipt a stranger can check."""

import json
import subprocess
import sys

from django.db import connection

from attribution import explain, settlement
from ledger import services as ledger
from marketplace import access, keys, payouts, privileges, revenue, wallets
from marketplace.models import Call
from tests.gateway.conftest import running_gateway
from tests.ledger.builders import witnesses
from tests.shop import OPEN, fund, measured, nothing_is_wrong, person, published, settle, trained, wallet_nano


def test_the_life_of_a_call(books, settings, tmp_path):
    settings.REVIEW_UNDO_S = 0
    privileges.apply(connection, role=settings.APP_DB_ROLE)
    alice, bob, carol, dan, devi = (person(name) for name in ("alice", "bob", "carol", "dan", "devi"))
    erin, frank = person("erin", is_staff=True), person("frank", is_staff=True)
    fund(books, dan, 5)
    fund(books, devi, 10)

    # Alice and Bob contribute, Carol approves, the owner publishes, Devi trains and lists; the pass costs Dan 1 OPEN.
    version = published({"alice": measured(40), "bob": measured(40, start=40)}, fee_open=2)
    model = trained(books, version, access_mode="pass", pass_price_nano=OPEN, pass_days=30).model
    access.buy_pass(model, buyer=dan)
    books.fold()

    # Dan calls the model twice with the openai client, through the real gateway.
    _key, secret = keys.create(owner=dan, name="story")
    with running_gateway(books) as gateway:
        client = gateway.openai(secret)
        answers = [
            client.post("/classify", cast_to=object, body={"model": "devi/check", "input": row})
            for row in ({"radius": 14.2, "texture": 20.1}, {"radius": 11.0, "texture": 17.0})
        ]
    paid = answers[0]["open"]
    assert paid["cost_nano"] == 24_000_000
    assert sum(paid["split"].values()) == paid["cost_nano"]

    # Two witnesses co-sign the log. At the epoch's end every nano of the data's part has reached a record, or has its reason.
    with witnesses(tmp_path, count=2) as settings.WITNESSES:
        settings.WITNESS_QUORUM = 2
        assert settle(books) == 1
    call = Call.objects.get(pk=paid["receipt_id"])
    why = explain.why_call(call.pk)
    assert sum(line.amount_nano for line in why.lines) == call.data_nano + call.curation_nano
    assert sum(share.amount_nano for share in why.records) == sum(
        line.amount_nano for line in why.lines if line.role == "data" and line.payee_id
    )
    for share in why.records:
        exact = why.split_nano * share.weight // why.weights_total if why.weights_total else 0
        assert share.amount_nano == exact + share.got_remainder
    assert {line.payee.username for line in why.lines if line.payee} <= {"alice", "bob", "carol"}

    # A stranger checks both receipts with nothing but Python and three public keys.
    keys_known = [word for vkey in ledger.witness_vkeys() for word in ("--witness", vkey)]
    for part in (call.pk, settlement.attributed_entry_id(call.pk)):
        receipt = tmp_path / f"{part}.json"
        receipt.write_text(json.dumps(ledger.receipt(part, with_openings=True).body))
        check = [sys.executable, "verify_receipt.py", "receipt", str(receipt), "--log", ledger.log_vkey()]
        check += [*keys_known, "--quorum", "2"]
        assert subprocess.run(check, capture_output=True).returncode == 0

    # Alice withdraws what she earned; two admins send it; the bank confirms.
    earned_nano = wallet_nano(alice)
    assert earned_nano > 0
    wallets.set_destination(alice, kind="bank", details="DE89370400440532013000")
    withdrawal = wallets.request_withdrawal(alice, amount_nano=earned_nano)
    run = payouts.create_run(by=erin)
    books.fold()
    for admin in (erin, frank):
        run = payouts.approve_run(run, by=admin)
    payouts.mark_sent(run, by=erin)
    payouts.confirm_item(withdrawal, by=frank)
    books.fold()

    # Everything adds up, by two derivations and by every invariant.
    assert wallet_nano(alice) == 0
    assert wallet_nano(dan) == 5 * OPEN - OPEN - 2 * 24_000_000
    assert wallet_nano(bob) + wallet_nano(carol) + wallet_nano(devi) > 0
    assert revenue.report().difference_nano == 0
    assert nothing_is_wrong()

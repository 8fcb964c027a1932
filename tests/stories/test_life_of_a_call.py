"""The whole product on one page: from an uploaded file to money in a bank, with a receipt a stranger can check."""

import os
import subprocess
import sys
from pathlib import Path

import requests
from django.db import connection

from attribution import explain
from ledger import services as ledger
from marketplace import access, keys, payouts, privileges, revenue, wallets
from marketplace.models import Call
from tests.datanets.pages.browsing import no_idle_session, site  # noqa: F401  (two fixtures)
from tests.gateway.conftest import Gateway, running_gateway
from tests.ledger.builders import witness_processes
from tests.shop import OPEN, fund, measured, nothing_is_wrong, person, published, settle, trained, wallet_nano


def test_the_life_of_a_call(books, settings, tmp_path, site):  # noqa: F811
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

    # Dan calls the model twice with the openai client, through the real gateway; two witnesses co-sign the log.
    _key, secret = keys.create(owner=dan, name="story")
    settings.WITNESS_QUORUM = 2
    environment = {"STORAGE_DIR": str(settings.STORAGE_DIR), "WITNESS_QUORUM": "2"}
    with witness_processes(tmp_path) as settings.WITNESSES, running_gateway(books, **environment) as gateway:
        client = gateway.openai(secret)
        answers = [
            client.post("/classify", cast_to=object, body={"model": "devi/check", "input": row})
            for row in ({"radius": 14.2, "texture": 20.1}, {"radius": 11.0, "texture": 17.0})
        ]
        paid = answers[0]["open"]
        assert paid["cost_nano"] == 24_000_000
        assert sum(paid["split"].values()) == paid["cost_nano"]

        # At the epoch's end every nano of the data's part has reached a record, or has its reason.
        assert settle(books) == 1
        # A stranger checks both receipts with what the site serves, nothing but Python, and three public keys.
        a_stranger_verifies(gateway, site, secret, paid["receipt_id"], folder=tmp_path / "elsewhere")
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


def a_stranger_verifies(gateway: Gateway, site: str, secret: str, call_id: str, *, folder: Path) -> None:  # noqa: F811
    """Download both receipts and the verifier, and run it on a machine that has Python and these three files."""
    folder.mkdir()
    verifier = requests.get(f"{site}/r/verify_receipt.py", timeout=30)
    (folder / "verify_receipt.py").write_bytes(verifier.content)
    for name, query in (("charge.json", ""), ("attribution.json", "?part=attribution")):
        answer = gateway.get(f"/v1/receipts/{call_id}{query}", key=secret)
        assert answer.status_code == 200, answer.text
        (folder / name).write_bytes(answer.content)
    told = ["--log", ledger.log_vkey(), *(word for vkey in ledger.witness_vkeys() for word in ("--witness", vkey))]
    # The interpreter itself, not the environment of this test: no package, no path, no variable.
    python = ["env", "-i", os.path.realpath(sys.executable), "-I", "verify_receipt.py", "receipt"]
    for name in ("charge.json", "attribution.json"):
        verify = [*python, name, *told, "--quorum", "2"]
        done = subprocess.run(verify, cwd=folder, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    (folder / name).write_bytes((folder / name).read_bytes().replace(b"open-receipt/1", b"open-receipt/2"))
    assert subprocess.run(verify, cwd=folder, capture_output=True).returncode == 1

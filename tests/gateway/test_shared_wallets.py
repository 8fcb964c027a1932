"""A key of a shared wallet: the wallet pays, its maker sees what it did, and it stops when its maker is removed."""

from __future__ import annotations

from ledger import chart
from ledger import services as ledger
from marketplace import keys, sharing
from marketplace.models import Call, Role
from tests.gateway.conftest import wait_until
from tests.gateway.shop import CALL_NANO, OPEN, person


def test_a_spenders_key_spends_from_the_wallet_until_its_maker_is_removed(gateway, shop):
    # Given a wallet of Olga's with 1 OPEN, on which Sam and Tom have keys
    olga, sam, tom = person("olga"), person("sam"), person("tom")
    wallet = sharing.create(name="Lab", by=olga)
    secrets = {}
    for spender in (sam, tom):
        asked = sharing.invite(wallet, address=spender.username, role=Role.SPENDER, by=olga)
        sharing.accept(asked, by=spender)
        secrets[spender] = keys.create(owner=wallet.account, made_by=spender, name=spender.username)[1]
    shop.books.deposit(chart.wallet(wallet.account_id), OPEN)

    # When Sam calls
    answer = gateway.classify(secrets[sam])

    # Then the wallet pays, and Sam's keys tell of the call, and Tom's do not
    assert answer.status_code == 200, answer.text
    call_id = answer.json()["open"]["receipt_id"]
    assert Call.objects.get(pk=call_id).buyer == wallet.account
    assert shop.balance_nano(wallet.account) == OPEN - CALL_NANO
    seen = {
        who: [one["id"] for one in gateway.get("/v1/calls", key=secret).json()["data"]]
        for who, secret in secrets.items()
    }
    assert seen == {sam: [call_id], tom: []}
    assert gateway.get("/v1/usage", key=secrets[tom]).json()["cost_nano"] == 0
    assert gateway.get(f"/v1/receipts/{call_id}", key=secrets[tom]).status_code == 404
    assert gateway.get(f"/v1/receipts/{call_id}", key=secrets[sam]).status_code in (200, 202)

    # And an owner's key counts what all keys of the wallet used, if it asks for that
    owners = keys.create(owner=wallet.account, made_by=olga, name="olga")[1]
    assert gateway.get("/v1/usage", key=owners).json()["cost_nano"] == 0
    assert gateway.get("/v1/usage?of=wallet&by=key", key=owners).json()["cost_nano"] == CALL_NANO
    refused = gateway.get("/v1/usage?of=wallet", key=secrets[sam])
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "no_access")
    assert gateway.get("/v1/usage?of=me", key=owners).status_code == 400
    own = keys.create(owner=sam, name="own")[1]
    assert gateway.get("/v1/usage?of=wallet", key=own).json()["cost_nano"] == 0

    # And when he is removed his key stops, long before a key is read again by the clock; Tom's goes on
    sharing.remove(wallet.members.get(user=sam), by=olga)
    wait_until(lambda: gateway.classify(secrets[sam]).status_code == 401, timeout_s=3)
    assert gateway.classify(secrets[tom]).status_code == 200
    assert ledger.balance_nano(chart.wallet(sam.pk)) == 0

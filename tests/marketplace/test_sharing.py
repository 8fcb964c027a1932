"""Shared wallets: roles decide who may what, a wallet always has an owner, and who is removed spends nothing any more."""

from __future__ import annotations

from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import User
from ledger import chart
from ledger import services as ledger
from marketplace import (
    access,
    disputes,
    erasure,
    keys,
    notifications,
    people,
    refunds,
    roles,
    sharing,
    wallets,
    watching,
)
from marketplace import verify as shop_verify
from marketplace.errors import Invalid, NotAllowed, NotReady
from marketplace.models import (
    ApiKey,
    Call,
    Notification,
    Role,
    SharedWallet,
    WalletInvitation,
    WalletMember,
    WalletWatch,
)
from marketplace.views.explanations import notification_sentence
from tests.api.world import client_of
from tests.datanets.races import race
from tests.marketplace.pages.world import call, settle, small_shop
from tests.shop import OPEN, fund, nothing_is_wrong, person, wallet_nano


def shared(owner: str = "olga", **members: Role) -> SharedWallet:
    """A wallet that Olga owns, and others are in by invitation: `sam=Role.SPENDER`."""
    wallet = sharing.create(name="Lab", by=person(owner))
    for handle, role in members.items():
        sharing.accept(sharing.invite(wallet, address=handle, role=role, by=person(owner)), by=person(handle))
    return wallet


def member(wallet: SharedWallet, handle: str) -> WalletMember:
    return wallet.members.get(user__username=handle)


def test_a_shared_wallet_pays_what_its_members_use_and_each_sees_what_their_role_lets_them(books, settings):
    # Given a wallet of Olga's, with Sam, who may spend, and Vera, who may look; and money that Olga moved into it
    settings.REVIEW_UNDO_S, settings.CHALLENGE_WINDOW_S = 0, 7 * 86400
    version = small_shop(books, access_mode="pass", pass_price_nano=2 * OPEN, pass_days=7)
    wallet = shared(sam=Role.SPENDER, vera=Role.VIEWER)
    account, olga, sam, vera = wallet.account, *map(person, ("olga", "sam", "vera"))
    fund(books, olga, 10)
    for _ in range(2):
        sharing.transfer(wallet, by=olga, amount_nano=6 * OPEN, reference="first")
    books.fold()
    assert (wallet_nano(olga), wallet_nano(account)) == (4 * OPEN, 6 * OPEN)
    with pytest.raises(Invalid, match="used for another"):
        sharing.transfer(wallet, by=olga, amount_nano=1, reference="first")
    with pytest.raises(ledger.InsufficientFunds), transaction.atomic():
        sharing.transfer(wallet, by=olga, amount_nano=5 * OPEN, reference="second")

    # When Sam makes a key on it, buys a pass with it, and calls
    key, _secret = keys.create(owner=account, made_by=sam, name="Batch")
    access.buy_pass(version.model, buyer=account, by=sam)
    made = call(version, account)
    keys.create(owner=account, made_by=olga, name="Olga's")
    settle(books, epochs_later=1)

    # Then the wallet has paid, and nobody's own
    assert wallet_nano(account) == 4 * OPEN - 24_000_000
    assert wallet_nano(sam) == 0
    posting = ledger.posting_of(made)
    assert {move.source for move in posting.moves} == {chart.wallet(account.pk)}

    # And the call is its owners' and viewers', and of who made the key; of no other spender, and of no stranger
    sees = {
        name: Call.objects.filter(roles.bought_by(person(name)), pk=made).exists() for name in ("olga", "sam", "vera")
    }
    assert sees == {"olga": True, "sam": True, "vera": True}
    sharing.accept(sharing.invite(wallet, address="tom", role=Role.SPENDER, by=olga), by=person("tom"))
    for stranger in ("tom", "zoe"):
        assert not Call.objects.filter(roles.bought_by(person(stranger)), pk=made).exists()
    assert set(keys.of(sam)) == {key}
    assert keys.of(olga).filter(owner=account).count() == 2
    assert not keys.of(vera).exists()

    # And so do their pages, and the receipt
    here = f"/en/wallets/{wallet.pk}/"
    shown = {name: client_of(person(name)).get(here).content.decode() for name in ("olga", "sam", "vera", "tom")}
    assert all(str(made) in shown[name] for name in ("olga", "sam", "vera"))
    assert str(made) not in shown["tom"]
    assert {name for name, text in shown.items() if "Set a payout destination" in text} == {"olga"}
    assert {name for name, text in shown.items() if 'id="statement"' in text} == {"olga", "vera"}
    assert {name for name, text in shown.items() if "Move OPEN into it" in text} == {"olga", "sam", "tom"}
    assert b"Passes and invitations" in client_of(sam).get(here).content
    paid = "You paid 0.024000000 OPEN"
    receipts = {name: paid in client_of(person(name)).get(f"/r/{made}").content.decode() for name in (*shown, "zoe")}
    assert {name for name, is_theirs in receipts.items() if is_theirs} == {"olga", "sam", "vera"}
    disputed = f"/en/build/calls/{made}/dispute/"
    assert [client_of(person(name)).get(disputed).status_code for name in ("sam", "tom")] == [200, 404]
    exported = b"".join(client_of(vera).get(f"{here}usage.csv").streaming_content).decode()
    assert str(made) in exported

    # And a viewer changes nothing, and a spender takes nothing out
    for act in (
        lambda: keys.create(owner=account, made_by=vera, name="Mine"),
        lambda: access.buy_pass(version.model, buyer=account, by=vera),
        lambda: sharing.transfer(wallet, by=vera, amount_nano=1, reference="third"),
        lambda: wallets.set_destination(account, by=sam, kind="bank", details="DE89370400440532013000"),
        lambda: wallets.request_withdrawal(account, by=sam, amount_nano=1),
        lambda: sharing.invite(wallet, address="zoe", role=Role.OWNER, by=sam),
        lambda: sharing.set_role(member(wallet, "vera"), role=Role.OWNER, by=vera),
        lambda: sharing.remove(member(wallet, "olga"), by=sam),
        lambda: sharing.close(wallet, by=sam),
        lambda: keys.revoke(key, by=person("tom")),
        lambda: keys.replace(key, by=vera),
        lambda: disputes.open_dispute(Call.objects.get(pk=made), by=vera, reason="No"),
        lambda: disputes.open_dispute(Call.objects.get(pk=made), by=person("tom"), reason="No"),
    ):
        with pytest.raises(NotAllowed), transaction.atomic():
            act()

    # But an owner does, and a dispute of the spender's call is told to the owners; no member decides about it as an admin
    wallets.set_destination(account, by=olga, kind="bank", details="DE89370400440532013000")
    asked = wallets.request_withdrawal(account, by=olga, amount_nano=OPEN)
    assert wallets.cancel_withdrawal(asked, by=olga).status == "cancelled"
    assert people.needs_second_factor(olga)
    assert not people.needs_second_factor(sam)
    dispute = disputes.open_dispute(Call.objects.get(pk=made), by=sam, reason="It was cut.")
    disputes.refuse(dispute, by=version.model.owner, answer="It was not.")
    assert Notification.objects.filter(user=olga, kind="dispute_refused").exists()
    User.objects.filter(pk=vera.pk).update(is_staff=True)
    with pytest.raises(NotAllowed, match="Other admins"):
        refunds.approve(Call.objects.get(pk=made), by=person("vera"), reason="Sorry")
    assert nothing_is_wrong()


def test_who_is_removed_or_only_looks_loses_their_keys_and_no_others(books):
    wallet = shared(sam=Role.SPENDER, tom=Role.SPENDER)
    sams, toms, own = (
        keys.create(owner=wallet.account, made_by=person("sam"), name="a")[0],
        keys.create(owner=wallet.account, made_by=person("tom"), name="b")[0],
        keys.create(owner=person("sam"), name="c")[0],
    )

    sharing.remove(member(wallet, "sam"), by=person("olga"))
    sharing.set_role(member(wallet, "tom"), role=Role.VIEWER, by=person("olga"))

    standing = set(ApiKey.objects.filter(revoked_at=None))
    assert standing == {own}
    assert {sams, toms} & standing == set()
    with pytest.raises(NotAllowed):
        keys.create(owner=wallet.account, made_by=person("sam"), name="again")
    # Even a key that was forgotten would not work
    ApiKey.objects.filter(pk=sams.pk).update(revoked_at=None)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM gateway_keys WHERE key_id = %s", [sams.pk])
        assert cursor.fetchone() == (0,)
    assert [failure.row for failure in shop_verify.failures()] == [str(sams.pk)]


def test_news_for_a_shared_wallet_reach_its_owners_and_those_of_a_key_its_maker(books):
    # Given a wallet with two owners that holds little, and a key of Sam's on it that ends tomorrow
    wallet = shared(sam=Role.SPENDER, oona=Role.OWNER)
    fund(books, person("olga"), 10)
    sharing.transfer(wallet, by=person("olga"), amount_nano=5 * OPEN, reference="first")
    books.fold()
    watching.set_low_balance(wallet.account, low_nano=9 * OPEN, by=person("olga"))
    key, _secret = keys.create(owner=wallet.account, made_by=person("sam"), name="Batch")
    now, day = timezone.now(), timedelta(days=1)
    ApiKey.objects.filter(pk=key.pk).update(created_at=now - 30 * day, expires_at=now + day)

    # When it is looked at, again and again
    for _ in range(2):
        watching.tell_balances()
        watching.tell_key_ends()

    # Then each who can do something about it has read it once, and nothing lies in an inbox that nobody opens
    lines = Notification.objects.filter(kind__in=["balance_low", "key_expiring"]).order_by("user__username")
    assert list(lines.values_list("user__username", "kind")) == [
        ("olga", "balance_low"),
        ("oona", "balance_low"),
        ("sam", "key_expiring"),
    ]
    assert lines[0].url == f"/wallets/{wallet.pk}/"
    assert notification_sentence(lines[0]) == "The shared wallet Lab is low: 5.0000 OPEN are available."
    assert not Notification.objects.filter(user=wallet.account).exists()


def test_only_its_owners_say_when_a_shared_wallet_is_low(books):
    wallet = shared(sam=Role.SPENDER, vera=Role.VIEWER)
    page = f"/en/wallets/{wallet.pk}/"

    refused = client_of(person("olga")).post(f"{page}low/", {"low": "0"})
    saved = client_of(person("olga")).post(f"{page}low/", {"low": "1.5"})

    assert (refused.status_code, saved.status_code) == (422, 302)
    assert "greater than 0" in refused.content.decode()
    assert WalletWatch.objects.get(user=wallet.account).low_nano == 1_500_000_000
    assert 'value="1.5"' in client_of(person("olga")).get(page).content.decode()
    for other in map(person, ("sam", "vera", "zoe")):
        assert client_of(other).post(f"{page}low/", {"low": "2"}).status_code == 404
        with pytest.raises(NotAllowed):
            watching.set_low_balance(wallet.account, low_nano=None, by=other)
    assert "shared_wallet_low" not in client_of(person("vera")).get(page).content.decode()
    assert WalletWatch.objects.get(user=wallet.account).low_nano == 1_500_000_000


def test_the_usage_of_a_shared_wallet_is_shown_by_role_and_the_export_is_the_screens(books, settings):
    # Given calls that Sam's and Tom's keys made on the wallet, and one of Sam's own
    settings.REVIEW_UNDO_S = 0
    version = small_shop(books)
    wallet = shared(sam=Role.SPENDER, tom=Role.SPENDER, vera=Role.VIEWER)
    books.deposit(chart.wallet(wallet.account_id), 10 * OPEN)
    fund(books, person("sam"), 10)
    made = {}
    for who in ("sam", "tom"):
        key = keys.create(owner=wallet.account, made_by=person(who), name=f"{who}'s")[0]
        made[who] = str(call(version, wallet.account))
        Call.objects.filter(pk=made[who]).update(key=key)
    own = str(call(version, person("sam")))

    # When each looks at the usage of the wallet, and at the file
    def seen(handle: str, query: str = f"?wallet={wallet.pk}") -> tuple[set[str], set[str], str]:
        client = client_of(person(handle))
        screen = client.get(f"/en/build/usage/{query}").content.decode()
        file = b"".join(client.get(f"/en/build/usage/export.csv{query}").streaming_content).decode()
        every = {*made.values(), own}
        return {id for id in every if f"/r/{id}" in screen}, {id for id in every if id in file}, screen

    # Then owners and viewers see all, spenders what their own keys used, and nobody mixes it with their own wallet
    for handle, expected in {
        "olga": set(made.values()),
        "vera": set(made.values()),
        "sam": {made["sam"]},
        "tom": {made["tom"]},
    }.items():
        screen, file, text = seen(handle)
        assert (screen, file) == (expected, expected)
        assert text.count(f'value="{24_000_000 * len(expected)}"') >= 3  # the sum, by model, by key
        assert "Show as a sample" not in text
    assert seen("sam", "")[:2] == ({own}, {own})
    key_of_tom = ApiKey.objects.get(name="tom's")
    assert seen("olga", f"?wallet={wallet.pk}&key={key_of_tom.pk}")[:2] == ({made["tom"]}, {made["tom"]})
    assert "tom&#x27;s" not in seen("sam")[2]
    for address in ("", "export.csv"):
        assert client_of(person("zoe")).get(f"/en/build/usage/{address}?wallet={wallet.pk}").status_code == 404


def test_the_key_of_a_viewer_would_not_work(books):
    wallet = shared(sam=Role.SPENDER)
    key, _secret = keys.create(owner=wallet.account, made_by=person("sam"), name="a")
    sharing.set_role(member(wallet, "sam"), role=Role.VIEWER, by=person("olga"))
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=None)  # as if it had been forgotten

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM gateway_keys WHERE key_id = %s", [key.pk])
        assert cursor.fetchone() == (0,)


def test_the_last_owner_stays_even_if_two_leave_at_once(books):
    # Given a wallet with two owners
    wallet = shared(olga2=Role.OWNER)

    # When both leave at the same moment
    results = race(
        books,
        lambda: sharing.remove(member(wallet, "olga"), by=person("olga")),
        lambda: sharing.remove(member(wallet, "olga2"), by=person("olga2")),
        behind="LOCK TABLE marketplace_walletmember IN SHARE MODE",
    )

    # Then one has left, and the other is told to stay
    assert sorted(type(result).__name__ for result in results) == ["NoneType", "NotReady"]
    left = wallet.members.get()
    with pytest.raises(NotReady, match="always has an owner"):
        sharing.set_role(left, role=Role.VIEWER, by=left.user)
    with pytest.raises(NotReady, match="always has an owner"):
        people.close_account(left.user)


def test_an_invitation_is_for_who_has_the_handle_or_has_proved_the_address(books):
    wallet, olga, sam = shared(), person("olga"), person("sam")
    by_mail = sharing.invite(wallet, address="Sam@Work.example", role=Role.SPENDER, by=olga)
    assert sharing.invite(wallet, address="nobody@nowhere.example", role=Role.VIEWER, by=olga).pk
    address = EmailAddress.objects.create(user=sam, email="sam@work.example", verified=False)
    with pytest.raises(NotAllowed):
        sharing.accept(by_mail, by=sam)

    address.verified = True
    address.save()
    sharing.invite(wallet, address="sam@work.example", role=Role.VIEWER, by=olga)
    assert Notification.objects.filter(user=sam, kind="wallet_invited").count() == 1
    with pytest.raises(NotAllowed):
        sharing.accept(by_mail, by=person("zoe"))
    assert sharing.accept(by_mail, by=sam).role == Role.VIEWER
    assert Notification.objects.filter(user=olga, kind="wallet_joined").exists()
    with pytest.raises(NotAllowed):
        sharing.accept(by_mail, by=sam)
    with pytest.raises(Invalid, match="member already"):
        sharing.invite(wallet, address="@sam", role=Role.OWNER, by=olga)
    with pytest.raises(IntegrityError, match="member_has_one_role_in_a_wallet"), transaction.atomic():
        WalletMember.objects.create(wallet=wallet, user=sam, role=Role.OWNER)


def test_nobody_signs_in_as_a_wallet_and_an_empty_one_can_be_closed(books, client):
    wallet = shared(sam=Role.SPENDER)
    account = wallet.account
    assert not account.has_usable_password()
    with pytest.raises(IntegrityError, match="nobody_signs_in_as_a_wallet"), transaction.atomic():
        User.objects.filter(pk=account.pk).update(is_staff=True)
    assert client.get(f"/en/people/{account.username}/").status_code == 404
    key, _secret = keys.create(owner=account, made_by=person("sam"), name="a")
    fund(books, account, 1)
    with pytest.raises(NotReady, match="OPEN in your accounts"), transaction.atomic():
        sharing.close(wallet, by=person("olga"))

    ledger.post(
        id=ledger.new_id(),
        kind=ledger.Kind.ADJUSTMENT,
        reference="adjustment:1",
        moves=[ledger.Move(chart.wallet(account.pk), chart.FEES, OPEN)],
    )
    books.fold()
    sharing.close(wallet, by=person("olga"))

    key.refresh_from_db()
    assert key.revoked_at
    assert not sharing.of(person("olga")).exists()
    assert not WalletMember.objects.filter(wallet=wallet).exists()
    account.refresh_from_db()
    assert not account.is_active


def test_a_member_who_is_erased_leaves_the_wallet_and_what_it_paid_stays(books):
    wallet = shared(sam=Role.SPENDER)
    sam = person("sam")
    key, _secret = keys.create(owner=wallet.account, made_by=sam, name="Sam's secret project")
    sharing.invite(wallet, address="friend@example.org", role=Role.VIEWER, by=person("olga"))

    erasure.erase_person(sam)

    key.refresh_from_db()
    assert (key.name, bool(key.revoked_at), key.owner) == ("", True, wallet.account)
    assert [one.user.username for one in wallet.members.select_related("user")] == ["olga"]
    assert WalletInvitation.objects.count() == 1
    notifications.notify(wallet.account, "pass_sold", model="x/y", buyer="z")
    assert Notification.objects.filter(kind="pass_sold").get().user == person("olga")

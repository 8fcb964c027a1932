"""The page of test money: taken once a day, and the calls that it paid, which stand on no other page."""

from __future__ import annotations

from django.test import Client

from marketplace import erasure, keys, mydata, testmoney
from marketplace.models import CallContent
from tests.api.world import client_of, program_of
from tests.marketplace.pages.world import OPEN, call, fund, person, settle, small_shop
from tests.shop import nothing_is_wrong


def page(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer.content[:500]
    return answer.content.decode()


def test_test_money_is_taken_once_a_day_and_pays_calls_that_nobody_else_sees(books, settings):
    # Given Dan, who takes test money twice on a day
    settings.REVIEW_UNDO_S = 0
    version = small_shop(books)
    dan, here = person("dan"), "/en/build/tests/"
    browser = client_of(dan)
    assert "Take 10.00 OPEN of test money" in page(browser, here)
    for _ in range(2):
        browser.post(f"{here}top-up/")
    books.fold()
    shown = page(browser, here)
    assert "You have taken today’s test money." in shown
    assert f'value="{10 * OPEN}"' in shown
    assert "No test call yet" in shown

    # When he calls with a test key, and once with another
    fund(books, dan, 1)
    tested, paid = call(version, dan, is_test=True), call(version, dan)
    settle(books, epochs_later=1)

    # Then the test stands on its page, and on no page of real calls
    shown = page(browser, here)
    assert (shown.count("devi/check@v1"), shown.count(">Test</span>")) == (1, 2)
    assert "cost 0.024000000 OPEN of test money" in page(browser, f"/r/{tested}")
    assert "of test money" not in page(client_of(person("alice")), f"/r/{tested}")
    assert str(tested) not in page(browser, "/en/build/usage/")
    assert str(tested) not in page(browser, "/en/wallet/")
    assert page(browser, "/en/build/keys/").count(">Test</span>") == 1

    # And a program sees the same
    program = program_of(dan)
    left = testmoney.GRANT_NANO - 24_000_000
    assert program.post("/api/v1/test-money/").json()["available_nano"] == str(left)
    assert [one["id"] for one in program.get("/api/v1/test-calls/").json()["results"]] == [str(tested)]
    assert [one["id"] for one in program.get("/api/v1/calls/").json()["results"]] == [str(paid)]
    assert [one["id"] for one in mydata.export(dan)["test_calls"]] == [tested]
    assert nothing_is_wrong()

    # And when he is erased, nothing is left of what he tested
    for key in dan.api_keys.all():
        keys.revoke(key, by=dan)
    erasure._forget_calls(dan)
    assert CallContent.objects.get(pk=tested).sealed_key is None
    assert {tested, dan.test_grants.get().posting_id} <= set(erasure._entries_of(dan))

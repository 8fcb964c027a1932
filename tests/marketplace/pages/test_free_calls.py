"""What pages say of a free call: to everybody, to its buyer, and to the developer who paid it."""

import csv
import io

from django.test import Client

from marketplace import playground, promotion
from marketplace.models import ApiKey
from tests.marketplace.pages.world import call, fund, person, settle, small_shop
from tests.shop import nothing_is_wrong

PRICE_NANO = 24_000_000


def page(handle: str, address: str) -> str:
    client = Client()
    client.force_login(person(handle))
    answer = client.get(address)
    assert answer.status_code == 200, answer.content[:500]
    return answer.content.decode()


def test_a_free_call_costs_its_buyer_nothing_and_earns_like_any_other(books, settings):
    # Given a model with one free call a day, and a promotion wallet that pays for one
    settings.REVIEW_UNDO_S = 0
    version = small_shop(books, free_calls_per_day=1)
    devi, dan = person("devi"), person("dan")
    promotion.fund(devi, amount_nano=PRICE_NANO, reference="one call")
    books.fold()
    promise = "1 free call per account per day, paid by the developer while their promotion wallet lasts."
    shown = page("dan", "/en/models/devi/check/")
    assert promise in shown
    assert "It is empty now." not in shown
    assert "Your own calls are not free." in page("devi", "/en/models/devi/check/")

    # When Dan calls for nothing, and once more for money
    fund(books, dan, 1)
    free, paid = call(version, dan, free=True), call(version, dan)
    settle(books, epochs_later=1)

    # Then his pages count only what he paid
    usage = page("dan", "/en/build/usage/")
    assert usage.split("<tfoot>")[1].split("</tfoot>")[0].count(f'value="{PRICE_NANO}"') == 1
    assert "and 1 free call, for which its developer paid 0.0240 OPEN" in usage
    client = Client()
    client.force_login(dan)
    exported = b"".join(client.get("/en/build/usage/export.csv").streaming_content).decode()
    assert {row["receipt_id"]: row["paid_by"] for row in csv.DictReader(io.StringIO(exported))} == {
        str(free): "developer",
        str(paid): "buyer",
    }
    assert page("dan", "/en/build/keys/").count(f'value="{PRICE_NANO}"') == 1
    ApiKey.objects.filter(owner=dan).update(is_playground=True)
    assert playground._spent_today_nano(dan) == PRICE_NANO
    assert "was free for you" in page("dan", f"/r/{free}")
    assert "You paid 0.024000000 OPEN" in page("dan", f"/r/{paid}")

    # And everybody is paid for both calls, Devi too; her promotion wallet is empty, and the books agree
    assert "It is empty now." in page("dan", "/en/models/devi/check/")
    assert promotion.summary(devi) == promotion.Summary(available_nano=0, held_nano=0)
    assert nothing_is_wrong()

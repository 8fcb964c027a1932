"""What people who earn see: payments whose parts add up, the integers behind each, a statement with the same rows."""

import csv
import io
import json
import re
from decimal import Decimal

import pyarrow.parquet as pq
import pytest

from attribution import explain_lines
from attribution.models import Line, RecordEpoch
from ledger import chart
from ledger import services as ledger
from marketplace import statements
from marketplace.statements import Filters
from tests.marketplace.pages.world import person, settle, small_shop, sold


@pytest.fixture(autouse=True)
def _windows(settings):
    settings.REVIEW_UNDO_S = 0
    settings.CHALLENGE_WINDOW_S = 7 * 86400


def page(client, address, *, status=200):
    answer = client.get(address)
    assert answer.status_code == status, answer.content[:500]
    return answer.content.decode()


def test_a_visitor_is_asked_to_sign_in(books, client):
    assert client.get("/en/earnings/").status_code == 302


def test_who_earned_nothing_yet_is_told_how_to(books, client):
    client.force_login(person("alice"))

    assert "No payments yet" in page(client, "/en/earnings/")


def test_a_payment_shows_price_part_and_amount_as_whole_nano(books, client):
    # Given two settled calls at 0.024 OPEN
    sold(books)

    # When Alice opens her earnings
    client.force_login(person("alice"))
    text = page(client, "/en/earnings/")

    # Then her payment is pending, with the integers that give it
    lines = Line.objects.filter(payee=person("alice"), role="data")
    amount = sum(line.amount_nano for line in lines)
    price, part = 24_000_000 * lines.count(), 8_400_000 * lines.count()
    assert f"{price} nano × {part}/{price} × {amount}/{part} = {amount} nano" in text
    assert "Pending" in text
    assert f'value="{amount}"' in text


def test_every_amount_is_reproduced_from_the_integers_of_its_page(books, client):
    sold(books)

    for line in Line.objects.filter(payee__isnull=False):
        found = explain_lines.sum_of(line)
        assert sum(part.amount_nano for part in found.mine) == line.amount_nano
        assert found.others_nano + line.amount_nano == found.divided_nano
        assert found.divided_nano + found.left_nano == found.part_nano
        for part in found.mine:
            assert part.floor_nano == found.divided_nano * part.weight // found.weights_total
            assert part.amount_nano - part.floor_nano in (0, 1)
            if part.score is not None:
                assert part.weight == max(part.score, 0) * part.phi
        client.force_login(line.payee)
        text = page(client, f"/en/earnings/lines/{line.pk}/")
        for number in (found.part_nano, found.divided_nano, found.weights_total, line.amount_nano):
            assert str(number) in text


def test_a_fee_is_reproduced_from_its_shares(books, client):
    small_shop(books, fee_open=10)
    settle(books)

    for line in Line.objects.filter(payee__isnull=False, source="training"):
        found = explain_lines.sum_of(line)
        assert sum(part.amount_nano for part in found.mine) == line.amount_nano
        assert all(part.amount_nano - part.floor_nano in (0, 1) for part in found.mine)
        client.force_login(line.payee)
        assert str(line.amount_nano) in page(client, f"/en/earnings/lines/{line.pk}/")


def test_nobody_opens_the_line_of_somebody_else(books, client):
    sold(books)
    line = Line.objects.filter(payee=person("alice")).first()

    client.force_login(person("bob"))

    page(client, f"/en/earnings/lines/{line.pk}/", status=404)
    page(client, f"/en/earnings/payments/{line.epoch_id}/nobody/", status=404)


def test_a_payment_lists_its_charges_and_their_sum(books, client):
    _version, calls = sold(books)
    alice = person("alice")
    line = Line.objects.filter(payee=alice, role="data", source_id=calls[0]).get()

    client.force_login(alice)
    text = page(client, f"/en/earnings/payments/{line.epoch_id}/data/")

    assert str(calls[0])[:8] in text
    total = sum(Line.objects.filter(payee=alice, epoch=line.epoch, role="data").values_list("amount_nano", flat=True))
    assert f'value="{total}"' in text


def test_screen_csv_parquet_and_json_have_the_same_rows_and_decimals(books, client):
    sold(books)
    alice = person("alice")
    client.force_login(alice)

    shown = re.findall(r'<data class="amt " value="(\d+)"', page(client, "/en/earnings/").split('class="table pay"')[1])
    text = b"".join(client.get("/en/earnings/statement.csv").streaming_content).decode()
    found_csv = list(csv.DictReader(io.StringIO(text)))
    found_json = json.loads(client.get("/en/earnings/statement.json").content)["rows"]
    parquet = pq.read_table(io.BytesIO(client.get("/en/earnings/statement.parquet").content)).to_pylist()

    assert [row["amount"] for row in found_csv] == [row["amount"] for row in found_json]
    assert [Decimal(row["amount"]) for row in found_json] == [row["amount"] for row in parquet]
    assert list(found_csv[0]) == list(found_json[0]) == list(parquet[0]) == list(statements.COLUMNS)
    for row in found_json:
        assert re.fullmatch(r"\d+\.\d{9}", row["amount"])
        assert row["unit"] == "OPEN"
        assert str(int(Decimal(row["amount"]) * 10**9)) in shown
    lines = Line.objects.filter(payee=alice)
    assert sum(Decimal(row["amount"]) for row in found_json) * 10**9 == sum(line.amount_nano for line in lines)


def test_a_cell_that_would_be_a_formula_is_neutralised():
    assert statements.neutral("=1+1") == "'=1+1"
    assert statements.neutral("-cmd") == "'-cmd"
    assert statements.neutral("-0.5") == "-0.5"


def test_filters_stand_in_the_address(books, client):
    version, _calls = sold(books)
    alice = person("alice")
    client.force_login(alice)

    assert "No payment matches" in page(client, "/en/earnings/?state=available")
    assert version.model.path in page(client, f"/en/earnings/?state=pending&model={version.model_id}")
    assert "No payment matches" in page(client, "/en/earnings/?until=2020-01-01")
    pool = version.training_run.versions.get().datanet
    whole = page(client, f"/en/earnings/?datanet={pool.pk}")
    assert "Each is shown whole" in whole
    assert version.model.path in whole
    assert "No payment matches" in page(client, "/en/earnings/?record=999999")
    assert "comes after" in page(client, "/en/earnings/?since=2026-02-01&until=2026-01-01", status=422)
    assert list(statements.every(alice, Filters(state="available"))) == []
    assert list(statements.every(person("carol"), Filters(datanet_id=pool.pk))) == []  # no record is hers


def test_a_held_payment_says_why(books, client):
    sold(books)
    alice = person("alice")
    lot = ledger.pending_of(chart.pending(alice.pk))[0]
    ledger.hold_lot(lot.id, reason="Theft dispute of 3 records", by="user:1")

    client.force_login(alice)

    assert "Theft dispute of 3 records" in page(client, "/en/earnings/?state=held")


def test_a_vested_payment_is_available(books, client, settings):
    settings.CHALLENGE_WINDOW_S = 0
    sold(books)
    books.round()
    books.fold()

    client.force_login(person("alice"))

    assert "No payment matches" not in page(client, "/en/earnings/?state=available")


def test_the_earnings_page_asks_as_much_for_many_payments_as_for_one(books, client, django_assert_max_num_queries):
    from tests.marketplace.pages.world import call

    version, _calls = sold(books, calls=1)
    client.force_login(person("alice"))
    page(client, "/en/docs/api/")  # the first page of a session asks more
    with django_assert_max_num_queries(15) as few:
        page(client, "/en/earnings/")
    for number in range(2, 6):
        call(version, person("dan"))
        settle(books, epochs_later=number)
    with django_assert_max_num_queries(len(few)):
        page(client, "/en/earnings/")
    assert len(list(statements.every(person("alice"), Filters()))) >= 5


def test_what_a_record_earned_in_an_epoch_is_shown_as_the_sum_over_its_calls(books, client):
    sold(books, calls=3)
    row = RecordEpoch.objects.filter(record__contributor=person("alice"), amount_nano__gt=0).first()
    address = f"/en/earnings/payments/{row.epoch_id}/records/{row.record_id}/"

    client.force_login(person("alice"))
    text = page(client, address)
    rows = list(csv.DictReader(io.StringIO(client.get(f"{address}calls.csv").getvalue().decode())))

    assert len(rows) == row.call_count == 3
    assert sum(int(one["amount_nano"]) for one in rows) == row.amount_nano
    for one in rows:
        floor = int(one["split_nano"]) * int(one["weight"]) // int(one["weights_total"])
        assert int(one["floor_nano"]) == floor
        assert int(one["weight"]) == max(int(one["score"]), 0) * row.phi
        assert one["weight"] in text
    assert f"<strong>{row.amount_nano}</strong>" in text
    assert address in page(client, f"/en/earnings/payments/{row.epoch_id}/data/")
    # And it is nobody else's business
    for name in ("bob", "carol"):
        client.force_login(person(name))
        page(client, address, status=404)
        page(client, f"{address}calls.csv", status=404)

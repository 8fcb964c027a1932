"""What changed between two periods: each part is true, and all of them are the difference, to the nano."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import override_settings

from attribution.models import Line, RecordEpoch
from datanets.models import Record
from marketplace import comparing, listings, periods, pricing, publishing, refunds, training
from marketplace.errors import Invalid
from marketplace.models import Call, ModelVersion
from tests.datanets.cast import measured, person, send, table
from tests.marketplace.pages.world import call, fund, settle, small_shop
from tests.shop import approve_all

RADII = (12.0, 13.0)


@pytest.fixture(scope="module")
def world(books_of_module):
    """One model and five epochs, each with another thing that changed. `best`: what Alice withdrew; `refunded`: a call."""
    books = books_of_module
    with override_settings(REVIEW_UNDO_S=0, CHALLENGE_WINDOW_S=7 * 86400):
        version = small_shop(books)
        fund(books, person("dan"), 10)

        def epoch(number: int, of: ModelVersion, *radii: float) -> list:
            made = [call(of, person("dan"), radius=radius) for radius in radii]
            settle(books, epochs_later=number)
            return made

        epoch(1, version, *RADII)
        epoch(2, version, *RADII, *RADII)
        listings.set_prices(
            version.model, by=person("devi"), price_call_nano=48_000_000, price_in_nano=0, price_out_nano=0
        )
        epoch(3, version, *RADII)
        best = RecordEpoch.objects.filter(epoch__number=3, record__contributor=person("alice"))
        best = best.order_by("-amount_nano").first()
        publishing.withdraw_record(best.record, by=person("alice"))
        refunded = epoch(4, version, *RADII)[0]
        refunds.give_back(Call.objects.get(pk=refunded), by=person("devi"), reason="It was cut.")
        datanet = version.training_run.versions.get().datanet
        send(datanet, table(measured(8, start=40)), by="alice")
        approve_all(datanet)
        newer = publishing.publish_version(datanet, by=datanet.owner)
        books.fold()
        run = training.run(training.request(model=version.model, by=person("devi"), versions=[newer], settings={}).pk)
        epoch(5, version.model.versions.get(training_run=run), *RADII)
        # Epochs close in a future that withdrawals do not wait for here
        Record.objects.filter(pk=best.record_id).update(withdrawn_at=best.epoch.closed_at + timedelta(seconds=1))
        yield {"version": version, "best": best, "refunded": refunded}


def compared(world, name: str, earlier: str, later: str, **scope) -> comparing.Comparison:
    model_id = world["version"].model_id
    first, second = (periods.period(text, model_id=model_id) for text in (earlier, later))
    found = comparing.compare(person(name), first, second, comparing.Scope(model_id=model_id, **scope))
    assert sum(row.amount_nano for row in found.rows) == found.difference_nano == sum(found.totals.values())
    return found


def parts(found: comparing.Comparison, role: str = "data") -> dict[str, int]:
    return {row.part: row.amount_nano for row in found.rows if row.role == role and row.amount_nano}


def earned(name: str, epoch: int, **chosen) -> int:
    lines = Line.objects.filter(payee=person(name), epoch__number=epoch, **chosen)
    return sum(lines.values_list("amount_nano", flat=True))


def test_twice_as_many_equal_calls_are_all_the_difference(world):
    for name in ("alice", "bob"):
        found = compared(world, name, "1", "2")

        assert found.difference_nano == earned(name, 2) - earned(name, 1)
        changed = parts(found)
        assert abs(changed.pop("calls") - earned(name, 1)) <= 1
        assert sum(map(abs, changed.values())) <= 4  # remainders of a nano
    # And Carol, who approved both, has hers as a curator
    curated = parts(compared(world, "carol", "1", "2"), "curation")
    assert abs(curated["calls"] - earned("carol", 1, source="call")) <= 1


def test_another_price_is_told_apart_from_the_number_of_calls(world):
    found = compared(world, "alice", "1", "3")

    assert abs(parts(found)["price"] - earned("alice", 1)) <= 1
    assert not {"calls", "rule"} & parts(found).keys()
    stages = {row.part: (row.earlier, row.later) for row in found.rows if row.role == "data"}
    assert stages["calls"] == (2, 2)
    assert stages["price"] == (48_000_000, 96_000_000)
    assert stages["influence"] == (earned("alice", 1), earned("alice", 3))


def test_withdrawn_records_and_refunds_have_parts_of_their_own(world):
    found = compared(world, "alice", "3", "4")

    refunded_nano = earned("alice", 4, source_id=world["refunded"])
    assert parts(found)["withdrawn"] == -world["best"].amount_nano
    assert parts(found)["refunds"] == -refunded_nano < 0
    assert found.later_nano == earned("alice", 4) - refunded_nano


def test_records_that_are_used_for_the_first_time_are_told_apart(world):
    found = compared(world, "alice", "4", "5")

    new = RecordEpoch.objects.filter(epoch__number=5, record__contributor=person("alice"), record__added_in=2)
    assert parts(found)["first_used"] == sum(new.values_list("amount_nano", flat=True)) > 0


def test_swapped_periods_are_the_same_parts_with_the_other_sign(world):
    for name, earlier, later in (("alice", "1", "4"), ("bob", "2", "5"), ("carol", "3", "4/5")):
        there, back = compared(world, name, earlier, later), compared(world, name, later, earlier)

        assert back.totals == {part: -nano for part, nano in there.totals.items()}


def test_a_record_and_a_datanet_are_compared_on_their_own(world):
    datanet_id = world["version"].training_run.versions.get().datanet_id
    mine = RecordEpoch.objects.filter(record__contributor=person("alice")).values_list("record_id", flat=True)

    of_datanet = compared(world, "alice", "1", "2", datanet_id=datanet_id)
    of_records = [compared(world, "alice", "1", "2", record_id=pk) for pk in set(mine)]

    assert of_datanet.later_nano == earned("alice", 2, role="data")
    assert sum(one.later_nano for one in of_records) == of_datanet.later_nano
    # And of somebody else's record there is nothing
    foreign = RecordEpoch.objects.filter(record__contributor=person("bob")).first().record_id
    assert compared(world, "alice", "1", "2", record_id=foreign).rows == []


def test_page_file_and_program_say_the_same(world, client):
    client.force_login(person("alice"))
    model = world["version"].model
    query = "earlier=3&later=4&model="

    shown = client.get(f"/en/earnings/changes/?{query}{model.pk}").content.decode()
    rows = list(
        csv.DictReader(io.StringIO(client.get(f"/en/earnings/changes.csv?{query}{model.pk}").getvalue().decode()))
    )
    told = client.get(f"/api/v1/earnings/changes/?{query}{model.path}").json()

    found = compared(world, "alice", "3", "4")
    assert (rows[-1]["part"], rows[-1]["change"]) == ("total", pricing.nano_to_open(found.difference_nano))
    assert [row["change"] for row in rows[:-1]] == [one["change_open"] for one in told["rows"]]
    assert [row["part"] for row in rows[:-1]] == [one["part"] for one in told["rows"]]
    assert told["difference_nano"] == str(found.difference_nano)
    for row in found.rows:
        assert f'value="{row.amount_nano}"' in shown
        assert f">{row.earlier:,}<" in shown
    # And what cannot be read as periods is refused, with what can be
    refused = client.get("/en/earnings/changes/?earlier=x&later=y")
    assert refused.status_code == 422
    assert "A period is a month" in refused.content.decode()
    assert client.get("/en/earnings/changes.csv?earlier=x&later=y").status_code == 422
    assert client.get("/api/v1/earnings/changes/?earlier=1&later=2").status_code == 422
    assert client.get("/en/earnings/changes/").status_code == 200


@pytest.mark.parametrize(
    "text", ["2026-13", "2026-02-30", "2026-11-09/2026-11-03", "yesterday", "0", "9999-12-31", "2/1", "7", "٢٠٢٦-١١"]
)
def test_what_is_no_period_is_refused(db, text):
    with pytest.raises(Invalid):
        periods.period(text, model_id=uuid4())


def test_a_month_is_its_days():
    month, days = periods.period("2026-02"), periods.period("2026-02-01/2026-02-28")

    assert (month.since, month.until) == (days.since, days.until)

"""The preview of a Datanet: its statistics are those of the exported file, and odd addresses are answered."""

from __future__ import annotations

import io
import math
from html.parser import HTMLParser

import pandas as pd
import pytest

from datanets import exports, records, storage, versions
from datanets.models import Record, Version
from marketplace import publishing
from marketplace.templatetags import figures
from tests.datanets.cast import approve_all, make_datanet, person, send, table

pytestmark = pytest.mark.django_db

COLUMNS = ["weight", "tiny", "count", "ringed", "species", "note", "empty"]
TYPES = ["number", "number", "integer", "boolean", "category", "text", "number"]
SCHEMA = {
    "columns": [{"name": name, "type": type_} for name, type_ in zip(COLUMNS, TYPES, strict=True)],
    "label": "species",
    "label_type": "category",
}


class Tables(HTMLParser):
    """The texts of all table cells of a page, row by row."""

    def __init__(self, html: str):
        super().__init__()
        self.rows: list[list[str]] = []
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, text):
        if self._in_cell:
            self.rows[-1][-1] += text


@pytest.fixture(autouse=True)
def _at_once(settings):
    settings.REVIEW_UNDO_S = 0


def listed(html: str) -> list[list[str]]:
    """The rows of the table of records, without its head."""
    _before, _, after = html.partition('<table class="table dense rec">')
    return Tables(after.partition("</table>")[0]).rows[1:]


def published(*, schema: dict, rows: list[tuple], name: str = "Wrens") -> Version:
    datanet = make_datanet(name, schema=schema)
    approve_all(send(datanet, table(rows, header=",".join(each["name"] for each in schema["columns"]))))
    return publishing.publish_version(datanet, by=person("erin"))


def with_gaps(count: int) -> list[tuple]:
    """Rows of every type; every column has gaps, and no two values are the most frequent."""
    return [
        (
            "" if i % 7 == 0 else f"{9 + (i * 7919 % 9973) / 977:.5f}",
            "" if i % 5 == 0 else f"{(i * 31 % 97 + 1) / 1e8:.9f}",
            "" if i % 4 == 0 else i * i % 23,
            ("true", "false", "", "true")[i % 4],
            ("wren", "robin", "wren", "", "wren", "tit")[i % 6],
            "" if i % 9 == 0 else "seen twice" if i % 10 < 3 else f"seen near house {i} at {i % 24} o'clock",
            "",
        )
        for i in range(count)
    ]


def test_the_statistics_on_the_page_are_those_of_pandas_on_the_parquet_export(client):
    version = published(schema=SCHEMA, rows=with_gaps(60))
    frame = pd.read_parquet(io.BytesIO(storage.get(exports.write(version, fmt="parquet"))))

    html = client.get(f"/en/datanets/erin/{version.datanet.slug}/").content.decode()

    assert f"Over all {len(frame)} rows of v1" in html
    shown = {row[0]: row for row in Tables(html).rows if row and row[0] in COLUMNS and len(row) == 11}
    assert list(shown) == COLUMNS
    for stored, (name, row) in zip(version.statistics["columns"], shown.items(), strict=True):
        column = frame[name]
        assert row[2:5] == [str(each) for each in (column.count(), column.isna().sum(), column.nunique())]
        if stored["type"] in ("number", "integer"):
            told = column.astype("float64").describe()
            expected = [told[key] for key in ("mean", "std", "min", "50%", "max")]
            for key, value in zip(("mean", "std", "min", "q50", "max"), expected, strict=True):
                assert math.isclose(stored[key], value, rel_tol=1e-12) if stored["count"] else key not in stored
            assert row[5:10] == [figures.significant_text(value) if column.count() else "" for value in expected]
            assert [float(each.replace(figures.MINUS, "-")) for each in row[5:10] if each] == pytest.approx(
                [value for value in expected if not math.isnan(value)], rel=5e-4
            )
        else:
            counts = column.value_counts()
            assert row[10] == f"{counts.index[0]} ({counts.iloc[0]})"
            # of a text only what repeats is quoted
            repeated = counts[counts > (1 if stored["type"] == "text" else 0)]
            assert dict(map(tuple, stored["values"])) == repeated.to_dict()


def test_the_statistics_say_how_many_of_their_rows_were_withdrawn_since(client):
    version = published(schema=SCHEMA, rows=with_gaps(30))
    here = f"/en/datanets/erin/{version.datanet.slug}/"
    first, second = Record.objects.filter(datanet=version.datanet).order_by("id")[:2]

    records.withdraw(first, by=person("alice"))
    assert "Over all 30 rows of v1; 1 of them was withdrawn since." in client.get(here).content.decode()
    records.withdraw(second, by=person("alice"))
    assert "Over all 30 rows of v1; 2 of them were withdrawn since." in client.get(here).content.decode()
    records.erase(first)
    versions.describe_again()
    assert "Over 29 of the 30 rows of v1; the others were erased." in client.get(here).content.decode()


@pytest.mark.parametrize(
    "query", ["after=²", "q=%00", "label=%00", "label=%ff", "q=%ed%a0%80", "after=99999999999999999999"]
)
def test_an_odd_address_is_answered(client, query):
    version = published(schema=SCHEMA, rows=with_gaps(3))

    assert client.get(f"/en/datanets/erin/{version.datanet.slug}/?{query}").status_code == 200
    client.force_login(person("erin"))
    export = client.get(f"/en/datanets/erin/{version.datanet.slug}/export.csv?version=²")
    assert export.status_code == 200  # no number: the newest


@pytest.mark.parametrize("name", ["range", "contains", "in", "isnull", "2020", "a__b", "key"])
def test_a_label_column_may_be_called_like_anything(client, name):
    schema = {"columns": [{"name": name, "type": "category"}, {"name": "x", "type": "number"}], "label": name}
    version = published(schema=schema, rows=[("wren", 1.5), ("robin", 2.5), ("wren", 3.5)])

    html = client.get(f"/en/datanets/erin/{version.datanet.slug}/?label=wren").content.decode()

    assert [row[1:3] for row in listed(html)] == [["wren", "1.5"], ["wren", "3.5"]]


def test_a_label_is_compared_in_the_type_of_its_column(client):
    def found(type_: str, label: str) -> int:
        schema = {"columns": [{"name": "y", "type": type_}, {"name": "x", "type": "number"}], "label": "y"}
        pool = Version.objects.filter(datanet__name=type_).first()
        pool = pool or published(schema=schema, rows=[(1, 7.25), (0, 8.25)], name=type_)
        html = client.get(f"/en/datanets/erin/{pool.datanet.slug}/?label={label}").content.decode()
        return len(listed(html))

    assert [found("boolean", label) for label in ("True", "false", "x", "1")] == [1, 1, 0, 0]
    assert [found("integer", label) for label in ("1", "1.0", "2", "nan", "x")] == [1, 1, 0, 0, 0]
    assert [found("category", label) for label in ("1", "x")] == [1, 0]

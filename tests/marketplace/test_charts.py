"""Charts are text: what they say to the eye and to a screen reader. No database."""

import re
from xml.etree import ElementTree

import pytest

from marketplace import charts

NANO = charts.OPEN


def bars(**changes):
    values = {
        "labels": ["1 Nov", "2 Nov", "3 Nov"],
        "series": [
            charts.Series("Licences", [NANO, 2 * NANO, 0], "v1"),
            charts.Series("Digits", [NANO // 2, 0, 0], "v2"),
        ],
        "title": "Earned per day",
        "finding": "Two days had earnings.",
        "text": charts.open_4,
        "scale": NANO,
        "total_label": "Total",
    }
    return charts.stacked_bars(**{**values, **changes})


def test_a_chart_is_one_image_with_a_finding_in_two_drawings():
    chart = bars()
    assert chart.svg.count('role="img" aria-label="Earned per day. Two days had earnings."') == 2
    for svg in re.findall(r"<svg.*?</svg>", chart.svg):
        ElementTree.fromstring(svg)


def test_a_chart_holds_the_same_figures_as_a_table():
    chart = bars()
    assert chart.columns == ["Licences", "Digits", "Total"]
    assert chart.rows[0] == ["1 Nov", "1.0000\u00a0OPEN", "0.5000\u00a0OPEN", "1.5000\u00a0OPEN"]


def test_bars_grow_from_zero_in_proportion():
    drawn = re.findall(
        r'<rect class="f1"[^>]*height="([\d.]+)"', bars(series=[charts.Series("a", [NANO, 2 * NANO, 0])]).svg
    )
    assert float(drawn[1]) == pytest.approx(2 * float(drawn[0]), abs=0.2)


def test_days_that_are_not_final_are_faded_and_named():
    chart = bars(pending_from=2, pending_label="Pending")
    assert chart.svg.count('<g class="dim">') == 2
    assert "3 Nov · 0.0000\u00a0OPEN (Pending)" in chart.svg
    assert ("Pending", "pend") in chart.legend


def test_a_series_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 values for 3 labels"):
        bars(series=[charts.Series("a", [1, 2])])


def test_labels_and_names_are_escaped():
    chart = bars(title="<b>", labels=['"x"', "<i>", "3"])
    assert "<b>" not in chart.svg
    assert "<i>" not in chart.svg


def test_nothing_to_show_is_still_a_chart():
    empty = charts.line(labels=[], values=[], title="Calls", finding="No calls yet.")
    assert "No calls yet." in empty.svg
    assert charts.spark([], label="") == ""
    assert "<svg" in charts.histogram([0, 0], label="none")


def test_no_drawing_carries_a_style():
    drawings = [
        bars().svg,
        charts.line(labels=["a", "b"], values=[1, 2], title="t", finding="f").svg,
        charts.spark([1, 2], label="l"),
        charts.mosaic("x"),
        charts.score_ring(50, label="Quality"),
        charts.split_bar([(55, "v5"), (45, "v2")], label="l"),
    ]
    assert not any("style" in drawing or "onload" in drawing for drawing in drawings)


def test_a_mosaic_is_the_same_every_time_and_differs_between_slugs():
    assert charts.mosaic("digits") == charts.mosaic("digits")
    assert charts.mosaic("digits") != charts.mosaic("licences")


def test_an_unknown_colour_is_refused():
    with pytest.raises(ValueError, match="no such colour"):
        charts.split_bar([(1, 'v1" onload="x')], label="")


def test_axis_steps_are_round():
    assert charts._ticks(7.3) == [0, 2, 4, 6, 8]
    assert charts._ticks(0) == [0, 1]
    assert charts._tick_text(7500) == "7.5k"

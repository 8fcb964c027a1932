"""Charts and small marks as SVG text, drawn on the server. No inline style, no script: colours are CSS classes.

Every chart is `role="img"` with a label (title, then a one-sentence finding), comes in a wide and a narrow drawing of
which CSS shows one, so that its text keeps its size, and carries the same figures as a table. Colours are the data
series of tokens.css: v1 to v6 and v0, or ok, warn, bad.

    chart = charts.stacked_bars(labels=days, series=[charts.Series("Open-source licences", per_day_nano, "v1")],
                                title=_("Earned per day"), finding=_("..."), text=charts.open_4)
    {% include "components/chart.html" with chart=chart only %}
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

from marketplace.templatetags import figures

Number = int | float
_GRID_LINES = 4


class Svg(str):
    """Markup that a template prints as it is: every piece of text in it was escaped here."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


@dataclass(frozen=True)
class Series:
    """One colour of a chart: a name, one value per label, and the class of its colour."""

    label: str
    values: Sequence[Number]
    colour: str = "v1"


@dataclass(frozen=True)
class Chart:
    """What components/chart.html shows: both drawings, the legend, and the same figures as a table."""

    svg: Svg
    legend: list[tuple[str, str]]
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    title: str = ""


def open_4(amount_nano: Number) -> str:
    """Amounts of a chart in OPEN: pass it as `text`, and nano-OPEN as values with `scale=charts.OPEN`."""
    return f"{figures.open_text(int(amount_nano), 4)}{figures.NBSP}OPEN"


def plain(value: Number) -> str:
    return figures.number_text(value, 0 if float(value).is_integer() else 2)


OPEN = figures.NANO_PER_OPEN


def stacked_bars(
    *,
    labels: Sequence[str],
    series: Sequence[Series],
    title: str,
    finding: str,
    text: Callable[[Number], str] = plain,
    scale: int = 1,
    pending_from: int | None = None,
    pending_label: str = "",
    total_label: str = "",
) -> Chart:
    """Amounts per period, one colour per series, from a zero baseline.

    Args:
        labels: one per period. Every series has as many values, none negative.
        text: how a value reads in the tooltip and the table.
        scale: what one step of the axis is made of: `charts.OPEN` for nano-OPEN.
        pending_from: index of the first period that is not final; drawn lighter and named by `pending_label`.

    Raises:
        ValueError: a series of another length than the labels.
    """
    for one in series:
        if len(one.values) != len(labels):
            raise ValueError(f"series {one.label!r} has {len(one.values)} values for {len(labels)} labels")
    totals = [sum(one.values[i] for one in series) for i in range(len(labels))]
    tips = [f"{label} · {text(total)}" for label, total in zip(labels, totals, strict=True)]
    if pending_from is not None and pending_label:
        tips = [f"{tip} ({pending_label})" if i >= pending_from else tip for i, tip in enumerate(tips)]
    aria = f"{title}. {finding}"

    def draw(width: int, height: int) -> str:
        plot = _Plot(width, height, top=max(totals, default=0) / scale, count=len(labels))
        out = [plot.open(aria), plot.grid()]
        for i in range(len(labels)):
            faded = ' class="dim"' if pending_from is not None and i >= pending_from else ""
            out.append(f"<g{faded}>{_stack(plot, i, [(s.values[i] / scale, s.colour) for s in series])}</g>")
        out += [plot.labels(labels), plot.hits(tips), "</svg>"]
        return "".join(out)

    legend = [(one.label, one.colour) for one in series] if len(series) > 1 else []
    if pending_from is not None and pending_label and pending_from < len(labels):
        legend.append((pending_label, "pend"))
    many = len(series) > 1
    return Chart(
        svg=_two(draw(760, 220), draw(340, 210)),
        legend=legend,
        columns=[one.label for one in series] + ([total_label] if many and total_label else []),
        rows=[
            [label, *(text(one.values[i]) for one in series), *([text(totals[i])] if many and total_label else [])]
            for i, label in enumerate(labels)
        ],
        title=title,
    )


def line(
    *,
    labels: Sequence[str],
    values: Sequence[Number],
    title: str,
    finding: str,
    value_label: str = "",
    text: Callable[[Number], str] = plain,
    scale: int = 1,
) -> Chart:
    """A rate or a count over time: a line over a pale area, from a zero baseline."""
    if len(values) != len(labels):
        raise ValueError(f"{len(values)} values for {len(labels)} labels")
    aria = f"{title}. {finding}"
    tips = [f"{label} · {text(value)}" for label, value in zip(labels, values, strict=True)]

    def draw(width: int, height: int) -> str:
        plot = _Plot(width, height, top=max(values, default=0) / scale, count=len(labels))
        points = [(plot.middle(i), plot.y(value / scale)) for i, value in enumerate(values)]
        path = _path(points)
        out = [plot.open(aria), plot.grid()]
        if points:
            floor = plot.y(0)
            out.append(
                f'<path class="ar" d="{path} L{points[-1][0]:.1f} {floor:.1f} L{points[0][0]:.1f} {floor:.1f}Z"/>'
            )
            out.append(f'<path class="ln" d="{path}"/>')
        out += [plot.labels(labels), plot.hits(tips), "</svg>"]
        return "".join(out)

    rows = [[label, text(value)] for label, value in zip(labels, values, strict=True)]
    return Chart(
        svg=_two(draw(760, 200), draw(340, 180)), legend=[], columns=[value_label or title], rows=rows, title=title
    )


def spark(values: Sequence[Number], *, label: str) -> Svg:
    """A line without axes, for a table cell."""
    width, height = 88, 24
    if not values:
        return Svg("")
    low, high = min(values), max(values)
    span = (high - low) or 1
    step = width / max(len(values) - 1, 1)
    path = _path([(i * step, 2 + (height - 4) * (1 - (v - low) / span)) for i, v in enumerate(values)])
    return Svg(
        f'<svg class="spark" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f'<path class="ar" d="{path} L{width} {height} L0 {height}Z"/><path d="{path}"/></svg>'
    )


def histogram(values: Sequence[Number], *, label: str, colour: str = "v1") -> Svg:
    """The distribution of a column: one bar per bin."""
    width, height = 120, 34
    top = max(values, default=0) or 1
    step = width / max(len(values), 1)
    bars = "".join(
        f'<rect class="f{_colour(colour)}" x="{i * step + 0.5:.1f}" y="{height - height * v / top:.1f}" '
        f'width="{max(step - 1, 0.5):.1f}" height="{height * v / top:.1f}"/>'
        for i, v in enumerate(values)
    )
    return Svg(
        f'<svg class="hist" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" '
        f'preserveAspectRatio="none">{bars}</svg>'
    )


def split_bar(parts: Sequence[tuple[Number, str]], *, label: str, size: str = "") -> Svg:
    """Parts of a whole in one bar. Sizes up to a sum of 100 are percentages; larger sums are shares of the sum."""
    whole = max(sum(part for part, _ in parts), 100)
    start, rects = 0.0, []
    for part, colour in parts:
        width = 100 * part / whole
        if part > 0:
            rects.append(f'<rect class="f{_colour(colour)}" x="{start:.2f}%" width="{max(width - 0.35, 0.2):.2f}%"/>')
        start += width
    role = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    return Svg(f'<svg class="bar {escape(size)}" {role}>{"".join(rects)}</svg>')


def score_ring(value: int, *, label: str) -> Svg:
    """A score from 0 to 100: a ring for the eye, the number for everybody."""
    value = min(max(value, 0), 100)
    tone = "" if value >= 85 else "mid" if value >= 65 else "low"
    around = 2 * math.pi * 7
    return Svg(
        f'<span class="score {tone}"><svg viewBox="0 0 18 18" aria-hidden="true">'
        f'<circle class="tr" cx="9" cy="9" r="7"/><circle class="vl" cx="9" cy="9" r="7" '
        f'stroke-dasharray="{around * value / 100:.1f} {around:.1f}"/></svg>'
        f'<span class="vh">{escape(label)} </span>{value}</span>'
    )


def mosaic(seed: str, *, size: str = "") -> Svg:
    """A five by five pattern, mirrored, from a hash: a picture for what has none."""
    digest = hashlib.sha256(seed.encode()).digest()
    shades = ("m1", "m1", "m2", "m3")
    cells = []
    for row in range(5):
        for column in range(5):
            mirrored = min(column, 4 - column)
            shade = shades[digest[1 + row * 3 + mirrored] % 4]
            cells.append(f'<rect class="{shade}" x="{column * 8}" y="{row * 8}" width="8.15" height="8.15"/>')
    hue = digest[0] % 6 + 1
    return Svg(
        f'<svg class="mosaic {escape(size)} h{hue}" viewBox="0 0 40 40" aria-hidden="true">{"".join(cells)}</svg>'
    )


class _Plot:
    """The frame of one drawing: where a value and a period stand."""

    def __init__(self, width: int, height: int, *, top: Number, count: int):
        self.width, self.height, self.count = width, height, max(count, 1)
        self.ticks = _ticks(float(top))
        longest = max(len(_tick_text(t)) for t in self.ticks)
        self.left, self.right, self.head, self.foot = 14 + 7 * longest, 4, 8, 24
        self.step = (width - self.left - self.right) / self.count
        self.floor = height - self.foot

    def open(self, aria: str) -> str:
        return f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(aria)}">'

    def y(self, value: float) -> float:
        return self.floor - (self.floor - self.head) * value / self.ticks[-1]

    def middle(self, i: int) -> float:
        return self.left + (i + 0.5) * self.step

    def grid(self) -> str:
        return "".join(
            f'<line class="grid" x1="{self.left}" x2="{self.width - self.right}" y1="{self.y(t):.1f}" '
            f'y2="{self.y(t):.1f}"/><text x="{self.left - 8}" y="{self.y(t) + 4:.1f}" text-anchor="end">'
            f"{_tick_text(t)}</text>"
            for t in self.ticks
        )

    def labels(self, labels: Sequence[str]) -> str:
        """As many labels as fit without touching; the last one always."""
        widest = max((len(str(label)) for label in labels), default=1) * 6.5 + 10
        every = max(1, math.ceil(widest / self.step))
        out, last = [], len(labels) - 1
        for i, label in enumerate(labels):
            if i != last and (i % every or last - i < every):
                continue
            x = self.middle(i)
            half = len(str(label)) * 3.1
            anchor = "end" if x + half > self.width else "middle"
            x = self.width if anchor == "end" else x
            out.append(f'<text x="{x:.1f}" y="{self.height - 6}" text-anchor="{anchor}">{escape(str(label))}</text>')
        return "".join(out)

    def hits(self, tips: Sequence[str]) -> str:
        return "".join(
            f'<rect class="hit" data-tip="{escape(tip)}" x="{self.left + i * self.step:.1f}" y="{self.head}" '
            f'width="{self.step:.1f}" height="{self.floor - self.head}"/>'
            for i, tip in enumerate(tips)
        )


def _stack(plot: _Plot, i: int, parts: Sequence[tuple[float, str]]) -> str:
    width = min(plot.step * 0.72, 48)
    x = plot.middle(i) - width / 2
    base, out = 0.0, []
    shown = [(value, colour) for value, colour in parts if value > 0]
    for k, (value, colour) in enumerate(shown):
        low, high = plot.y(base), plot.y(base + value)
        height = max(low - high - (1 if k else 0), 0.5)
        radius = 2 if k == len(shown) - 1 else 0
        out.append(
            f'<rect class="f{_colour(colour)}" x="{x:.1f}" y="{high:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" rx="{radius}"/>'
        )
        base += value
    return "".join(out)


def _two(wide: str, narrow: str) -> Svg:
    box = '<div class="{0}"><div class="chart" data-chart>{1}<div class="tip" aria-hidden="true"></div></div></div>'
    return Svg(f'<div class="cbox">{box.format("wid", wide)}{box.format("nar", narrow)}</div>')


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))


def _ticks(top: float) -> list[float]:
    """Round steps from zero to just above `top`."""
    if top <= 0:
        return [0, 1]
    raw = top / _GRID_LINES
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if raw <= m * power * (1 + 1e-9))
    return [round(step * i, 12) for i in range(math.ceil(top / step - 1e-9) + 1)]


def _tick_text(value: float) -> str:
    for bound, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= bound:
            return _tick_text(value / bound) + suffix
    places = next((p for p in range(10) if abs(value - round(value, p)) < 1e-12), 9)
    return figures.number_text(value, places)


def _colour(colour: str) -> str:
    """v1 is drawn by the class f1; ok, warn and bad by fok, fwarn and fbad."""
    name = colour.removeprefix("v")
    if name not in {"0", "1", "2", "3", "4", "5", "6", "ok", "warn", "bad", "gold", "ink"}:
        raise ValueError(f"no such colour: {colour!r}")
    return name

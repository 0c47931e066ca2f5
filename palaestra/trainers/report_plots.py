"""The plots of reports, as inline SVG: points with intervals over iterations, bars, curves, and rows of intervals.

Colours are the page's (`report_page`), so that one plot is right in the dark and in the light; each mark has a title
that a browser shows beside the pointer. Sizes are in units of the drawing, which is as wide as there is room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from palaestra.trainers.report_page import text
from palaestra.trainers.statistics import Interval

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 400, 190, 44, 12, 10, 26
_LABELS, _POINTS = 9, 600


@dataclass(frozen=True)
class Mark:
    """A value over a label; `low` and `high` are its interval, where it has one, and `share` what of it is filled."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    share: float | None = None


def points(marks: Sequence[Mark], *, percent: bool, colour: str = "--one") -> str:
    """Values of at most 1 with their intervals, joined by a line, over an axis from 0, or -1 where one is below 0."""
    place = _Places(len(marks))
    bottom = -1.0 if any(min(mark.value, mark.low or 0.0) < 0 for mark in marks) else 0.0
    line = " ".join(f"{place(k):.1f},{_y(mark.value, 1.0, bottom):.1f}" for k, mark in enumerate(marks))
    parts = [
        _grid(1.0, percent, bottom),
        f'<polyline points="{line}" fill="none" stroke="var({colour})" stroke-width="1.5"/>',
    ]
    for k, mark in enumerate(marks):
        x, told = place(k), f"{mark.label}: {_figure(mark.value, percent)}"
        whisker = ""
        if mark.low is not None and mark.high is not None:
            told += f" [{_figure(mark.low, percent)}, {_figure(mark.high, percent)}]"
            low, high = _y(mark.low, 1.0, bottom), _y(mark.high, 1.0, bottom)
            whisker = _line(x, x, low, high, f"var({colour})", 'stroke-width="5" stroke-opacity=".28"')
        dot = f'<circle cx="{x:.1f}" cy="{_y(mark.value, 1.0, bottom):.1f}" r="4" fill="var({colour})"/>'
        parts.append(f"<g><title>{text(told)}</title>{whisker}{dot}</g>")
    return _drawing([*parts, *_labels([mark.label for mark in marks])])


def bars(marks: Sequence[Mark], *, colour: str = "--one") -> str:
    """Counts; of a count whose `share` is known, that part is filled and the rest pale."""
    top = _round_up(max((mark.value for mark in marks), default=0))
    place = _Places(len(marks))
    width = min(34.0, 0.7 * (WIDTH - LEFT - RIGHT) / max(1, len(marks)))
    parts = [_grid(top, False)]
    for k, mark in enumerate(marks):
        x, y = place(k) - width / 2, _y(mark.value, top)
        told = f"{mark.label}: {_count(mark.value)}"
        inner = _rect(x, y, width, top, colour, 1.0 if mark.share is None else 0.22)
        if mark.share is not None:
            told += f", of which {_count(mark.share)}"
            inner += _rect(x, _y(mark.share, top), width, top, colour, 1.0)
        parts.append(f"<g><title>{text(told)}</title>{inner}</g>")
    return _drawing([*parts, *_labels([mark.label for mark in marks])])


def curve(values: Sequence[float], label: str, *, colour: str = "--one") -> str:
    """A curve over steps, such as a loss; long ones are thinned to what can be seen."""
    shown = [value for value in values if math.isfinite(value)]
    if not shown:
        return _drawing([f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">no finite value</text>'])
    low = -_round_up(-min(shown), 3) if min(shown) < 0 else 0.0
    high = _round_up(max(shown), 3) if max(shown) > 0 or not low else 0.0
    if min(shown) > 0.6 * max(shown) > 0:  # beginning at 0, what changes would be a flat line
        step = _round_up(max(max(shown) - min(shown), 0.01 * max(shown)) / 3, 3)
        low = step * math.floor(min(shown) / step)
        high = low + 4 * step
    every = max(1, len(values) // _POINTS)
    chosen = [(k, value) for k, value in enumerate(values) if (k % every == 0 or k == len(values) - 1)]
    place = _Places(len(values), margin=0)
    line = " ".join(f"{place(k):.1f},{_y(v, high, low):.1f}" for k, v in chosen if math.isfinite(v))
    drawn = f'<polyline points="{line}" fill="none" stroke="var({colour})" stroke-width="1.5"/>'
    if len(shown) == 1:
        drawn = f'<circle cx="{place(0):.1f}" cy="{_y(shown[0], high, low):.1f}" r="4" fill="var({colour})"/>'
    right = f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{len(values)}</text>'
    ends = f'<text x="{LEFT}" y="{HEIGHT - 8}">step 1</text>{right}'
    return _drawing([f"<title>{text(label)}</title>", _grid(high, False, low), drawn, ends])


def intervals(rows: Sequence[tuple[str, Interval | None]], *, low: float, high: float, zero: bool = False) -> str:
    """A row a method: its mean as a dot, its interval as a line, the figures beside it. In per cent.

    Args:
        rows: a name and its interval; None is the reference, or what was not measured.
        low, high: ends of the axis. zero: draw a line at 0, and colour what lies wholly on one side of it.
    """
    width, left, right, line = 760, 170, 170, 28
    bottom = len(rows) * line + 8
    ticks = _ticks(low, high)

    def x(value: float) -> float:
        return left + (width - left - right) * (value - low) / (high - low)

    parts = []
    for tick in ticks:
        sign = "+" if zero and tick > 0 else ""
        parts.append(_line(x(tick), x(tick), 4, bottom, "var(--soft)" if zero and abs(tick) < 1e-9 else "var(--rule)"))
        parts.append(f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{sign}{100 * tick:.0f}</text>')
    for place, (name, found) in enumerate(rows):
        y = place * line + 20
        parts.append(f'<text class="name" x="{left - 12}" y="{y + 4}" text-anchor="end">{text(_short(name))}</text>')
        if found is None:
            parts.append(f'<text x="{width - right + 14}" y="{y + 4}">{"reference" if zero else "not measured"}</text>')
            continue
        sure = "--won" if zero and found.low > 0 else "--bad" if zero and found.high < 0 else "--one"
        begin, end = x(max(low, found.low)), x(min(high, found.high))
        mean, least, most = (f"{100 * each:{'+' if zero else ''}.1f}" for each in (found.mean, found.low, found.high))
        said = f"{mean} [{least}, {most}]"
        parts.append(
            f"<g><title>{text(name)}: {said}</title>"
            + _line(begin, end, y, y, f"var({sure})", 'stroke-width="3"')
            + f'<circle cx="{x(found.mean):.1f}" cy="{y}" r="5.5" fill="var({sure})"/></g>'
            f'<text class="figure" x="{width - right + 14}" y="{y + 4}">{said}</text>'
        )
    return f'<svg viewBox="0 0 {width} {bottom + 22}" role="img">{"".join(parts)}</svg>'


def amounts(rows: Sequence[tuple[str, float]], *, colour: str = "--two") -> str:
    """A row a name: an amount as a bar, its figure behind it."""
    left, line, room = 130, 22, WIDTH - 130 - 60
    top = max((value for _, value in rows), default=0.0) or 1.0
    parts = []
    for place, (name, value) in enumerate(rows):
        y, width = place * line + 14, room * value / top
        parts.append(
            f"<g><title>{text(name)}: {value:,.6g}</title>"
            f'<text class="name" x="{left - 8}" y="{y + 4}" text-anchor="end">{text(_short(name, 19))}</text>'
            f'<rect x="{left}" y="{y - 6}" width="{max(1.0, width):.1f}" height="12" rx="2" fill="var({colour})"/>'
            f'<text class="figure" x="{left + max(1.0, width) + 6:.1f}" y="{y + 4}">{_count(value)}</text></g>'
        )
    return f'<svg viewBox="0 0 {WIDTH} {len(rows) * line + 8}" role="img">{"".join(parts)}</svg>'


# -- axes --------------------------------------------------------------------------------------------------------------


def _line(x1: float, x2: float, y1: float, y2: float, colour: str, more: str = "") -> str:
    ends = f'x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-linecap="round" {more}/>'


def _rect(x: float, y: float, width: float, top: float, colour: str, opacity: float) -> str:
    """A bar from the axis of a plot up to y."""
    size = f'width="{width:.1f}" height="{max(0.0, _y(0, top) - y):.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} rx="2" fill="var({colour})" fill-opacity="{opacity:g}"/>'


def _drawing(parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


class _Places:
    """Where the k-th of some marks stands."""

    def __init__(self, count: int, margin: float = 0.5) -> None:
        self.room = WIDTH - LEFT - RIGHT
        self.count, self.margin = count, margin

    def __call__(self, place: int) -> float:
        if self.count == 1:
            return LEFT + self.room / 2
        apart = self.room / (self.count - 1 + 2 * self.margin)
        return LEFT + apart * (place + self.margin)


def _y(value: float, top: float, low: float = 0.0) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / ((top - low) or 1.0))


def _grid(top: float, percent: bool, low: float = 0.0) -> str:
    parts = []
    for part in range(5):
        value = low + (top - low) * part / 4
        y = _y(value, top, low)
        told = f"{100 * value:.0f} %" if percent else _count(value)
        parts.append(_line(LEFT, WIDTH - RIGHT, y, y, "var(--rule)"))
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{told}</text>')
    return "".join(parts)


def _labels(names: Sequence[str]) -> list[str]:
    """Names below the axis, as many as there is room for, the last one always."""
    every = max(1, math.ceil(len(names) / _LABELS))
    place, room = _Places(len(names)), int((WIDTH - LEFT) / 6.2 / max(1, math.ceil(len(names) / every)))
    shown = [k for k in range(len(names)) if (len(names) - 1 - k) % every == 0]
    return [
        f'<text x="{place(k):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{text(_short(names[k], max(3, room)))}</text>'
        for k in shown
    ]


def _ticks(low: float, high: float) -> list[float]:
    step = next(step for step in (0.02, 0.05, 0.1, 0.25, 0.5) if (high - low) / step <= 8 or step == 0.5)
    first = math.ceil(low / step - 1e-9)
    return [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _round_up(value: float, digits: int = 0) -> float:
    """The least "round" number that is no smaller."""
    if value <= 0:
        return 1.0 if digits == 0 else 10.0**-digits
    power = 10.0 ** math.floor(math.log10(value))
    found = next(power * step for step in (1, 2, 4, 5, 8, 10) if power * step >= value * (1 - 1e-9))
    return max(found, 4.0) if digits == 0 else found


def _count(value: float) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.0e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}"


def _figure(value: float, percent: bool) -> str:
    return f"{100 * value:.1f} %" if percent else f"{value:.3f}"


def _short(name: str, room: int = 24) -> str:
    return name if len(name) <= room else name[: room - 1] + "…"

"""A stage of a long command: how much of what is done, and the line that says so.

A collection's `Tally` is a stage, `Counted` is one for everything else (`progress`, `counted`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

Figure = float | int | None

SHARES = ("success", "judged success")
"""Figures in [0, 1], shown in per cent."""


class Stage(Protocol):
    """How far something is.

    Attributes:
        what: its name ("iteration 1 of 2, collect"); empty is "collect".
        unit: what is counted ("episodes"); "bytes" are shown as such.
        total: how many there will be; None where nobody knows.
        done: how many are done, those among them that were done before.
        before: done before this run began; they count for no rate.
        seconds: since it began.
    """

    what: str
    total: int | None

    @property
    def unit(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def before(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    def figures(self) -> Mapping[str, Figure]:
        """Further figures by name, in the order in which they are shown."""
        ...


def rate(stage: Stage) -> float | None:
    """Units a second; None before the first one is done."""
    fresh = stage.done - stage.before
    return fresh / max(stage.seconds, 1e-9) if fresh > 0 else None


def left(stage: Stage) -> float | None:
    """Seconds until the end at the rate so far; None where that is not known yet."""
    speed = rate(stage)
    return None if stage.total is None or speed is None else max(0, stage.total - stage.done) / speed


def line(stage: Stage, *, over: bool = False) -> str:
    """A stage in a line of a log: how many of how many, figures, seconds, rate, time left."""
    unit = "" if stage.unit == "bytes" else f" {stage.unit}"
    parts = [f"{_count(stage)}{unit}", *_figures(stage), _span(stage.seconds)]
    if (speed := rate(stage)) is not None:
        parts.append(_speed(speed, stage.unit))
    if not over and (ahead := left(stage)):
        parts.append(f"{_span(ahead)} left")
    return ", ".join(parts)


def brief(stage: Stage, *, over: bool = False) -> str:
    """The same beside a bar: what matters most comes first, so that a narrow terminal cuts off the least."""
    parts = [_count(stage)]
    if over:
        parts += [*_figures(stage, 0), _span(stage.seconds)]
    else:
        ahead, speed = left(stage), rate(stage)
        parts += [f"{_span(ahead)} left"] if ahead is not None else []
        parts += _figures(stage, 0)
        parts += [_speed(speed, stage.unit)] if speed is not None else []
    return " \u00b7 ".join(parts)


def _count(stage: Stage) -> str:
    def shown(count: int) -> str:
        return _size(count) if stage.unit == "bytes" else str(count)

    return shown(stage.done) + ("" if stage.total is None else f"/{shown(stage.total)}")


def _figures(stage: Stage, digits: int = 1) -> list[str]:
    return [_figure(name, value, digits) for name, value in stage.figures().items()]


def _figure(name: str, value: Figure, digits: int) -> str:
    if value is None:
        return f"- {name}"
    if name in SHARES:
        return f"{100 * value:.{digits}f}% {name}"
    if name == "loss":
        return f"loss {value:.3f}"
    return f"{value:.0f} {name}" if isinstance(value, float) else f"{value} {name}"


def _speed(speed: float, unit: str) -> str:
    if unit == "bytes":
        return f"{_size(round(speed))}/s"
    return f"{speed:.1f} {unit}/s" if speed >= 1 else f"{60 * speed:.1f} {unit}/min"


def _size(count: int) -> str:
    size = float(count)
    for name in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {name}" if name == "B" else f"{size:.1f} {name}"
        size /= 1000
    return f"{size:.2f} GB"


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"

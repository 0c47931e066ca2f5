"""What a comparison says: one standing a method, as a table, as a plot, and as JSON."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from palaestra.trainers.rundir import write_whole
from palaestra.trainers.statistics import Interval


class Bin(BaseModel):
    """Success on the held-out tasks that the start model solves so often (see `difficulty.BINS`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    success: Interval


class Standing(BaseModel):
    """One method in the table.

    Attributes:
        method: its name; `what`: in a line.
        success, score: of the last iteration, over seeds and tasks.
        against: paired difference of success to the reference (the first method), None for the reference itself.
        recovery: success where the start model failed, from the middle of its episodes; None if it was not measured.
        bins: success by how often the start model solves a task.
        seeds: how many; `rollouts`, `trained_tokens`, `model_calls`, `minutes`: means over seeds, of the whole run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    what: str
    success: Interval
    score: Interval
    against: Interval | None
    recovery: Interval | None = None
    bins: tuple[Bin, ...] = ()
    seeds: int
    rollouts: float
    trained_tokens: float
    model_calls: float
    minutes: float


def markdown(standings: Sequence[Standing]) -> str:
    """The tables, and what they say."""
    reference, seeds = standings[0].method, standings[0].seeds
    recovery = any(standing.recovery for standing in standings)
    heads = ["method", "success (95 %)", "score (95 %)", f"against {reference}, points"]
    heads += ["recovery (95 %)"] if recovery else []
    heads += ["rollouts", "model calls", "trained tokens", "minutes"]
    parts = [
        _table(heads, [_cells(standing, recovery) for standing in standings]),
        f"{seeds} seed(s); the last iteration's weights on the same held-out tasks; intervals draw tasks and seeds. "
        "Rollouts, calls, tokens and minutes are means over seeds, of whole runs."
        + (" Recovery: success from a random step of the start model's failed episodes." if recovery else ""),
    ]
    names = list(dict.fromkeys(each.name for standing in standings for each in standing.bins))
    if len(names) > 1:
        counts = {each.name: each.success.clusters for standing in standings for each in standing.bins}
        heads = [f"solved {name} by the start model ({counts[name]} tasks)" for name in names]
        parts += ["By difficulty, success:", _table(["method", *heads], [_bins(each, names) for each in standings])]
    parts.append("\n".join(f"- `{standing.method}`: {standing.what}" for standing in standings))
    return "\n\n".join(parts) + "\n"


def _cells(standing: Standing, recovery: bool) -> list[str]:
    against, recovered = standing.against, standing.recovery
    points = (
        "-" if against is None else f"{100 * against.mean:+.1f} [{100 * against.low:+.1f}, {100 * against.high:+.1f}]"
    )
    return [
        standing.method,
        standing.success.text(percent=True),
        standing.score.text(),
        points,
        *([recovered.text(percent=True) if recovered else "-"] if recovery else []),
        f"{standing.rollouts:,.0f}",
        f"{standing.model_calls:,.0f}",
        f"{standing.trained_tokens:,.0f}",
        f"{standing.minutes:.1f}",
    ]


def _bins(standing: Standing, names: Sequence[str]) -> list[str]:
    found = {each.name: each.success.text(percent=True) for each in standing.bins}
    return [standing.method, *(found.get(name, "-") for name in names)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows))


def write(out: Path, standings: Sequence[Standing]) -> None:
    """Write `comparison.md`, `comparison.json` and `comparison.html`. Raises BadInput where that is not possible."""
    text = markdown(standings)
    write_whole(out / "comparison.md", text.encode())
    rows = "[" + ",\n".join(standing.model_dump_json() for standing in standings) + "]\n"
    write_whole(out / "comparison.json", rows.encode())
    write_whole(out / "comparison.html", _page(standings, text).encode())


def _page(standings: Sequence[Standing], text: str) -> str:
    """One file that needs nothing else: success of every method with its interval, and the table."""
    height, left, width = 34, 180, 480
    marks = []
    for place, standing in enumerate(standings):
        y = 24 + place * height
        low, mean, high = (
            left + width * value for value in (standing.success.low, standing.success.mean, standing.success.high)
        )
        name = html.escape(standing.method)
        marks.append(
            f'<text x="{left - 10}" y="{y + 5}" text-anchor="end">{name}</text>'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="currentColor" stroke-width="3"/>'
            f'<circle cx="{mean:.1f}" cy="{y}" r="6" fill="currentColor"/>'
        )
    bottom = 24 + len(standings) * height
    ticks = "".join(
        f'<text x="{left + width * share / 100}" y="{bottom + 14}" text-anchor="middle">{share} %</text>'
        for share in (0, 25, 50, 75, 100)
    )
    plot = f'<svg viewBox="0 0 {left + width + 40} {bottom + 24}" role="img">{"".join(marks)}{ticks}</svg>'
    style = "body{font:16px system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}svg{width:100%;font-size:13px}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Comparison</title><style>:root{{color-scheme:light dark}}{style}</style><h1>Comparison</h1>"
        f"<h2>Success on held-out tasks, 95 %</h2>{plot}<pre>{html.escape(text)}</pre></html>"
    )

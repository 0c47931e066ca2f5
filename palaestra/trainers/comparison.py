"""What a comparison says: one standing a method, as a table, as a plot, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from palaestra.trainers.report_page import markdown_cell, markdown_table
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
        seeds: how many; `rollouts`, `model_calls`, `seen_tokens` (ids through the model in all fits), `trained_tokens`
            (those of them with a weight): means over seeds, of the whole run. Time is none of these costs: what runs of
            a seed have in common is made once, by whichever came first.
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
    seen_tokens: float
    model_calls: float


def rows_of(standings: Sequence[Standing]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table; the last five columns are numbers."""
    recovery = any(standing.recovery for standing in standings)
    heads = ["method", "success (95 %)", "score (95 %)", f"against {standings[0].method}, points"]
    heads += ["recovery (95 %)"] if recovery else []
    heads += ["seeds", "rollouts", "model calls", "ids in fits", "trained tokens"]
    return heads, [_cells(standing, recovery) for standing in standings]


def markdown(standings: Sequence[Standing]) -> str:
    """The tables, and what they say."""
    parts = [markdown_table(*rows_of(standings)), lead(standings)]
    names = list(dict.fromkeys(each.name for standing in standings for each in standing.bins))
    if len(names) > 1:
        counts = {each.name: each.success.clusters for standing in standings for each in standing.bins}
        heads = [f"solved {name} by the start model ({counts[name]} tasks)" for name in names]
        parts += [
            "By difficulty, success:",
            markdown_table(["method", *heads], [_bins(each, names) for each in standings]),
        ]
    parts.append(
        "\n".join(f"- `{markdown_cell(standing.method)}`: {markdown_cell(standing.what)}" for standing in standings)
    )
    return "\n\n".join(parts) + "\n"


def lead(standings: Sequence[Standing]) -> str:
    """What the figures are."""
    recovery = any(standing.recovery for standing in standings)
    return (
        f"{standings[0].seeds} seed(s); the last iteration's weights on the same held-out tasks; intervals draw tasks "
        f"and seeds; differences are to {standings[0].method}, task by task. Rollouts, calls and tokens are "
        "means over seeds, of whole runs."
        + (" Recovery: success from a random step of the start model's failed episodes." if recovery else "")
    )


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
        str(standing.seeds),
        f"{standing.rollouts:,.0f}",
        f"{standing.model_calls:,.0f}",
        f"{standing.seen_tokens:,.0f}",
        f"{standing.trained_tokens:,.0f}",
    ]


def _bins(standing: Standing, names: Sequence[str]) -> list[str]:
    found = {each.name: each.success.text(percent=True) for each in standing.bins}
    return [standing.method, *(found.get(name, "-") for name in names)]


def write(out: Path, standings: Sequence[Standing]) -> None:
    """Write `comparison.md`, `comparison.json` and `comparison.html`. Raises BadInput where that is not possible."""
    from palaestra.trainers.report_comparison import html, runs

    text = markdown(standings)
    write_whole(out / "comparison.md", text.encode())
    rows = "[" + ",\n".join(standing.model_dump_json() for standing in standings) + "]\n"
    write_whole(out / "comparison.json", rows.encode())
    write_whole(out / "comparison.html", html(standings, runs(out)))

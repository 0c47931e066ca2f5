"""The report of an evaluation: `report.md`, and `report.html` in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from palaestra.trainers.evaluate import Evaluation, TaskResult
from palaestra.trainers.recovery import Recovery
from palaestra.trainers.report_page import facts, figure, markdown_cell, markdown_table, page, table
from palaestra.trainers.report_plots import Mark, intervals, points
from palaestra.trainers.report_tables import card_rows
from palaestra.trainers.rundir import write_whole
from palaestra.trainers.statistics import Interval

_TYPES = 40
HEADS = ["policy", "success (95 %)", "score (95 %)", "episodes", "missing", "actions", "invalid", "tokens", "minutes"]


def write_evaluation(
    out: Path, result: Evaluation, *, bins: Mapping[str, Interval] | None = None, recovery: Recovery | None = None
) -> Path:
    """Write `report.md` and `report.html` of what was measured.

    Args:
        bins: success by how often a start model solves a task. recovery: from that model's failures.

    Returns:
        The path of `report.html`.

    Raises:
        BadInput: the directory cannot be written.
    """
    rows = [[kind, *_type_cells(of)] for kind, of in _by_type(result)]
    heads = ["task type", "tasks", "episodes", "won", "success", "score"]
    parts = [f"# {markdown_cell(_title(result))}", markdown_table(HEADS, [_cells(result)]), "## By task type"]
    parts += [markdown_table(heads, rows), "## Evaluation card", result.card.markdown()]
    write_whole(out / "report.md", ("\n\n".join(parts) + "\n").encode())
    body = [
        facts(
            [
                ("success", f"{100 * result.success.mean:.1f} %"),
                ("score", f"{result.score.mean:.3f}"),
                ("episodes", f"{result.episodes:,}"),
                ("faults left out", f"{result.missing}"),
                ("actions an episode", f"{result.steps:.1f}"),
                ("tokens", f"{result.prompt_tokens + result.completion_tokens:,}"),
                ("minutes", f"{result.minutes:.1f}"),
            ]
        ),
        figure("Success and score", "per cent, 95 % intervals", _figures(result, bins or {}, recovery), wide=True),
        *_improved(result),
        "<h2>By task type</h2>" + table(heads, rows, numbers=range(1, len(heads))),
        "<h2>By task</h2>" + table(["task", "won", "scores", "actions"], [_task(row) for row in result.tasks[:1000]]),
        "<h2>Evaluation card</h2>" + table(["field", "value"], card_rows(result.card)),
    ]
    card = result.card
    told = f"{card.tasks} of {card.split_tasks} tasks of split {card.split}, {card.samples} episode(s) each"
    write_whole(out / "report.html", page(_title(result), f"{told}. Intervals: {card.interval}.", body))
    return out / "report.html"


def _title(result: Evaluation) -> str:
    protocol = f", protocol {result.card.protocol}" if result.card.protocol else ""
    return f"{result.label} on {result.card.env}{protocol}"


def _cells(result: Evaluation) -> list[str]:
    return [
        result.label,
        result.success.text(percent=True),
        result.score.text(),
        str(result.episodes),
        str(result.missing),
        f"{result.steps:.1f}",
        f"{100 * result.invalid:.1f} %",
        f"{result.prompt_tokens + result.completion_tokens:,}",
        f"{result.minutes:.1f}",
    ]


def _by_type(result: Evaluation) -> Iterator[tuple[str, list[TaskResult]]]:
    kinds: dict[str, list[TaskResult]] = {}
    for row in result.tasks:
        kinds.setdefault(row.type, []).append(row)
    yield from kinds.items()


def _type_cells(of: list[TaskResult]) -> list[str]:
    won = [value for row in of for value in row.successes]
    scores = [value for row in of for value in row.scores]
    shares = [f"{100 * sum(won) / len(won):.0f} %", f"{sum(scores) / len(scores):.2f}"] if won else ["-", "-"]
    return [str(len(of)), str(len(won)), str(sum(won)), *shares]


def _figures(result: Evaluation, bins: Mapping[str, Interval], recovery: Recovery | None) -> str:
    rows: list[tuple[str, Interval | None]] = [("success", result.success), ("score, times 100", result.score)]
    rows += [(f"solved {name} at start", found) for name, found in bins.items()]
    rows += [("recovery", recovery.success)] if recovery is not None else []
    return intervals(rows, low=0.0, high=1.0)


def _improved(result: Evaluation) -> list[str]:
    if not result.improved:
        return []
    marks = [Mark(f"k={at.k}", at.score.mean, at.score.low, at.score.high) for at in result.improved]
    what = "score after asking k times to improve, 95 % intervals"
    return ['<div class="plots">' + figure("Self-improvement", what, points(marks, percent=False)) + "</div>"]


def _task(row: TaskResult) -> list[str]:
    won = f"{sum(row.successes)} of {len(row.successes)}" if row.successes else "faults only"
    return [row.task, won, ", ".join(f"{value:.2f}" for value in row.scores), ", ".join(map(str, row.steps))]

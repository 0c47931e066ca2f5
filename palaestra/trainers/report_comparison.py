"""The page of a comparison: who is better by how much, at what cost, and how that was measured."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from palaestra.envs import BadInput
from palaestra.trainers.card import EvaluationCard
from palaestra.trainers.comparison import Standing, lead, rows_of
from palaestra.trainers.evaluate import Evaluation
from palaestra.trainers.report_page import facts, figure, folded, page, table, text
from palaestra.trainers.report_plots import amounts, intervals
from palaestra.trainers.report_tables import card_rows, settings
from palaestra.trainers.rundir import read_record, read_run

_MOST, _NAMED = 200, 5
_COSTS = (
    ("Rollouts", "rollouts", "of a run"),
    ("Model calls", "model_calls", "of a run's own episodes"),
    ("Ids in fits", "seen_tokens", "of a run"),
    ("Tokens trained", "trained_tokens", "of a run"),
)


@dataclass(frozen=True)
class Run:
    """One run of a comparison: its folder's name, what its `run.json` says, and what was measured in its end."""

    name: str
    record: Mapping[str, Any]
    card: EvaluationCard | None


def runs(out: Path) -> list[Run]:
    """The runs in the directory of a comparison that have a report; one that cannot be read is left out."""
    found = []
    for file in sorted(out.glob("*/report.html"))[:_MOST]:
        with contextlib.suppress(BadInput):
            measured = sorted(file.parent.glob("*/evaluation.json"))
            card = read_record(measured[0], Evaluation).card if measured else None
            found.append(Run(file.parent.name, read_run(file.parent), card))
    return found


def html(standings: Sequence[Standing], of: Sequence[Run]) -> bytes:
    """The whole of `comparison.html`."""
    config = of[0].record["config"] if of else {}
    where = f" on {config.get('env')}" if config.get("env") else ""
    names = [each.method for each in standings]
    title = (" against ".join(names) if len(names) <= _NAMED else f"{len(names)} methods against one another") + where
    body = [
        _summary(standings),
        *_intervals(standings),
        f'<h2>What it cost</h2><div class="plots">{"".join(_costs(standings))}</div>',
        "<h2>Table</h2>" + _table(standings),
        *_difficulty(standings),
        "<h2>Methods</h2>" + table(["method", "what it is"], [[each.method, each.what] for each in standings]),
        *_runs(of),
    ]
    return page(title, lead(standings), body)


def _summary(standings: Sequence[Standing]) -> str:
    if len(standings) > _NAMED:
        return ""
    return facts([(f"success, {each.method}", f"{100 * each.success.mean:.1f} %") for each in standings])


def _intervals(standings: Sequence[Standing]) -> list[str]:
    reference = standings[0].method
    against = [each.against for each in standings if each.against is not None]
    most = max(0.1, *(abs(end) for each in against for end in (each.low, each.high))) if against else 0.1
    success = intervals([(each.method, each.success) for each in standings], low=0.0, high=1.0)
    score = intervals([(each.method, each.score) for each in standings], low=0.0, high=1.0)
    paired = intervals([(each.method, each.against) for each in standings], low=-most, high=most, zero=True)
    plots = [
        figure("Success", "on held-out tasks, per cent, with 95 % intervals", success, wide=True),
        figure("Difference", f"of success to {reference}, paired by task and seed, in points", paired, wide=True),
        figure("Score", "on held-out tasks, times 100, with 95 % intervals", score, wide=True),
    ]
    if any(each.recovery for each in standings):
        recovery = intervals([(each.method, each.recovery) for each in standings], low=0.0, high=1.0)
        what = "success from a random step of the start model's failed episodes, per cent"
        plots.append(figure("Recovery", what, recovery, wide=True))
    return plots


def _costs(standings: Sequence[Standing]) -> list[str]:
    return [
        figure(title, what, amounts([(each.method, float(getattr(each, name))) for each in standings]))
        for title, name, what in _COSTS
    ]


def _table(standings: Sequence[Standing]) -> str:
    heads, rows = rows_of(standings)
    return table(heads, rows, numbers=range(len(heads) - 5, len(heads)))


def _difficulty(standings: Sequence[Standing]) -> list[str]:
    names = list(dict.fromkeys(each.name for standing in standings for each in standing.bins))
    if len(names) < 2:
        return []
    parts = ["<h2>By difficulty</h2><p>Success by how often the start model solves a task.</p>"]
    for name in names:
        found = [(each.method, next((b.success for b in each.bins if b.name == name), None)) for each in standings]
        tasks = max(interval.clusters for _, interval in found if interval is not None)
        parts.append(figure(f"Solved {name}", f"{tasks} tasks", intervals(found, low=0.0, high=1.0), wide=True))
    return parts


def _runs(of: Sequence[Run]) -> list[str]:
    if not of:
        return []
    links = "".join(f'<li><a href="{quote(run.name)}/report.html">{text(run.name)}</a></li>' for run in of)
    first = of[0]
    told = [fact for run in of for fact in run.record["commands"]]
    versions = [", ".join(f"{name} {number}" for name, number in each.items()) for each in first.record["versions"]]
    parts = [f"<h2>Runs</h2><ul>{links}</ul>"]
    parts += [f"<p><code>{text(each)}</code></p>" for each in dict.fromkeys([*told, *versions])]
    parts.append(folded(f"Settings of {first.name}", table(["key", "value"], list(settings(first.record["config"])))))
    if first.card is not None:
        parts.append(folded("Evaluation card", table(["field", "value"], card_rows(first.card))))
    return parts

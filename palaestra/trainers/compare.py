"""Methods against one another: same tasks, same start model, equal rollouts, equal training tokens, several seeds.

Every (method, seed) is a run of its own in the comparison's directory, so a comparison goes on where it was killed. The
intervals draw tasks and seeds, both with replacement: with three seeds the spread between seeds is part of the answer.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from palaestra.envs import BadInput
from palaestra.trainers.config import config_of
from palaestra.trainers.evaluate import Evaluation
from palaestra.trainers.methods import Contestant
from palaestra.trainers.recipe import Recipe
from palaestra.trainers.report import rounds
from palaestra.trainers.rundir import write_whole
from palaestra.trainers.statistics import DRAWS, LEVEL, Interval

Values = Mapping[int, Mapping[str, Sequence[float]]]
"""Of each seed, the values of each task."""


class Standing(BaseModel):
    """One method in the table.

    Attributes:
        method: its name; `what`: in a line.
        success, score: of the last iteration, over seeds and tasks.
        against: paired difference of success to the reference, None for the reference itself.
        seeds: how many; `rollouts`, `trained_tokens`, `model_calls`, `minutes`: means over seeds, of the whole run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    what: str
    success: Interval
    score: Interval
    against: Interval | None
    seeds: int
    rollouts: float
    trained_tokens: float
    model_calls: float
    minutes: float


def compare_methods(
    contestants: Sequence[Contestant],
    settings: Mapping[str, Any],
    out: Path,
    *,
    seeds: Sequence[int],
    own: Mapping[str, Mapping[str, Any]] | None = None,
    run: Callable[[Recipe[Any]], object] = lambda recipe: recipe.train(),
    **rest: Any,
) -> list[Standing]:
    """Run all methods under all seeds, or go on with it, and write `comparison.md`, `.html` and `.json`.

    Args:
        contestants: the first one is the reference of the paired differences.
        settings: of all: env, model, tasks, budget, experts, objective (give it `tokens`), evaluation, ...
        out: directory of the comparison.
        seeds: each is a run of each method.
        own: further settings by method's name.
        run: trains a recipe. rest: arguments of every recipe (concurrency, progress).

    Returns:
        One standing a method, in order.

    Raises:
        BadInput: fewer than two methods, no `budget`, no `objective.tokens`, or what a method itself refuses; before
            any method has begun.
    """
    recipes = _recipes(contestants, settings, out, seeds, own or {}, rest)
    ends: dict[str, dict[int, Path]] = {}
    for (name, seed), recipe in recipes.items():
        run(recipe)
        ends.setdefault(name, {})[seed] = recipe.out
    reference = {seed: _last(path) for seed, path in ends[contestants[0].name].items()}
    standings = [_standing(each, ends[each.name], reference) for each in contestants]
    _write(out, standings, contestants[0].name, len(seeds))
    return standings


def _recipes(
    contestants: Sequence[Contestant],
    settings: Mapping[str, Any],
    out: Path,
    seeds: Sequence[int],
    own: Mapping[str, Mapping[str, Any]],
    rest: Mapping[str, Any],
) -> dict[tuple[str, int], Recipe[Any]]:
    if len(contestants) < 2 or len({each.name for each in contestants}) < len(contestants):
        raise BadInput("a comparison needs at least two different methods")
    if settings.get("budget") is None or settings.get("samples") is not None:
        raise BadInput("a comparison is at equal rollouts: give 'budget', not 'samples'")
    if not (settings.get("objective") or {}).get("tokens"):
        raise BadInput("a comparison is at equal training tokens: give 'objective.tokens' (ids of each fit)")
    recipes: dict[tuple[str, int], Recipe[Any]] = {}
    for seed in seeds:
        for each in contestants:
            budget = max(1, round(settings["budget"] * each.share))
            whole = {**settings, **own.get(each.name, {}), **each.fixed, "budget": budget, "seed": seed}
            config = config_of(each.recipe.config_type, whole)
            recipes[each.name, seed] = each.recipe(config, out / f"{each.name}-{seed}", **rest)
    return recipes


def _last(run: Path) -> Evaluation:
    return rounds(run)[-1].evaluation


def _standing(each: Contestant, runs: Mapping[int, Path], reference: Mapping[int, Evaluation]) -> Standing:
    found = {seed: rounds(path) for seed, path in runs.items()}
    last = {seed: done[-1].evaluation for seed, done in found.items()}
    own = reference is not None and all(last[seed] == reference[seed] for seed in last)
    fits = [one.fit for done in found.values() for one in done if one.fit]
    count = len(found)
    return Standing(
        method=each.name,
        what=each.what,
        success=two_way({seed: _successes(e) for seed, e in last.items()}, (0.0, 1.0)),
        score=two_way({seed: {row.task: row.scores for row in e.tasks} for seed, e in last.items()}, (0.0, 1.0)),
        against=None if own else two_way(_differences(reference, last), (-1.0, 1.0)),
        seeds=count,
        rollouts=sum(one.plan.rollouts for done in found.values() for one in done if one.plan) / count,
        trained_tokens=sum(fit.tokens_trained for fit in fits) / count,
        model_calls=sum(_calls(path) for path in runs.values()) / count,
        minutes=sum(one.minutes for done in found.values() for one in done) / count,
    )


def _calls(run: Path) -> int:
    """Model calls of a run's own rollouts: what evaluation asked is not among them."""
    from palaestra.agents.store import EpisodeStore

    with EpisodeStore(run / "episodes.sqlite", mode="r") as store:
        return sum(head.n_turns for head in store.heads(actor="policy") if head.iteration)


def _successes(evaluation: Evaluation) -> dict[str, list[float]]:
    return {row.task: [float(won) for won in row.successes] for row in evaluation.tasks}


def _differences(before: Mapping[int, Evaluation], after: Mapping[int, Evaluation]) -> Values:
    found: dict[int, dict[str, list[float]]] = {}
    for seed in after:
        if differing := before[seed].card.comparable(after[seed].card):
            raise BadInput(f"runs of seed {seed} cannot be compared: their cards differ in {', '.join(differing)}")
        first, second = _successes(before[seed]), _successes(after[seed])
        both = [task for task in second if first.get(task) and second[task]]
        found[seed] = {task: [float(np.mean(second[task]) - np.mean(first[task]))] for task in both}
    return found


def two_way(values: Values, bounds: tuple[float, float], draws: int = DRAWS, level: float = LEVEL) -> Interval:
    """Mean over seeds and tasks, with a percentile bootstrap that draws both (Owen 2007, "The pigeonhole bootstrap").

    With a single seed only tasks are drawn. Where nothing varies the interval is widened as `statistics.interval` does.

    Args:
        values: of each seed, the values of each task. bounds: smallest and largest possible value.

    Raises:
        BadInput: there are no values.
    """
    tasks = sorted({task for of in values.values() for task, found in of.items() if len(found)})
    if not tasks:
        raise BadInput("there are no episodes to average over")
    table = np.array([[np.mean(of[task]) if of.get(task) else np.nan for task in tasks] for of in values.values()])
    mean, tail = float(np.nanmean(table)), (1 - level) / 2
    if np.nanmax(table) == np.nanmin(table):
        other = 1 - tail ** (1 / len(tasks))
        low, high = (float((1 - other) * mean + other * bound) for bound in bounds)
        return Interval(mean=mean, low=low, high=high, clusters=len(tasks), level=level)
    rng = np.random.Generator(np.random.PCG64(0))
    means = np.empty(draws)
    for draw in range(draws):
        rows = rng.integers(0, len(table), len(table))
        columns = rng.integers(0, len(tasks), len(tasks))
        means[draw] = np.nanmean(table[np.ix_(rows, columns)])
    low, high = (float(bound) for bound in np.nanquantile(means, [tail, 1 - tail]))
    return Interval(mean=mean, low=low, high=high, clusters=len(tasks), level=level)


# -- what is written ---------------------------------------------------------------------------------------------------

HEADS = ("method", "success (95 %)", "score (95 %)", "against", "rollouts", "model calls", "trained tokens", "minutes")


def _cells(standing: Standing) -> list[str]:
    against = standing.against
    points = (
        "-" if against is None else f"{100 * against.mean:+.1f} [{100 * against.low:+.1f}, {100 * against.high:+.1f}]"
    )
    return [
        standing.method,
        standing.success.text(percent=True),
        standing.score.text(),
        points,
        f"{standing.rollouts:,.0f}",
        f"{standing.model_calls:,.0f}",
        f"{standing.trained_tokens:,.0f}",
        f"{standing.minutes:.1f}",
    ]


def markdown(standings: Sequence[Standing], reference: str, seeds: int) -> str:
    """The table, and what it says."""
    heads = [head if head != "against" else f"against {reference}, points" for head in HEADS]
    lines = [heads, ["---"] * len(heads), *(_cells(standing) for standing in standings)]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    what = "\n".join(f"- `{standing.method}`: {standing.what}" for standing in standings)
    return (
        f"{table}\n\n{seeds} seed(s); the last iteration's weights on the same held-out tasks; intervals draw tasks "
        f"and seeds. Rollouts, calls, tokens and minutes are means over seeds, of whole runs.\n\n{what}\n"
    )


def _write(out: Path, standings: Sequence[Standing], reference: str, seeds: int) -> None:
    text = markdown(standings, reference, seeds)
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

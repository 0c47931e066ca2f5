"""Means with bootstrap intervals, over tasks and over clusters of tasks.

Episodes of one task are not independent of each other, so whole tasks are drawn, never single episodes (cluster
bootstrap, Davison & Hinkley 1997, section 3.8); likewise whole task types where the question is how another type
would go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from palaestra.envs import BadInput

DRAWS = 10_000
LEVEL = 0.95

Values = Mapping[int, Mapping[str, Sequence[float]]]
"""Of each seed, the values of each task."""


class Interval(BaseModel):
    """A mean and its interval.

    Attributes:
        mean: over all episodes.
        low, high: percentile bootstrap bounds.
        clusters: number of units that were drawn.
        level: nominal coverage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    low: float
    high: float
    clusters: int
    level: float = LEVEL

    def text(self, percent: bool = False) -> str:
        """`0.42 [0.31, 0.55]`, or in per cent."""
        if percent:
            return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval(
    clusters: Mapping[str, Sequence[float]],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Mean over all values, with a percentile bootstrap interval over the clusters.

    Where all clusters have the same mean the bootstrap would claim certainty, after three tasks as after three
    thousand. There, the exact binomial bound stands in: with n clusters all alike, at most a share b = 1 -
    (alpha/2)^(1/n) of others would differ at this level, by as much as `bounds` allow (for 0 of n successes this is
    Clopper-Pearson's bound).

    Args:
        clusters: values of each cluster (all episodes of a task, or of a task type).
        bounds: smallest and largest possible value.

    Raises:
        BadInput: there are no values.
    """
    filled = [np.asarray(values, dtype=np.float64) for values in clusters.values() if len(values)]
    if not filled:
        raise BadInput("there are no episodes to average over")
    sums = np.array([values.sum() for values in filled])
    counts = np.array([len(values) for values in filled], dtype=np.float64)
    mean = float(sums.sum() / counts.sum())
    count, tail = len(filled), (1 - level) / 2
    if np.ptp(sums / counts) == 0:
        other = 1 - tail ** (1 / count)
        low, high = (float((1 - other) * mean + other * bound) for bound in bounds)
        return Interval(mean=mean, low=low, high=high, clusters=count, level=level)
    rng = np.random.Generator(np.random.PCG64(seed))
    means = np.empty(draws)
    for start in range(0, draws, 500):  # at most 500 x clusters numbers at once
        drawn = rng.integers(0, count, (min(500, draws - start), count))
        means[start : start + len(drawn)] = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = (float(bound) for bound in np.quantile(means, [tail, 1 - tail]))
    return Interval(mean=mean, low=low, high=high, clusters=count, level=level)


def paired(
    before: Mapping[str, Sequence[float]],
    after: Mapping[str, Sequence[float]],
    *,
    cluster_of: Mapping[str, str] | None = None,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Mean difference after - before over the tasks that both have, with a bootstrap interval.

    Tasks are compared with themselves, so that easy and hard ones do not add noise.

    Args:
        before, after: values in [0, 1] of each task.
        cluster_of: a coarser unit to draw, such as the task type; None draws tasks.

    Raises:
        BadInput: no task is in both.
    """
    common = [task for task in before if task in after and len(before[task]) and len(after[task])]
    if not common:
        raise BadInput("the two evaluations have no task in common, so there is no paired difference")
    differences: dict[str, list[float]] = {}
    for task in common:
        unit = cluster_of[task] if cluster_of is not None else task
        differences.setdefault(unit, []).append(float(np.mean(after[task]) - np.mean(before[task])))
    return interval(differences, bounds=(-1.0, 1.0), draws=draws, level=level, seed=seed)


def two_way(values: Values, bounds: tuple[float, float], draws: int = DRAWS, level: float = LEVEL) -> Interval:
    """Mean over seeds and tasks, with a percentile bootstrap that draws both (Owen 2007, "The pigeonhole bootstrap").

    With a single seed only tasks are drawn. Where nothing varies the interval is widened as `interval` does.

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
    drawn = [(rng.integers(0, len(table), len(table)), rng.integers(0, len(tasks), len(tasks))) for _ in range(draws)]
    seeds, columns = (
        _counts(np.stack(part), size) for part, size in zip(zip(*drawn, strict=True), table.shape, strict=True)
    )
    known = ~np.isnan(table)
    sums, cells = ((seeds @ each * columns).sum(axis=1) for each in (np.where(known, table, 0.0), known.astype(float)))
    means = np.divide(sums, cells, out=np.full(draws, np.nan), where=cells > 0)
    low, high = (float(bound) for bound in np.nanquantile(means, [tail, 1 - tail]))
    return Interval(mean=mean, low=low, high=high, clusters=len(tasks), level=level)


def _counts(drawn: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """How often each of `size` places was drawn, [draws, size], of the places that were, [draws, any]."""
    places = drawn + np.arange(len(drawn))[:, None] * size
    return np.bincount(places.ravel(), minlength=len(drawn) * size).reshape(len(drawn), size)

"""Recovery: can a policy still win where another one was about to lose.

The start model's failed episodes are cut at a random step and the policy goes on from there (the recovery test of
Agent-R, Yuan et al., arXiv 2501.11425). All policies that are measured against one another go on from
the same steps: they follow from the failed episodes and the seed alone. The environment's own step cap holds, what was
done before the cut included.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from palaestra.agents.collect import collect, planned_keys
from palaestra.agents.episode import Episode, Start, episode_id
from palaestra.agents.policy import Policy
from palaestra.agents.ray_cluster import RayCluster
from palaestra.agents.store import EpisodeStore
from palaestra.trainers.evaluate import Cluster, Evaluation, TaskResult, type_of
from palaestra.trainers.phases import Record
from palaestra.trainers.statistics import Interval, interval


class Recovery(Record):
    """How a policy goes on where another one failed.

    Attributes:
        of: whose failures; `by`: who went on.
        success, score: means with intervals; None where there was no failure that could be cut.
        failures: failed episodes that were cut. Those of fewer than two actions have no middle.
        tasks: one row a task with a failure.
    """

    of: str
    by: str
    success: Interval | None
    score: Interval | None
    failures: int
    tasks: tuple[TaskResult, ...]


def cut(failures: Sequence[Episode], seed: int) -> list[Start]:
    """Of each failed episode a step inside it, drawn by the seed: at least its first action was taken, its last not."""
    starts = []
    for episode in failures:
        if len(episode.turns) >= 2 and not episode.success and not episode.outcome.is_fault:
            step = random.Random(f"{seed}|{episode.id}").randrange(1, len(episode.turns))
            starts.append(episode.fork(episode.start.fork_step + step))
    return starts


def recover(
    before: Evaluation,
    store: EpisodeStore,
    policy: Policy,
    *,
    cluster: Cluster = "task",
    seed: int = 0,
    ray: RayCluster | None = None,
    **collecting: Any,
) -> Recovery:
    """Let a policy go on inside the failed episodes of an evaluation.

    Args:
        before: the evaluation whose failures are cut; its episodes are in `store`.
        policy: who goes on.
        cluster: what the intervals draw.
        ray: where to collect, if not on this machine.
        seed, collecting: see `collect`.

    Raises:
        TooManyFaults, Interrupted: see `collect`.
    """
    ids = [id for row in before.tasks for id, won in zip(row.episodes, row.successes, strict=True) if not won]
    starts = cut([store.get(id) for id in ids], seed)
    recipe = f"recovery-{seed}"
    collect(starts, policy, store, **{**collecting, "recipe": recipe, "seed": seed, "cluster": ray})
    found: dict[str, list[Episode]] = {start.task.name: [] for start in starts}
    for key in planned_keys([(start, 1) for start in starts], policy, recipe=recipe):
        if store.has(key):
            episode = store.get(episode_id(key))
            found[episode.start.task.name].append(episode)
    rows = tuple(
        TaskResult(
            task=name,
            type=type_of(name),
            successes=tuple(e.success for e in done),
            scores=tuple(e.score for e in done),
            steps=tuple(len(e.turns) for e in done),
            episodes=tuple(e.id for e in done),
        )
        for name, done in found.items()
    )
    successes: dict[str, list[float]] = {}
    scores: dict[str, list[float]] = {}
    for row in rows:
        unit = row.task if cluster == "task" else row.type
        successes.setdefault(unit, []).extend(float(won) for won in row.successes)
        scores.setdefault(unit, []).extend(row.scores)
    return Recovery(
        of=before.label,
        by=policy.name,
        success=interval(successes) if any(successes.values()) else None,
        score=interval(scores) if any(scores.values()) else None,
        failures=len(starts),
        tasks=rows,
    )

"""K-step self-improvement (ExIt, arXiv 2509.04575): score after asking K times to improve on the latest attempt.

An attempt is a whole episode; to improve on it is to fork it at its first turn, with a note of what was done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from palaestra.agents.collect import collect, planned_keys
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Episode, Start, episode_id
from palaestra.agents.policy import Policy
from palaestra.agents.store import EpisodeStore
from palaestra.trainers.self_iteration import RECALLED, again
from palaestra.trainers.statistics import Interval, interval, paired


class Improvement(BaseModel):
    """After k improvements.

    Attributes:
        k: 0 is the first attempt.
        success, score: means over the attempts whose chain broke nowhere, with intervals over tasks.
        change: of the score against k = 0 in the same chains, paired by task; 0 for k = 0.
        episodes: attempts that count; those of all k belong to the same chains.
        scores: of the attempts, by task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int
    success: Interval
    score: Interval
    change: Interval
    episodes: int
    scores: dict[str, tuple[float, ...]] = {}


def improvements(
    firsts: Mapping[str, Sequence[Episode]],
    policy: Policy,
    store: EpisodeStore,
    times: int,
    *,
    conversation: Conversation,
    recipe: str,
    recall: int = RECALLED,
    **collecting: Any,
) -> tuple[Improvement, ...]:
    """Ask `times` times to improve on each episode, always on the latest attempt.

    Args:
        firsts: first attempts, by task. Attempts already in the store are not made again.
        recall: turns of the latest attempt that are shown.
        conversation, recipe, collecting: see `collect`.

    Returns:
        One entry for each k from 0 to `times`; empty when no chain came through.

    Raises:
        BadInput, TooManyFaults: see `collect`.
    """
    chains = [(name, [episode]) for name, found in firsts.items() for episode in found if episode.turns]
    for _ in range(times):
        starts = [_next(chain[-1], store, conversation, recall) for _, chain in chains]
        collect(starts, policy, store, conversation=conversation, recipe=recipe, **collecting)
        keys = [planned_keys([(start, 1)], policy, recipe=recipe)[0] for start in starts]
        chains = [
            (name, [*chain, store.get(episode_id(key))])
            for (name, chain), key in zip(chains, keys, strict=True)
            if store.has(key)
        ]
        chains = [(name, chain) for name, chain in chains if chain[-1].turns]
    if not chains:
        return ()
    before = _by_task(chains, 0, score=True)
    return tuple(
        Improvement(
            k=k,
            success=interval(_by_task(chains, k, score=False)),
            score=interval(_by_task(chains, k, score=True)),
            change=paired(before, _by_task(chains, k, score=True)),
            episodes=len(chains),
            scores={name: tuple(found) for name, found in _by_task(chains, k, score=True).items()},
        )
        for k in range(times + 1)
    )


def _next(latest: Episode, store: EpisodeStore, conversation: Conversation, recall: int) -> Start:
    return again(store.path(latest.id), latest.start.fork_step, "improve", conversation, recall)


def _by_task(chains: Sequence[tuple[str, Sequence[Episode]]], k: int, *, score: bool) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for name, chain in chains:
        found.setdefault(name, []).append(chain[k].score if score else float(chain[k].success))
    return found

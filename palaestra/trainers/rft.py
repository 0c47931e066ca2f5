"""RFT: rejection-sampling fine-tuning on the agent's own successes (methods: Yuan et al. 2023, arXiv 2308.01825; as the
ReST-EM loop, Singh et al. 2023, arXiv 2312.06585; as an agent baseline in ETO, arXiv 2403.02502).

    D_pos = successful expert episodes;  pi_1 = SFT(pi_0, D_pos)
    for i = 1..I:  roll out pi_i on the training tasks, keep what won, drop doubles;  pi_{i+1} = SFT(start, D_pos +
    kept)
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from palaestra.agents.episode import Episode
from palaestra.trainers.config import RecipeConfig
from palaestra.trainers.recipe import Recipe
from palaestra.trainers.sample import Sample


class RFTConfig(RecipeConfig):
    """What is RFT's own.

    Attributes:
        threshold: keep episodes with at least this final score, the experts' too; None keeps successes.
        data: learn from all iterations so far, or from the experts and the latest one only.
        start: fit from pi_0 each time (ReST-EM, less drift) or from the weights of the iteration before (as ETO does).
        per_task: at most so many of the agent's own episodes of a task are kept; None keeps all, as the papers do.
        prefer: which ones, if there are more: the shortest, or drawn by the seed.
        task_weight: "uniform" weighs every episode the same; "inverse" gives each 1 / (episodes kept of its task), so
            that easy tasks do not drown the others.
        drop_invalid: leave out episodes, the experts' too, with an action that was not understood.
    """

    threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    data: Literal["cumulative", "latest"] = "cumulative"
    start: Literal["base", "previous"] = "base"
    per_task: int | None = Field(default=None, ge=1)
    prefer: Literal["shortest", "random"] = "random"
    task_weight: Literal["uniform", "inverse"] = "uniform"
    drop_invalid: bool = False


class RFT(Recipe[RFTConfig]):
    """Rejection-sampling fine-tuning."""

    name = "rft"
    config_type = RFTConfig

    def base(self, iteration: int) -> str:
        return self.config.model if self.config.start == "base" else self.model(iteration - 1)

    def mine(self, iteration: int) -> list[Sample]:
        chosen = self.chosen(iteration)
        of_task = Counter(_task(episode) for episode, _ in chosen)
        inverse = self.config.task_weight == "inverse"
        return [
            sample
            for episode, kind in chosen
            for sample in self.taught(episode, kind, 1 / of_task[_task(episode)] if inverse else 1.0)
        ]

    def chosen(self, iteration: int) -> list[tuple[Episode, str]]:
        """What is learnt from in an iteration, each with the kind of its samples."""
        config = self.config
        first = iteration if config.data == "latest" else 1
        own = [id for number in range(max(first, 1), iteration + 1) for id in self.collected(number).episodes]
        experts = [self.store.get(id) for id in self.experts() if self._good(id)]  # doubles too, as all methods do
        kept = self.kept(own, cap=config.per_task, known=experts)
        return [*((episode, "expert") for episode in experts), *((episode, "positive") for episode in kept)]

    def taught(self, episode: Episode, kind: str, weight: float) -> list[Sample]:
        """What an episode that is learnt from teaches."""
        return self.samples_of(self.store.path(episode.id), kind=kind, weight=weight)

    def kept(self, ids: Sequence[str], cap: int | None, known: Sequence[Episode] = ()) -> list[Episode]:
        """Those that won, without doubles (the same actions in the same task), at most `cap` a task."""
        seen = {self._acted(episode) for episode in known}
        found: list[Episode] = []
        for id in filter(self._good, ids):
            episode = self.store.get(id)
            if (acted := self._acted(episode)) not in seen:
                seen.add(acted)
                found.append(episode)
        return self.capped(found, cap)

    def capped(self, episodes: Sequence[Episode], cap: int | None) -> list[Episode]:
        """At most `cap` of each task, those that are preferred first."""
        by_task: dict[str, list[Episode]] = {}
        for episode in episodes:
            by_task.setdefault(episode.start.task.id, []).append(episode)
        return [episode for found in by_task.values() for episode in sorted(found, key=self._rank)[:cap]]

    def _good(self, id: str) -> bool:
        """Is an episode good enough to be learnt."""
        head, least = self.store.head(id), self.config.threshold
        if not (head.success if least is None else head.score >= least):
            return False
        return self.clean(self.store.get(id))

    def clean(self, episode: Episode) -> bool:
        """Is there no action in it that `drop_invalid` leaves out."""
        return not self.config.drop_invalid or all(turn.valid for turn in episode.turns)

    def _acted(self, episode: Episode) -> tuple[str, tuple[str, ...]]:
        """What makes two episodes doubles: the task and all actions from its reset on."""
        return episode.start.task.id, self.store.path(episode.id).actions

    def _rank(self, episode: Episode) -> tuple[int, str]:
        """What comes first is kept first: the shortest, or an order drawn by seed and id."""
        drawn = hashlib.blake2b(f"{self.config.seed}|{episode.id}".encode(), digest_size=8).hexdigest()
        return (len(episode.turns) if self.config.prefer == "shortest" else 0, drawn)


def _task(episode: Episode) -> tuple[str, int]:
    """What makes two episodes of one task, one of them imagined, it may be: `Task.id` tells the two worlds apart."""
    task = episode.start.task
    return task.name, task.seed

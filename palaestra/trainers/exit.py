"""ExIt: exploratory iteration (Jiang et al., arXiv 2509.04575): GRPO whose tasks are also its own earlier attempts.

    B = {}
    for i = 1, 2, ...:  for each of the iteration's groups:
            with probability p, once |B| >= minimum:  a step of an earlier rollout, drawn by softmax(kappa * score),
                and the rollouts take that turn again, asked to DIVERGE with probability p_div, else to IMPROVE
            else:  a task, drawn uniformly
        the score of what was played: the variance of its group's returns
        a GRPO step, advantages multiplied by how far each answer lies from the others (the diversity bonus)
        one rollout of each group, drawn by the seed, goes into B with each of its turns and the group's score;
            a full B gives up its lowest score for one that is not lower

Here a turn of the paper is a turn of the agent, and an earlier attempt is a stored episode: taking a turn again is a
fork of that episode at that turn, with a note of what was done there. The defaults are the paper's for tool use, and
those of maths where these are not given (the KL term) or cost twice (one pass over a batch, not two); kappa is ours
(the paper has none). The reward of taking a turn again is the
paper's general rule, max(0, new - old) / (1 - old), and the task's own reward when diverging or when the old one cannot
be bettered; "task" takes the task's own reward always, as the paper did in maths and tool use. Of a group's rollouts
the paper does not say which one lives on. Turns before a fork belong to the episode it left, which had its own chance.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from palaestra.agents.episode import Episode
from palaestra.envs import BadInput
from palaestra.trainers.embed import diversity, embedder_of
from palaestra.trainers.grpo import GRPO, Grade, Group, GRPOConfig
from palaestra.trainers.self_iteration import RECALLED, Again, again
from palaestra.trainers.task_buffer import Played, TaskBuffer


class ExItConfig(GRPOConfig):
    """What is ExIt's own.

    Attributes:
        capacity, minimum: N, the entries of the buffer; from how many on it is drawn from.
        p: the probability that a group begins at an entry of the buffer.
        p_div: the probability that it then is asked to diverge.
        kappa: how much scores (0 to 0.25) count when an entry is drawn; 0 not at all.
        ask: ask to improve and to diverge, or only "continue" from the entry (the paper's curriculum).
        gain: the reward of an attempt to improve: "improvement", or the "task"'s own, as one to diverge always has.
        embedder: of the diversity bonus (see `embedder_of`); None gives no bonus.
        floor: least spread of distances that the bonus divides by.
        recall: turns of the earlier attempt that are shown at the most.
        entries: what of a rollout goes into the buffer: each of its turns ("turns"), or its first turn alone ("whole"),
            so that whole attempts are taken again, as in the paper's domains of a single turn, and as K-step
            self-improvement asks (`improvements`).
    """

    capacity: int = Field(default=640, ge=1)
    minimum: int = Field(default=320, ge=1)
    p: float = Field(default=0.5, ge=0.0, le=1.0)
    p_div: float = Field(default=0.5, ge=0.0, le=1.0)
    kappa: float = Field(default=10.0, ge=0.0)
    ask: Literal["again", "continue"] = "again"
    gain: Literal["improvement", "task"] = "improvement"
    embedder: str | None = "minilm"
    floor: float = Field(default=0.1, gt=0.0)
    recall: int = Field(default=RECALLED, ge=1)
    entries: Literal["turns", "whole"] = "turns"

    @model_validator(mode="after")
    def _reachable(self) -> ExItConfig:
        if self.minimum > self.capacity:
            raise ValueError(f"the buffer holds at most capacity={self.capacity}, so minimum={self.minimum} never is")
        return self


class ExIt(GRPO[ExItConfig]):
    """Exploratory iteration."""

    name = "exit"
    inside = True
    config_type = ExItConfig

    def check(self, *, template: bool = True) -> None:
        super().check(template=template)
        if self.config.embedder is not None:
            embedder_of(self.config.embedder)
        if self.config.p > 0:
            self._must_fill()

    def _must_fill(self) -> None:
        """Refuse a budget with which the buffer is never drawn from, however long episodes are: that would be GRPO."""
        config, left, groups = self.config, self.config.budget or 0, 0
        for number in range(1, self.iterations):  # what the last one played is never begun at
            rollouts = self.share(number, left)
            groups, left = groups + rollouts // config.group, left - rollouts
        caps = [self.env.step_cap(task) for task in self.tasks]
        each = 1 if config.entries == "whole" else max(cap or config.minimum for cap in caps)
        if groups * each < config.minimum:
            raise BadInput(
                f"minimum={config.minimum}: the buffer is never drawn from, as {groups} groups before the last round "
                f"leave {groups * each} entries at the most, and {self.name} without it is grpo; give a lower "
                "'minimum', fewer 'prompts' a round or a larger budget"
            )

    def buffer(self, iteration: int) -> TaskBuffer:
        """The task buffer after an iteration."""
        if iteration == 0:
            return TaskBuffer(capacity=self.config.capacity)
        return self.run.load(f"iteration-{iteration}/buffer.json", TaskBuffer)

    def draw(self, iteration: int, rng: random.Random) -> Group:
        buffer = self.buffer(iteration - 1)
        if len(buffer) < self.config.minimum or rng.random() >= self.config.p:
            return super().draw(iteration, rng)
        entry = buffer.drawn(self.config.kappa, rng)
        start = entry.start
        if self.config.ask == "continue" or start.parent is None:
            return Group(start=start, first=0, size=0, kind="continue", entry=entry)
        kind: Again = "diverge" if rng.random() < self.config.p_div else "improve"
        path = self.store.path(start.parent)
        noted = again(path, start.fork_step, kind, self.config.conversation, self.config.recall)
        return Group(start=noted, first=0, size=0, kind=kind, entry=entry)

    def reward(self, group: Group, episode: Episode) -> float:
        new = self.worth(episode)
        if group.kind != "improve" or self.config.gain == "task" or group.start.parent is None:
            return new
        old = self.worth(self.store.get(group.start.parent))
        return max(0.0, new - old) / (1.0 - old) if old < 1 else new

    def advantages(self, rewards: Sequence[float], episodes: Sequence[Episode]) -> list[float]:
        plain = super().advantages(rewards, episodes)
        if self.config.embedder is None or not any(plain):
            return plain
        said = ["\n".join(turn.completion for turn in episode.turns) for episode in episodes]
        bonus = diversity(embedder_of(self.config.embedder)(said), self.config.floor)
        return [advantage * far for advantage, far in zip(plain, bonus, strict=True)]

    def played(self, iteration: int, grades: Sequence[Grade]) -> None:
        groups = [self._played(iteration, place, grade) for place, grade in enumerate(grades)]
        self.run.save(f"iteration-{iteration}/buffer.json", self.buffer(iteration - 1).after(groups))
        if iteration == self.iterations and not any(g.entry for n in range(1, iteration + 1) for g in self.groups(n)):
            self.run.log("no group began at the buffer, so that this was grpo", minimum=self.config.minimum)

    def _played(self, iteration: int, place: int, grade: Grade) -> Played:
        if len(grade.rewards) < 2:
            return Played()
        rng = random.Random(f"{self.config.seed}|{iteration}|{place}|iterate")
        chosen = self.store.get(rng.choice(grade.episodes))
        steps = range(chosen.start.fork_step, chosen.end_step)[: 1 if self.config.entries == "whole" else None]
        return Played(
            entry=grade.group.entry,
            score=statistics.pvariance(grade.rewards),
            steps=tuple(map(chosen.fork, steps)),
            again=grade.group.kind in ("improve", "diverge"),
        )

"""GRPO over environments (Shao et al. 2024, arXiv 2402.03300), on TRL's loss: see `PolicyGradient`.

    for i = 1, 2, ...:  draw `prompts` tasks uniformly; make `group` rollouts of pi_i from each
        A = (r - mean r of the group) / std r of the group
        pi_{i+1}: a clipped step on what the agent said in these rollouts; all else is context

Where only admissible actions are written (`constrain`), an id that had to follow is context, and ratios are those of
the free model: the others were drawn among fewer ids, which says nothing about the model's own. ExIt (`exit`) is this
with a task buffer.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

from palaestra.agents.episode import Episode, Start
from palaestra.trainers.online import Online, OnlineConfig
from palaestra.trainers.phases import Record
from palaestra.trainers.policy_gradient import Graded
from palaestra.trainers.sample import Sample
from palaestra.trainers.task_buffer import Entry

TINY = 1e-4  # beside the standard deviation, as TRL has it


class GRPOConfig(OnlineConfig):
    """What is GRPO's own.

    Attributes:
        reward: the final score, or 1 for success and 0 for anything else.
        scale: divide advantages by the group's standard deviation, or do not (Dr. GRPO).
        overlong: rollouts with an answer that was cut at max_tokens, or that the context ended, give no gradient
            ("drop", as ExIt does it), or are learnt from as others are ("learn").
    """

    reward: Literal["score", "success"] = "score"
    scale: Literal["std", "none"] = "std"
    overlong: Literal["drop", "learn"] = "drop"


class Group(Record):
    """Rollouts that are compared with one another.

    Attributes:
        start: where they begin; first, size: which samples of that start they are.
        kind: a base "task", or what is done with a step of an earlier rollout: "continue", "improve", "diverge".
        entry: of the task buffer, where the start came from there.
    """

    start: Start
    first: int
    size: int
    kind: str = "task"
    entry: Entry | None = None


class Grade(Record):
    """What became of a group: the episodes that came back, their rewards and advantages."""

    group: Group
    episodes: tuple[str, ...]
    rewards: tuple[float, ...]
    advantages: tuple[float, ...]


class Groups(Record):
    """The plan of an iteration."""

    groups: tuple[Group, ...]


class Grades(Record):
    """The outcome of an iteration, in the order of its plan; mean reward, and share of groups that were all alike.

    `spent`: nothing was learnt from it, as earlier iterations had used up the ids.
    """

    grades: tuple[Grade, ...]
    reward: float | None
    alike: float | None
    spent: bool = False


G = TypeVar("G", bound=GRPOConfig)


class GRPO(Online[G], Generic[G]):
    """Group-relative policy optimisation."""

    name = "grpo"
    config_type = GRPOConfig

    # -- what an iteration plays -------------------------------------------------------------------------------------

    def starts(self, iteration: int, rollouts: int) -> Sequence[tuple[Start, int]]:
        counts: dict[Start, int] = {}
        for group in self.groups(iteration):
            counts[group.start] = counts.get(group.start, 0) + group.size
        return list(counts.items())

    def groups(self, iteration: int) -> tuple[Group, ...]:
        """The groups of an iteration: drawn once, by the seed."""
        file = f"iteration-{iteration}/groups.json"
        if not self.run.has(file):
            whole, rest = divmod(self._plan(iteration).rollouts, self.config.group)
            sizes = [self.config.group] * whole + ([rest] if rest else [])
            drawn: list[Group] = []
            for place, size in enumerate(sizes):
                group = self.draw(iteration, random.Random(f"{self.config.seed}|{iteration}|{place}"))
                first = sum(other.size for other in drawn if other.start == group.start)
                drawn.append(group.model_copy(update={"first": first, "size": size}))
            self.run.save(file, Groups(groups=tuple(drawn)))
        return self.run.load(file, Groups).groups

    def draw(self, iteration: int, rng: random.Random) -> Group:
        """Where a group begins: at a task, all alike likely."""
        return Group(start=Start(task=rng.choice(self.tasks)), first=0, size=0)

    # -- what it teaches ---------------------------------------------------------------------------------------------

    def mine(self, iteration: int) -> list[Sample]:
        if iteration == 0:
            experts = [self.store.path(id) for id in self.experts() if self.store.head(id).success]
            return [sample for path in experts for sample in self.samples_of(path, kind="expert")]
        made = {(e.start, e.sample): e for e in map(self.store.get, self.collected(iteration).episodes)}
        grades: list[Grade] = []
        samples: list[Sample] = []
        for place, group in enumerate(self.groups(iteration)):
            keys = [(group.start, group.first + n) for n in range(group.size)]
            back = [made[key] for key in keys if key in made]  # what broke is in no store, and in no group
            rewards = [self.reward(group, episode) for episode in back]
            pushes = self.advantages(rewards, back)
            for episode, push in zip(back, pushes, strict=True):
                samples += self.graded(episode, push, f"{iteration}/{place}", group.kind)
            ids = tuple(episode.id for episode in back)
            grades.append(Grade(group=group, episodes=ids, rewards=tuple(rewards), advantages=tuple(pushes)))
        told = [reward for grade in grades for reward in grade.rewards]
        alike = [len(set(grade.rewards)) == 1 for grade in grades if grade.rewards]
        reward, same = statistics.fmean(told) if told else None, statistics.fmean(alike) if alike else None
        spent = self.spent(iteration)
        found = Grades(grades=tuple(grades), reward=reward, alike=same, spent=spent)
        self.run.save(f"iteration-{iteration}/grades.json", found)
        self.run.log("graded", iteration=iteration, reward=reward, alike=same)
        self.played(iteration, grades)
        if spent:
            self.run.log("no ids left", iteration=iteration)
            return []
        return (
            samples if any(isinstance(s, Graded) and (s.advantage or self.config.policy.beta) for s in samples) else []
        )

    def reward(self, group: Group, episode: Episode) -> float:
        """What a rollout is worth, in [0, 1]."""
        return self.worth(episode)

    def worth(self, episode: Episode) -> float:
        """The task's own reward of an episode, in [0, 1]."""
        return episode.score if self.config.reward == "score" else float(episode.success)

    def advantages(self, rewards: Sequence[float], episodes: Sequence[Episode]) -> list[float]:
        """How much better than the group each is; 0 for a group of one."""
        if len(rewards) < 2:
            return [0.0] * len(rewards)
        mean = statistics.fmean(rewards)
        unit = statistics.stdev(rewards, mean) + TINY if self.config.scale == "std" else 1.0
        return [(reward - mean) / unit for reward in rewards]

    def graded(self, episode: Episode, advantage: float, group: str, kind: str) -> list[Sample]:
        """What a rollout teaches: its own answers, pushed by its advantage."""
        if self.config.overlong == "drop" and self._overlong(episode):
            return []
        found: list[Sample] = []
        # under `constrain` and a nucleus the log-probs are not the model's own, which the ratios are about
        exact = not self.config.constrain and self.config.sampling.top_p == 1
        for sample in self.samples_of(self.store.path(episode.id), kind=kind, logprobs=True):
            fields: dict[str, Any] = sample.model_dump()
            if self.config.constrain and sample.logprobs:  # an id without a choice has probability 1: nothing to learn
                chosen = zip(sample.weights, sample.logprobs, strict=True)
                fields["weights"] = tuple(weight if logprob else 0.0 for weight, logprob in chosen)
            fields["logprobs"] = tuple(round(x, 5) for x in sample.logprobs) if exact else ()
            if any(fields["weights"]):
                found.append(Graded(**fields, advantage=advantage, group=group))
        return found

    def _overlong(self, episode: Episode) -> bool:
        template = self.acting.template
        said = [turn.tokens.completion for turn in episode.turns if turn.tokens is not None]
        return episode.labels.get("truncated_by") == "context" or not all(template.ends(ids) for ids in said)

    def played(self, iteration: int, grades: Sequence[Grade]) -> None:
        """Called with the outcome of every iteration."""

"""ETO: learning from failures by contrast (Song et al., arXiv 2403.02502).

    pi_1 = SFT(pi_0, successful experts)
    for i = 1..I:
        one rollout of pi_i from s_0 of every task
        pairs: of two episodes of one start, the one that is worth more against the other
        pi_{i+1} = DPO(pi_i, pairs), with pi_i as the reference

In the paper one of the two is the expert's. The released code cuts the rejected one at five turns more than the chosen
one has, which is the default here. Ours: rollouts from states inside the experts' episodes (`forks`), whose pairs share
all that came before as context, and pairs of two rollouts (`chosen`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from palaestra.agents.episode import Start
from palaestra.agents.selection import Head
from palaestra.trainers.config import RecipeConfig
from palaestra.trainers.objective import Objective, Preference
from palaestra.trainers.recipe import Recipe
from palaestra.trainers.sample import Pair, Sample


class ETOConfig(RecipeConfig):
    """What is ETO's own.

    Attributes:
        preference: what the iterations minimise; `objective` is that of cloning the experts. Without `tokens` of its
            own it takes those of `objective`.
        later_beta: beta from the second iteration on (the paper's 0.5 after 0.1); None keeps that of `preference`.
        later_rate: the learning rate from the second iteration on, as a share of the first one's (the paper's 5e-7
            after 1e-6).
        forks: states of every expert episode where rollouts begin besides s_0; 0 is the paper.
        chosen: what may be preferred: what an expert did (as in the paper, or the rollout if it is worth more than the
            expert's), or the best of all that began there.
        gap: how much more the chosen one must be worth: more than this.
        longer: turns of the rejected one beyond those of the chosen one; None compares all of it.
        per_start: pairs of one start and iteration at the most, drawn by the seed; None takes all.
        data: learn from the pairs of this iteration, or of all so far.
    """

    preference: Preference = Preference()
    later_beta: float | None = Field(default=0.5, gt=0)
    later_rate: float = Field(default=0.5, gt=0)
    forks: int = Field(default=0, ge=0)
    chosen: Literal["expert", "best"] = "expert"
    gap: float = Field(default=0.0, ge=0.0, lt=1.0)
    longer: int | None = Field(default=5, ge=0)
    per_start: int | None = Field(default=4, ge=1)
    data: Literal["latest", "cumulative"] = "latest"

    @model_validator(mode="after")
    def _whole_paths(self) -> ETOConfig:
        if self.conversation.window is not None or self.conversation.actions:
            raise ValueError(
                "ETO compares whole episodes, so each must be one transcript: leave conversation.window and "
                "conversation.actions out"
            )
        if self.experts is None and (self.chosen == "expert" or self.forks):
            raise ValueError("ETO prefers what experts did: give 'experts', or set chosen to 'best' and forks to 0")
        return self


class ETO(Recipe[ETOConfig]):
    """Exploration-based trajectory optimisation."""

    name = "eto"
    config_type = ETOConfig

    def beginnings(self) -> Sequence[Start]:
        """Task by task: s_0, then the states of its experts."""
        inner: dict[str, list[Start]] = {}
        for expert in (self.store.get(id) for id in self.experts()) if self.config.forks else ():
            inner.setdefault(expert.start.task.id, []).extend(expert.forks(self.config.forks))
        return [start for task in self.tasks for start in (Start(task=task), *inner.get(task.id, ()))]

    @property
    def inside(self) -> bool:  # type: ignore[override]  # a class attribute where it is always so
        return self.config.forks > 0

    def base(self, iteration: int) -> str:
        return self.config.model if iteration == 0 else self.model(iteration - 1)

    def objective(self, iteration: int) -> Objective:
        if iteration == 0:
            return self.config.objective
        preference, later = self.config.preference, self.config.later_beta
        tokens = preference.tokens or getattr(self.config.objective, "tokens", None)
        beta = later if iteration > 1 and later is not None else preference.beta
        rate = preference.learning_rate * (self.config.later_rate if iteration > 1 else 1)
        return preference.model_copy(update={"tokens": tokens, "beta": beta, "learning_rate": rate})

    def mine(self, iteration: int) -> Sequence[Sample | Pair]:
        if iteration == 0:
            return self.cloned()
        first = iteration if self.config.data == "latest" else 1
        return [pair for number in range(first, iteration + 1) for pair in self._contrasts(number)]

    def _contrasts(self, iteration: int) -> list[Pair]:
        """The pairs of one iteration's rollouts, start by start."""
        rollouts: dict[str, list[Head]] = {}
        for id in self.collected(iteration).episodes:
            head = self.store.head(id)
            rollouts.setdefault(f"{head.parent or head.task} {head.fork_step}", []).append(head)
        experts: dict[str, list[Head]] = {}
        for id in self.experts():
            head = self.store.head(id)
            experts.setdefault(head.task, []).append(head)
        pairs: list[Pair] = []
        for start in self.beginnings():
            own = rollouts.get(f"{start.parent or start.task.id} {start.fork_step}", [])
            of_task = experts.get(start.task.id, [])
            theirs = of_task if start.parent is None else [head for head in of_task if head.id == start.parent]
            pairs += self._of_start(start, own, theirs)
        return pairs

    def _of_start(self, start: Start, own: Sequence[Head], experts: Sequence[Head]) -> list[Pair]:
        """Each of the less worthy ones against the best one that may be preferred, every way of acting once."""
        preferred = experts if self.config.chosen == "expert" else [*experts, *own]
        found: dict[tuple[str, ...], Pair] = {}
        for worse in sorted([*own, *experts], key=self._drawn):
            # a rollout that is worth more than the expert's is preferred to it, as in the paper
            able = [*preferred, *own] if worse in experts else preferred
            better = [head for head in able if head.score > worse.score + self.config.gap]
            acted = self.store.path(worse.id).actions[start.fork_step :]
            if better and acted not in found:
                best = min(better, key=lambda head: (-head.score, head.end_step, head.id))
                for pair in self._pair(start, best, worse):
                    found[acted] = pair
        return list(found.values())[: self.config.per_start]

    def _pair(self, start: Start, better: Head, worse: Head) -> list[Pair]:
        """What follows the start is compared, all before it is context; nothing where one of them said nothing."""
        good, bad = self.store.path(better.id), self.store.path(worse.id)
        end = len(bad.turns) if self.config.longer is None else len(good.turns) + self.config.longer
        chosen = self.samples_of(good, range(start.fork_step, len(good.turns)), kind="chosen")
        rejected = self.samples_of(bad, range(start.fork_step, min(end, len(bad.turns))), kind="rejected")
        kind = "fork" if start.parent else "outcome"
        return [Pair(chosen=one, rejected=other, kind=kind) for one, other in zip(chosen, rejected, strict=False)]

    def _drawn(self, head: Head) -> str:
        return hashlib.blake2b(f"{self.config.seed}|{head.id}".encode(), digest_size=8).hexdigest()

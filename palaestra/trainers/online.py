"""The loop of methods that learn in many short rounds of their own rollouts: budget, measuring, reference, old weights.

A round is a few groups of rollouts and a step or two, so a run has dozens of rounds where RFT has three. It is measured
about four times, and keeps the weights that were measured, the newest, and the reference of the KL term.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import Field, model_validator

from palaestra.envs import BadInput
from palaestra.trainers.config import RecipeConfig
from palaestra.trainers.objective import CrossEntropy, Objective
from palaestra.trainers.phases import Fitted
from palaestra.trainers.policy_gradient import PolicyGradient
from palaestra.trainers.recipe import Recipe


class OnlineConfig(RecipeConfig):
    """What these methods share. `objective` is that of the experts' round, if there is one; `samples` has no place.

    Attributes:
        group: G, rollouts from each start.
        prompts: starts an iteration. The budget then says how many iterations there are; None shares it out over
            `iterations` as other methods do.
        policy: the objective of all rounds after the experts'. Its `tokens` follow from `objective.tokens` where that
            is set (as in a comparison): all fits together then see as many ids as `iterations` fits of `objective`, and
            no more than the last step beyond. A round whose share earlier ones have taken learns nothing.
        refresh, rate: every so many iterations the reference becomes rate * policy + (1 - rate) * reference.
        keep_models: keep the weights of all iterations.
    """

    group: int = Field(default=8, ge=2)
    prompts: int | None = Field(default=16, ge=1)
    policy: PolicyGradient = PolicyGradient()
    refresh: int = Field(default=100, ge=1)
    rate: float = Field(default=1.0, gt=0.0, le=1.0)
    keep_models: bool = False

    @model_validator(mode="after")
    def _on_policy(self) -> OnlineConfig:
        if self.samples is not None or self.budget is None:
            raise ValueError("'group' rollouts are made from a start: give 'budget' (rollouts in all), not 'samples'")
        if self.sampling.temperature == 0:
            raise ValueError("a group that is sampled at temperature 0 is all alike; set sampling.temperature")
        for name in sorted({"temperature", "reference"} & self.policy.model_fields_set):
            raise ValueError(f"policy.{name} follows from the run (sampling.temperature, refresh); leave it out")
        return self


O = TypeVar("O", bound=OnlineConfig)  # noqa: E741


class Online(Recipe[O], Generic[O]):
    """Base of methods that learn in many short rounds."""

    @property
    def iterations(self) -> int:
        config, budget = self.config, self.config.budget or 0
        return config.iterations if config.prompts is None else -(-budget // (config.prompts * config.group))

    def share(self, number: int, left: int) -> int:
        group, prompts = self.config.group, self.config.prompts
        return min(left, group * (prompts or -(-super().share(number, left) // group)))

    def measures(self, number: int, *, last: bool) -> bool:
        """About four times, and the last weights."""
        if number == 0 or (self.config.evaluation.between and number % -(-self.iterations // 4) == 0):
            return True
        return last

    def base(self, iteration: int) -> str:
        return self.config.model if iteration == 0 else self.model(iteration - 1)

    def objective(self, iteration: int) -> Objective:
        config, policy = self.config, self.config.policy
        if iteration == 0:
            return config.objective
        room = self._room(iteration)
        tokens = policy.tokens if room is None else max(1, room)
        reference = self.reference(iteration) if policy.beta and hasattr(self, "run") else None  # no run, no fit
        temperature = config.sampling.temperature
        return policy.model_copy(update={"temperature": temperature, "reference": reference, "tokens": tokens})

    def check(self, *, template: bool = True) -> None:
        super().check(template=template)
        if self._room(1) == 0:
            raise BadInput(
                f"objective.tokens={getattr(self.config.objective, 'tokens', 0)} are less than an id for each of "
                f"{self.iterations} rounds, so that none would learn; give more, or a larger 'prompts' (fewer rounds)"
            )

    def spent(self, iteration: int) -> bool:
        """Are the ids gone that a round may see, as earlier ones had to see more than their share."""
        room = self._room(iteration)
        return room is not None and room < 1

    def _room(self, iteration: int) -> int | None:
        """The ids of a round's fit: its share, less what earlier rounds took beyond theirs; None without a limit."""
        config = self.config
        if config.policy.tokens is not None:
            return None
        if not isinstance(config.objective, CrossEntropy) or config.objective.tokens is None:
            return None
        share, over = config.objective.tokens * config.iterations // self.iterations, 0
        for earlier in range(1, iteration):
            file = f"iteration-{earlier}/fit.json"
            if hasattr(self, "run") and self.run.has(file):
                report = self.run.load(file, Fitted).report
                over = max(0, over + (report.tokens_seen if report else 0) - share)
        return share - over

    def reference(self, iteration: int) -> str:
        """The reference of an iteration's fit: made when the policy was last followed."""
        last = (iteration - 1) // self.config.refresh * self.config.refresh
        if last == 0 or self.config.rate == 1:
            return self.model(last)
        folder = self.run.path / f"iteration-{last}" / "reference"
        if not folder.is_dir():
            from palaestra.trainers.clipped import mix

            mix(self.model(last), self.reference(last), self.config.rate, folder)
        return str(folder)

    def _iteration(self, number: int, label: str) -> None:
        super()._iteration(number, label)
        newest = self.model(number)
        needed = {newest, self.reference(number + 1) if self.config.policy.beta else newest}
        for earlier in range(1, number):
            folder = self.run.path / f"iteration-{earlier}" / "model"
            if str(folder) != newest:
                Path(folder / "optimizer.pt").unlink(missing_ok=True)
            measured = self.run.has(f"iteration-{earlier}/evaluation.json")
            if not (self.config.keep_models or measured or str(folder) in needed):
                shutil.rmtree(folder, ignore_errors=True)

"""The bandit as a text environment: `pull 3` is answered with what arm 3 paid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from palaestra.envs.bandit.families import NOISE, Family
from palaestra.envs.bandit.oracles import ucb_choice
from palaestra.envs.core import Needs, Reply, Task, TextEnv
from palaestra.envs.errors import BadInput

Reward = Literal["strategic", "payoff", "algorithmic"]
Show = Literal["payoff", "table"]

_ACTION = re.compile(r"\s*(?:pull\s+)?(?:arm\s+)?([0-9]{1,3})\s*\.?\s*", re.IGNORECASE)


@dataclass
class State:
    """All of an episode.

    Attributes:
        family, means: the bandit; `means` is hidden from the player, [K].
        rng: draws the noise. One number is drawn at each step, whichever arm is pulled and even if none is, so that
            all branches from a step meet the same luck.
        pulls: arm pulled at each step, counted from 0; None where the action was not understood.
        payoffs: what was paid at each step, as shown (Gaussian payoffs have two decimals); 0 where nothing was pulled.
    """

    family: Family
    means: tuple[float, ...]
    rng: np.random.Generator
    pulls: list[int | None] = field(default_factory=list)
    payoffs: list[float] = field(default_factory=list)

    @property
    def counts(self) -> list[int]:
        """Pulls of each arm so far, [K]."""
        counts = [0] * self.family.arms
        for arm in self.pulls:
            if arm is not None:
                counts[arm] += 1
        return counts

    @property
    def sums(self) -> list[float]:
        """Payoffs of each arm so far, summed, [K]."""
        sums = [0.0] * self.family.arms
        for arm, payoff in zip(self.pulls, self.payoffs, strict=True):
            if arm is not None:
                sums[arm] += payoff
        return sums


def worth(means: Sequence[float], arm: int | None) -> float:
    """What pulling `arm` is worth, in [0, 1]: 1 for the best arm, 0 for the worst or for none."""
    best, worst = max(means), min(means)
    return 0.0 if arm is None else (means[arm] - worst) / (best - worst)


class Bandit(TextEnv[State]):
    """You face several slot machines ("arms"), numbered from 1. Each arm pays a random amount around its own fixed
    mean. The means are hidden. You have a fixed number of pulls; get as much as you can out of all of them together.
    An answer that names no arm wastes a pull. Answer with one arm, for example: pull 2
    """

    # Score: (1 / T) * sum over the pulls so far of `worth`; at the end this is 1 - regret / (T * largest gap). It grows
    # with every good pull and does not depend on luck. Success, told with the last pull: the best arm was pulled more
    # often than any other in the last quarter of the pulls (rounded up), that is, the player found it.

    needs = Needs.NOTHING

    def __init__(self, reward: Reward = "strategic", show: Show = "payoff") -> None:
        """Make a bandit.

        Args:
            reward: of each step: "strategic" (`worth` / T, so that rewards sum up to the score), "payoff" (what was
                paid) or "algorithmic" (1 if the action is the choice of UCB after the same history).
            show: what is told after a pull: its "payoff", or with it a "table" of pulls and mean payoff of every arm.

        Raises:
            BadInput: another value.
        """
        for name, value, allowed in (("reward", reward, get_args(Reward)), ("show", show, get_args(Show))):
            if value not in allowed:
                raise BadInput(f"bandit: {name}={value!r} should be one of {', '.join(allowed)}")
        self.reward, self.show = reward, show

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        family = Family.parse(task.name)
        state = State(family, family.means(rng), rng)
        paid = "1 or 0" if family.kind == "bernoulli" else f"its mean plus noise of standard deviation {NOISE:g}"
        text = f"There are {family.arms} arms: 1 to {family.arms}. A pull pays {paid}. You have {family.horizon} pulls."
        return state, text

    def act(self, state: State, action: str) -> Reply:
        found = _ACTION.fullmatch(action) if len(action) < 100 else None
        arm = int(found[1]) - 1 if found else None
        if arm is not None and not 0 <= arm < state.family.arms:
            arm = None
        advised = ucb_choice(state.family, state.counts, state.sums) if self.reward == "algorithmic" else None
        payoff = self._pay(state, arm)
        state.pulls.append(arm)
        state.payoffs.append(payoff)

        score = sum(worth(state.means, pulled) for pulled in state.pulls) / state.family.horizon
        rewards = {"strategic": None, "payoff": payoff, "algorithmic": float(arm is not None and arm == advised)}
        over = len(state.pulls) >= state.family.horizon
        return Reply(
            self._tell(state, arm, payoff),
            score=min(1.0, score),  # a sum of floats can pass 1 by a hair
            reward=rewards[self.reward],
            success=over and found_best(state.means, state.pulls),
            over=over,
            valid=arm is not None,
        )

    def admissible(self, state: State) -> Sequence[str]:
        return [f"pull {arm + 1}" for arm in range(state.family.arms)]

    def _pay(self, state: State, arm: int | None) -> float:
        if state.family.kind == "bernoulli":
            luck = state.rng.random()
            return float(luck < state.means[arm]) if arm is not None else 0.0
        noise = state.rng.normal(0.0, NOISE)
        return round(state.means[arm] + noise, 2) if arm is not None else 0.0

    def _tell(self, state: State, arm: int | None, payoff: float) -> str:
        done, horizon = len(state.pulls), state.family.horizon
        if arm is None:
            text = f"That names no arm and wasted a pull. Answer like: pull 1 (arms 1 to {state.family.arms})."
        else:
            text = f"Arm {arm + 1} paid {payoff:g}."
        text += f" Pull {done} of {horizon} is done."
        if self.show == "table":
            rows = zip(state.counts, state.sums, strict=True)
            means = (f"{total / count:.2f} on average" if count else "unknown" for count, total in rows)
            text += "".join(
                f"\narm {number}: {count} pulls, {mean}"
                for number, (count, mean) in enumerate(zip(state.counts, means, strict=True), start=1)
            )
        return text


def found_best(means: Sequence[float], pulls: Sequence[int | None]) -> bool:
    """Was the best arm pulled more often than any other in the last quarter of `pulls` (rounded up)."""
    best = max(range(len(means)), key=lambda arm: means[arm])
    late = pulls[-((len(pulls) + 3) // 4) :]
    return all(late.count(best) > late.count(arm) for arm in range(len(means)) if arm != best)

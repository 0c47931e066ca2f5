"""Which bandit tasks there are. A task's name says its family: `bernoulli-k5-gap0.2-h50/17` is number 17 of the
Bernoulli bandits with 5 arms, a gap of 0.2 between the best arm and the next, and 50 pulls.

Everything else of a task (the means, which arm is best, all noise) follows from the task's own generator.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from palaestra.envs.errors import BadInput

Kind = Literal["bernoulli", "gaussian"]

NOISE = 1.0
"""Standard deviation of a Gaussian arm's payoffs."""


@dataclass(frozen=True)
class Family:
    """A family of bandits.

    Attributes:
        kind: how payoffs are drawn: 0 or 1, or from a normal distribution with standard deviation `NOISE`.
        arms: number of arms, K.
        gap: difference between the best arm's mean and the second best's.
        horizon: number of pulls in an episode, T.
    """

    kind: Kind
    arms: int
    gap: float
    horizon: int

    def __str__(self) -> str:
        return f"{self.kind}-k{self.arms}-gap{self.gap:g}-h{self.horizon}"

    @classmethod
    def parse(cls, text: str) -> Family:
        """Read a family, or the family of a task's name. Raises BadInput for any other text."""
        found = re.fullmatch(r"(bernoulli|gaussian)-k(\d{1,3})-gap(\d{1,2}(?:\.\d{1,4})?)-h(\d{1,5})(?:/.*)?", text)
        if found is None:
            raise BadInput(f"{text!r} is no bandit task; they look like 'bernoulli-k5-gap0.2-h50/17'")
        kind: Kind = "bernoulli" if found[1] == "bernoulli" else "gaussian"
        family = cls(kind, int(found[2]), float(found[3]), int(found[4]))
        if family.arms < 2 or family.horizon < 1 or family.gap <= 0 or (kind == "bernoulli" and family.gap > 0.8):
            raise BadInput(f"bandit {text!r} needs 2 arms, 1 pull and a gap above 0 (Bernoulli: at most 0.8) at least")
        return family

    def means(self, rng: np.random.Generator) -> tuple[float, ...]:
        """Draw the means of the arms, [K], in random order.

        The second best arm lies exactly `gap` below the best one and the others uniformly below that: down to 0.05 for
        Bernoulli arms, down to 1 below the second best for Gaussian ones.
        """
        if self.kind == "bernoulli":
            best = rng.uniform(max(0.5, self.gap + 0.1), 0.95)
            floor = 0.05
        else:
            best = rng.uniform(0.0, 2.0)
            floor = best - self.gap - 1.0
        others = rng.uniform(floor, best - self.gap, self.arms - 2)
        return tuple(float(mean) for mean in rng.permutation([best, best - self.gap, *others]))


def names(families: Sequence[str], per_family: int) -> tuple[str, ...]:
    """The task names of a split: `per_family` of each family, families in turn. For splits of your own, too."""
    return tuple(f"{family}/{number}" for number in range(per_family) for family in families)


_TRAIN = ("bernoulli-k3-gap0.2-h50", "bernoulli-k3-gap0.4-h50", "bernoulli-k5-gap0.2-h50", "bernoulli-k5-gap0.4-h50")

SPLITS: dict[str, tuple[tuple[str, ...], int]] = {
    "train": (_TRAIN, 500),
    "dev": (_TRAIN, 50),
    "test": (
        (
            "bernoulli-k5-gap0.2-h50",  # as in training, other instances
            "bernoulli-k10-gap0.2-h50",  # more arms
            "bernoulli-k5-gap0.1-h100",  # smaller gap
            "bernoulli-k5-gap0.2-h300",  # six times the pulls
            "gaussian-k5-gap0.5-h50",  # other payoffs
            "gaussian-k10-gap0.5-h300",  # all of it
        ),
        50,
    ),
}
"""Split -> (families, tasks of each). Training is Bernoulli with 50 pulls; the test families leave it one by one."""

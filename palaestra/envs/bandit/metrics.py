"""How a player explored: regret, suffix failures, the share of the least pulled arm, greediness.

The measures of "Can large language models explore in-context?" (arXiv 2403.15371) and "When Greedy Wins"
(arXiv 2509.24923), computed from nothing but a task and the actions taken in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palaestra.envs.bandit.env import Bandit
from palaestra.envs.core import Task


@dataclass(frozen=True)
class Run:
    """One episode of a bandit.

    Attributes:
        means: hidden means of the arms, [K].
        pulls: arm pulled at each step, counted from 0, [T]; None where the action was not understood.
        payoffs: what was paid at each step, [T].
    """

    means: tuple[float, ...]
    pulls: tuple[int | None, ...]
    payoffs: tuple[float, ...]

    @classmethod
    def of(cls, task: Task, actions: Sequence[str]) -> Run:
        """Play the actions of an episode again. Raises BadInput for a task that is no bandit's."""
        env = Bandit()
        env.replay(task, actions)
        state = env.state
        return cls(state.means, tuple(state.pulls), tuple(state.payoffs))

    @property
    def best(self) -> int:
        """The best arm, counted from 0."""
        return int(np.argmax(self.means))


def cumulative_regret(run: Run) -> NDArray[np.float64]:
    """Pseudo-regret after each step, [T]: sum of (best mean - mean of the pulled arm), in units of payoff.

    A step on which no arm was pulled costs as much as the worst arm.
    """
    best, worst = max(run.means), min(run.means)
    steps = [best - (worst if arm is None else run.means[arm]) for arm in run.pulls]
    return np.cumsum(np.asarray(steps, dtype=np.float64))


def suffix_failure(run: Run, t: int) -> bool:
    """Is the best arm never pulled in steps t..T (counted from 1)."""
    return run.best not in run.pulls[t - 1 :]


def suffix_failure_frequency(runs: Sequence[Run], t: int) -> float:
    """SuffFailFreq(t): share of runs in which the best arm is never pulled in steps t..T (counted from 1)."""
    return sum(suffix_failure(run, t) for run in runs) / len(runs)


def k_min_frac(run: Run) -> float:
    """K * MinFrac: number of arms times the smallest share of pulls, in [0, 1]; 1 if all arms were pulled alike."""
    arms = len(run.means)
    return arms * min(run.pulls.count(arm) for arm in range(arms)) / len(run.pulls)


def greedy_frac(run: Run) -> float:
    """GreedyFrac: share of steps on an arm with the largest mean payoff so far.

    Arms that were never pulled have no mean yet, so pulling one is not greedy; ties count as greedy. Steps before the
    first payoff have no greedy arm and are left out (0 if there are no others).
    """
    arms = len(run.means)
    counts, sums = np.zeros(arms), np.zeros(arms)
    greedy = judged = 0
    for arm, payoff in zip(run.pulls, run.payoffs, strict=True):
        if counts.any():
            judged += 1
            means = np.divide(sums, counts, out=np.full(arms, -np.inf), where=counts > 0)
            greedy += arm is not None and counts[arm] > 0 and bool(means[arm] >= means.max())
        if arm is not None:
            counts[arm] += 1
            sums[arm] += payoff
    return greedy / judged if judged else 0.0


@dataclass(frozen=True)
class Exploration:
    """How the runs of one player explored, on average.

    Attributes:
        runs: how many.
        regret: mean cumulative regret at the end, in units of payoff.
        suffix_failures: SuffFailFreq(T / 2).
        k_min_frac, greedy_frac: means over the runs.
    """

    runs: int
    regret: float
    suffix_failures: float
    k_min_frac: float
    greedy_frac: float


def exploration(runs: Sequence[Run]) -> Exploration:
    """All measures over runs of at least one step each, for which T / 2 is taken run by run."""
    return Exploration(
        runs=len(runs),
        regret=float(np.mean([cumulative_regret(run)[-1] for run in runs])),
        suffix_failures=float(np.mean([suffix_failure(run, len(run.pulls) // 2 + 1) for run in runs])),
        k_min_frac=float(np.mean([k_min_frac(run) for run in runs])),
        greedy_frac=float(np.mean([greedy_frac(run) for run in runs])),
    )

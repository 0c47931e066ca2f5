"""The classic bandit algorithms as oracles. They look at the visible history only, never at the hidden means.

Each is a function of the running environment: it keeps nothing itself, and its randomness follows from the task and
the step, so that it does the same after a rewind. Ties go to the arm with the lowest number. The `*_choice` functions
work on plain counts and sums.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from palaestra.envs.bandit.families import NOISE, Family
from palaestra.envs.core import TextEnv

if TYPE_CHECKING:
    from palaestra.envs.bandit.env import State


def ucb(env: TextEnv[Any]) -> str:
    """Upper confidence bound (UCB1; Auer et al. 2002): the arm with the largest mean + c * sqrt(ln t / n)."""
    state: State = env.state
    return _pull(ucb_choice(state.family, state.counts, state.sums))


def thompson(env: TextEnv[Any]) -> str:
    """Thompson sampling: draw each arm's mean from its posterior and pull the largest."""
    state: State = env.state
    return _pull(thompson_choice(state.family, state.counts, state.sums, _rng(env, "thompson")))


def greedy(env: TextEnv[Any]) -> str:
    """Pull every arm once, then always the one with the largest mean payoff."""
    state: State = env.state
    return _pull(greedy_choice(state.counts, state.sums))


def epsilon_greedy(env: TextEnv[Any]) -> str:
    """Greedy, but a uniformly random arm with probability 0.1."""
    state: State = env.state
    rng = _rng(env, "epsilon")
    if rng.random() < 0.1:
        return _pull(int(rng.integers(state.family.arms)))
    return _pull(greedy_choice(state.counts, state.sums))


def ucb_choice(family: Family, counts: Sequence[int], sums: Sequence[float], c: float | None = None) -> int:
    """The arm of UCB, counted from 0; arms that were never pulled come first.

    Args:
        counts: pulls of each arm, [K]. sums: payoffs of each arm, summed, [K].
        c: width of the bound; None for the scale of the noise: 0.5 for Bernoulli arms (the most that a standard
            deviation in [0, 1] can be), `NOISE` for Gaussian ones.
    """
    if 0 in counts:
        return list(counts).index(0)
    width = c if c is not None else (0.5 if family.kind == "bernoulli" else NOISE)
    log_t = math.log(sum(counts))
    return _first_max([total / n + width * math.sqrt(log_t / n) for n, total in zip(counts, sums, strict=True)])


def thompson_choice(family: Family, counts: Sequence[int], sums: Sequence[float], rng: np.random.Generator) -> int:
    """The arm of Thompson sampling, counted from 0.

    Priors: Beta(1, 1) for Bernoulli arms; a flat one for Gaussian arms with known noise, so each is pulled once first.
    """
    if family.kind == "bernoulli":
        return _first_max([float(rng.beta(1 + won, 1 + n - won)) for n, won in zip(counts, sums, strict=True)])
    if 0 in counts:
        return list(counts).index(0)
    return _first_max(
        [float(rng.normal(total / n, NOISE / math.sqrt(n))) for n, total in zip(counts, sums, strict=True)]
    )


def greedy_choice(counts: Sequence[int], sums: Sequence[float]) -> int:
    """The arm with the largest mean payoff, counted from 0; arms that were never pulled come first."""
    if 0 in counts:
        return list(counts).index(0)
    return _first_max([total / n for n, total in zip(counts, sums, strict=True)])


def _first_max(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda arm: values[arm])


def _rng(env: TextEnv[Any], purpose: str) -> np.random.Generator:
    text = f"{purpose}|{env.task.id}|{len(env.history)}"
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def _pull(arm: int) -> str:
    return f"pull {arm + 1}"

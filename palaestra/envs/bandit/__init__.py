"""Bandits: K-armed Bernoulli and Gaussian bandits as multi-turn text episodes.

They are the smallest environments in which exploring pays, with a known optimum and no model needed to make expert
episodes. `families.py` says which tasks there are, `env.py` plays them, `oracles.py` holds the classic algorithms and
`metrics.py` measures how a player explored. After "When Greedy Wins" (arXiv 2509.24923).
"""

from __future__ import annotations

from palaestra.envs.bandit.families import SPLITS, names
from palaestra.envs.registry import register


def register_all() -> None:
    """Register `palaestra/Bandit-v0`."""
    oracles = "palaestra.envs.bandit.oracles"
    register(
        "palaestra/Bandit-v0",
        "palaestra.envs.bandit.env:Bandit",
        splits={split: names(families, per_family) for split, (families, per_family) in SPLITS.items()},
        oracles={name: f"{oracles}:{name}" for name in ("ucb", "thompson", "greedy", "epsilon_greedy")},
        summary="K-armed Bernoulli and Gaussian bandits; test families have more arms, other gaps, horizons up to 6x",
    )

"""The configuration of the main job. What was measured with it stands in the README."""

from __future__ import annotations

from typing import Any

from palaestra.envs import find

TYPES = ("lifespan-longest-lived", "lifespan-shortest-lived", "find-non-living-thing")
BUDGET = 72
TRAINED = 24
HELD_OUT = 12


def demo_settings(budget: int | None, seed: int) -> dict[str, Any]:
    """RFT on three ScienceWorld task types with short solutions.

    Args:
        budget: rollouts in all; the default ends in about a quarter of an hour on two cores.
        seed: all randomness follows from it.
    """
    return {
        "env": "palaestra/ScienceWorld-v0",
        "env_settings": {"simplifications": "easy", "max_steps": 7},
        "model": "smollm2-135m",
        "experts": {"oracle": "careful", "tasks": 24},
        "tasks": _names("train", TRAINED),
        "iterations": 1,
        "start": "previous",
        "budget": BUDGET if budget is None else budget,
        "sampling": {"temperature": 0.7, "max_tokens": 12},
        "objective": {"epochs": 2, "learning_rate": 1e-4, "batch": 8, "micro_tokens": 1024},
        "evaluation": {"tasks": _names("test", HELD_OUT), "temperature": 0.0},
        "seed": seed,
    }


def _names(split: str, each: int) -> tuple[str, ...]:
    """The first variations of every type, one type after the other, so that any part of them is balanced."""
    names = [task.name for task in find("scienceworld").split(split)]
    by_type = [[name for name in names if name.startswith(f"{kind}/")][:each] for kind in TYPES]
    return tuple(name for row in zip(*by_type, strict=True) for name in row)

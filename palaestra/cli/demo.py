"""The configuration of the main job. What was measured with it stands in the README."""

from __future__ import annotations

from typing import Any

from palaestra.envs import find

TYPES = ("lifespan-longest-lived", "lifespan-shortest-lived", "find-non-living-thing")
BUDGET = 120
HELD_OUT = 16


def demo_settings(budget: int | None, seed: int) -> dict[str, Any]:
    """RFT on three ScienceWorld task types with short solutions.

    Args:
        budget: rollouts in all; the default ends in about a quarter of an hour on two cores.
        seed: all randomness follows from it.
    """
    held_out = dict.fromkeys(TYPES, 0)
    names = []
    for task in find("scienceworld").split("test"):
        task_type = task.name.split("/")[0]
        if held_out.get(task_type, HELD_OUT) < HELD_OUT:
            held_out[task_type] += 1
            names.append(task.name)
    return {
        "env": "palaestra/ScienceWorld-v0",
        "env_settings": {"simplifications": "easy", "max_steps": 7},
        "model": "smollm2-135m",
        "experts": {"oracle": "careful", "tasks": 24},
        "tasks": TYPES,
        "iterations": 1,
        "budget": budget or BUDGET,
        "sampling": {"temperature": 1.0, "max_tokens": 12},
        "objective": {"epochs": 2, "learning_rate": 1e-4, "batch": 8, "schedule": "linear"},
        "evaluation": {"tasks": tuple(names), "temperature": 0.0},
        "seed": seed,
    }

"""A toy environment that a tiny model can learn in seconds: press the button of the lamp's colour, twice.

Run as a program (`python lamps.py OUT MODEL SEED`) it trains RFT, for tests that kill it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs import Reply, Task, TextEnv, register

COLOURS = ("red", "green", "blue")


@dataclass
class State:
    """The lamps to come, and how many were answered rightly."""

    lamps: list[str]
    right: int = 0
    done: int = 0


class Lamps(TextEnv[State]):
    """Press the button of the lamp's colour."""

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        state = State([COLOURS[int(place)] for place in rng.integers(0, len(COLOURS), 2)])
        return state, f"The lamp is {state.lamps[0]}."

    def act(self, state: State, action: str) -> Reply:
        if action not in self.admissible(state):
            return Reply("No such button.", valid=False)
        state.right += action == f"press {state.lamps[state.done]}"
        state.done += 1
        over = state.done == len(state.lamps)
        text = "Done." if over else f"The lamp is {state.lamps[state.done]}."
        won = state.right == len(state.lamps)
        return Reply(text, score=state.right / len(state.lamps), success=won, over=over)

    def admissible(self, state: State) -> Sequence[str]:
        return [f"press {colour}" for colour in COLOURS]


def solve(env: TextEnv[Any]) -> str:
    """The oracle."""
    return f"press {env.state.lamps[env.state.done]}"


register(
    "toy/Lamps-v0",
    Lamps,
    splits={"train": [f"two/{n}" for n in range(20)], "test": [f"two/{n}" for n in range(20, 44)]},
    max_steps=4,
    oracles={"solve": solve},
)


def tiny(path: Path, seed: int = 0) -> Path:
    """A fresh model of some 100,000 parameters."""
    from palaestra.agents.tiny import make_tiny

    told = f"{Lamps.__doc__}\nAnswer with one action and nothing else."
    texts = [told, "system\n", "user\n", "assistant\n"]
    texts += [text for colour in COLOURS for text in (f"The lamp is {colour}.", f"press {colour}")]
    return make_tiny(texts * 20, path, vocab=500, hidden=64, layers=2, heads=4, context=256, seed=seed)


def settings(model: str | Path, seed: int = 0, **more: Any) -> dict[str, Any]:
    """RFT without experts: the fresh model begins by pressing at random."""
    return {
        "env": "toy/Lamps-v0",
        "model": str(model),
        "constrain": True,
        "conversation": {"window": 0},
        "budget": 160,
        "iterations": 2,
        "sampling": {"temperature": 1.0, "max_tokens": 12},
        "objective": {"epochs": 40, "learning_rate": 3e-3, "batch": 4, "schedule": "linear"},
        "per_task": None,
        "seed": seed,
        **more,
    }


if __name__ == "__main__":
    from palaestra.trainers.config import config_of
    from palaestra.trainers.rft import RFT, RFTConfig

    out, model, number = sys.argv[1:4]
    RFT(config_of(RFTConfig, settings(model, int(number))), out, progress="quiet").train()
    print("finished")

"""What the tests of GRPO and ExIt share: an environment of one turn, small settings, episodes by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lamps
import numpy as np

from palaestra.agents.episode import Episode, Outcome, Provenance, Start, TokenRecord, Turn, episode_id, episode_key
from palaestra.envs import Reply, Task, TextEnv, register


@dataclass
class State:
    """Nothing changes."""

    pulled: int = 0


class Levers(TextEnv[State]):
    """Pull a lever."""

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        return State(), "Three levers."

    def act(self, state: State, action: str) -> Reply:
        won = action == "press green"
        return Reply("Done.", score=float(won), success=won, over=True, valid=action in self.admissible(state))

    def admissible(self, state: State) -> Sequence[str]:
        return [f"press {colour}" for colour in lamps.COLOURS]


register("toy/Levers-v0", Levers, splits={"train": ["a", "b"], "test": ["c"]}, max_steps=1)


def settings(model: Path, **more: Any) -> dict[str, Any]:
    whole = lamps.settings(model, conversation={}, constrain=False, group=4, prompts=2, budget=8)
    return {name: value for name, value in whole.items() if name not in ("per_task", "iterations")} | more


def episode(
    start: Start, actions: str, score: float, sample: int = 0, tokens: TokenRecord | None = None, iteration: int = 1
) -> Episode:
    """One action a letter; the observation before the action x is "see x"."""
    provenance = Provenance(policy="p", recipe="grpo", iteration=iteration)
    return Episode(
        id=episode_id(episode_key(start, provenance, sample)),
        start=start,
        sample=sample,
        turns=tuple(Turn(observation=f"see {x}", completion=x, action=x, tokens=tokens) for x in actions),
        outcome=Outcome.SUCCESS if score == 1 else Outcome.FAILURE,
        score=score,
        provenance=provenance,
    )


LEARNING: dict[str, Any] = {
    "env": "toy/Levers-v0",
    "constrain": True,
    "group": 8,
    "prompts": 2,
    "budget": 96,
    "policy": {"learning_rate": 3e-3, "beta": 0.001, "horizon": 8, "batch": 8, "epochs": 2},
}

"""An environment in which a fresh model scores: of three answers each that holds a letter is worth a third."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from palaestra.envs.core import Reply, Task, TextEnv
from palaestra.envs.registry import register


@dataclass
class Answers:
    """Answers so far, and those with a letter."""

    given: int = 0
    good: int = 0


class Letters(TextEnv[Answers]):
    """Answer three times with a letter from a to z."""

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[Answers, str]:
        return Answers(), "A letter, please."

    def act(self, state: Answers, action: str) -> Reply:
        state.given += 1
        state.good += re.search("[a-zA-Z]", action) is not None
        done, won = state.given == 3, state.good == 3
        return Reply("Another one, please.", score=state.good / 3, over=done, success=done and won)


register("odd/Letters-v0", Letters, splits={"train": ["letters-0", "letters-1"]})

"""TextWorldExpress as a TextEnv: the original engine, one JVM for each running instance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import ClassVar

import numpy as np

from palaestra.envs.core import Fidelity, Reply, Task
from palaestra.envs.fingerprint import code_fingerprint
from palaestra.envs.jdk import find_java
from palaestra.envs.jvm import HASH_FLAG, LONGEST_ACTION, clean
from palaestra.envs.jvm_pool import JvmEnv, Pool
from palaestra.envs.textworldexpress.engine import Engine, jar, pool
from palaestra.envs.textworldexpress.games import parse

UNKNOWN = "Unknown action"
"""How the engine's answer to what it does not understand begins."""


@dataclass
class State:
    """What is known of the game on this side; the world itself is in the JVM.

    Attributes:
        game, seed, split: which one.
        actions: what is understood now.
    """

    game: str
    seed: int
    split: str
    actions: tuple[str, ...]


class TextWorldExpress(JvmEnv[State, Engine]):
    """You play a small text game. Answer with one action, such as: look around; inventory; task; take THING;
    put THING in THING; open THING; open door to DIRECTION; move DIRECTION; read THING; or what the task asks for.
    """

    # Score: the engine's, the share of the points that can be had, not below 0; `info["raw_score"]` has the points.
    # Success: the engine says so. Every game is played with the package's default parameters.

    fidelity: ClassVar[Fidelity] = Fidelity.REPLAY
    pool: ClassVar[Pool[Engine]] = pool

    def __init__(self) -> None:
        super().__init__()

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        """Begin a game. Raises BadInput for an unknown one or where there is no usable Java, EnvFault if it broke."""
        game, seed, split = parse(task.name)
        description, first = self.borrowed().load(game, seed, split)
        return State(game, seed, split, first.actions), f"{description}\n\n{first.text}"

    def act(self, state: State, action: str) -> Reply:
        """Take an action. Raises EnvFault when the engine broke."""
        cleaned = clean(action)
        if cleaned is None:
            said = f"{UNKNOWN}: too long for an action (more than {LONGEST_ACTION} characters)."
            return Reply(said, valid=False)
        if cleaned == "help":  # the package's outer interface answers this one
            return Reply(self.engine().description())
        answer = self.engine().step(cleaned)
        state.actions = answer.actions
        success = answer.success or answer.score >= 1.0
        return Reply(
            answer.text,
            score=max(0.0, answer.score),
            success=success,
            over=success or answer.failure,
            valid=not answer.text.startswith(UNKNOWN),
            extra={"raw_score": answer.raw},
        )

    def admissible(self, state: State) -> Sequence[str]:
        """What the engine lists with every answer, each once."""
        return state.actions

    def fingerprint(self) -> str:
        """Versions of this class and of the engine, hash of its jar, major version of the Java, the flag."""
        return _fingerprint(find_java().major)


@lru_cache(maxsize=8)
def _fingerprint(java: int) -> str:
    digest = hashlib.sha256(jar().read_bytes()).hexdigest()[:12]
    engine = f"textworld-express {metadata.version('textworld-express')} jar {digest}"
    return f"{code_fingerprint(TextWorldExpress)} {engine} java {java} {HASH_FLAG}"

"""TextWorldExpress's own engine in a JVM: begin a game, take steps, draw a gold path."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from palaestra.envs.errors import EnvFault
from palaestra.envs.jdk import Java, find_java
from palaestra.envs.jvm import JavaError, Jvm
from palaestra.envs.jvm_pool import JvmEngine, Pool


@dataclass(frozen=True)
class Answer:
    """What the engine says to an action.

    Attributes:
        text: the observation, word for word.
        score: share of the points that can be had, at most 1.
        raw: points.
        success, failure: does the engine say that the game was won or lost.
        actions: what is understood now, each once, in the engine's order.
    """

    text: str
    score: float
    raw: float
    success: bool
    failure: bool
    actions: tuple[str, ...]


@lru_cache(maxsize=1)
def jar() -> Path:
    """The engine's jar, as the package `textworld-express` brings it."""
    from textworld_express.constants import JAR_PATH

    return Path(JAR_PATH)


class Engine(JvmEngine):
    """One JVM with one TextWorldExpress in it.

    Raises:
        BadInput: no usable Java. EnvFault: it did not start.
    """

    def __init__(self, java: Java | None = None) -> None:
        # The engine reads the package's word lists from its working directory.
        jvm = Jvm(java or find_java(), [str(jar())], "TextWorldExpress", cwd=str(jar().parent))
        super().__init__(jvm, "textworldexpress.runtime.PythonInterface")
        self._game, self._begun = "", ("", 0, "")

    def load(self, game: str, seed: int, split: str) -> tuple[str, Answer]:
        """Begin a game. Returns the task's description and the first answer. Raises EnvFault when it cannot."""
        first = self._load(game, seed, split, gold=False)
        return self.description(), first

    def description(self) -> str:
        """What is to be done in the game that was begun."""
        return " ".join(self._call("getTaskDescription").split())

    def _load(self, game: str, seed: int, split: str, *, gold: bool) -> Answer:
        self.loads += 1
        self._begun = (game, seed, split)
        if self._game != game:
            refusal, self._game = self._call("load", game, ""), game
            if refusal:
                raise EnvFault(f"TextWorldExpress refuses {game}: {refusal}")
        return self._answer(self._call("generateNewGameJSON", seed, split, gold))

    def step(self, action: str) -> Answer:
        """Take an action: one line of text without surrogates, not too long. Raises EnvFault when it broke inside."""
        return self._answer(self._call("stepJSON", action))

    def gold(self, game: str, seed: int, split: str) -> list[str]:
        """The gold path that the engine draws for a game. Begins the game."""
        self._load(game, seed, split, gold=True)
        return self.jvm.lines(self._server, "getGoldActionSequence")

    def _call(self, method: str, *arguments: str | int | bool) -> str:
        try:
            return str(self.jvm.call(self._server, method, *arguments))
        except JavaError as error:
            self.jvm.kill()  # its state can no longer be trusted
            game, seed, _ = self._begun
            raise EnvFault(f"TextWorldExpress broke in {game}/{seed} at {method}: {error}") from error

    def _answer(self, text: str) -> Answer:
        try:
            said = json.loads(text)
            return Answer(
                text=str(said["observation"]),
                score=min(1.0, float(said["score"])),
                raw=float(said["scoreRaw"]),
                success=bool(said["tasksuccess"]),
                failure=bool(said["taskfailure"]),
                actions=tuple(dict.fromkeys(said["validActions"])),
            )
        except (ValueError, KeyError, TypeError) as error:
            self.jvm.kill()
            raise EnvFault(f"TextWorldExpress gave no answer that can be read ({error}): {text[:200]}") from error


pool = Pool("TextWorldExpress", Engine)
"""The warm engines of this process."""

"""ALFWorld as a TextEnv, on the release's games or on generated ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from palaestra.envs.alfworld import games
from palaestra.envs.alfworld.engine import Engine, engine
from palaestra.envs.alfworld.game import Answer, Game, GameFile, World, compiled
from palaestra.envs.alfworld.protocols import protocol as named_protocol
from palaestra.envs.core import Fidelity, Reply, Task, TextEnv
from palaestra.envs.errors import BadInput, EnvFault
from palaestra.envs.fingerprint import code_fingerprint


@dataclass
class State:
    """An episode.

    Attributes:
        name: the task.
        digest: of its game file: a snapshot goes on only with the same game.
        world: what is true now; None where the engine keeps that to itself.
    """

    name: str
    digest: str
    world: World | None


class ALFWorld(TextEnv[State]):
    """ALFWorld (Shridhar et al., arXiv 2010.03768): household tasks in text, in one room with many places to look.

    The score is the original's: 1 when the goal is met, which ends the episode, and 0 until then. A command is
    understood exactly when it is one of the admissible ones; anything else is answered "Nothing happens.".

    The rules, the texts and the admissible commands are those of the original engine, which stays available as
    `engine="textworld"` (extra `alfworld`) and rewinds by replay.

    Args:
        engine: "native" or "textworld".
        protocol: "original", "eto" or "agentgym" for the step cap and texts of these; None is "original".

    Raises:
        BadInput: an unknown engine or protocol.
    """

    fidelity: ClassVar[Fidelity] = Fidelity.EXACT

    def __init__(self, engine: str = "native", protocol: str | None = None) -> None:
        super().__init__()
        self.protocol = named_protocol(protocol)
        self.max_steps = self.protocol.steps
        self._engine: Engine = _engine(engine)
        self._engine_name = engine
        self._here: tuple[str, GameFile] | None = None  # task and file of the current game
        if not self._engine.exact:
            vars(self)["fidelity"] = Fidelity.REPLAY  # of this instance: its state cannot be copied

    # -- what an environment writes ---------------------------------------------------------------------------------

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        """Start a game. Raises BadInput: no such task, or it is not here or unreadable; EnvFault: a broken engine."""
        file = self._file(task.name)
        answer = self._engine.begin(file)
        self._here = (task.name, file)
        return State(task.name, file.digest, answer.world), self.protocol.intro(answer.text)

    def act(self, state: State, action: str) -> Reply:
        """Take a command. Raises EnvFault when the engine broke."""
        answer: Answer = self._engine.act(self._file_of(state), state.world, action)
        state.world = answer.world
        return Reply(
            self.protocol.observation(answer.text),
            score=1.0 if answer.won else 0.0,
            success=answer.won,
            over=answer.won,
            valid=answer.valid,
        )

    def admissible(self, state: State) -> Sequence[str] | None:
        """The original's admissible commands, sorted."""
        return self._engine.admissible(self._file_of(state), state.world)

    def fingerprint(self) -> str:
        """Version and source of this class, engine, and which games are here."""
        cls: type = type(self)
        return code_fingerprint(cls, self._engine_name, self._games())

    # -- the games ---------------------------------------------------------------------------------------------------

    @property
    def file(self) -> GameFile:
        """The file of the current game."""
        return self._file_of(self.state)

    @property
    def game(self) -> Game:
        """The current game, with all that is hidden from the player: for oracles. `state.world` is where it stands."""
        return compiled(self.file)

    def _file(self, name: str) -> GameFile:
        return _released(name)

    def _games(self) -> str:
        try:
            return games.release().fingerprint
        except BadInput:
            return "no games"

    def _file_of(self, state: State) -> GameFile:
        if self._here is not None and self._here[0] == state.name and self._here[1].digest == state.digest:
            return self._here[1]
        file = self._file(state.name)
        if file.digest != state.digest:
            raise EnvFault(f"the game {state.name} here ({file.where}) is another one than that of the snapshot")
        self._here = (state.name, file)
        return file

    # -- the engine --------------------------------------------------------------------------------------------------

    def distance(self, task: Task, actions: Sequence[str]) -> int | None:
        """As in the base class; None where the original engine's process is gone."""
        return super().distance(task, actions) if self._engine.alive else None

    def abort(self) -> None:
        """Kill the original engine's process, from any thread; our own engine never hangs."""
        self._engine.kill()

    def close(self) -> None:
        """Give the engine back. May be called twice; a later reset starts it again."""
        super().close()
        self._here = None
        self._engine.close()


class GeneratedALFWorld(ALFWorld):
    """Made-up games in the form of ALFWorld's (arXiv 2010.03768), from nothing but code: for use without its data.

    The rules and words are Palaestra's own, so a score here is not a score on ALFWorld.

    Args:
        engine, protocol: as for `ALFWorld`.
    """

    def lists(self, name: str, split: str) -> bool:
        """Of all names, listed or not: a task's number says its split."""
        from palaestra.envs.alfworld.generate import split_of

        try:
            return split_of(name) == split
        except BadInput:
            return False

    def _file(self, name: str) -> GameFile:
        return _generated(name)

    def _games(self) -> str:
        return "generated"


def _engine(name: str) -> Engine:
    return engine(name)


@lru_cache(maxsize=128)
def _from_release(name: str, folder: games.Release) -> GameFile:
    return folder.file(name)


def _released(name: str) -> GameFile:
    return _from_release(name, games.release())


@lru_cache(maxsize=128)
def _generated(name: str) -> GameFile:
    from palaestra.envs.alfworld.generate import generated

    return generated(name)

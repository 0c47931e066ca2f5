"""One honest environment, and its siblings that each break one promise. For the tests of the conformance check."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palaestra.envs import BadInput, Fidelity, Reply, Task, TextEnv
from palaestra.envs.errors import NoOracle


@dataclass
class State:
    goal: int
    place: int = 0
    more: Any = field(default=None)


class Honest(TextEnv[State]):
    """Walk along a street: say `left` or `right` until you stand at the goal."""

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        state = State(int(rng.integers(2, 6)))
        return state, self.tell(state)

    def act(self, state: State, action: str) -> Reply:
        if action not in ("left", "right"):
            return Reply("Say left or right.", valid=False)
        state.place += 1 if action == "right" else -1
        there = state.place == state.goal
        return Reply(self.tell(state), score=1.0 if there else 0.0, success=there, over=there)

    def admissible(self, state: State) -> Sequence[str] | None:
        return ["left", "right"]

    def tell(self, state: State) -> str:
        return f"You are at {state.place}, the goal is at {state.goal}."


class Keeps(Honest):
    """Honest, and with states that can be stored."""

    def to_bytes(self, state: State, most: int) -> bytes:
        return f"{state.goal} {state.place}".encode()

    def from_bytes(self, task: Task, raw: bytes) -> State:
        try:
            goal, place = map(int, raw.split())
        except ValueError as error:
            raise BadInput("this is no state of a street") from error
        return State(goal, place)


class KeepsHalf(Keeps):
    def from_bytes(self, task: Task, raw: bytes) -> State:
        state = super().from_bytes(task, raw)
        state.place += 1
        return state


class TakesAnything(Keeps):
    def from_bytes(self, task: Task, raw: bytes) -> State:
        try:
            return super().from_bytes(task, raw)
        except BadInput:
            return State(2)


class KeepsNothing(Honest):
    def to_bytes(self, state: State, most: int) -> bytes:
        raise BadInput(f"this is more than {most} bytes")


def go_right(env: TextEnv[Any]) -> str:
    return "right"


def go_left(env: TextEnv[Any]) -> str:
    return "left"


def knows_no_way(env: TextEnv[Any]) -> str:
    raise NoOracle("this street has no oracle")


def refuses(env: TextEnv[Any]) -> str:
    raise BadInput("what was handed in is bad")


class Fickle:
    """An oracle that remembers how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, env: TextEnv[Any]) -> str:
        self.asked += 1
        return "right" if self.asked % 3 else "left"


class Dicey(Honest):
    """Rolls a die that does not belong to the task."""

    def tell(self, state: State) -> str:
        return f"{super().tell(state)} It is {random.random()} o'clock."


class KeepsStateOutside(Honest):
    """Counts on the instance, not in the state."""

    count = 0

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        self.count = 0
        return super().begin(task, rng)

    def act(self, state: State, action: str) -> Reply:
        self.count += 1
        reply = super().act(state, action)
        return Reply(f"{self.count}: {reply.observation}", reply.score, None, reply.success, reply.over, reply.valid)


class SharesState(Honest):
    """All instances share where they stand."""

    shared: list[int] = []  # noqa: RUF012  (that is the point)

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        self.shared[:] = [0]
        return super().begin(task, rng)

    def tell(self, state: State) -> str:
        self.shared.append(state.place)
        return f"{super().tell(state)} Before: {sum(self.shared)}."


class ListingChangesState(Honest):
    """Looking at the admissible actions moves the agent."""

    def admissible(self, state: State) -> Sequence[str]:
        state.place -= 1
        return ["left", "right"]


class KnowsItsProcess(Honest):
    """Says something else in every process."""

    def tell(self, state: State) -> str:
        return f"{super().tell(state)} Process {os.getpid()}."


class CannotPickle(Honest):
    """Has a function in its state."""

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        state, text = super().begin(task, rng)
        state.more = lambda: None
        return state, text


class ReplaysOtherwise(Honest):
    """Says that replaying leads to the same place, but says something else at each of its resets."""

    fidelity = Fidelity.REPLAY
    resets = 0

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        type(self).resets += 1
        state, text = super().begin(task, rng)
        return state, f"{text} This is reset {self.resets}."


class SeedsByTheClock(Honest):
    """Picks its task by a die of its own."""

    def _pick(self, wanted: Task | str | None) -> Task:
        return random.choice(self.tasks("train")) if wanted is None else super()._pick(wanted)


class RaisesOnBadActions(Honest):
    """Understands numbers only, and falls over everything else."""

    def act(self, state: State, action: str) -> Reply:
        if action in ("left", "right"):
            return super().act(state, action)
        return Reply(f"{int(action)} is no direction.", valid=False)


class EndsOnBadActions(Honest):
    """A bad action ends the episode."""

    def act(self, state: State, action: str) -> Reply:
        reply = super().act(state, action)
        return reply if reply.valid else Reply("That is the end.", valid=False, over=True)


class RewardsBadActions(Honest):
    """A bad action is worth something."""

    def act(self, state: State, action: str) -> Reply:
        reply = super().act(state, action)
        return reply if reply.valid else Reply("Nice try.", valid=False, score=0.1)


class EchoesEverything(Honest):
    """Repeats a bad action, however long it is."""

    def act(self, state: State, action: str) -> Reply:
        reply = super().act(state, action)
        return reply if reply.valid else Reply(f"{action}? Say left or right.", valid=False)


class EchoesSurrogates(Honest):
    """Repeats the beginning of a bad action, even if no file can hold it."""

    def act(self, state: State, action: str) -> Reply:
        reply = super().act(state, action)
        return reply if reply.valid else Reply(f"{action[:9]}? Say left or right.", valid=False)


class ListsWhatItRefuses(Honest):
    """Lists an action that it does not understand."""

    def admissible(self, state: State) -> Sequence[str]:
        return ["left", "right", "up"]


class ListsLoosely(ListsWhatItRefuses):
    """Lists an action that it does not understand, and says so."""

    loose_listing = 0.7


class ScoresInPercent(Honest):
    """Counts its score up to 100."""

    def act(self, state: State, action: str) -> Reply:
        reply = super().act(state, action)
        return Reply(reply.observation, score=100.0 * (reply.score or 0.0) + 2.0, valid=reply.valid, over=reply.over)


class RewardsWithoutNumber(Honest):
    """Gives a reward that is no number."""

    def act(self, state: State, action: str) -> Reply:
        reply = super().act(state, action)
        return Reply(reply.observation, reply.score, float("nan"), reply.success, reply.over, reply.valid)


class ForgetsInfo(Honest):
    """Its info lacks the score."""

    def _info(self) -> dict[str, Any]:
        return {key: value for key, value in super()._info().items() if key != "valid"}


class NumpyFlags(Honest):
    """Its flags are numpy's, which JSON does not know."""

    def act(self, state: State, action: str) -> Reply:
        reply = super().act(state, action)
        return Reply(reply.observation, reply.score, None, reply.success, reply.over, np.bool_(reply.valid))  # type: ignore[arg-type]


class NeverTruncates(Honest):
    """Knows no limit."""

    def step(self, action: str) -> Any:
        self.max_steps = None
        return super().step(action)


class GoesOnAfterTheEnd(Honest):
    """Can be stepped after its end."""

    def step(self, action: str) -> Any:
        if self._now is not None:
            self._now.over = self._now.truncated = False
        return super().step(action)


class ClosesOnce(Honest):
    """Stumbles over a second close."""

    closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("already closed")
        self.closed = True
        super().close()


class Undescribed(Honest):
    __doc__ = " "


class LeaksMemory(Honest):
    """Keeps some kilobytes of each instance."""

    kept: list[bytearray] = []  # noqa: RUF012  (that is the point)

    def __init__(self) -> None:
        self.kept.append(bytearray(5000))


class LeaksThreads(Honest):
    """Leaves a thread behind at each reset."""

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        threading.Thread(target=self.never.wait, daemon=True).start()
        return super().begin(task, rng)

    never = threading.Event()


class LeaksFiles(Honest):
    """Leaves a file open at each reset."""

    opened: list[Any] = []  # noqa: RUF012  (that is the point)

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        self.opened.append(open(os.devnull))  # noqa: SIM115
        return super().begin(task, rng)


class LeaksProcesses(Honest):
    """Starts a process at each reset and waits for none."""

    started: list[subprocess.Popen[bytes]] = []  # noqa: RUF012  (that is the point)

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        self.started.append(subprocess.Popen(["sleep", "600"] if os.name != "nt" else [sys.executable]))
        return super().begin(task, rng)

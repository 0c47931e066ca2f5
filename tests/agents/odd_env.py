"""An environment that misbehaves on request, and a policy that only counts: for the tests of the collector."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from palaestra.agents.policy import Completion, PolicyBase, Request
from palaestra.envs import EnvFault, Reply, Task, TextEnv

STEPS = 3


@dataclass
class State:
    kind: str
    name: str
    counted: int = 0


@dataclass
class World:
    """What the test and all instances share."""

    made: list[Odd] = field(default_factory=list)
    closed: list[Odd] = field(default_factory=list)
    aborted: list[Odd] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)
    by: dict[str, list[Odd]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    open_after: int = 0

    def make(self, _env: str = "") -> Odd:
        return Odd(self)


class Odd(TextEnv[State]):
    """Answer `count` three times. The first part of the task's name says how the environment behaves:

    good: as it should; the third `count` succeeds.    bad: fails after three, with half the score.
    raises: a bug at the second step.                  flaky: the same, but only at the first try.
    dies: its process is killed under it.              gated: hangs at the second step until the gate opens.
    hangs: hangs at the second step until aborted.     stuck: the same, but abort does not help before the gate opens.
    hangs-once: hangs at the first try only.           hangs-at-reset: hangs before anything was seen.
    """

    max_steps = 10

    def __init__(self, world: World) -> None:
        self.world = world
        self.freed = threading.Event()
        self.process: subprocess.Popen[str] | None = None
        world.made.append(self)

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        kind = task.name.split("/")[0]
        self.world.tries[task.name] += 1
        self.world.by.setdefault(task.name, []).append(self)
        if kind == "hangs-at-reset":
            self.freed.wait()
        if kind == "dies" and self.process is None:
            self.process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return State(kind, task.name), f"Count. ({task.name})"

    def admissible(self, state: State) -> Sequence[str]:
        return ["count", "wait"]

    def act(self, state: State, action: str) -> Reply:
        if action == "wait":
            return Reply("You wait.")
        if action != "count":
            return Reply("Say count.", valid=False)
        state.counted += 1
        if state.counted == 2:
            self._misbehave(state)
        if state.counted < STEPS:
            return Reply(f"{state.counted}", score=state.counted / (2 * STEPS))
        self.world.ended.append(state.name)
        if self.world.open_after and len(self.world.ended) >= self.world.open_after:
            self.world.gate.set()
        if state.kind == "bad":
            return Reply("Done.", score=0.5, over=True)
        return Reply("Done.", score=1.0, success=True, over=True)

    def _misbehave(self, state: State) -> None:
        first = self.world.tries[state.name] == 1
        if state.kind == "raises" or (state.kind == "flaky" and first):
            raise ZeroDivisionError("a bug of the environment")
        if state.kind == "hangs" or (state.kind == "hangs-once" and first):
            self.freed.wait()
        if state.kind in ("gated", "stuck"):
            self.world.gate.wait()
        if state.kind == "dies":
            assert self.process is not None
            assert self.process.stdin is not None
            self.process.kill()
            self.process.wait()
            try:
                self.process.stdin.write("hello\n")
                self.process.stdin.flush()
            except BrokenPipeError as error:
                raise EnvFault("the environment's process is dead") from error

    def abort(self) -> None:
        self.world.aborted.append(self)
        self.freed.set()

    def close(self) -> None:
        super().close()
        self.world.closed.append(self)
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None and not pipe.closed:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()


class CountingPolicy(PolicyBase):
    """Always answers `count`, and remembers what it was asked."""

    def __init__(self, batch_size: int = 64) -> None:
        super().__init__(name="counting", batch_size=batch_size)
        self.batches: list[list[Request]] = []

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        self.batches.append(list(requests))
        return [Completion("count", completion_tokens=2, prompt_tokens=5) for _ in requests]


def tasks(*names: str, split: str = "train") -> list[Task]:
    return [Task(env="odd/Odd-v0", name=name, split=split) for name in names]


def many(kind: str, count: int) -> list[Task]:
    return tasks(*(f"{kind}/{number}" for number in range(count)))

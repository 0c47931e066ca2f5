"""An environment that tells its process and misbehaves on request: for the tests of processes and of Ray."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palaestra.agents.policy import Completion, PolicyBase, Request
from palaestra.envs import BadInput, Needs, Reply, Task, TextEnv


@dataclass
class State:
    kind: str
    counted: int = 0
    secret: str = "count"


class PidEnv(TextEnv[State]):
    """Answer `count` three times. The first part of the task's name says how the environment behaves:

    good: as it should.                          pid: tells its process at every step.
    killed: its process is killed at step 2.     raises: a bug at step 2.
    once: killed at the first try only, which a file in `folder` remembers.
    slow: each step takes a moment.              hangs: at step 2 for good.
    """

    max_steps = 10
    needs = Needs.PROCESS

    def __init__(self, folder: str = "") -> None:
        self.folder = folder

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        if task.name == "none/0":
            raise BadInput("there is no such task")
        return State(task.name.split("/")[0]), f"Count. ({task.name})"

    def act(self, state: State, action: str) -> Reply:
        state.counted += action == "count"
        if state.kind == "slow":
            time.sleep(0.05)
        if state.counted == 2:
            self._misbehave(state)
        told = f"{os.getpid()}" if state.kind == "pid" else f"{state.counted}"
        if state.counted < 3:
            return Reply(told)
        return Reply(told, score=1.0, success=True, over=True)

    def _misbehave(self, state: State) -> None:
        if state.kind == "raises":
            raise ZeroDivisionError("a bug of the environment")
        if state.kind == "hangs":
            threading.Event().wait()
        mark = Path(self.folder) / "killed"
        if state.kind == "killed" or (state.kind == "once" and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Make:
    """Makes it, for `collect(env_factory=...)`."""

    needs = Needs.PROCESS

    def __init__(self, folder: str = "") -> None:
        self.folder = folder

    def __call__(self, env: str) -> PidEnv:
        return PidEnv(self.folder)


class Inside(PolicyBase):
    """Looks into the environment for what to say, and says beside it in which process it looked."""

    def __init__(self) -> None:
        super().__init__(name="inside", looks_inside=True)

    def act(self, requests: list[Request]) -> list[Completion]:  # type: ignore[override]
        return [Completion(f"{request.env.state.secret}\nin {os.getpid()}") for request in requests if request.env]


def tasks(kind: str, count: int) -> list[Task]:
    return [Task(env="odd/Pid-v0", name=f"{kind}/{number}", split="train") for number in range(count)]

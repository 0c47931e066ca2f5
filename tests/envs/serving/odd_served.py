"""An environment that hangs, breaks and has bugs when it is told to, and writes down when it begins and is closed."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palaestra.envs.core import Reply, Task, TextEnv
from palaestra.envs.errors import EnvFault
from palaestra.envs.registry import register


@dataclass
class Count:
    """Actions so far."""

    value: int = 0


class Odd(TextEnv[Count]):
    """Say anything; it is counted."""

    def __init__(self, diary: str = "") -> None:
        self._diary = diary
        self._free = threading.Event()

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[Count, str]:
        self._note("begin")
        return Count(), f"Task {task.name}."

    def act(self, state: Count, action: str) -> Reply:
        if action == "hang":
            self._free.wait(60)
        if action == "break":
            raise EnvFault("the world came to an end")
        if action == "bug":
            raise ValueError("a bug\nof two lines")
        state.value += 1
        return Reply(f"That is {state.value}.")

    def abort(self) -> None:
        self._note("abort")
        self._free.set()

    def close(self) -> None:
        if self._now is not None:
            self._note("close")
        super().close()

    def _note(self, what: str) -> None:
        if self._diary:
            with Path(self._diary).open("a") as file:
                file.write(f"{what}\n")


register("odd/Odd-v0", Odd, splits={"train": range(3)})

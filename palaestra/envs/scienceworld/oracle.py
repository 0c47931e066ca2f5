"""The gold oracle: the engine's own path to the goal.

The engine draws a gold path by playing the task through. Under the fixed hash it draws the same path each time, so the
oracle needs no memory: it finds its place by following the history. All of the 180 paths that
bench/scienceworld_replay.py played to their end won (every task, three variations, both settings). The long ones need
more than the 100 steps that an episode has by default: give `max_steps`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache

from palaestra.envs.core import TextEnv
from palaestra.envs.errors import BadInput
from palaestra.envs.jvm_pool import most_idle
from palaestra.envs.scienceworld.engine import pool
from palaestra.envs.scienceworld.env import ScienceWorld, State
from palaestra.envs.scienceworld.tasks import parse

_drawing: dict[tuple[str, str], threading.Lock] = {}
_at_once = threading.Semaphore(most_idle())
"""Drawing is the engine's hardest work: more at once than cores would make each one slower, and pass deadlines."""


def gold(env: TextEnv[State]) -> str:
    """The next action of the gold path: the first one that the history has not yet taken, in order.

    A question of the engine is answered with the first choice. After the end of the path it looks around.

    Raises:
        BadInput: not a ScienceWorld. EnvFault: the engine broke while drawing the path.
    """
    return follow(env, gold_path)


def follow(env: TextEnv[State], path_of: Callable[[str, str], Sequence[str]]) -> str:
    """The first action of a task's path that the history has not yet taken, in order. Errors as `gold`."""
    inner = env.unwrapped
    if not isinstance(inner, ScienceWorld):
        raise BadInput(f"this oracle plays ScienceWorld, not {type(inner).__name__}")
    path = path_of(inner.task.name, inner.simplifications)
    place = 0
    for action in inner.history:
        if place < len(path) and action == path[place]:
            place += 1
    following = path[place] if place < len(path) else "look around"
    return "0" if inner.state.choices and not following.isdigit() else following


def gold_path(name: str, simplifications: str) -> tuple[str, ...]:
    """The gold path of a task such as `boil/12`, drawn once in a JVM of its own (0.1 to 15 s) and remembered.

    Whoever asks for a path that is being drawn waits for it; paths of different tasks are drawn side by side.
    """
    with _drawing.setdefault((name, simplifications), threading.Lock()):
        return _drawn(name, simplifications)


@lru_cache(maxsize=4096)
def _drawn(name: str, simplifications: str) -> tuple[str, ...]:
    task, variation = parse(name)
    with _at_once:
        engine = pool.borrow()
        try:
            return tuple(engine.gold(task, variation, simplifications))
        finally:
            pool.give_back(engine)

"""Methods that begin inside earlier episodes need an environment that can go back: tried before anything is spent."""

from __future__ import annotations

import pickle
from typing import Any

from palaestra.envs import BadInput, Task, TextEnv
from palaestra.envs.errors import ReplayDiverged

_STEPS = 2


def must_rewind(env: TextEnv[Any], task: Task, method: str) -> None:
    """Take two steps of a task, go away and come back.

    Raises:
        BadInput: the environment does not come back to where it was.
    """
    seen, info = env.reset(options={"task": task})
    for _ in range(_STEPS):
        listed = info["actions"]
        seen, _, over, truncated, info = env.step(listed[0] if listed else "look")
        if over or truncated:
            break
    try:
        there = env.snapshot()
        env.reset(options={"task": task})
        again, _ = env.restore(there)
    except (ReplayDiverged, NotImplementedError, pickle.PicklingError, TypeError, AttributeError) as error:
        raise BadInput(_line(task, method, " ".join(str(error).split())[:200])) from error
    if again != seen:
        raise BadInput(_line(task, method, "it shows something else there"))


def _line(task: Task, method: str, why: str) -> str:
    return (
        f"{task.env} cannot go back to an earlier step ({why}), and {method} begins inside earlier episodes; "
        "`palaestra check` says more, and rft needs no rewind"
    )

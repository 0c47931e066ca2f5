"""What begins inside earlier episodes needs an environment that can go back: tried before anything is spent."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import closing
from typing import Any

from palaestra.envs import BadInput, Task, TextEnv
from palaestra.envs.errors import ReplayDiverged

_STEPS = 2


def must_rewind(made: Callable[[], TextEnv[Any]], of: Callable[[TextEnv[Any]], Task], who: str) -> None:
    """Take two steps of a task and a third one, then go back to the second in another instance and on from there.

    Args:
        made: makes an instance. of: the task that is tried. who: for the message; a method, or a key of its settings.

    Raises:
        BadInput: the environment does not come back to where it was, or goes on otherwise than before.
    """
    with closing(made()) as env, closing(made()) as other:
        task = of(env)
        seen, info = env.reset(options={"task": task})
        over = False
        for _ in range(_STEPS):
            seen, _, ended, truncated, info = env.step(_action(info))
            over = ended or truncated
            if over:
                break
        try:
            there = env.snapshot()
            action = _action(info)
            after = None if over else env.step(action)[0]
            again, _ = other.restore(there)
            then = None if over else other.step(action)[0]
        except (ReplayDiverged, NotImplementedError, pickle.PicklingError, TypeError, AttributeError) as error:
            raise BadInput(_line(task, who, " ".join(str(error).split())[:200])) from error
    if again != seen:
        raise BadInput(_line(task, who, "it shows something else there"))
    if then != after:
        raise BadInput(_line(task, who, "the same action then shows something else: is all that changes in its state?"))


def _action(info: Any) -> str:
    listed = info["actions"]
    return str(listed[0]) if listed else "look"


def _line(task: Task, who: str, why: str) -> str:
    instead = f"a run without {who} needs none" if who.startswith("evaluation.") else "rft needs no rewind"
    return (
        f"{task.env} cannot go back to an earlier step ({why}), and {who} begins inside earlier episodes; "
        f"`palaestra check` says more, and {instead}"
    )

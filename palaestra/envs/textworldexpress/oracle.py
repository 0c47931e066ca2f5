"""The gold oracle: the engine's own path to the goal, drawn once for each game and remembered."""

from __future__ import annotations

from functools import lru_cache

from palaestra.envs.core import TextEnv
from palaestra.envs.errors import BadInput
from palaestra.envs.textworldexpress.engine import pool
from palaestra.envs.textworldexpress.env import State, TextWorldExpress


def gold(env: TextEnv[State]) -> str:
    """The next action of the gold path: the first one that the history has not yet taken, in order.

    After the end of the path it looks around.

    Raises:
        BadInput: not a TextWorldExpress. EnvFault: the engine broke while drawing the path.
    """
    inner = env.unwrapped
    if not isinstance(inner, TextWorldExpress):
        raise BadInput(f"this oracle plays TextWorldExpress, not {type(inner).__name__}")
    state = inner.state
    path = gold_path(state.game, state.seed, state.split)
    place = 0
    for action in inner.history:
        if place < len(path) and action == path[place]:
            place += 1
    return path[place] if place < len(path) else "look around"


@lru_cache(maxsize=4096)
def gold_path(game: str, seed: int, split: str) -> tuple[str, ...]:
    """The gold path of a game, drawn in a JVM of its own (milliseconds, once there is one)."""
    engine = pool.borrow()
    try:
        return tuple(engine.gold(game, seed, split))
    finally:
        pool.give_back(engine)

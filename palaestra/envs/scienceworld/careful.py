"""The careful oracle: the gold path, but it looks before it acts.

The engine's gold path knows where everything is: it walks through a door and at once focuses on an animal that it has
not seen. Whoever clones such an expert learns to guess. The careful one looks around after it has arrived somewhere,
so that what it does follows from what it has read; it does not open doors that the task leaves open; and where the
agent may teleport it goes straight to where the path leads.
"""

from __future__ import annotations

from palaestra.envs.core import TextEnv
from palaestra.envs.scienceworld.env import State
from palaestra.envs.scienceworld.oracle import follow, gold_path

_LOOK = "look around"
_MOVES = ("go to ", "teleport to ")


def careful(env: TextEnv[State]) -> str:
    """The next action of the careful path. Errors as `gold`."""
    return follow(env, careful_path)


def careful_path(name: str, simplifications: str) -> tuple[str, ...]:
    """The careful path of a task such as `find-plant/12`."""
    easy = simplifications == "easy"
    doors_are_open, teleports = (easy or name in simplifications for name in ("openDoors", "teleportAction"))
    path: list[str] = []
    for action in gold_path(name, simplifications):
        if action == _LOOK or (doors_are_open and action.startswith("open door to ")):
            continue
        moved = bool(path) and path[-1].startswith(_MOVES)
        if teleports and action.startswith("go to "):
            action = "teleport to " + action.removeprefix("go to ")
            if moved:
                path.pop()
        elif moved and not action.startswith(_MOVES):
            path.append(_LOOK)
        path.append(action)
    return tuple(path)

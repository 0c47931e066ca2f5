"""What the studies play in beside the gym's own environments: one theme of the crafting world with one book of recipes.

`palaestra/Crafting-v0` has ten held-out tasks of a depth and theme. This is the same world with as many as are wanted:
differences between methods are a few points, and task by task they vary more than seed by seed.
"""

from __future__ import annotations

from collections.abc import Collection

from palaestra.envs import find, register
from palaestra.envs.crafting.books import variation_of
from palaestra.envs.crafting.oracle import planner
from palaestra.envs.crafting.worlds import names

BAKERY = "study/Bakery-v0"
"""Tasks d1/bakery-0 to d4/bakery-599 in each split; use it with `recipes="theme"`. Of a target with the same things at
the start, all tasks are in the split `dev` or none is. `try` is for choosing settings: its tasks are those of training
worlds with numbers that no study trains on."""

_EACH = names(("bakery",), (1, 2, 3, 4), 600)

register(
    BAKERY,
    "palaestra.envs.crafting.env:Crafting",
    splits={"train": _EACH, "try": _EACH, "dev": _EACH},
    max_steps=30,
    oracles={"planner": planner},
)


def planned(split: str, depth: int, commands: Collection[int], first: int = 0) -> tuple[str, ...]:
    """Tasks of this depth whose shortest plan has one of these numbers of commands; `first`: the lowest number."""
    return tuple(
        task.name
        for task in find(BAKERY).split(split)
        if task.name.startswith(f"d{depth}/")
        and int(task.name.rpartition("-")[2]) >= first
        and variation_of(task).commands in commands
    )

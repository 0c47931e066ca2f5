"""What the studies play in: one theme of the crafting world with one book of recipes, and one shelf of WebShop.

`palaestra/Crafting-v0` has ten held-out tasks of a depth and theme. This is the same world with as many as are wanted:
differences between methods are a few points, and task by task they vary more than seed by seed.

The goals of the shelf are those of the ten products that most training goals of WebShop are about: four goals of ten,
as each has many options. They are listed in `webshop_goals.json`, so that no data is needed to know them;
`python bench/learning_worlds.py` writes it anew, with the data set `webshop`.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from palaestra.envs import make, register
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


WEBSHOP = "palaestra/WebShop-v0"
_SHELF = Path(__file__).with_name("webshop_goals.json")


def shelved(split: str, numbers: range, count: int | None = None) -> tuple[str, ...]:
    """The first `count` tasks of these numbers whose goals are for a product of the shelf."""
    found = [n for n in json.loads(_SHELF.read_text(encoding="utf-8"))[split] if n in numbers]
    return tuple(f"webshop-synthetic/{n}" for n in found[:count])


def shelve(products: int = 10) -> None:
    """Write which goals are for the products that most training goals are about."""
    from palaestra.envs.webshop.env import WebShop

    world = make(WEBSHOP)
    assert isinstance(world, WebShop)
    about: dict[str, dict[int, str]] = {}
    for split in ("train", "dev"):
        about[split] = {}
        for task in world.tasks(split):
            world.reset(options={"task": task})
            about[split][int(task.name.rpartition("/")[2])] = world.shop.goal(world.state.goal).asin
    most = {asin for asin, _ in Counter(about["train"].values()).most_common(products)}
    goals = {split: [n for n, asin in of.items() if asin in most] for split, of in about.items()}
    _SHELF.write_text(json.dumps(goals) + "\n", encoding="utf-8")


if __name__ == "__main__":
    shelve()

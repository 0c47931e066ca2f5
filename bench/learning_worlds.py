"""What the studies play in: one theme of the crafting world with one book of recipes, and one shelf of WebShop.

`palaestra/Crafting-v0` has ten held-out tasks of a depth and theme. This is the same world with as many as are wanted:
differences between methods are a few points, and task by task they vary more than seed by seed.

The goals of a shelf are those of so many products of WebShop that come in at most 24 ways (colours times sizes, and
so on) and that nearly every goal's own words find first or second, those that most training goals are about. A product
with hundreds of goals comes in hundreds of ways, and a small model that guesses never buys the right one. The goals of
two shelves, the thirty products most asked for and all 105 of them, are listed in `webshop_goals.json`, so that no data
is needed to know them; `python bench/learning_worlds.py` writes it anew, with the data set `webshop`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from math import prod
from pathlib import Path
from statistics import fmean

from palaestra.envs import make, register
from palaestra.envs.crafting.oracle import planner
from palaestra.envs.crafting.worlds import names
from palaestra.envs.webshop.session import searching

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
SHELF, ALL_SHELVES = 30, 105
"""Products of either shelf; all of the smaller one are on the larger one."""
_SHELVES = Path(__file__).with_name("webshop_goals.json")


def shelved(split: str, numbers: range, count: int | None = None, *, products: int = SHELF) -> tuple[str, ...]:
    """The first `count` tasks of these numbers whose goals are for a product of the shelf."""
    return _named([n for n in _goals(split, products) if n in numbers][:count])


def elsewhere(split: str, numbers: range, *, products: int = SHELF) -> tuple[str, ...]:
    """All tasks of these numbers whose goals are for no product of the shelf; the numbers have to be of the split."""
    about = set(_goals(split, products))
    return _named([n for n in numbers if n not in about])


def _goals(split: str, products: int) -> list[int]:
    found: list[int] = json.loads(_SHELVES.read_text(encoding="utf-8"))[str(products)][split]
    return found


def _named(numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"webshop-synthetic/{n}" for n in numbers)


def shelve(shelves: Sequence[int] = (SHELF, ALL_SHELVES), ways: int = 24) -> None:
    """Write which goals are for the products of each shelf."""
    from palaestra.envs.webshop.env import WebShop
    from palaestra.envs.webshop.goals import Goal

    world = make(WEBSHOP)
    assert isinstance(world, WebShop)
    about: dict[str, dict[str, dict[int, Goal]]] = {"train": {}, "dev": {}}
    for split, of in about.items():
        for task in world.tasks(split):
            world.reset(options={"task": task})
            goal = world.shop.goal(world.state.goal)
            of.setdefault(goal.asin, {})[int(task.name.rpartition("/")[2])] = goal

    def found_soon(goal: Goal) -> bool:
        action = searching(goal.instruction) or ""
        hits = world.shop.find(tuple(action[len("search[") : -1].lower().split(" ")), 0, 0) or ()
        return goal.asin in hits[:2]

    def fits(goals: Collection[Goal]) -> bool:
        values: dict[str, set[str]] = {}
        for goal in goals:
            for option, value in dict(goal.options).items():
                values.setdefault(option, set()).add(value)
        return 2 <= prod(map(len, values.values())) <= ways and fmean(map(found_soon, goals)) >= 0.9

    goals_of = {asin: goals for asin, goals in about["train"].items() if fits(goals.values())}
    most = sorted(goals_of, key=lambda asin: len(goals_of[asin]), reverse=True)

    def of_shelf(products: int) -> dict[str, list[int]]:
        return {split: sorted(n for asin in most[:products] for n in of.get(asin, ())) for split, of in about.items()}

    found = {products: of_shelf(products) for products in shelves}
    _SHELVES.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    shelve()

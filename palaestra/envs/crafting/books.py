"""One book of recipes a theme (`recipes="theme"`): a fixed world whose rules hold in all tasks, as those of a house do.

What a task has of its own is its target and what one has at the start. What is not told has to be found out, or learnt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property, lru_cache

import numpy as np

from palaestra.envs.core import Task
from palaestra.envs.crafting.words import THEMES
from palaestra.envs.crafting.worlds import DEEPEST, MOST, Draft, Recipe, World, most_needed, parse

GOODS = (5, 5, 4, 3, 2, 2, 2, 1)
"""Goods of a book by depth, from 1 on; beside them one station of each of the depths 1 to 6."""

GIVEN = 3
"""One has at most so many things at the start, and of each at most so many."""


class Variation(World):
    """A task over the book of its theme. Pickled as the task that it follows from.

    Attributes:
        given: what one has at the start.
    """

    def __init__(self, task: Task, target: str, book: Mapping[str, Recipe], raw: tuple[str, ...]) -> None:
        super().__init__(task, target, book, raw)
        self.given: dict[str, int] = {}

    def __reduce__(self) -> tuple[object, tuple[Task]]:
        return variation_of, (self.task,)

    @cached_property
    def commands(self) -> int:
        """The least number of commands that craft the target from what one has at the start."""
        return len(self.missing(self.given))

    def text(self) -> str:
        """The goal and what one has."""
        return f"Goal: craft 1 {self.target}.\n{self.having(self.given)}"


class _Book(Draft):
    """A theme's book while it is drawn: all of its words, each good of a depth of its own."""

    def __init__(self, theme: str) -> None:
        words = THEMES[theme]
        seed = hashlib.sha256(f"the book of the theme {theme}".encode()).digest()[:16]
        self.rng, self.recipes = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little"))), {}
        self.raw, self.levels = list(words.raw), [list(words.raw)]
        goods, stations = self._some(words.goods, len(words.goods)), self._some(words.stations, len(words.stations))
        for level in range(1, DEEPEST + 1):
            made = [goods.pop() for _ in range(GOODS[level - 1])] + ([stations.pop()] if stations else [])
            self.levels.append([self._fitting(theme, level, name) for name in made])

    def _fitting(self, theme: str, level: int, name: str) -> str:
        """Draw a recipe until the shortest plan needs nothing more than `MOST` times; one that takes one thing does."""
        drawn = Task(env="palaestra/Crafting-v0", name=theme, split="book")
        while True:
            self._make(level, name)
            if most_needed(World(drawn, name, self.recipes, self.raw)) <= MOST:
                return name


@lru_cache
def book_of(theme: str) -> Mapping[str, Recipe]:
    """All recipes of a theme, the same in every task, process and version."""
    return _Book(theme).recipes


@lru_cache(maxsize=4096)
def variation_of(task: Task) -> Variation:
    """The variation of a task; it follows from the task alone. Raises BadInput for a name that is none."""
    depth, theme, _ = parse(task.name)
    rng, book, raw = task.rng(), book_of(theme), THEMES[theme].raw
    wanted = task.split if task.split in ("dev", "test") else "train"
    while True:
        blank = Variation(task, "", book, raw)
        targets = [name for name in book if blank.depth_of(name) == depth and name not in THEMES[theme].stations]
        world = Variation(task, targets[int(rng.integers(len(targets)))], book, raw)
        needed = [name for name in world.route if name != world.target]
        idle = [name for name in (*raw, *book) if name not in world.route and world.depth_of(name) < depth]
        for _ in range(int(rng.integers(GIVEN + 1))):
            things = needed if rng.random() < 0.5 or not idle else idle
            name = things[int(rng.integers(len(things)))]
            world.given[name] = 1 if name in THEMES[theme].stations else int(rng.integers(1, GIVEN + 1))
        if world.commands > 1 and _split_of(theme, world) == wanted:
            return world


def _split_of(theme: str, world: Variation) -> str:
    """To which split this target with these things at the start belongs: three fifths are for training."""
    said = f"{theme}: {world.target}: {sorted(world.given.items())}"
    return ("dev", "test", "train", "train", "train")[hashlib.sha256(said.encode()).digest()[0] % 5]

"""Crafting worlds: recipes as a graph, drawn from a seed, and what is still missing for the goal.

Every good has one recipe. The depth of a raw material is 0 and that of a good one more than the deepest thing that its
recipe names, its station included; a task's depth is that of its target. Beside the recipes that lead to the target
there are as many that do not. No thing is ever needed more than `MOST` times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType

import numpy as np

from palaestra.envs.core import Task
from palaestra.envs.crafting.words import HELD_OUT, THEMES
from palaestra.envs.errors import BadInput

MOST = 12
"""No more than so many of one thing are needed in any world."""

DEEPEST = 8


@dataclass(frozen=True)
class Recipe:
    """How a good is made.

    Attributes:
        makes, amount: the good, and how many of it one crafting gives.
        uses: ingredient -> how many one crafting consumes.
        station: what must be at hand and is not consumed, if anything.
    """

    makes: str
    amount: int
    uses: Mapping[str, int]
    station: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that it needs."""
        return (*self.uses, *([self.station] if self.station else []))

    def command(self, times: int = 1) -> str:
        """The command that crafts it."""
        parts = ", ".join(f"{amount * times} {name}" for name, amount in self.uses.items())
        return f"craft {self.amount * times} {self.makes} using {parts}"

    def __str__(self) -> str:
        return self.command() + (f" (needs {self.station})" if self.station else "")


class World:
    """A crafting world. Pickled as the task that it follows from.

    Attributes:
        task: which one.
        target: what is to be crafted.
        recipes: good -> its recipe, in the order of the recipe book.
        raw: everything that can be fetched.
        route: everything that the target needs, itself first, each thing before what it is made of.
        given: what one has at the start.
    """

    given: Mapping[str, int] = MappingProxyType({})

    def __init__(self, task: Task, target: str, recipes: Mapping[str, Recipe], raw: Sequence[str]) -> None:
        self.task, self.target, self.recipes, self.raw = task, target, dict(recipes), tuple(raw)
        # By name first: the order of a set differs between processes, and the planner follows the route.
        self.route = tuple(sorted(sorted(_closure(target, recipes)), key=self.depth_of, reverse=True))

    def __reduce__(self) -> tuple[object, tuple[Task]]:
        return world_of, (self.task,)

    @cached_property
    def _depths(self) -> dict[str, int]:
        return depths(self.recipes)

    def depth_of(self, name: str) -> int:
        """0 for a raw material; for a good one more than the deepest thing that it needs."""
        return self._depths.get(name, 0)

    @cached_property
    def _steps(self) -> tuple[tuple[str, int, tuple[tuple[str, int], ...], str | None], ...]:
        """The route as plain tuples: name, amount (0 for a raw material), what it uses, station."""
        steps = []
        for name in self.route:
            recipe = self.recipes.get(name)
            known = (recipe.amount, tuple(recipe.uses.items()), recipe.station) if recipe else (0, (), None)
            steps.append((name, *known))
        return tuple(steps)

    def missing(self, have: Mapping[str, int]) -> dict[str, int]:
        """What must still be obtained for the target: thing -> how many (raw), or how many craftings (goods).

        Each needs exactly one more command, since one command may fetch any number and craft any multiple. No fewer
        will do: craftings are counted down from the target, each as few as possible, so whatever is short here is
        short in every plan. The deepest things come first.
        """
        needs: dict[str, int] = {self.target: 1}
        found: dict[str, int] = {}
        for name, amount, uses, station in self._steps:
            short = needs.get(name, 0) - have.get(name, 0)
            if short <= 0:
                continue
            if not amount:
                found[name] = short
                continue
            times = found[name] = -(-short // amount)
            for part, count in uses:
                needs[part] = needs.get(part, 0) + count * times
            if station is not None and station not in needs:
                needs[station] = 1
        return found

    @cached_property
    def commands(self) -> int:
        """The least number of commands that craft the target from nothing."""
        return len(self.missing({}))

    @staticmethod
    def having(things: Mapping[str, int]) -> str:
        """A sentence that says what one has."""
        return f"You have {', '.join(f'{count} {name}' for name, count in things.items()) or 'nothing'}."

    def text(self) -> str:
        """The goal and the recipe book."""
        book = "\n".join(str(recipe) for recipe in self.recipes.values())
        return f"Goal: craft 1 {self.target}.\nRecipes:\n{book}\nWhat no recipe makes can be fetched. You have nothing."


def parse(name: str) -> tuple[int, str, int]:
    """Depth, theme and number of a task's name such as `d3/bakery-17`. Raises BadInput for any other text."""
    found = re.fullmatch(r"d([1-9])/([a-z]+)-(\d{1,18})", name)
    if found is None or found[2] not in THEMES or int(found[1]) > DEEPEST or str(int(found[3])) != found[3]:
        raise BadInput(
            f"{name!r} is no crafting task; they look like 'd3/bakery-17' with a depth of 1 to {DEEPEST} and a theme "
            f"of {', '.join(THEMES)}"
        )
    return int(found[1]), found[2], int(found[3])


@lru_cache(maxsize=256)
def world_of(task: Task) -> World:
    """The world of a task; it follows from the task alone. Raises BadInput for a name that is none."""
    depth, theme, _ = parse(task.name)
    rng = task.rng()
    while True:  # a draw in which too many of one thing are needed is drawn again, every third at depth 6
        draft = Draft(theme, depth, rng)
        world = World(task, draft.target, draft.book(), draft.raw)
        if most_needed(world) <= MOST:
            return world


class Draft:
    """A world while it is drawn."""

    def __init__(self, theme: str, depth: int, rng: np.random.Generator) -> None:
        words = THEMES[theme]
        self.rng, self.recipes = rng, dict[str, Recipe]()
        self.raw = self._some(words.raw, min(len(words.raw), 3 + depth))
        self.goods = self._some(words.goods, len(words.goods))
        self.stations = self._some(words.stations, 1 + depth // 2)
        self.levels: list[list[str]] = [list(self.raw)]
        for level in range(1, depth):
            made = [self._make(level, self.goods.pop()) for _ in range(1 + int(rng.random() < 0.4))]
            if self.stations and level < depth and rng.random() < 0.5:
                made.append(self._make(level, self.stations.pop()))
            self.levels.append(made)
        self.target = self._make(depth, self.goods.pop())
        self._distract(depth)

    def _some(self, words: Sequence[str], count: int) -> list[str]:
        return [words[i] for i in self.rng.permutation(len(words))[:count]]

    def _any(self, words: Sequence[str]) -> str:
        return words[int(self.rng.integers(len(words)))]

    def _make(self, level: int, name: str) -> str:
        """Draw a recipe of exactly this depth: one thing of the level below, and others of any level below."""
        below = [known for names in self.levels[:level] for known in names]
        benches = [known for known in below if known in self.recipes and known in self._benches]
        first = self._any(self.levels[level - 1])
        station = first if first in self._benches else None
        parts = [] if station else [first]
        if station is None and benches and self.rng.random() < 0.5:
            station = self._any(benches)
        matter = [known for known in below if known not in self._benches and known not in parts]
        extra = int(self.rng.choice(3, p=(0.35, 0.45, 0.2))) + (0 if parts else 1)
        parts += [matter[i] for i in self.rng.permutation(len(matter))[:extra]]
        uses = {part: int(self.rng.choice((1, 2, 3), p=(0.55, 0.3, 0.15))) for part in parts}
        amount = 1 if name in self._benches else int(self.rng.choice((1, 2, 4), p=(0.6, 0.25, 0.15)))
        self.recipes[name] = Recipe(name, amount, uses, station)
        return name

    @cached_property
    def _benches(self) -> frozenset[str]:
        return frozenset(word for theme in THEMES.values() for word in theme.stations)

    def _distract(self, depth: int) -> None:
        """Add recipes that lead elsewhere, until they are as many as those that are needed, at least two."""
        needed = _closure(self.target, self.recipes)
        wanted = max(2, sum(name in self.recipes for name in needed))
        while sum(name not in needed for name in self.recipes) < wanted and self.goods:
            level = 1 + int(self.rng.integers(depth))
            self._make(level, self.goods.pop())

    def book(self) -> dict[str, Recipe]:
        """The recipes in random order."""
        names = list(self.recipes)
        return {names[i]: self.recipes[names[i]] for i in self.rng.permutation(len(names))}


def depths(recipes: Mapping[str, Recipe]) -> dict[str, int]:
    """Depth of every good."""
    found: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in recipes:
            return 0
        if name not in found:
            found[name] = 1 + max(of(part) for part in recipes[name].names)
        return found[name]

    for name in recipes:
        of(name)
    return found


def _closure(target: str, recipes: Mapping[str, Recipe]) -> set[str]:
    """The target and everything that it needs."""
    found, open_ = {target}, [target]
    while open_:
        recipe = recipes.get(open_.pop())
        for name in recipe.names if recipe else ():
            if name not in found:
                found.add(name)
                open_.append(name)
    return found


def most_needed(world: World) -> int:
    """How often the most needed thing of the shortest plan is needed, or crafted."""
    needed = world.missing({})
    return max(count * (world.recipes[name].amount if name in world.recipes else 1) for name, count in needed.items())


def names(themes: Sequence[str], deep: Sequence[int], each: int) -> tuple[str, ...]:
    """The task names of a split: `each` worlds of every depth and theme, depths in turn. For your own splits, too."""
    return tuple(f"d{depth}/{theme}-{number}" for number in range(each) for theme in themes for depth in deep)


COMMON = tuple(theme for theme in THEMES if theme not in HELD_OUT)

SPLITS: dict[str, tuple[str, ...]] = {
    "train": names(COMMON, (1, 2, 3, 4), 200),
    "dev": names(COMMON, (1, 2, 3, 4), 10),
    "test": names(tuple(THEMES), (1, 2, 3, 4, 5, 6), 10),
}
"""Worlds differ between splits though names repeat: a world follows from the whole task, its split included. The test
split has two themes more, whose words no training world uses, and goes two levels deeper. With one book a theme
(`books.py`), tasks of all splits share the book; a target with the same things at the start is in one split only."""

"""The crafting world as a text environment: `get 2 oak log`, `craft 4 oak plank using 1 oak log`, `inventory`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from palaestra.envs.core import Reply, Task, TextEnv
from palaestra.envs.crafting.books import variation_of
from palaestra.envs.crafting.worlds import MOST, World, world_of
from palaestra.envs.errors import BadInput

LARGEST = 99
"""No command may name a larger number."""

_LONGEST = 400
_UNTOLD = "The recipes are the same in every task and not listed. A crafting that is wrong is told its recipe."
_FORM = "Answer like: get 2 THING, craft 1 THING using 2 THING, 1 THING, or inventory."
_GET = re.compile(r"get ([0-9]{1,4}) ([^,]+)")
_CRAFT = re.compile(r"craft ([0-9]{1,4}) ([^,]+?) using ([^()]+?)(?: ?\([^()]*\))?")
_PART = re.compile(r"([0-9]{1,4}) ([^,]+)")


@dataclass
class State:
    """All of an episode: the world, which never changes, and what one has."""

    world: World
    have: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """An action that was understood.

    Attributes:
        verb: "get", "craft" or "inventory".
        name, amount: what, and how many.
        uses: for crafting: ingredient -> how many.
    """

    verb: str
    name: str = ""
    amount: int = 0
    uses: Mapping[str, int] = field(default_factory=dict)


class Crafting(TextEnv[State]):
    """You craft a goal from raw materials by recipes. Answer with one command:
    get N THING - fetch a raw material, one that no recipe makes
    craft N THING using N THING, N THING - as a recipe says, or a whole multiple of it; the ingredients are used up
    inventory - what you have
    A recipe that needs a station works once you have that thing; it is not used up.
    """

    # The docstring is what an agent is told, so the setting is explained at `__init__`.
    # Score: 1 - (least number of commands that are still needed) / (least number from the start). It falls when what
    # was needed is used up for something else. Success: the target was crafted; the score is then 1.

    def __init__(self, recipes: str = "task") -> None:
        """A world.

        Args:
            recipes: whose they are. "task": drawn anew for every task and listed in its first observation, to be read.
                "theme": every theme has one book, the same in all tasks, and it is not listed: what leads where is
                learnt, or found out, as a crafting that is wrong is told its recipe. Targets of the same depth are
                the same few in all splits; what differs is the target together with what one has at the start, and
                no such pair is in two splits (two tasks of one split may be alike). The two themes that only `test`
                has are books that no training task shows.

        Raises:
            BadInput: `recipes` is neither.
        """
        super().__init__()
        if recipes not in ("task", "theme"):
            raise BadInput(f"recipes={recipes!r:.60} of Crafting is not known; it is 'task' or 'theme'")
        self._world_of = world_of if recipes == "task" else variation_of
        self._untold = "" if recipes == "task" else f"\n{_UNTOLD}"

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        """Start a world. Raises BadInput for a name that is none."""
        world = self._world_of(task)
        return State(world, dict(world.given)), world.text()

    def instructions(self, task: Task) -> str:
        return super().instructions(task) + self._untold

    def act(self, state: State, action: str) -> Reply:
        command = understand(action) if len(action) <= _LONGEST else None
        if command is None:
            return Reply(f"That is no command. {_FORM}", valid=False)
        if command.verb == "inventory":
            return Reply(state.world.having(state.have))
        said, done = _get(state, command) if command.verb == "get" else _craft(state, command)
        if not done:
            return Reply(said, valid=False)
        world = state.world
        if state.have.get(world.target, 0):
            return Reply(f"{said} The goal is reached.", score=1.0, success=True, over=True)
        return Reply(said, score=1.0 - len(world.missing(state.have)) / world.commands)

    def admissible(self, state: State) -> Sequence[str]:
        """Fetching 1 to `MOST` of every raw material, and every crafting that is possible now, up to `MOST` times."""
        actions = [f"get {amount} {name}" for name in state.world.raw for amount in range(1, MOST + 1)]
        for recipe in state.world.recipes.values():
            if recipe.station is None or recipe.station in state.have:
                most = min(state.have.get(name, 0) // count for name, count in recipe.uses.items())
                most = min(most, MOST, LARGEST // max(recipe.amount, *recipe.uses.values()))
                actions += [recipe.command(times) for times in range(1, most + 1)]
        return [*actions, "inventory"]


def _get(state: State, command: Command) -> tuple[str, bool]:
    name = command.name
    if name not in state.world.raw:
        made = name in state.world.recipes
        said = f"You cannot get {name}: it has to be crafted." if made else "There is no such thing."
        return said, False
    state.have[name] = state.have.get(name, 0) + command.amount
    return f"Got {command.amount} {name}.", True


def _craft(state: State, command: Command) -> tuple[str, bool]:
    recipe = state.world.recipes.get(command.name)
    if recipe is None:
        return "No recipe makes that.", False
    times = command.amount // recipe.amount
    if times * recipe.amount != command.amount or command.uses != {n: times * c for n, c in recipe.uses.items()}:
        return f"The recipe is: {recipe}.", False
    if recipe.station is not None and recipe.station not in state.have:
        return f"You need {recipe.station} for that.", False
    for name, count in command.uses.items():
        if state.have.get(name, 0) < count:
            return f"You have {state.have.get(name, 0)} {name}, that takes {count}.", False
    for name, count in command.uses.items():
        left = state.have[name] - count
        if left:
            state.have[name] = left
        else:
            del state.have[name]
    state.have[command.name] = state.have.get(command.name, 0) + command.amount
    return f"Crafted {command.amount} {command.name}.", True


@lru_cache(maxsize=4096)
def understand(action: str) -> Command | None:
    """Read an action, in any case and spacing; None if it is no command, or names 0 or more than `LARGEST`."""
    text = " ".join(action.lower().split()).removesuffix(".")
    if text == "inventory":
        return Command("inventory")
    if found := _GET.fullmatch(text):
        amount = int(found[1])
        return Command("get", found[2], amount) if 1 <= amount <= LARGEST else None
    found = _CRAFT.fullmatch(text)
    if found is None or not 1 <= int(found[1]) <= LARGEST:
        return None
    uses: dict[str, int] = {}
    for part in found[3].split(","):
        match = _PART.fullmatch(part.strip())
        if match is None or not 1 <= int(match[1]) <= LARGEST:
            return None
        uses[match[2]] = uses.get(match[2], 0) + int(match[1])
    return Command("craft", found[2], int(found[1]), uses)

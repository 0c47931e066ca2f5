"""Made-up games from nothing but code, in the form of ALFWorld's: for use without any data, and for endless training.

A task's name, such as `pick_heat_then_place_in_recep/123`, is all of its randomness: the type, and a number that says
the split and the seed. Which furniture a room has follows from a layout number; the split `test_unseen` has layouts,
and so combinations of furniture, that no other split has.

The games are of Palaestra's own making (rules, words, tables): a score on them is not a score on ALFWorld.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from palaestra.envs.alfworld.files import GameFile
from palaestra.envs.alfworld.generate_rooms import BELONGS, FURNITURE, ROOMS, THINGS, Thing
from palaestra.envs.alfworld.generate_texts import DOMAIN, TASKS, grammar
from palaestra.envs.errors import BadInput

T = TypeVar("T")

TYPES = tuple(TASKS)
"""The six task types of ALFWorld."""

BLOCK = 1_000_000
"""Numbers of each task type that a split has; more than are listed, so that training need never see a game twice."""

SEEN_LAYOUTS, UNSEEN_LAYOUTS = 40, 20
"""Of each kind of room."""

_SPLITS = {"train": (0, 1000), "dev": (1, 50), "test": (2, 50), "test_unseen": (3, 50)}
"""Split -> its block of numbers, and how many of each task type are listed."""

_LIGHTS, _TWO = "look_at_obj_in_light", "pick_two_obj_and_place"


@dataclass(frozen=True)
class Numbers(Sequence[str]):
    """The listed task names of a split: type by type in turn, so that any beginning of it holds all six."""

    first: int
    each: int

    def __len__(self) -> int:
        return self.each * len(TYPES)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # slices are not needed
        if not 0 <= index < len(self):
            raise IndexError(index)
        number, kind = divmod(index, len(TYPES))
        return f"{TYPES[kind]}/{self.first + number}"

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))


SPLITS: Mapping[str, Numbers] = {split: Numbers(block * BLOCK, listed) for split, (block, listed) in _SPLITS.items()}
"""The splits, training split first. `split_of` says where a name that is not listed belongs."""


def split_of(name: str) -> str:
    """The split to which a task's number belongs. Raises BadInput for a name that is none."""
    return list(_SPLITS)[_parsed(name)[1] // BLOCK]


def _parsed(name: str) -> tuple[str, int]:
    kind, _, number = name.partition("/")
    if kind not in TYPES or not re.fullmatch(r"0|[1-9][0-9]{0,8}", number) or int(number) >= BLOCK * len(_SPLITS):
        last = BLOCK * len(_SPLITS) - 1
        raise BadInput(
            f"no generated ALFWorld task {name!r}; names are TYPE/NUMBER, with one of {', '.join(TYPES)} "
            f"and a number from 0 to {last}"
        )
    return kind, int(number)


class Draw:
    """Draws that are the same in every version of Python: only `random()` is promised to be."""

    def __init__(self, *seed: object) -> None:
        self._random = random.Random(":".join(map(str, ("palaestra home", *seed))))

    def below(self, count: int) -> int:
        return int(self._random.random() * count)

    def between(self, least: int, most: int) -> int:
        return least + self.below(most - least + 1)

    def one(self, things: Sequence[T]) -> T:
        return things[self.below(len(things))]

    def shuffled(self, things: Sequence[T]) -> list[T]:
        rest = list(things)
        return [rest.pop(self.below(len(rest))) for _ in range(len(rest))]


@dataclass(frozen=True)
class Goal:
    """What a game asks for: a kind of thing, and a kind of furniture to put it on (a lamp to look by)."""

    kind: str
    thing: str
    place: str


@dataclass
class Home:
    """A room before it is written down.

    Attributes:
        room: its kind.
        places: every piece of furniture -> its kind.
        things: every thing -> its kind.
        where: every thing -> the piece of furniture that it is on or in.
        goal: the task.
        task: the task in words.
    """

    room: str
    places: Mapping[str, str]
    things: dict[str, str]
    where: dict[str, str]
    goal: Goal
    task: str


@lru_cache(maxsize=256)
def generated(name: str) -> GameFile:
    """The game of a task name, the same one on every machine. Raises BadInput for a name that is none."""
    kind, number = _parsed(name)
    home = furnish(kind, number)
    lamp = home.goal.place if kind == _LIGHTS else ""
    params = {
        "object_target": home.goal.thing,
        "parent_target": "" if lamp else home.goal.place,
        "toggle_target": lamp,
        "mrecep_target": "",
        "object_sliced": "",
    }
    return GameFile(
        where=f"generated {name}",
        domain=DOMAIN,
        grammar=grammar(home.room, home.task),
        problem=_problem(home),
        task_type=kind,
        params=params,
    )


@lru_cache(maxsize=512)
def layout(room: str, number: int) -> tuple[tuple[str, int], ...]:
    """The furniture of a room: kinds and how many of each. Layouts from SEEN_LAYOUTS on are the unseen ones."""
    draw = Draw("layout", room, number)
    taken = {layout(room, seen) for seen in range(SEEN_LAYOUTS)} if number >= SEEN_LAYOUTS else set()
    while True:
        counts = [(kind, draw.between(least, most)) for kind, (least, most) in ROOMS[room].items()]
        drawn = tuple((kind, count) for kind, count in counts if count)
        if drawn not in taken:
            return drawn


def furnish(kind: str, number: int) -> Home:
    """Draw a room, its things and a task of a type that can be solved in it."""
    draw = Draw(kind, number)
    unseen = list(_SPLITS)[number // BLOCK] == "test_unseen"
    while True:
        room = draw.one(list(ROOMS))
        plan = SEEN_LAYOUTS + draw.below(UNSEEN_LAYOUTS) if unseen else draw.below(SEEN_LAYOUTS)
        goals = _goals(kind, room, dict(layout(room, plan)))
        if goals:
            return _filled(draw, room, layout(room, plan), draw.one(goals))


def _goals(kind: str, room: str, places: Mapping[str, int]) -> list[Goal]:
    """The tasks of a type that make sense in a room with these kinds of furniture."""
    there = {name: thing for name, thing in THINGS.items() if name in BELONGS[room]}
    lamps = [name for name, thing in there.items() if thing.lamp and any(p in places for p in thing.places)]
    goals = []
    for name, thing in there.items():
        fitting = [place for place in thing.places if place in places]
        if thing.lamp or not fitting or not _treatable(kind, thing, places):
            continue
        if kind == _LIGHTS:
            goals += [Goal(kind, name, lamp) for lamp in lamps]
        elif len(fitting) > 1:  # somewhere to find it that is not where it belongs
            goals += [Goal(kind, name, place) for place in fitting]
    return goals


def _treatable(kind: str, thing: Thing, places: Iterable[str]) -> bool:
    """Can the thing be made clean, hot or cold among this furniture, where the type of task asks for it."""
    furniture = [FURNITURE[place] for place in places]
    if kind == "pick_clean_then_place_in_recep":
        return thing.wash and any(each.wet for each in furniture)
    if kind == "pick_heat_then_place_in_recep":
        return thing.heat and any(each.hot for each in furniture)
    if kind == "pick_cool_then_place_in_recep":
        return thing.cool and any(each.cold for each in furniture)
    return True


def _filled(draw: Draw, room: str, plan: tuple[tuple[str, int], ...], goal: Goal) -> Home:
    places = {f"{kind.capitalize()}_bar_{number:02d}": kind for kind, count in plan for number in range(1, count + 1)}
    home = Home(room, places, {}, {}, goal, _words(draw, goal))
    for kind, thing in THINGS.items():
        if kind not in BELONGS[room]:
            continue
        fitting = [place for place, of in places.items() if of in thing.places]
        wanted = {goal.thing: 2 if goal.kind == _TWO else 1}
        if goal.kind == _LIGHTS:
            wanted[goal.place] = 1
        least = wanted.get(kind, 0)
        count = draw.one((0, 1, 1, 1, 2, 2, 3)) if fitting else 0
        count = max(least, min(count, 1) if thing.lamp else count)
        if kind == goal.thing and goal.kind != _LIGHTS:  # none is where it should be brought
            fitting = [place for place in fitting if places[place] != goal.place]
        for number in range(1, count + 1):
            name = f"{kind.capitalize()}_bar_{number:02d}"
            home.things[name], home.where[name] = kind, draw.one(fitting)
    return home


def _words(draw: Draw, goal: Goal) -> str:
    word = FURNITURE[goal.place].word if goal.kind != _LIGHTS else ""
    article = "an" if goal.thing[0] in "aeiou" else "a"
    return draw.one(TASKS[goal.kind]).format(
        a_thing=f"{article} {goal.thing}", thing=goal.thing, place=goal.place, word=word, lamp=goal.place
    )


def _problem(home: Home) -> str:
    """The home as a PDDL problem. The first location is the middle of the room, where no furniture is."""
    spots = {place: f"loc_bar_{number}" for number, place in enumerate(home.places, 1)}
    kinds, places = sorted(set(home.things.values())), sorted(set(home.places.values()))
    objects = ["agent1 - agent", "loc_bar_0 - location"]
    objects += [f"{spot} - location" for spot in spots.values()]
    objects += [f"{place} - receptacle" for place in home.places]
    objects += [f"{thing} - object" for thing in home.things]
    objects += [f"{kind.capitalize()}Type - otype" for kind in kinds]
    objects += [f"{kind.capitalize()}Type - rtype" for kind in places]
    facts = ["(atLocation agent1 loc_bar_0)"]
    for place, kind in home.places.items():
        facts.append(f"(receptacleAtLocation {place} {spots[place]})")
        facts.append(f"(receptacleType {place} {kind.capitalize()}Type)")
        what = FURNITURE[kind]
        marks = {"openable": what.openable, "washes": what.wet, "warms": what.hot, "chills": what.cold}
        facts += [f"({mark} {place})" for mark, holds in marks.items() if holds]
    for thing, kind in home.things.items():
        facts.append(f"(inReceptacle {thing} {home.where[thing]})")
        facts.append(f"(objectType {thing} {kind.capitalize()}Type)")
        facts += [f"({mark} {thing})" for mark, holds in _marks(THINGS[kind]).items() if holds]
    facts += [
        f"(canContain {place.capitalize()}Type {kind.capitalize()}Type)"
        for place in places
        for kind in kinds
        if place in THINGS[kind].places
    ]
    lines = ["(define (problem made_up)", "(:domain palaestra_home)", "(:objects", *objects, ")", "(:init", *facts, ")"]
    return "\n".join([*lines, f"(:goal {_goal(home.goal)}))", ""])


def _marks(thing: Thing) -> dict[str, bool]:
    return {
        "pickupable": not thing.lamp,
        "toggleable": thing.lamp,
        "cleanable": thing.wash,
        "heatable": thing.heat,
        "coolable": thing.cool,
    }


_STATE = {
    "pick_clean_then_place_in_recep": "(isClean ?o) ",
    "pick_heat_then_place_in_recep": "(isHot ?o) ",
    "pick_cool_then_place_in_recep": "(isCool ?o) ",
}


def _goal(goal: Goal) -> str:
    thing, place = f"{goal.thing.capitalize()}Type", f"{goal.place.capitalize()}Type"
    if goal.kind == _LIGHTS:
        return (
            f"(and (exists (?a - agent ?o - object) (and (holds ?a ?o) (objectType ?o {thing})))\n"
            "  (exists (?a - agent ?p - object ?r - receptacle ?l - location) (and (isToggled ?p) "
            f"(objectType ?p {place}) (inReceptacle ?p ?r) (receptacleAtLocation ?r ?l) (atLocation ?a ?l))))"
        )
    brought = f"(receptacleType ?r {place}) (inReceptacle ?o ?r) (objectType ?o {thing})"
    if goal.kind == _TWO:
        return (
            f"(exists (?r - receptacle ?o - object ?p - object) (and {brought} "
            f"(inReceptacle ?p ?r) (objectType ?p {thing}) (not (= ?o ?p))))"
        )
    return f"(exists (?r - receptacle ?o - object) (and {brought} {_STATE.get(goal.kind, '')}))"

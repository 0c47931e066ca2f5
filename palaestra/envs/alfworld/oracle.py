"""The experts: what to do next, for all six types of tasks, from any state.

`expert` knows where everything is. `searcher` decides by the same rules, but knows only what an agent could have seen:
it goes to receptacles and opens them until it has found what it needs, likely places first, so its episodes read like
a person's. Both keep nothing and are deterministic: the next command follows from the episode so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from palaestra.envs.alfworld.game import Game, World
from palaestra.envs.core import TextEnv
from palaestra.envs.errors import BadInput

STATES: Mapping[str, str] = {
    "pick_clean_then_place_in_recep": "clean",
    "pick_heat_then_place_in_recep": "heat",
    "pick_cool_then_place_in_recep": "cool",
}
"""Task type -> what has to be done to the object."""

LIGHT, TWO = "look_at_obj_in_light", "pick_two_obj_and_place"

_ABLE = {"clean": "cleanable", "heat": "heatable", "cool": "coolable"}
_DONE = {"clean": "isclean", "heat": "ishot", "cool": "iscool"}
_WITH = {"clean": ("washes", "sink", "sinkbasin"), "heat": ("warms", "microwave"), "cool": ("chills", "fridge")}
"""What it is done with: a predicate of made-up games, then kinds of receptacles in ALFWorld's."""

NOTHING_TO_DO = "look"


class View:
    """A state as the experts see it. All ids are those of the game.

    Args:
        game, world: the state.
        known: the receptacles whose contents are known; None for all of them.
        visited: the receptacles at which one has stood.
    """

    def __init__(
        self, game: Game, world: World, known: frozenset[str] | None = None, visited: frozenset[str] = frozenset()
    ) -> None:
        self.game, self.world, self.known, self.visited = game, world, known, visited
        params = game.file.params
        self.target = f"{params.get('object_target', '').lower()}type"
        self.lamp = f"{params.get('toggle_target', '').lower()}type"
        self.here = next((spot for _, spot in sorted(self.true("atlocation"))), "")
        self.held = next((held for _, held in sorted(self.true("holds"))), None)
        self.spot_of = dict(_pairs(sorted(self.true("receptacleatlocation"))))
        self.kinds = dict(_pairs([*self.true("receptacletype"), *self.true("objecttype")]))
        contents: dict[str, set[str]] = {}
        for thing, place in self.true("inreceptacle"):
            if place in self.spot_of:
                contents.setdefault(place, set()).add(thing)
        self.contents = contents

    def true(self, predicate: str) -> frozenset[tuple[str, ...]]:
        return self.game.true(self.world, predicate)

    def holds(self, predicate: str, *ids: str) -> bool:
        return ids in self.true(predicate)

    def name(self, id: str) -> str:
        return self.game.names[id].strip()

    def closed(self, place: str) -> bool:
        return self.holds("openable", place) and not self.holds("opened", place)

    def takes(self, place: str, thing: str) -> bool:
        """Can the thing be put there."""
        return self.holds("cancontain", self.kinds.get(place, ""), self.kinds.get(thing, ""))

    def is_known(self, place: str) -> bool:
        return self.known is None or place in self.known

    def inside(self, place: str, things: Iterable[str]) -> set[str]:
        """Which of these things are known to be there."""
        return self.contents.get(place, set()).intersection(things) if self.is_known(place) else set()

    def found(self, things: Iterable[str]) -> list[tuple[str, str]]:
        """Where these things are known to be, as (place, thing), the easiest to reach first."""
        wanted = set(things)
        pairs = [(place, thing) for place in self.contents for thing in self.inside(place, wanted)]
        return sorted(pairs, key=lambda pair: (self.spot_of[pair[0]] != self.here, self.closed(pair[0]), pair))


def _pairs(facts: Iterable[tuple[str, ...]]) -> Iterable[tuple[str, str]]:
    return ((first, second) for first, second in facts)


def expert(env: TextEnv[Any]) -> str:
    """The next command of one who knows where everything is. Raises BadInput for another environment."""
    game, world, _ = _episode(env)
    return advise(View(game, world))


def searcher(env: TextEnv[Any]) -> str:
    """The next command of one who has to look for things. Raises BadInput for another environment."""
    game, world, history = _episode(env)
    return advise(View(game, world, *seen(game, history)), env.unwrapped.task.id)  # type: ignore[attr-defined]


def advise(view: View, seed: str = "") -> str:
    """What to do in a state. `seed` decides between places that are as likely as each other to hold what is missing."""
    if view.game.won(view.world):
        return NOTHING_TO_DO
    kind = view.game.file.task_type
    step = _light(view) if kind == LIGHT else _place(view, STATES.get(kind), kind == TWO)
    return step or _search(view, seed) or NOTHING_TO_DO


# -- the six tasks -----------------------------------------------------------------------------------------------------


def _light(view: View) -> str | None:
    """Hold the thing, and use the lamp."""
    if view.held is None or view.kinds.get(view.held) != view.target:
        return _fetch(view, _targets(view))
    lamps = [thing for thing in view.kinds if view.kinds[thing] == view.lamp and view.holds("toggleable", thing)]
    for place, lamp in view.found(lamps):
        return _go(view, place) or f"use {view.name(lamp)}"
    return None


def _place(view: View, state: str | None, two: bool) -> str | None:
    """Fetch a thing, do to it what has to be done, and put it where it belongs; two of them for `two`."""
    goal = f"{view.game.file.params.get('parent_target', '').lower()}type"
    targets = [thing for thing in _targets(view) if state is None or view.holds(_ABLE[state], thing)]
    ready = [thing for thing in targets if state is None or view.holds(_DONE[state], thing)]
    places = [place for place in sorted(view.spot_of) if view.kinds.get(place) == goal]
    places = [place for place in places if any(view.takes(place, thing) for thing in targets)]
    if not places:
        return None
    # Where most of them are already: for two, the second one has to go where the first one went.
    best = min(places, key=lambda place: (-len(view.inside(place, ready)), place))
    if view.held not in targets:
        there = view.inside(best, ready)
        missing = [thing for thing in targets if thing not in there]
        return _fetch(view, [thing for thing in missing if thing in ready]) or _fetch(view, missing)
    if state is not None and view.held not in ready:
        return _treat(view, state, view.held)
    return _put(view, view.held, best)


def _targets(view: View) -> list[str]:
    return sorted(
        thing for thing, kind in view.kinds.items() if kind == view.target and view.holds("pickupable", thing)
    )


def _treat(view: View, state: str, thing: str) -> str | None:
    """Clean, heat or cool what is held."""
    mark, *kinds = _WITH[state]
    wanted = {f"{kind}type" for kind in kinds}
    places = [place for place in sorted(view.spot_of) if view.holds(mark, place) or view.kinds.get(place) in wanted]
    for place in sorted(places, key=lambda place: view.spot_of[place] != view.here):
        return _go(view, place) or f"{state} {view.name(thing)} with {view.name(place)}"
    return None


# -- moving things -----------------------------------------------------------------------------------------------------


def _fetch(view: View, things: Sequence[str]) -> str | None:
    """Take the first of these things that can be reached; put down what else is held before that."""
    for place, thing in view.found(things):
        if view.held is not None:
            return _put_away(view, view.held)
        return _go(view, place) or _open(view, place) or f"take {view.name(thing)} from {view.name(place)}"
    return None


def _put_away(view: View, thing: str) -> str | None:
    places = [place for place in sorted(view.spot_of) if view.takes(place, thing)]
    for place in sorted(places, key=lambda place: (view.spot_of[place] != view.here, view.closed(place))):
        return _put(view, thing, place)
    return None


def _put(view: View, thing: str, place: str) -> str:
    step = _go(view, place) or _open(view, place)
    if step:
        return step
    ways = (f"put {view.name(thing)} in/on {view.name(place)}", f"move {view.name(thing)} to {view.name(place)}")
    listed = view.game.admissible(view.world)
    return next((way for way in ways if way in listed), ways[0])


def _go(view: View, place: str) -> str | None:
    return None if view.spot_of[place] == view.here else f"go to {view.name(place)}"


def _open(view: View, place: str) -> str | None:
    return f"open {view.name(place)}" if view.closed(place) else None


# -- searching ---------------------------------------------------------------------------------------------------------


def seen(game: Game, history: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The receptacles into (or onto) which these commands have made one look, and those at which one has stood."""
    world = game.start
    known: set[str] = set()
    visited: set[str] = set()
    closable = {place for (place,) in game.true(world, "openable")}
    ids = {name.strip(): id for id, name in game.names.items()}
    for command in history:
        move = game.step(world, command)
        world = move.world
        verb, _, rest = command.strip().partition(" ")
        place = ids.get(rest.removeprefix("to ") if verb == "go" else rest)
        if not move.valid or place is None or verb not in ("go", "open", "examine"):
            continue
        visited.add(place)
        if place not in closable or (place,) in game.true(world, "opened"):
            known.add(place)
    return frozenset(known), frozenset(visited)


def _search(view: View, seed: str) -> str | None:
    """Look into the likeliest receptacle that is not known yet; what one has come to is looked into at once."""
    wanted = [thing for thing, kind in view.kinds.items() if kind in (view.target, view.lamp)]
    unknown = [place for place in view.spot_of if not view.is_known(place)]

    def order(place: str) -> tuple[bool, bool, bytes]:
        begun = place in view.visited and view.spot_of[place] == view.here
        likely = any(view.takes(place, thing) for thing in wanted)
        return not begun, not likely, blake2b(f"{seed}:{view.name(place)}".encode(), digest_size=8).digest()

    for place in sorted(unknown, key=order):
        return _go(view, place) or _open(view, place) or f"examine {view.name(place)}"
    return None


def _episode(env: TextEnv[Any]) -> tuple[Game, World, Sequence[str]]:
    """Game, state and commands so far. The original engine hands out no state: the commands are played on ours."""
    inner = env.unwrapped
    game = getattr(inner, "game", None)
    if not isinstance(inner, TextEnv) or not isinstance(game, Game):
        raise BadInput(f"this oracle plays ALFWorld, not {type(inner).__name__}")
    world = inner.state.world
    if world is None:
        world = game.start
        for command in inner.history:
            world = game.step(world, command).world
    return game, world, inner.history

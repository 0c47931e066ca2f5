"""A game of ALFWorld: what is true, which commands there are, what a command changes and what is answered.

`compiled` makes a `Game` of a `GameFile`: immutable, and shared by all episodes. A `World` is one state of it. Worlds
are immutable too and share what did not change, so going back to one costs nothing.

The rules are the original's (a planner's state under TextWorld's texts), its peculiarities among them: an action that
could change nothing is none (going where one stands), the texts know that something is *not* true only where an action
has said so, and they believe every conditional effect.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple
from weakref import WeakValueDictionary

from palaestra.envs.alfworld.actions import Ground, Schema, ground, slots_of
from palaestra.envs.alfworld.files import GameFile
from palaestra.envs.alfworld.grammar import Entity, Grammar, Mapped, Symbol, read_grammar, read_symbols
from palaestra.envs.alfworld.logic import Join, Relation, Row, Terms, branches
from palaestra.envs.alfworld.pddl import ROOT, Domain, Problem, read_domain, read_problem
from palaestra.envs.alfworld.scene import Kinds, Scene, shown_names
from palaestra.envs.errors import BadInput

__all__ = ["NOTHING", "Answer", "Game", "GameFile", "World", "compiled", "parsed"]

NOTHING = "Nothing happens."
"""The answer to what is no admissible command."""

_INTRO = read_symbols("#intro#")


@dataclass(frozen=True)
class World:
    """A state of a game: what is true of what can change. Hashable and picklable; of use with its own game only."""

    changing: tuple[Relation, ...]


class Answer(NamedTuple):
    """What an engine says.

    Attributes:
        world: the state from now on; None where the engine keeps it to itself.
        text: what the player reads.
        valid: was the command admissible.
        won: is the goal met now.
    """

    world: World | None
    text: str
    valid: bool
    won: bool


class Move(NamedTuple):
    """As `Answer`, of a game that hands out its states."""

    world: World
    text: str
    valid: bool
    won: bool


class Game:
    """A game, ready to be played. Safe to use from several threads.

    Args:
        file: its texts.

    Attributes:
        start: the first state.
        types: id of an object -> its type in PDDL.
        names: id -> shown name, such as "cabinet 3".

    Raises:
        BadInput: the texts cannot be read; one line with file and line.
    """

    start: World

    def __init__(self, file: GameFile) -> None:
        self.file = file
        where = f"{file.where}/game.tw-pddl"
        domain, problem, self._grammar = parsed(file)
        self.types: Mapping[str, str] = dict(problem.objects)
        self.names: Mapping[str, str] = shown_names(
            {each for fact in problem.facts for each in fact[1:]} | problem.named
        )
        self._objects = sorted(self.types)
        self._entities = [Entity(each, self.names.get(each, each), self.types[each]) for each in self._objects]
        self._kinds = Kinds(domain)
        try:
            slots = self._slots = slots_of(domain, problem.goal, self._grammar.asked())
            terms = Terms(
                {each: number for number, each in enumerate(self._objects)}, self._objects_of(domain), slots.all
            )
            rows: dict[str, set[Row]] = {}
            for predicate, *arguments in problem.facts:
                rows.setdefault(predicate, set()).add(tuple([terms.objects[each] for each in arguments]))
            relations = [Relation(frozenset(rows.get(source, ()))) for source in slots.sources]
            self._fixed = tuple(relations[slots.changing :])
            self.start = World(tuple(relations[: slots.changing]))
            self._schemas = [Schema(each, self._grammar, terms, relations, slots) for each in domain.actions]
            self._goal = [Join((), branch, terms, relations) for branch in branches(problem.goal)]
            self._known: list[dict[Row, Ground | None]] = [{} for _ in self._schemas]
            self._listed = lru_cache(maxsize=64)(self._list)
            self.intro()
            self.admissible(self.start)
        except BadInput as error:
            raise BadInput(f"{where} line 1: {error}") from None

    def _objects_of(self, domain: Domain) -> Mapping[str, frozenset[int]]:
        groups: dict[str, set[int]] = {ROOT: set()}
        for number, each in enumerate(self._objects):
            for kind in domain.above(self.types[each]):
                groups.setdefault(kind, set()).add(number)
        return {kind: frozenset(group) for kind, group in groups.items()}

    @cached_property
    def ids(self) -> Mapping[str, str]:
        """Shown name -> id."""
        return {name: each for each, name in self.names.items()}

    # -- playing -----------------------------------------------------------------------------------------------------

    def intro(self) -> str:
        """The first text: the room and the task."""
        return self._first_text

    @cached_property
    def _first_text(self) -> str:
        return self._text(_INTRO, self.start, {})

    def admissible(self, world: World) -> tuple[str, ...]:
        """The commands that can be taken, sorted, each once."""
        return self._listed(world)[1]

    def step(self, world: World, command: str) -> Move:
        """Take a command; what is not admissible gets `NOTHING` and changes nothing."""
        chosen = self._listed(world)[0].get(command.strip())
        if chosen is None:
            return Move(world, NOTHING, False, self.won(world))
        changing = chosen.applied(world.changing, self._fixed)
        after = world if changing == world.changing else World(changing)
        text = self._text(chosen.schema.feedback, after, chosen.schema.mapped(chosen.row))
        return Move(after, text, True, self.won(after))

    def won(self, world: World) -> bool:
        """Is the goal met."""
        relations = (*world.changing, *self._fixed)
        return any(join.any(relations) for join in self._goal)

    def true(self, world: World, predicate: str) -> frozenset[tuple[str, ...]]:
        """The ids for which a predicate is true. Empty for a predicate that neither rules nor texts ask for."""
        slot = self._slots.all.get(predicate)
        if slot is None:
            return frozenset()
        rows = (*world.changing, *self._fixed)[slot].rows
        return frozenset(tuple([self._objects[number] for number in row]) for row in rows)

    def _list(self, world: World) -> tuple[Mapping[str, Ground], tuple[str, ...]]:
        """Command -> action (the first of those that are spelt alike), and the commands in order."""
        relations = (*world.changing, *self._fixed)
        found: dict[str, Ground] = {}

        def derive(symbols: Sequence[Symbol], mapped: Mapped) -> str:
            return self._text(symbols, world, mapped)

        for schema, known in zip(self._schemas, self._known, strict=True):
            for row in schema.rows(relations):
                if row not in known:
                    known[row] = ground(schema, row)
                action = known[row]
                if action is not None:
                    found.setdefault(schema.spelt(row, derive), action)
        return found, tuple(sorted(found))

    def _text(self, symbols: Sequence[Symbol], world: World, mapped: Mapped) -> str:
        scene = Scene((*world.changing, *self._fixed), self._slots, self._kinds, self._entities)
        return self._grammar.derive(symbols, scene, mapped)


@lru_cache(maxsize=8)
def _parsed_domain(text: str) -> Domain:
    return read_domain(text)


def _domain(text: str, where: str) -> Domain:
    try:
        return _parsed_domain(text)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def parsed(file: GameFile) -> tuple[Domain, Problem, Grammar]:
    """The rules, the first state and the texts of a game, read but not yet put together: some 3 ms.

    Raises:
        BadInput: one of them cannot be read; one line with file and line.
    """
    where = f"{file.where}/game.tw-pddl"
    domain = _domain(file.domain, where)
    problem = read_problem(file.problem, domain, f"{where}: pddl_problem")
    grammar = read_grammar(file.grammar, f"{where}: grammar")
    for action in domain.actions:
        if action.name not in grammar.actions:
            raise BadInput(f"{where} line 1: the grammar has no texts for the action {action.name!r}")
    return domain, problem, grammar


_HELD = 32
"""Games that are kept though no episode plays them."""

_live: WeakValueDictionary[str, Game] = WeakValueDictionary()
_last: OrderedDict[str, Game] = OrderedDict()
_lock = threading.Lock()


def compiled(file: GameFile) -> Game:
    """The game of a file: the one that somebody still holds, or one of the last 32, or a new one.

    Whoever plays on holds it: then it is never made twice, however many games are played at once.

    Raises:
        BadInput: it cannot be read; one line with file and line.
    """
    with _lock:
        game = _live.get(file.digest)
    made = game or Game(file)
    with _lock:
        game = _live.setdefault(file.digest, made)
        _last[file.digest] = game
        _last.move_to_end(file.digest)
        while len(_last) > _HELD:
            _last.popitem(last=False)
    return game

"""Actions of a game: which of them can be taken in a state, and what they change.

A predicate has a slot in the list of relations. Besides what is true there is what the texts know: `not_p` holds the
rows that an action has made untrue (nothing at first), and `said p`, where effects on `p` have conditions, the rows
that the texts believe, since the original reports such effects to its texts whether or not their condition holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from palaestra.envs.alfworld.grammar import Call, Each, Expression, Grammar, Mapped, Placeholder, Symbol
from palaestra.envs.alfworld.logic import Join, Relation, Relations, Row, Terms, branches, holds
from palaestra.envs.alfworld.pddl import Action, Condition, Domain, Effect, Junction, Literal
from palaestra.envs.errors import BadInput

Fact = tuple[str, Row]


@dataclass(frozen=True)
class Slots:
    """Where each predicate's relation stands.

    Attributes:
        all: name of a relation -> its slot.
        sources: slot -> the predicate whose first facts it begins with; "" for none.
        changing: slots below this can change, the others never do.
    """

    all: Mapping[str, int]
    sources: tuple[str, ...]
    changing: int

    def told(self, predicate: str) -> int | None:
        """The slot that texts ask for a predicate; None for one that is never true."""
        return self.all.get(f"said {predicate}", self.all.get(predicate))


def slots_of(domain: Domain, goal: Condition, asked: frozenset[str]) -> Slots:
    """The slots of a game: for what its rules read and its texts ask, and nothing else."""
    effects = [effect for action in domain.actions for effect in action.effects]
    changed = {effect.literal.predicate for effect in effects}
    unsure = {effect.literal.predicate for effect in effects if effect.condition is not None}
    removed = {effect.literal.predicate for effect in effects if effect.literal.negated}
    read = set(_predicates(goal))
    for action in domain.actions:
        read.update(_predicates(action.precondition))
    for effect in effects:
        if effect.condition is not None:
            read.update(_predicates(effect.condition))
    read = (read | asked) & (domain.arity.keys() - {"="})
    names = [(name, name) for name in sorted(read & changed)]
    names += [(f"not_{name}", "") for name in sorted(removed) if f"not_{name}" in asked]
    names += [(f"said {name}", name) for name in sorted(unsure & asked)]
    changing = len(names)
    names += [(name, name) for name in sorted(read - changed)]
    return Slots({name: slot for slot, (name, _) in enumerate(names)}, tuple(source for _, source in names), changing)


def _predicates(condition: Condition) -> Iterator[str]:
    if isinstance(condition, Literal):
        yield condition.predicate
    elif isinstance(condition, Junction):
        for part in condition.parts:
            yield from _predicates(part)
    else:
        yield from _predicates(condition.part)


class Schema:
    """An action of the domain, within one game.

    Args:
        action: the action.
        grammar: spells it.
        terms, relations, slots: the game's objects, its first state, and where relations stand.

    Attributes:
        feedback: the text that is answered to it.
        placeholders: its parameters, for texts.

    Raises:
        BadInput: the grammar does not know the action, or its conditions are too many.
    """

    def __init__(
        self, action: Action, grammar: Grammar, terms: Terms, relations: Sequence[Relation], slots: Slots
    ) -> None:
        texts = grammar.actions.get(action.name)
        if texts is None:
            raise BadInput(f"the grammar has no texts for the action {action.name!r}")
        self.terms, self.slots = terms, slots
        self.template, self.feedback = texts
        self.names = tuple(name for name, _ in action.parameters)
        self.placeholders = tuple(Placeholder(name.strip("?"), kind) for name, kind in action.parameters)
        self._joins = [Join(action.parameters, each, terms, relations) for each in branches(action.precondition)]
        self.simple = [_Pattern.of(each.literal, self.names, terms) for each in action.effects if _is_simple(each)]
        self.others = tuple(each for each in action.effects if not _is_simple(each))
        self.required = [_Pattern.of(each, self.names, terms) for each in _required(action.precondition)]
        self._spelt_by = self._deciding(grammar)
        self._spelt: dict[Row, str] = {}

    def rows(self, relations: Relations) -> list[Row]:
        """The objects with which it can be taken, in order."""
        found: set[Row] = set()
        for join in self._joins:
            found |= join.rows(relations)
        return sorted(found)

    def spelt(self, row: Row, derive: Callable[[Sequence[Symbol], Mapped], str]) -> str:
        """The command for some objects; remembered where it is the same in all states."""
        if self._spelt_by is None:
            return derive(self.template, self.mapped(row))
        key = tuple([row[place] for place in self._spelt_by])
        text = self._spelt.get(key)
        if text is None:
            text = self._spelt[key] = derive(self.template, self.mapped(row))
        return text

    def mapped(self, row: Row) -> Mapped:
        """Its objects, for texts."""
        return dict(zip(self.placeholders, row, strict=True))

    def _deciding(self, grammar: Grammar) -> tuple[int, ...] | None:
        """The places of the parameters that decide how it is spelt; None where the state does, too."""
        told = [self.slots.told(name) for name in grammar.asked(self.template)]
        if any(slot is not None and slot < self.slots.changing for slot in told):
            return None
        everything = tuple(range(len(self.placeholders)))
        used: set[str] = set()
        for symbol in self.template:
            inner = symbol.inner if isinstance(symbol, Each) else symbol
            query = symbol.query if isinstance(symbol, Each) else ()
            asked = {each for part in query for each in part.parameters}
            if isinstance(inner, Call) or not asked <= set(self.placeholders):
                return everything
            used.update(each.name for each in asked)
            if isinstance(inner, Expression):
                used.update(inner.names)
        return tuple(place for place in everything if self.placeholders[place].name in used)


class _Pattern(NamedTuple):
    """A literal of an action's parameters: places in its row, or ~number for an object that is always the same."""

    negated: bool
    predicate: str
    places: tuple[int, ...]

    @classmethod
    def of(cls, literal: Literal, names: Sequence[str], terms: Terms) -> _Pattern:
        places = [names.index(term) if term in names else ~terms.number(term) for term in literal.terms]
        return cls(literal.negated, literal.predicate, tuple(places))

    def fact(self, row: Row) -> Fact:
        return self.predicate, tuple([row[place] if place >= 0 else ~place for place in self.places])


def _is_simple(effect: Effect) -> bool:
    return effect.condition is None and not effect.variables


class Ground:
    """An action with its objects.

    Args:
        schema: the action.
        row: its objects.
        added, removed: the facts that it changes in any case.
        unsure: effects with conditions, each with what its variables stand for, and its fact.
    """

    __slots__ = ("_added", "_changes", "_removed", "_unsure", "row", "schema")

    def __init__(
        self, schema: Schema, row: Row, added: set[Fact], removed: set[Fact], unsure: Sequence[_Unsure]
    ) -> None:
        self.schema, self.row = schema, row
        self._added, self._removed, self._unsure = added, removed, unsure
        self._changes: _Changes | None = None

    def applied(self, changing: tuple[Relation, ...], fixed: tuple[Relation, ...]) -> tuple[Relation, ...]:
        """The changing relations after it."""
        if self._changes is None:  # most actions are listed and never taken
            self._changes = self._prepared()
        after = list(changing)
        for slot, added, removed in self._changes:
            after[slot] = after[slot].changed(added, removed)
        if self._unsure:
            self._apply_unsure((*changing, *fixed), after)
        return tuple(after)

    def _prepared(self) -> _Changes:
        """By slot: rows added and rows removed. Of what the texts are told, the removal comes last."""
        slots = self.schema.slots
        plus: dict[int, set[Row]] = {}
        minus: dict[int, set[Row]] = {}

        def note(changes: dict[int, set[Row]], name: str, row: Row) -> None:
            if name in slots.all:
                changes.setdefault(slots.all[name], set()).add(row)

        for name, row in self._added:
            note(plus, name, row)
        for name, row in self._removed:
            note(minus, name, row)
        told_added = self._added | {each.fact for each in self._unsure if not each.negated}
        told_removed = self._removed | {each.fact for each in self._unsure if each.negated}
        for name, row in told_added - told_removed:
            note(plus, f"said {name}", row)
            note(minus, f"not_{name}", row)
        for name, row in told_removed:
            note(minus, f"said {name}", row)
            note(plus, f"not_{name}", row)
        found = sorted(plus.keys() | minus.keys())
        return tuple((slot, frozenset(plus.get(slot, ())), frozenset(minus.get(slot, ()))) for slot in found)

    def _apply_unsure(self, before: Relations, after: list[Relation]) -> None:
        """Effects whose condition holds; what one adds and another removes is added."""
        terms, slots = self.schema.terms, self.schema.slots.all
        happening = [
            each for each in self._unsure if each.fact[0] in slots and holds(each.condition, each.chosen, terms, before)
        ]
        nothing: frozenset[Row] = frozenset()
        for each in sorted(happening, key=lambda each: not each.negated):
            slot, rows = slots[each.fact[0]], frozenset([each.fact[1]])
            after[slot] = after[slot].changed(*((nothing, rows) if each.negated else (rows, nothing)))


class _Unsure(NamedTuple):
    """An effect with a condition, within one action."""

    condition: Condition
    chosen: Mapping[str, int]
    negated: bool
    fact: Fact


_Changes = tuple[tuple[int, frozenset[Row], frozenset[Row]], ...]


def ground(schema: Schema, row: Row) -> Ground | None:
    """An action with its objects; None if it could change nothing."""
    added = {each.fact(row) for each in schema.simple if not each.negated}
    removed = {each.fact(row) for each in schema.simple if each.negated}
    unsure: list[_Unsure] = []
    for effect in schema.others:
        for chosen in _choices(effect, dict(zip(schema.names, row, strict=True)), schema.terms):
            fact = _fact(effect.literal, chosen, schema.terms)
            if effect.condition is not None:
                unsure.append(_Unsure(effect.condition, chosen, effect.literal.negated, fact))
            else:
                (removed if effect.literal.negated else added).add(fact)
    removed -= added
    for each in schema.required:
        (removed if each.negated else added).discard(each.fact(row))
    return Ground(schema, row, added, removed, unsure) if added or removed or unsure else None


def _choices(effect: Effect, chosen: dict[str, int], terms: Terms) -> Iterator[dict[str, int]]:
    names = [name for name, _ in effect.variables]
    for choice in product(*(sorted(terms.of(kind)) for _, kind in effect.variables)):
        yield {**chosen, **dict(zip(names, choice, strict=True))}


def _fact(literal: Literal, chosen: Mapping[str, int], terms: Terms) -> Fact:
    return literal.predicate, tuple([chosen[term] if term in chosen else terms.number(term) for term in literal.terms])


def _required(condition: Condition) -> Iterator[Literal]:
    """What a condition asks for in any case, equalities aside."""
    if isinstance(condition, Literal):
        if condition.predicate != "=":
            yield condition
    elif isinstance(condition, Junction) and condition.every:
        for part in condition.parts:
            yield from _required(part)

"""Actions of a game: which of them can be taken in a state, and what they change.

A predicate has a slot in the list of relations. Besides what is true there is what the texts know: `not_p` holds the
rows that an action has made untrue (nothing at first), and `said p`, where effects on `p` have conditions, the rows
that the texts believe, since the original reports such effects to its texts whether or not their condition holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from palaestra.envs.alfworld.grammar import ActionTexts, Grammar, Placeholder
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


@dataclass(frozen=True)
class Schema:
    """An action of the domain, within one game.

    Attributes:
        texts: its command and its answer.
        fixed_command: is the command of given objects spelt the same in all states.
    """

    action: Action
    texts: ActionTexts
    fixed_command: bool
    joins: tuple[Join, ...]
    terms: Terms
    slots: Slots

    @classmethod
    def of(cls, action: Action, grammar: Grammar, terms: Terms, relations: Sequence[Relation], slots: Slots) -> Schema:
        """Raises BadInput: the grammar does not know the action, or its conditions are too many."""
        texts = grammar.actions.get(action.name)
        if texts is None:
            raise BadInput(f"the grammar has no texts for the action {action.name!r}")
        told = [slots.told(name) for name in grammar.asked(texts.template)]
        fixed = all(slot is None or slot >= slots.changing for slot in told)
        joins = tuple(Join(action.parameters, each, terms, relations) for each in branches(action.precondition))
        return cls(action, texts, fixed, joins, terms, slots)

    def rows(self, relations: Relations) -> list[Row]:
        """The objects with which it can be taken, in order."""
        found: set[Row] = set()
        for join in self.joins:
            found |= join.rows(relations)
        return sorted(found)


class Ground:
    """An action with its objects.

    Attributes:
        schema: the action.
        mapped: its objects, for texts.
        command: how it is spelt, once that is known and stays so.
    """

    __slots__ = ("_changes", "_unsure", "command", "mapped", "schema")

    def __init__(self, schema: Schema, row: Row, changes: _Changes, unsure: tuple[_Unsure, ...]) -> None:
        parameters = schema.action.parameters
        self.schema = schema
        self.mapped = {
            Placeholder(name.strip("?"), kind): number for (name, kind), number in zip(parameters, row, strict=True)
        }
        self.command: str | None = None
        self._changes = changes
        self._unsure = unsure

    def applied(self, changing: tuple[Relation, ...], fixed: tuple[Relation, ...]) -> tuple[Relation, ...]:
        """The changing relations after it."""
        after = list(changing)
        for slot, added, removed in self._changes:
            after[slot] = after[slot].changed(added, removed)
        if self._unsure:
            self._apply_unsure((*changing, *fixed), after)
        return tuple(after)

    def _apply_unsure(self, before: Relations, after: list[Relation]) -> None:
        """Effects whose condition holds; what one adds and another removes is added."""
        happening = [
            (effect.literal.negated, effect.slot, effect.row)
            for effect in self._unsure
            if effect.condition is None or holds(effect.condition, effect.chosen, self.schema.terms, before)
        ]
        for removes in (True, False):
            for negated, slot, row in happening:
                if negated is removes:
                    rows = frozenset([row])
                    nothing: frozenset[Row] = frozenset()
                    after[slot] = after[slot].changed(*((nothing, rows) if removes else (rows, nothing)))


@dataclass(frozen=True)
class _Unsure:
    condition: Condition | None
    chosen: Mapping[str, int]
    literal: Literal
    slot: int
    row: Row


_Changes = tuple[tuple[int, frozenset[Row], frozenset[Row]], ...]


def ground(schema: Schema, row: Row) -> Ground | None:
    """An action with its objects; None if it could change nothing."""
    action, terms = schema.action, schema.terms
    chosen = dict(zip((name for name, _ in action.parameters), row, strict=True))
    added: set[Fact] = set()
    removed: set[Fact] = set()
    unsure: list[tuple[Effect, dict[str, int], Fact]] = []
    for effect in action.effects:
        for here in _choices(effect, chosen, terms):
            fact = _fact(effect.literal, here, terms)
            if effect.condition is not None:
                unsure.append((effect, here, fact))
            else:
                (removed if effect.literal.negated else added).add(fact)
    removed -= added
    for literal in _required(action.precondition):
        (removed if literal.negated else added).discard(_fact(literal, chosen, terms))
    if not (added or removed or unsure):
        return None
    tracked = tuple(
        _Unsure(effect.condition, here, effect.literal, schema.slots.all[fact[0]], fact[1])
        for effect, here, fact in unsure
        if fact[0] in schema.slots.all
    )
    told_added = added | {fact for effect, _, fact in unsure if not effect.literal.negated}
    told_removed = removed | {fact for effect, _, fact in unsure if effect.literal.negated}
    return Ground(schema, row, _changes(schema.slots, added, removed, told_added, told_removed), tracked)


def _changes(
    slots: Slots, added: set[Fact], removed: set[Fact], told_added: set[Fact], told_removed: set[Fact]
) -> _Changes:
    """By slot: rows added and rows removed. Of what the texts are told, the removal comes last."""
    plus: dict[int, set[Row]] = {}
    minus: dict[int, set[Row]] = {}

    def note(changes: dict[int, set[Row]], name: str, row: Row) -> None:
        if name in slots.all:
            changes.setdefault(slots.all[name], set()).add(row)

    for name, row in added:
        note(plus, name, row)
    for name, row in removed:
        note(minus, name, row)
    for name, row in told_added - told_removed:
        note(plus, f"said {name}", row)
        note(minus, f"not_{name}", row)
    for name, row in told_removed:
        note(minus, f"said {name}", row)
        note(plus, f"not_{name}", row)
    found = sorted(plus.keys() | minus.keys())
    return tuple((slot, frozenset(plus.get(slot, ())), frozenset(minus.get(slot, ()))) for slot in found)


def _choices(effect: Effect, chosen: dict[str, int], terms: Terms) -> Iterator[dict[str, int]]:
    names = [name for name, _ in effect.variables]
    for choice in product(*(sorted(terms.of(kind)) for _, kind in effect.variables)):
        yield {**chosen, **dict(zip(names, choice, strict=True))}


def _fact(literal: Literal, chosen: Mapping[str, int], terms: Terms) -> Fact:
    return literal.predicate, tuple(chosen[term] if term in chosen else terms.number(term) for term in literal.terms)


def _required(condition: Condition) -> Iterator[Literal]:
    """What a condition asks for in any case."""
    if isinstance(condition, Literal):
        yield condition
    elif isinstance(condition, Junction) and condition.every:
        for part in condition.parts:
            yield from _required(part)

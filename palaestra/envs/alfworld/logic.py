"""Which objects satisfy a condition: relations, and joins over them that are planned once and run at every step.

Objects are numbers in the order of their names, so that sorted rows are in the order in which the original lists them.
A relation is immutable and keeps an index of itself; worlds share those that did not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from palaestra.envs.alfworld.pddl import Condition, Junction, Literal, Quantified
from palaestra.envs.errors import BadInput

Row = tuple[int, ...]
_NONE: tuple[Row, ...] = ()

_MOST_BRANCHES = 256
"""Alternatives that a condition may have when it is multiplied out; ALFWorld's have 2."""


class Relation:
    """The rows for which a predicate is true. Immutable, hashable, picklable."""

    __slots__ = ("_by", "_sorted", "rows")

    def __init__(self, rows: frozenset[Row] = frozenset()) -> None:
        self.rows = rows
        self._sorted: tuple[Row, ...] | None = None
        self._by: dict[int, dict[int, tuple[Row, ...]]] = {}

    def all(self) -> tuple[Row, ...]:
        """The rows, sorted."""
        if self._sorted is None:
            self._sorted = tuple(sorted(self.rows))
        return self._sorted

    def find(self, place: int, value: int) -> tuple[Row, ...]:
        """The rows that hold `value` at `place`, sorted."""
        index = self._by.get(place)
        if index is None:
            groups: dict[int, list[Row]] = {}
            for row in self.rows:
                groups.setdefault(row[place], []).append(row)
            index = self._by[place] = {key: tuple(sorted(group)) for key, group in groups.items()}
        return index.get(value, _NONE)

    def changed(self, added: frozenset[Row], removed: frozenset[Row]) -> Relation:
        """This relation after a change; itself when nothing changes."""
        rows = (self.rows - removed) | added
        return self if rows == self.rows else Relation(rows)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Relation) and self.rows == other.rows)

    def __hash__(self) -> int:
        return hash(self.rows)

    def __reduce__(self) -> tuple[type[Relation], tuple[frozenset[Row]]]:
        return Relation, (self.rows,)


Relations = Sequence[Relation]
"""The relation of every predicate, by its number."""


@dataclass(frozen=True)
class Terms:
    """What the names in conditions stand for.

    Attributes:
        objects: name -> number.
        kinds: type -> the numbers of its objects.
        slots: predicate -> its number.
    """

    objects: Mapping[str, int]
    kinds: Mapping[str, frozenset[int]]
    slots: Mapping[str, int]

    def number(self, name: str) -> int:
        """Raises BadInput for a name that is no object."""
        if name not in self.objects:
            raise BadInput(f"a condition names {name!r}, which is no object")
        return self.objects[name]

    def of(self, kind: str) -> frozenset[int]:
        """The objects of a type; none of a type that nothing has."""
        return self.kinds.get(kind, frozenset())


@dataclass(frozen=True)
class _Branch:
    """One alternative of a condition: choose the variables so that all literals hold."""

    variables: tuple[tuple[str, str], ...]
    literals: tuple[Literal, ...]
    remaining: tuple[Quantified, ...]


def branches(condition: Condition) -> list[_Branch]:
    """A condition as alternatives. What holds *for all* of something stays as it is.

    Raises:
        BadInput: there would be too many.
    """
    counter = iter(range(1_000_000))

    def walk(part: Condition, names: Mapping[str, str]) -> list[_Branch]:
        if isinstance(part, Literal):
            terms = tuple(names.get(term, term) for term in part.terms)
            return [_Branch((), (Literal(part.predicate, terms, part.negated),), ())]
        if isinstance(part, Quantified):
            fresh = {name: f"{name}~{next(counter)}" for name, _ in part.variables}
            if part.every:
                return [_Branch((), (), (_renamed(part, names),))]
            inner = walk(part.part, {**names, **fresh})
            chosen = tuple((fresh[name], kind) for name, kind in part.variables)
            return [_Branch((*chosen, *each.variables), each.literals, each.remaining) for each in inner]
        options = [walk(each, names) for each in part.parts]
        if not part.every:
            return [branch for option in options for branch in option]
        found = [_Branch((), (), ())]
        for option in options:
            found = [_joined(one, other) for one, other in product(found, option)]
            if len(found) > _MOST_BRANCHES:
                raise BadInput(f"a condition has more than {_MOST_BRANCHES} alternatives")
        return found

    return walk(condition, {})


def _joined(one: _Branch, other: _Branch) -> _Branch:
    return _Branch(one.variables + other.variables, one.literals + other.literals, one.remaining + other.remaining)


def _renamed(part: Quantified, names: Mapping[str, str]) -> Quantified:
    free = {name: new for name, new in names.items() if name not in dict(part.variables)}

    def walk(inner: Condition) -> Condition:
        if isinstance(inner, Literal):
            terms = tuple(free.get(term, term) for term in inner.terms)
            return Literal(inner.predicate, terms, inner.negated)
        if isinstance(inner, Quantified):
            return _renamed(inner, {name: new for name, new in free.items() if name not in dict(inner.variables)})
        return Junction(tuple(walk(each) for each in inner.parts), inner.every)

    return Quantified(part.variables, walk(part.part), part.every)


def holds(condition: Condition, chosen: Mapping[str, int], terms: Terms, relations: Relations) -> bool:
    """Is a condition true where its free variables are `chosen`. Slow and simple: for what joins do not cover."""
    if isinstance(condition, Literal):
        row = tuple(chosen[term] if term in chosen else terms.number(term) for term in condition.terms)
        if condition.predicate == "=":
            return (row[0] == row[1]) is not condition.negated
        return (row in relations[terms.slots[condition.predicate]].rows) is not condition.negated
    if isinstance(condition, Junction):
        results = (holds(part, chosen, terms, relations) for part in condition.parts)
        return all(results) if condition.every else any(results)
    names = [name for name, _ in condition.variables]
    choices = product(*(sorted(terms.of(kind)) for _, kind in condition.variables))
    results = (
        holds(condition.part, {**chosen, **dict(zip(names, choice, strict=True))}, terms, relations)
        for choice in choices
    )
    return all(results) if condition.every else any(results)


_Found = Callable[[list[int]], bool]
"""Gets the chosen objects; True stops the search."""
_Step = Callable[[list[int], Relations, _Found], bool]


class Join:
    """All choices of some typed variables for which one branch of a condition holds.

    Args:
        outputs: the variables of a result, typed, in this order.
        branch: the alternative.
        terms: what names stand for.
        relations: the relations of the first world: the plan goes by their sizes.
    """

    def __init__(self, outputs: Sequence[tuple[str, str]], branch: _Branch, terms: Terms, relations: Relations) -> None:
        self._terms = terms
        variables = [*outputs, *branch.variables]
        self._width = len(outputs)
        self._count = len(variables)
        self._place = {name: place for place, (name, _) in enumerate(variables)}
        self._kinds = [terms.of(kind) for _, kind in variables]
        self._run = self._planned(branch, relations)

    def rows(self, relations: Relations) -> set[Row]:
        """All results."""
        found: set[Row] = set()
        width = self._width

        def note(chosen: list[int]) -> bool:
            found.add(tuple(chosen[:width]))
            return False

        self._run([-1] * self._count, relations, note)
        return found

    def any(self, relations: Relations) -> bool:
        """Is there a result."""
        return self._run([-1] * self._count, relations, lambda _: True)

    # -- the plan ----------------------------------------------------------------------------------------------------

    def _planned(self, branch: _Branch, relations: Relations) -> _Step:
        """The steps, most selective first; each is called by the one before it."""
        left = [each for each in branch.literals if not each.negated and each.predicate != "="]
        checks = [each for each in branch.literals if each.negated or each.predicate == "="]
        bound: set[int] = set()
        order: list[Callable[[_Step], _Step]] = []

        def add_checks() -> None:
            for literal in list(checks):
                if self._variables(literal) <= bound:
                    order.append(self._check(literal))
                    checks.remove(literal)

        add_checks()
        while left:
            literal = min(left, key=lambda each: self._cost(each, bound, relations))
            left.remove(literal)
            order.append(self._match(literal, frozenset(bound)))
            bound |= self._variables(literal)
            add_checks()
        for place in range(self._count):
            if place not in bound:
                order.append(self._choose(place))
                bound.add(place)
                add_checks()
        order += [self._check(each) for each in branch.remaining]
        step: _Step = lambda chosen, _, found: found(chosen)  # noqa: E731
        for make in reversed(order):
            step = make(step)
        return step

    def _variables(self, literal: Literal) -> set[int]:
        return {self._place[term] for term in literal.terms if term in self._place}

    def _cost(self, literal: Literal, bound: set[int], relations: Relations) -> float:
        free = len(self._variables(literal) - bound)
        size = len(relations[self._terms.slots[literal.predicate]].rows)
        given = len(literal.terms) - free
        return 0.0 if not free else size / 8**given

    def _match(self, literal: Literal, bound: frozenset[int]) -> Callable[[_Step], _Step]:
        """The step that goes through the rows of a predicate which fit what is chosen so far."""
        slot = self._terms.slots[literal.predicate]
        given: list[tuple[int, int, int]] = []  # place in the row, variable or -1, constant
        fresh: list[tuple[int, int, frozenset[int]]] = []  # place in the row, variable, its objects
        repeated: list[tuple[int, int]] = []
        for place, term in enumerate(literal.terms):
            variable = self._place.get(term, -1)
            if variable < 0:
                given.append((place, -1, self._terms.number(term)))
            elif variable in bound:
                given.append((place, variable, -1))
            elif any(variable == other for _, other, _ in fresh):
                repeated.append((place, next(where for where, other, _ in fresh if other == variable)))
            else:
                fresh.append((place, variable, self._kinds[variable]))
        if not fresh:
            return _member(slot, [(variable, constant) for _, variable, constant in given])
        return _scan(slot, given, fresh, repeated)

    def _check(self, condition: Condition) -> Callable[[_Step], _Step]:
        """The step that goes on only where a condition holds. All of its free variables are chosen."""
        terms, place = self._terms, self._place
        if isinstance(condition, Literal) and condition.predicate != "=":
            slot = terms.slots[condition.predicate]
            row_of = [(place.get(term, -1), -1 if term in place else terms.number(term)) for term in condition.terms]
            return _member(slot, row_of, negated=condition.negated)

        def make(then: _Step) -> _Step:
            def step(chosen: list[int], relations: Relations, found: _Found) -> bool:
                named = {name: chosen[number] for name, number in place.items()}
                return holds(condition, named, terms, relations) and then(chosen, relations, found)

            return step

        return make

    def _choose(self, place: int) -> Callable[[_Step], _Step]:
        """The step that tries all objects of a variable's type."""
        objects = tuple(sorted(self._kinds[place]))

        def make(then: _Step) -> _Step:
            def step(chosen: list[int], relations: Relations, found: _Found) -> bool:
                for each in objects:
                    chosen[place] = each
                    if then(chosen, relations, found):
                        return True
                return False

            return step

        return make


def _member(slot: int, row_of: list[tuple[int, int]], *, negated: bool = False) -> Callable[[_Step], _Step]:
    """The step that asks whether one row is (not) in a relation; `row_of` has (variable or -1, constant)."""

    def make(then: _Step) -> _Step:
        def step(chosen: list[int], relations: Relations, found: _Found) -> bool:
            row = tuple([chosen[variable] if variable >= 0 else constant for variable, constant in row_of])
            return (row in relations[slot].rows) is not negated and then(chosen, relations, found)

        return step

    return make


def _scan(
    slot: int,
    given: list[tuple[int, int, int]],
    fresh: list[tuple[int, int, frozenset[int]]],
    repeated: list[tuple[int, int]],
) -> Callable[[_Step], _Step]:
    """The step that goes through rows: those with the first given value, or all."""
    first, others = (given[0], given[1:]) if given else (None, given)

    def candidates(chosen: list[int], relations: Relations) -> Iterator[Row]:
        relation = relations[slot]
        if first is None:
            return iter(relation.rows)
        place, variable, constant = first
        return iter(relation.find(place, chosen[variable] if variable >= 0 else constant))

    def make(then: _Step) -> _Step:
        def step(chosen: list[int], relations: Relations, found: _Found) -> bool:
            for row in candidates(chosen, relations):
                if others and any(row[at] != (chosen[who] if who >= 0 else constant) for at, who, constant in others):
                    continue
                if repeated and any(row[one] != row[other] for one, other in repeated):
                    continue
                for place, variable, objects in fresh:
                    value = row[place]
                    if value not in objects:
                        break
                    chosen[variable] = value
                else:
                    if then(chosen, relations, found):
                        return True
            return False

        return step

    return make

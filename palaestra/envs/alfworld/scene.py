"""What a text sees of a game's state: shown names, and answers to the grammar's queries in the original's order."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from palaestra.envs.alfworld.actions import Slots
from palaestra.envs.alfworld.grammar import Entity, Mapped, Placeholder, Query
from palaestra.envs.alfworld.logic import Relations, Row
from palaestra.envs.alfworld.pddl import ROOT, Domain

_SPELT = (("_bar_", "|"), ("_minus_", "-"), ("_plus_", "+"), ("_dot_", "."), ("_comma_", ","))


def shown_names(ids: Iterable[str]) -> dict[str, str]:
    """Id -> shown name: the kind and a number, the highest number for the first id in order.

    What an id says after its kind is the place at which the simulator had it, so these are fixed for a game. Ids
    without such a place (types, the agent) are shown as they are, with the blank that stands before a number.
    """
    split = {each: _kind(each) for each in sorted(ids)}
    left = Counter(kind for each, kind in split.items() if "_bar_" in each)
    names: dict[str, str] = {}
    for each, kind in split.items():
        number = ""
        if "_bar_" in each:
            number = str(left[kind])
            left[kind] -= 1
        names[each] = f"{kind} {number}"
    return names


def _kind(each: str) -> str:
    text = each
    for written, meant in _SPELT:
        text = text.replace(written, meant)
    kind, bar, _ = text.partition("|")
    return f"{kind}basin" if bar and "basin" in each else kind


class Kinds:
    """The types of a domain, as the texts' queries go through them."""

    def __init__(self, domain: Domain) -> None:
        below: dict[str, set[str]] = {ROOT: set()}
        for kind in domain.types:
            below.setdefault(kind, set())
            for upper in domain.above(kind)[1:]:
                below.setdefault(upper, set()).add(kind)
        self._below = {kind: tuple(sorted(found)) for kind, found in below.items()}
        self._known: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = {}

    def signatures(self, kinds: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """The types that arguments may have where `kinds` are asked for, in order; itself first."""
        if kinds not in self._known:
            self._known[kinds] = (kinds, *self._walk(kinds))
        return self._known[kinds]

    def _walk(self, kinds: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        seen: set[tuple[str, ...]] = set()
        left = deque(self._narrower(kinds))
        while left:
            each = left.popleft()
            yield each
            for next_one in self._narrower(each):
                if next_one not in seen:
                    seen.add(next_one)
                    left.append(next_one)

    def _narrower(self, kinds: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for place, kind in enumerate(kinds):
            for lower in self._below.get(kind, ()):
                yield (*kinds[:place], lower, *kinds[place + 1 :])


@dataclass(frozen=True)
class Scene:
    """A state of a game, for its grammar.

    Attributes:
        relations: what is true.
        entities: the objects by number.
    """

    relations: Relations
    slots: Slots
    kinds: Kinds
    entities: Sequence[Entity]

    def entity(self, number: int) -> Entity:
        """An object."""
        return self.entities[number]

    def answers(self, query: Query, mapped: Mapped) -> Iterator[Mapped]:
        """As the grammar asks: predicate after predicate, rows in order; no two placeholders get the same object."""
        return self._from(query, 0, dict(mapped))

    def _from(self, query: Query, place: int, mapped: dict[Placeholder, int]) -> Iterator[dict[Placeholder, int]]:
        if place == len(query):
            yield mapped
            return
        used = set(mapped.values())
        for row in self._rows(query, place, mapped):
            chosen = dict(mapped)
            taken = set(used)
            for placeholder, number in zip(query[place].parameters, row, strict=True):
                if placeholder not in chosen:
                    if number in taken:
                        break
                    chosen[placeholder] = number
                    taken.add(number)
                elif chosen[placeholder] != number:
                    break
            else:
                yield from self._from(query, place + 1, chosen)

    def _rows(self, query: Query, place: int, mapped: Mapping[Placeholder, int]) -> Iterable[Row]:
        """Candidates, by the types of their objects and then in order."""
        name, parameters = query[place]
        slot = self.slots.told(name)
        if slot is None:
            return ()
        relation = self.relations[slot]
        given = next((at for at, each in enumerate(parameters) if each in mapped), None)
        rows = relation.all() if given is None else relation.find(given, mapped[parameters[given]])
        wanted = tuple(each.kind for each in parameters)
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            if len(row) == len(wanted):
                groups.setdefault(tuple([self.entities[number].type for number in row]), []).append(row)
        if groups.keys() <= {wanted}:
            return groups.get(wanted, ())
        return [row for signature in self.kinds.signatures(wanted) for row in groups.get(signature, ())]

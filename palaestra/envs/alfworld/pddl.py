"""Reads PDDL: a domain (types, predicates, actions) and a problem (objects, first facts, goal).

What ALFWorld's games need of PDDL 2.2 (:adl, :typing, :action-costs): conditions with and, or, not, imply, exists,
forall and =; effects with and, forall and when; costs are read over. Texts are split into words as the original's
translator does it, which decides a game's rules: names are lower-cased, a line's comment begins at `;`, and a comma
belongs to the word before it. (So `(?l - location, ?r - receptacle)` asks for a type "location,", which nothing has:
ALFWorld's objects can be examined only while they are held.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from palaestra.envs.errors import BadInput

ROOT = "object"
"""The type that every other one is a kind of."""

_DEEPEST = 60
"""Nested brackets; ALFWorld's games have some 12."""


@dataclass(frozen=True)
class Literal:
    """A predicate (or `=`) of terms, or its negation. Terms that begin with `?` are variables."""

    predicate: str
    terms: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True)
class Junction:
    """All (`every`) or any of some conditions. All of none is true, any of none is false."""

    parts: tuple[Condition, ...]
    every: bool


@dataclass(frozen=True)
class Quantified:
    """A condition for every, or for some, choice of typed variables."""

    variables: tuple[tuple[str, str], ...]
    part: Condition
    every: bool


Condition = Literal | Junction | Quantified
"""A condition in negation normal form."""


@dataclass(frozen=True)
class Effect:
    """For every choice of `variables` for which `condition` holds, `literal` becomes true."""

    variables: tuple[tuple[str, str], ...]
    condition: Condition | None
    literal: Literal


@dataclass(frozen=True)
class Action:
    """A schema of actions: typed parameters, a precondition and effects."""

    name: str
    parameters: tuple[tuple[str, str], ...]
    precondition: Condition
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class Domain:
    """The rules of a game.

    Attributes:
        types: type -> the type that it is declared to be a kind of.
        arity: predicate -> number of its arguments.
        constants: typed objects of every problem.
        actions: in the order of the text.
    """

    name: str
    types: Mapping[str, str]
    arity: Mapping[str, int]
    constants: tuple[tuple[str, str], ...]
    actions: tuple[Action, ...]

    def above(self, kind: str) -> tuple[str, ...]:
        """A type and all that it is a kind of, `object` last. A type that is not declared has nothing above it."""
        found = [kind]
        while found[-1] in self.types and self.types[found[-1]] not in found:
            found.append(self.types[found[-1]])
        return tuple(found)


@dataclass(frozen=True)
class Problem:
    """One game.

    Attributes:
        objects: typed objects, those of the domain among them.
        facts: what is true at first, as (predicate, arguments...).
        named: objects in the numeric facts of the text, such as distances.
        goal: what has to become true.
    """

    name: str
    objects: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, ...], ...]
    named: frozenset[str]
    goal: Condition


class _List(list["_Item"]):
    """A bracket, with the number of its first word."""

    __slots__ = ("at",)

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at


_Item = str | _List


class _Text:
    """A text's brackets, and where in the text a message belongs."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where

    def fail(self, what: str, at: int) -> NoReturn:
        """Raise BadInput that names the line of word number `at`."""
        left = at
        lines = self.text.split("\n")
        for number, line in enumerate(lines, start=1):
            left -= len(_words(line))
            if left < 0:
                raise BadInput(f"{self.where} line {number}: {what}")
        raise BadInput(f"{self.where} line {len(lines)}: {what}")

    def read(self) -> _List:
        """The text as nested lists of words."""
        bare = self.text
        if ";" in bare:
            bare = "\n".join(line.partition(";")[0] for line in bare.split("\n"))
        words = _words(bare)
        if not words or words[0] != "(":
            self.fail("a PDDL text begins with '('", 0)
        outer = _List(0)
        open_lists = [outer]
        here = outer
        for at, word in enumerate(words):
            if word == "(":
                inner = _List(at)
                here.append(inner)
                open_lists.append(inner)
                here = inner
                if len(open_lists) > _DEEPEST:
                    self.fail(f"brackets are nested deeper than {_DEEPEST}", at)
            elif word == ")":
                open_lists.pop()
                if not open_lists or (open_lists[-1] is outer and at + 1 < len(words)):
                    self.fail("text goes on after its last ')'", at)
                here = open_lists[-1]
            else:
                here.append(word)
        if here is not outer or not isinstance(outer[0], _List):
            self.fail("a ')' is missing at the end of the text", len(words))
        return outer[0]

    def sublist(self, item: _Item, after: _List) -> _List:
        if not isinstance(item, _List):
            self.fail(f"'(' expected, found {item!r}", after.at)
        return item

    def strings(self, items: Sequence[_Item], within: _List) -> tuple[str, ...]:
        for item in items:
            if isinstance(item, _List):
                self.fail("a word expected, found '('", item.at)
        return tuple(str(item) for item in items)

    def typed(self, items: Sequence[_Item], within: _List) -> tuple[tuple[str, str], ...]:
        """`a b - t c` as ((a, t), (b, t), (c, object))."""
        words = self.strings(items, within)
        found: list[tuple[str, str]] = []
        pending: list[str] = []
        position = 0
        while position < len(words):
            if words[position] == "-":
                if position + 1 == len(words):
                    self.fail("a type is missing after '-'", within.at)
                found += [(name, words[position + 1]) for name in pending]
                pending = []
                position += 2
            else:
                pending.append(words[position])
                position += 1
        return (*found, *((name, ROOT) for name in pending))


def _words(text: str) -> list[str]:
    bare = text if ";" not in text else text.partition(";")[0]
    return bare.lower().replace("(", " ( ").replace(")", " ) ").replace("?", " ?").split()


class _Conditions:
    """Conditions and effects of one text, over known predicates."""

    def __init__(self, text: _Text, arity: Mapping[str, int]) -> None:
        self.text, self.arity = text, arity

    def condition(self, item: _List, negated: bool = False) -> Condition:
        if not item:
            return Junction((), not negated)
        head = item[0]
        if head in ("and", "or", "imply"):
            parts = [self.text.sublist(part, item) for part in item[1:]]
            if head == "imply":
                if len(parts) != 2:
                    self.text.fail("'imply' takes two conditions", item.at)
                first, then = self.condition(parts[0], not negated), self.condition(parts[1], negated)
                return Junction((first, then), negated)
            return Junction(tuple(self.condition(part, negated) for part in parts), (head == "and") is not negated)
        if head == "not":
            if len(item) != 2:
                self.text.fail("'not' takes one condition", item.at)
            return self.condition(self.text.sublist(item[1], item), not negated)
        if head in ("exists", "forall"):
            if len(item) != 3:
                self.text.fail(f"{head!r} takes variables and one condition", item.at)
            listed = self.text.sublist(item[1], item)
            variables = self.text.typed(listed, listed)
            part = self.condition(self.text.sublist(item[2], item), negated)
            return Quantified(variables, part, (head == "forall") is not negated)
        return self.literal(item, negated)

    def literal(self, item: _List, negated: bool = False) -> Literal:
        words = self.text.strings(item, item)
        if words and words[0] not in self.arity:
            self.text.fail(f"the domain has no predicate {words[0]!r}", item.at)
        if not words or self.arity[words[0]] != len(words) - 1:
            expected = self.arity[words[0]] if words else 0
            self.text.fail(f"predicate {words[0] if words else ''!r} takes {expected} arguments", item.at)
        return Literal(words[0], words[1:], negated)

    def effects(self, item: _List) -> list[Effect]:
        if not item or item[0] == "increase":  # costs change nothing that a player could see
            return []
        head = item[0]
        if head == "and":
            return [effect for part in item[1:] for effect in self.effects(self.text.sublist(part, item))]
        if head in ("forall", "when"):
            if len(item) != 3:
                self.text.fail(f"{head!r} takes two arguments in an effect", item.at)
            first, inner = self.text.sublist(item[1], item), self.effects(self.text.sublist(item[2], item))
            if head == "forall":
                variables = self.text.typed(first, first)
                return [Effect((*variables, *each.variables), each.condition, each.literal) for each in inner]
            condition = self.condition(first)
            return [Effect(each.variables, _both(condition, each.condition), each.literal) for each in inner]
        if head == "not":
            if len(item) != 2:
                self.text.fail("'not' takes one predicate", item.at)
            return [Effect((), None, self.literal(self.text.sublist(item[1], item), True))]
        return [Effect((), None, self.literal(item))]


def _both(one: Condition, other: Condition | None) -> Condition:
    return one if other is None else Junction((one, other), True)


def read_domain(text: str, where: str = "pddl_domain") -> Domain:
    """A domain of its text.

    Args:
        where: what the text is called in messages.

    Raises:
        BadInput: it cannot be read; with the line in the text.
    """
    source = _Text(text, where)
    top = _define(source, "domain")
    types: dict[str, str] = {}
    arity = {"=": 2}
    constants: tuple[tuple[str, str], ...] = ()
    sections = [source.sublist(item, top) for item in top[2:]]
    for section in sections:
        head = section[0] if section else ""
        if head == ":types":
            types |= {name: kind for name, kind in source.typed(section[1:], section) if name != kind}
        elif head == ":constants":
            constants = source.typed(section[1:], section)
        elif head == ":predicates":
            for item in section[1:]:
                predicate = source.sublist(item, section)
                name = source.strings(predicate[:1], predicate)
                arity["".join(name)] = len(source.typed(predicate[1:], predicate))
        elif head not in (":requirements", ":functions", ":action"):
            source.fail(f"{head!r} is not supported in a domain", section.at)
    conditions = _Conditions(source, arity)
    actions = tuple(_action(source, conditions, each) for each in sections if each[0] == ":action")
    if not actions:
        source.fail("the domain has no action", 0)
    return Domain(_name(source, top), types, arity, constants, actions)


def _action(source: _Text, conditions: _Conditions, section: _List) -> Action:
    name = section[1] if len(section) > 1 and isinstance(section[1], str) else ""
    fields = {
        "".join(source.strings(section[i : i + 1], section)): section[i + 1 : i + 2] for i in range(2, len(section), 2)
    }
    unknown = set(fields) - {":parameters", ":precondition", ":effect"}
    if not name or unknown or not all(fields.values()):
        source.fail(f"action {name!r} cannot be read", section.at)
    lists = {key: source.sublist(value[0], section) for key, value in fields.items()}
    nothing = _List(section.at)
    parameters = lists.get(":parameters", nothing)
    return Action(
        name,
        source.typed(parameters, parameters),
        conditions.condition(lists.get(":precondition", nothing)),
        tuple(conditions.effects(lists.get(":effect", nothing))),
    )


def read_problem(text: str, domain: Domain, where: str = "pddl_problem") -> Problem:
    """A problem of its text.

    Raises:
        BadInput: it cannot be read, or is not of this domain; with the line in the text.
    """
    source = _Text(text, where)
    top = _define(source, "problem")
    objects = domain.constants
    facts: dict[tuple[str, ...], int] = {}
    named: set[str] = set()
    goal: Condition | None = None
    conditions = _Conditions(source, domain.arity)
    kinds = {ROOT, *domain.types, *domain.types.values()}
    for item in top[2:]:
        section = source.sublist(item, top)
        head = section[0] if section else ""
        if head == ":domain":
            if section[1:] != [domain.name]:
                source.fail(f"the problem is not of domain {domain.name!r}", section.at)
        elif head == ":objects":
            declared = source.typed(section[1:], section)
            for name, kind in declared:
                if kind not in kinds:  # it would have no place in any rule, and the game no end
                    source.fail(f"the domain declares no type {kind!r}, of which the object {name!r} is", section.at)
            objects += declared
        elif head == ":init":
            _facts(source, section, domain.arity, facts, named)
        elif head == ":goal" and len(section) == 2:
            goal = conditions.condition(source.sublist(section[1], section))
        elif head not in (":requirements", ":metric"):
            source.fail(f"{head!r} is not supported in a problem", section.at)
    if goal is None:
        source.fail("the problem has no goal", 0)
    known = dict(objects)
    if len(known) != len(objects):
        source.fail("an object is declared twice", top.at)
    for fact, at in facts.items():
        for argument in fact[1:]:
            if argument not in known:
                source.fail(f"the fact ({' '.join(fact)}) names {argument!r}, which is no object", at)
    return Problem(_name(source, top), objects, tuple(facts), frozenset(named & set(known)), goal)


def _facts(
    source: _Text, section: _List, arity: Mapping[str, int], facts: dict[tuple[str, ...], int], named: set[str]
) -> None:
    for item in section[1:]:
        fact = source.sublist(item, section)
        if fact and fact[0] == "=":  # (= (distance a b) 4)
            named.update(word for part in fact[1:] if isinstance(part, _List) for word in source.strings(part, part))
        elif fact and fact[0] == "not":
            continue
        else:
            words = source.strings(fact, fact)
            if not words or arity.get(words[0]) != len(words) - 1:
                source.fail(f"the domain has no predicate {' '.join(words)!r} of this form", fact.at)
            facts.setdefault(words, fact.at)


def _define(source: _Text, what: str) -> _List:
    top = source.read()
    if len(top) < 2 or top[0] != "define" or not isinstance(top[1], _List) or top[1][:1] != [what]:
        source.fail(f"a text that begins with '(define ({what} NAME)' expected", 0)
    return top


def _name(source: _Text, top: _List) -> str:
    heading = source.sublist(top[1], top)
    return source.strings(heading, heading)[-1]

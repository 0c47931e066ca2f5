"""The text grammar that every game file carries: how commands are spelt and what is answered.

A grammar has rules, `name -> alternatives`, and for every action a template of its command and of its answer. Inside a
text, `#name#` is a rule (its first alternative whose condition holds), `{expression}` a value, `{expression | query}`
one text for each answer to the query, and `[{...}]` the same as a list ("a, b, and c"). A query such as
`atlocation(a:agent, l:location) & receptacleatlocation(r:receptacle, l:location)` finds the objects for its
placeholders: those already chosen keep theirs, and no two placeholders get the same one.

The details (what is cut off where a text cannot be read on, that an alternative loses blanks at its beginning, ...) are
those of the original, because texts are compared letter by letter.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, NoReturn, Protocol

from palaestra.envs.errors import BadInput


class Placeholder(NamedTuple):
    """A typed name in a query."""

    name: str
    kind: str


class Predicate(NamedTuple):
    """One part of a query."""

    name: str
    parameters: tuple[Placeholder, ...]


Query = tuple[Predicate, ...]
Mapped = Mapping[Placeholder, int]
"""The objects chosen so far, by their numbers."""


class Entity(NamedTuple):
    """What an expression can say of an object."""

    id: str
    name: str
    type: str
    definite: str = "the"
    indefinite: str = "a"


class Scene(Protocol):
    """What a text is about: a game in one of its states."""

    def answers(self, query: Query, mapped: Mapped) -> Iterator[Mapped]:
        """Each way to choose the placeholders that are not yet `mapped`, in the original's order."""
        ...

    def entity(self, number: int) -> Entity:
        """An object."""
        ...


Value = Callable[[Mapping[str, Entity]], str | Entity]


@dataclass(frozen=True)
class Words:
    """Text as it stands."""

    text: str


@dataclass(frozen=True)
class Call:
    """A rule's name."""

    rule: str


@dataclass(frozen=True)
class Expression:
    """A value such as `o.indefinite + ' ' + o.name`.

    Attributes:
        names: the objects that it names.
    """

    source: str
    value: Value
    names: frozenset[str]


@dataclass(frozen=True)
class Each:
    """`inner` once for every answer to the query (once where there is none to ask); as a list where `listed`."""

    inner: Call | Expression
    query: Query
    listed: bool


Symbol = Words | Call | Expression | Each


class Alternative(NamedTuple):
    """One right side of a rule, and the query that must have an answer."""

    condition: Query
    symbols: tuple[Symbol, ...]


class ActionTexts(NamedTuple):
    """How an action's command is spelt, and what is answered to it."""

    template: tuple[Symbol, ...]
    feedback: tuple[Symbol, ...]


_MOST_SYMBOLS = 20_000
"""Symbols of one text; an intro has some 200. More means that a rule calls itself for ever."""


_LONGEST = 1000
"""Characters of an expression; ALFWorld's have some 40. Python gives up on sums that are nested a thousand deep."""


@dataclass(frozen=True)
class Grammar:
    """A game's grammar.

    Attributes:
        rules: name -> alternatives.
        actions: lower-case name of an action -> its texts.
    """

    rules: Mapping[str, tuple[Alternative, ...]]
    actions: Mapping[str, ActionTexts]

    def derive(self, symbols: Iterable[Symbol], scene: Scene, mapped: Mapped) -> str:
        """The text of some symbols.

        Raises:
            BadInput: a rule is missing or calls itself for ever, or an expression names what is not chosen.
        """
        said: list[str] = []
        left: list[tuple[Symbol, Mapped]] = [(symbol, mapped) for symbol in reversed(tuple(symbols))]
        for _ in range(_MOST_SYMBOLS):
            if not left:
                return "".join(said)
            symbol, here = left.pop()
            if isinstance(symbol, Words):
                said.append(symbol.text)
            elif isinstance(symbol, Expression):
                said.append(_shown(symbol, here, scene))
            elif isinstance(symbol, Call):
                left += [(each, here) for each in reversed(self._chosen(symbol.rule, scene, here))]
            else:
                left += reversed(list(self._repeated(symbol, scene, here)))
        raise BadInput("the grammar's texts do not end: a rule calls itself")

    def _chosen(self, rule: str, scene: Scene, mapped: Mapped) -> tuple[Symbol, ...]:
        if rule not in self.rules:
            raise BadInput(f"the grammar has no rule #{rule}#")
        for alternative in self.rules[rule]:
            if not alternative.condition or any(True for _ in scene.answers(alternative.condition, mapped)):
                return alternative.symbols
        raise BadInput(f"no alternative of the grammar's rule #{rule}# applies")

    @staticmethod
    def _repeated(symbol: Each, scene: Scene, mapped: Mapped) -> Iterator[tuple[Symbol, Mapped]]:
        answers = list(scene.answers(symbol.query, mapped)) if symbol.query else [mapped]
        if symbol.listed and not answers:
            yield Call("list_empty"), mapped
        for number, answer in enumerate(answers):
            if symbol.listed and number:
                last = number == len(answers) - 1
                yield Call("list_last_separator" if last else "list_separator"), mapped
            yield symbol.inner, answer

    def asked(self, symbols: Iterable[Symbol] | None = None) -> frozenset[str]:
        """The predicates that some symbols (or the whole grammar) can ask for."""
        left: list[Symbol] = []
        if symbols is not None:
            left += symbols
        else:
            left += [Call(rule) for rule in self.rules]
            left += [symbol for texts in self.actions.values() for part in texts for symbol in part]
        found: set[str] = set()
        seen: set[str] = set()
        while left:
            symbol = left.pop()
            if isinstance(symbol, Each):
                found.update(part.name for part in symbol.query)
                left.append(symbol.inner)
            elif isinstance(symbol, Call) and symbol.rule not in seen:
                seen.add(symbol.rule)
                for alternative in self.rules.get(symbol.rule, ()):
                    found.update(part.name for part in alternative.condition)
                    left += alternative.symbols
        return frozenset(found)


def _shown(symbol: Expression, mapped: Mapped, scene: Scene) -> str:
    variables = {placeholder.name: scene.entity(number) for placeholder, number in mapped.items()}
    try:
        value = symbol.value(variables)
    except KeyError as error:
        raise BadInput(f"the grammar's expression {symbol.source!r} names {error}, which is not chosen there") from None
    return value.name if isinstance(value, Entity) else value


# -- reading -----------------------------------------------------------------------------------------------------------

_SKIP = re.compile(r"(?:\s|#[^\n]*)*")
_GRAMMAR = re.compile(r'grammar\s*::\s*"""(.*?)"""\s*;', re.DOTALL)
_ACTION = re.compile(r"action\s+([\w/-]+)\s*\{")
_FIELD = re.compile(r'(template|feedback)\s*::\s*"([^"]*)"\s*;|(pddl|grammar)\s*::\s*"""(.*?)"""\s*;', re.DOTALL)
_END = re.compile(r"\}")


@lru_cache(maxsize=64)
def read_grammar(text: str, where: str = "grammar") -> Grammar:
    """A grammar of its text.

    Raises:
        BadInput: it cannot be read; with the line in the text.
    """
    rules: dict[str, tuple[Alternative, ...]] = {}
    actions: dict[str, ActionTexts] = {}
    reader = _Reader(text, where)
    while not reader.done():
        block = reader.take(_GRAMMAR)
        if block:
            rules.update(_rules(block[1], reader, block.start(1)))
            continue
        head = reader.take(_ACTION)
        if not head:
            reader.fail("'grammar ::' or 'action NAME {' expected", reader.at)
        fields = {"template": "", "feedback": ""}
        while not reader.take(_END):
            field = reader.take(_FIELD)
            if not field:
                reader.fail(f"action {head[1]!r} cannot be read", reader.at)
            if field[1]:
                fields[field[1]] = field[2]
            elif field[3] == "grammar":
                rules.update(_rules(field[4], reader, field.start(4)))
        actions[head[1].lower()] = ActionTexts(*(_checked(fields[key], reader, head.start()) for key in fields))
    return Grammar(rules, actions)


class _Reader:
    def __init__(self, text: str, where: str) -> None:
        self.text, self.where, self.at = text, where, 0

    def done(self) -> bool:
        self.at = _skipped(_SKIP, self.text, self.at)
        return self.at == len(self.text)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self.at = _skipped(_SKIP, self.text, self.at)
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def fail(self, what: str, at: int) -> NoReturn:
        raise BadInput(f"{self.where} line {self.text.count(chr(10), 0, at) + 1}: {what}")


def _skipped(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _rules(block: str, reader: _Reader, at: int) -> dict[str, tuple[Alternative, ...]]:
    lines = ["" if line.lstrip().startswith("#") else line for line in block.split("\n")]
    try:
        rules = json.loads("\n".join(lines))
        return {str(name): tuple(_alternative(each) for each in rules[name]) for name in rules}
    except json.JSONDecodeError as error:
        before = reader.text.count("\n", 0, at)
        raise BadInput(f"{reader.where} line {before + error.lineno}: {error.msg}") from None
    except (RecursionError, ValueError):  # the latter for numbers of thousands of digits
        reader.fail("rules that are nested too deeply, or with a number that is too long", at)
    except (KeyError, TypeError, AttributeError):
        reader.fail('rules of the form {"name": [{"rhs": "text", "condition": "query"}]} expected', at)
    except BadInput as error:
        reader.fail(str(error), at)


def _alternative(fields: Mapping[str, str]) -> Alternative:
    condition = fields.get("condition", "")
    return Alternative(read_query(condition) if condition else (), read_symbols(fields["rhs"]))


def _checked(text: str, reader: _Reader, at: int) -> tuple[Symbol, ...]:
    try:
        return read_symbols(text)
    except BadInput as error:
        reader.fail(str(error), at)


_BLANKS = re.compile(r"\t+")
_LINE = re.compile(r"^(?://.*|\s*)\n?", re.MULTILINE)
_LITERAL = re.compile(r'[^;|"<>\[\]#{}]+')
_QUOTED = re.compile(r'"([^;|"<>\[\]#{}]*)"')
_CALL = re.compile(r"#([\w()/!<>\-\s,.]+)#")
_EACH = re.compile(
    r"(\[?)\{\s*(?:#([\w()/!<>\-\s,.]+)#|([^|\[\]{}\n<>]+))(?:\s*\|\s*([^;|{}\n\[\]#]+))?\}(\]?)",
)


@lru_cache(maxsize=4096)
def read_symbols(text: str) -> tuple[Symbol, ...]:
    """The symbols of a text; what follows the first place that cannot be read is left out, as in the original.

    Raises:
        BadInput: an expression or a query in it cannot be read.
    """
    found: list[Symbol] = []
    at = 0
    while at < len(text):
        at = _skipped(_LINE, text, _skipped(_BLANKS, text, at))
        match: re.Match[str] | None
        if (match := _EACH.match(text, at)) and len(match[1]) == len(match[5]):
            inner = Call(match[2]) if match[2] else _expression(match[3].strip())
            query = read_query(match[4]) if match[4] else ()
            found.append(inner if not query and not match[1] else Each(inner, query, bool(match[1])))
        elif match := _CALL.match(text, at):
            found.append(Call(match[1]))
        elif (match := _QUOTED.match(text, at)) or (match := _LITERAL.match(text, at)):
            found.append(Words(match[match.lastindex or 0]))
        else:
            break
        at = match.end()
    return tuple(found)


_PREDICATE = re.compile(r"\s*([\w-]+)\s*\(([^()]*)\)\s*(&|$)")


@lru_cache(maxsize=1024)
def read_query(text: str) -> Query:
    """A query of its text. Raises BadInput."""
    found: list[Predicate] = []
    at = 0
    going = True
    while going:
        match = _PREDICATE.match(text, at)
        if match is None:
            raise BadInput(f"the grammar's query {text.strip()!r} cannot be read")
        names = [part.strip() for part in match[2].split(",")] if match[2].strip() else []
        pairs = [[half.strip() for half in name.split(":")] for name in names]
        found.append(Predicate(match[1], tuple(Placeholder(pair[0], pair[-1]) for pair in pairs)))
        at, going = match.end(), match[3] == "&"
    return tuple(found)


@lru_cache(maxsize=1024)
def _expression(source: str) -> Expression:
    """Attributes of objects, texts, `+`, `or` and `and`; nothing else is evaluated."""
    if len(source) > _LONGEST:
        raise BadInput(f"the grammar's expression {source[:40]!r}... has more than {_LONGEST} characters")
    try:
        tree = ast.parse(source, mode="eval")
        names = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
        return Expression(source, _value(tree.body, source), names)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise BadInput(f"the grammar's expression {source!r} cannot be read") from None


def _value(node: ast.expr, source: str) -> Value:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
        return lambda _: text
    if isinstance(node, ast.Name):
        name = node.id
        return lambda variables: variables[name]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in Entity._fields:
        owner, field = node.value.id, Entity._fields.index(node.attr)
        return lambda variables: variables[owner][field]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        one, other = _value(node.left, source), _value(node.right, source)
        return lambda variables: _text(one(variables)) + _text(other(variables))
    if isinstance(node, ast.BoolOp):
        values = [_value(part, source) for part in node.values]
        stops = isinstance(node.op, ast.Or)
        return lambda variables: _first(values, variables, stops)
    raise BadInput(f"the grammar's expression {source!r} does more than put texts together")


def _text(value: str | Entity) -> str:
    return value.name if isinstance(value, Entity) else value


def _first(values: list[Value], variables: Mapping[str, Entity], stops: bool) -> str | Entity:
    value: str | Entity = ""
    for each in values:
        value = each(variables)
        if bool(value) is stops:
            break
    return value

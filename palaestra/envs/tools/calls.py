"""What an agent writes to call tools: `{"name": ..., "arguments": {...}}` or `name(argument=value)`. Nothing is run.

Both forms are read, one call or several: as a JSON list, as a Python list, as lines; bare, in a block between lines of
three backticks, in backticks on lines of their own, or in `<tool_call>` tags as Hermes and Qwen models write them. The
Python form goes through `ast` and may hold nothing but literals, so no text of an agent is ever evaluated. A name that
a call's result is given (`total = add(1, 2)`) is passed over, since nothing can use it: the call is what is meant.

Tools of MCP servers have names that are no names of Python (`list-files`, `ns.read`, `import`). Outside of quotes such
a name before a parenthesis is read as a name all the same: `_spelled` puts another one in its place for the parser.
"""

from __future__ import annotations

import ast
import json
import keyword
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

Value = None | bool | int | float | str | list["Value"] | tuple["Value", ...] | dict["Value", "Value"]
"""An argument: what a literal can be. Tuples come from the Python form only, keys other than texts too."""

LONGEST = 20_000
"""Characters of an answer that are read; a longer one is refused unread."""

MOST = 40
"""Calls in one answer."""

DIGITS = 1_000
"""Digits of a whole number, give or take a few. Python writes out 4,300 at most, and tools multiply."""

_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_TICKS = re.compile(r"^[ \t]*(`{1,3})([^`\n]+)\1[ \t]*$", re.MULTILINE)
_TAGS = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_HEAD = re.compile(r"(?:[A-Za-z_]\w*+\s*+=\s*+)?\[?\s*+([A-Za-z_][A-Za-z0-9_.]*+)\s*+\(")
_QUOTED = "|".join(rf"{mark}(?:\\.|[^\\])*?(?:{mark}|\\?\Z)" for mark in ('"""', "'''")) + "|"
_QUOTED += "|".join(rf"{mark}(?:\\.|[^{mark}\\\n])*+{mark}?" for mark in "\"'")
"""A text in quotes. One that does not end, which no Python does, goes on to the end: else every quote in it would be
tried, each to the end. For the same reason `_DASHED` does not begin within what it has looked at."""
_DASHED = r"(?<![\w.-])[A-Za-z_][\w.]*+(?:-[\w.]++)++(?=\()"  # `list-file(`: hardly a subtraction, if no tool either
_FILE = "<tool call>"
_TOO_LARGE = f"a number has more than {DIGITS} digits"
warnings.filterwarnings("ignore", module=re.escape(_FILE))  # of escapes such as "\d", which are left as they stand
_FORM = 'Write name(argument=value) with literal values, or {"name": ..., "arguments": {...}}.'


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        name: of the tool.
        arguments: by name.
        positional: those without a name, which only the Python form has.
    """

    name: str
    arguments: dict[str, Value] = field(default_factory=dict)
    positional: tuple[Value, ...] = ()

    def __str__(self) -> str:
        """The Python form: what `read` reads back."""
        parts = [repr(value) for value in self.positional]
        parts += [f"{name}={value!r}" for name, value in self.arguments.items()]
        return f"{self.name}({', '.join(parts)})"


@dataclass(frozen=True)
class Reading:
    """What an answer was: calls, or words for the user, or neither.

    Attributes:
        calls: in the order in which they are to be made; empty for words.
        problem: what to tell the agent when the answer can be neither made nor passed on; None otherwise.
    """

    calls: tuple[Call, ...] = ()
    problem: str | None = None


class _Unreadable(Exception):
    """The answer is meant as a call and cannot be read as one; the message tells the agent why."""


def read(text: str, known: Collection[str] = ()) -> Reading:
    """Read an answer. Never raises.

    Args:
        text: the whole answer.
        known: names of the tools there are. What begins like a call of one of these, and is none, is a problem; other
            text is words for the user.
    """
    if len(text) > LONGEST:
        return Reading(problem=f"The answer has {len(text)} characters; at most {LONGEST} are read.")
    text = _bare(text.strip())
    if not text:
        return Reading(problem=f"The answer was empty. {_FORM}")
    marked = _TAGS.findall(text) or _FENCE.findall(text) or _ticked(text, known)
    calls: list[Call] = []
    try:
        for part in marked or [text]:
            calls += _part(part.strip(), known)
    except _Unreadable as error:
        return Reading(problem=f"{error} {_FORM}") if marked or _looks_like_a_call(text, known) else Reading()
    if len(calls) > MOST:
        return Reading(problem=f"{len(calls)} calls in one answer; at most {MOST} are made.")
    return Reading(tuple(calls))


def _ticked(text: str, known: Collection[str]) -> list[str]:
    """The calls that stand in backticks on lines of their own."""
    found = (_unlabelled(part[2]) for part in _TICKS.finditer(text))
    return [inner for inner in found if inner and _looks_like_a_call(inner, known)]


def _bare(text: str) -> str:
    """A text of one line without backticks around all of it."""
    whole = _TICKS.fullmatch(text)
    return (_unlabelled(whole[2]) if whole else "") or text


def _unlabelled(text: str) -> str:
    """Without the language before what stands in backticks, as in ```python cd('a')```."""
    return re.sub(r"^(?:python|json|tool_code)\s+(?=\S)", "", text.strip())


def _looks_like_a_call(text: str, known: Collection[str]) -> bool:
    if text[0] in "[{" and re.search(r"[\"']name[\"']\s*:", text):
        return True
    text, meant = _spelled(text, known)
    known = {*known, *(placeholder for placeholder, name in meant.items() if _is_of(name, known))}
    head = _HEAD.match(text)
    return (head is not None and _is_of(head[1], known)) or _holds_a_call(text, known)


def _is_of(name: str, known: Collection[str]) -> bool:
    return name in known or name.rpartition(".")[2] in known


def _holds_a_call(text: str, known: Collection[str]) -> bool:
    """Is it Python in which a tool is called, such as `print(add(1))`. Words hardly ever are."""
    try:
        tree = ast.parse(text, _FILE)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(
        (isinstance(func, ast.Name) and func.id in known) or (isinstance(func, ast.Attribute) and func.attr in known)
        for func in called
    )


def _part(text: str, known: Collection[str]) -> Sequence[Call]:
    return _json(text) if re.match(r"\[?\s*\{", text) else _python(text, known)


# -- JSON ------------------------------------------------------------------------------------------------------------


def _json(text: str) -> Sequence[Call]:
    try:
        found = _loaded(text)
    except (ValueError, RecursionError) as error:
        raise _Unreadable(f"That is no JSON: {_short(error)}.") from None
    return [_json_call(item) for item in (found if isinstance(found, list) else [found])]


def _loaded(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant, parse_int=_whole, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, in which nothing is given twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Unreadable(f"{_short(key, 40)!r} is given twice.")
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(_TOO_LARGE)
    return int(digits)


def _json_call(item: object) -> Call:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise _Unreadable("A call needs a name.")
    unknown = [key for key in item if key not in ("name", "arguments", "parameters")]
    if unknown:
        raise _Unreadable(f"A call has a name and arguments, not {str(unknown[0])[:40]!r}.")
    if "arguments" in item and "parameters" in item:
        raise _Unreadable("The arguments of a call are given twice, as 'arguments' and as 'parameters'.")
    arguments = item.get("arguments", item.get("parameters"))
    if arguments is None:  # not given, or null, as models write a call without any
        arguments = {}
    if isinstance(arguments, str):  # as the chat API of OpenAI writes them
        try:
            arguments = _loaded(arguments)
        except (ValueError, RecursionError):
            arguments = None
    if not isinstance(arguments, dict):
        raise _Unreadable("The arguments of a call are an object.")
    return Call(item["name"], arguments)


# -- Python ----------------------------------------------------------------------------------------------------------


def _spelled(text: str, known: Collection[str]) -> tuple[str, dict[str, str]]:
    """The text with names of tools that Python cannot parse replaced, and what each replacement stands for."""
    odd = sorted((name for name in known if name and not _parses(name)), key=len, reverse=True)
    names = "|".join([*(rf"{re.escape(name)}(?=\s*\()" for name in odd), _DASHED])
    prefix = max(re.findall("tool_+", text), key=len, default="tool") + "_"  # is nowhere in the text
    found: dict[str, str] = {}  # name -> replacement

    def replaced(part: re.Match[str]) -> str:
        return found.setdefault(part[1], f"{prefix}{len(found)}") if part[1] else part[0]

    changed = re.sub(rf"{_QUOTED}|(?<!\w)({names})|#[^\n]*+", replaced, text, flags=re.DOTALL)  # and comments
    return changed, {replacement: name for name, replacement in found.items()}


def _parses(name: str) -> bool:
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def _python(text: str, known: Collection[str]) -> Sequence[Call]:
    text, meant = _spelled(text, known)
    try:
        tree = ast.parse(text, _FILE)
        calls = [_python_call(node) for statement in tree.body for node in _expressions(statement)]
        return [Call(meant.get(call.name, call.name), call.arguments, call.positional) for call in calls]
    except _Unreadable as error:  # which may quote what was put in
        told = str(error)
        for replacement in reversed(meant):
            told = told.replace(replacement, meant[replacement])
        raise _Unreadable(told) from None
    except SyntaxError as error:
        raise _Unreadable(f"That is no call: {_short(error.msg)}.") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise _Unreadable(f"That is no call: {_short(error)}.") from None


def _expressions(statement: ast.stmt) -> Sequence[ast.expr]:
    match statement:
        case ast.Expr(value=value) | ast.Assign(value=value, targets=[ast.Name()]):
            pass
        case ast.AnnAssign(value=ast.expr() as value, target=ast.Name()):
            pass
        case _:
            raise _Unreadable("Only calls can be made.")
    return value.elts if isinstance(value, ast.List | ast.Tuple) else [value]


def _python_call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise _Unreadable("Only calls can be made, of a tool by its name alone.")
    arguments: dict[str, Value] = {}
    for given in node.keywords:
        if given.arg is None:
            raise _Unreadable("Arguments cannot be unpacked.")
        if given.arg in arguments:
            raise _Unreadable(f"The argument {_short(given.arg, 40)!r} is given twice.")
        arguments[given.arg] = _literal(given.value)
    return Call(node.func.id, arguments, tuple(_literal(value) for value in node.args))


def _literal(node: ast.expr) -> Value:
    match node:
        case ast.Constant(value=int() as value) | ast.UnaryOp(operand=ast.Constant(value=int() as value)) if (
            value.bit_length() > DIGITS * 10 // 3  # as 0xfff..., which no limit of the interpreter stops
        ):
            raise _Unreadable(f"That is no call: {_TOO_LARGE}.")
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.UnaryOp(op=ast.UAdd(), operand=ast.Constant(value=int() | float() as value)):
            return +value
        case ast.List(elts=parts):
            return [_literal(part) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(_literal(part) for part in parts)
        case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
            found: dict[Value, Value] = {}
            for key, part in zip(map(_literal, filter(None, keys)), values, strict=True):
                if key in found:  # 1 and True are one key, too
                    raise _Unreadable(f"{_short(key, 40)!r} is given twice.")
                found[key] = _literal(part)
            return found
    raise _Unreadable(f"{_short(ast.unparse(node))!r} is no literal value (they are written like 'text', 3, True).")


def _short(what: object, limit: int = 80) -> str:
    text = " ".join(str(what).split()) or type(what).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"

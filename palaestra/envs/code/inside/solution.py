"""The process of the agent's code: loads it, and does what the tests ask for. What it answers is only data to them."""

from __future__ import annotations

import builtins
import importlib
import operator
import sys
import threading
import traceback
from collections.abc import Coroutine
from typing import Any

from palaestra.envs.code.inside.pieces import explain, unknown
from palaestra.envs.code.inside.wire import DICTS, MUTABLE, bare, data_type, decode, encode, receive, send

MOST_TRACE = 2000
"""Characters of a traceback."""


class Server:
    """Answers the requests of the tests, one after another.

    Args:
        main: name of the module that the tests mean when they name none.
        setup: code to run in that module after it is loaded.
        folder: where the agent's modules lie.
        way: how the tests judge; for "data" what derives from plain data is sent as that data alone.
    """

    def __init__(self, main: str, setup: str, folder: str, way: str = "apart") -> None:
        self.main, self.setup, self.folder, self.way = main, setup, folder, way
        self.kept: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.classes: dict[int, Any] = {}
        self.pipes = (0, 0)
        self.turn = threading.RLock()

        self.modules: dict[str, Any] = {}

    def keep(self, value: Any) -> Any:
        """Remember a value that is no plain data: its number, what sort it is, its class. The same for the same."""
        if self.way == "data" and data_type(type(value)):
            return None
        if isinstance(value, Handed):
            return [value._number, "handed", None]
        sort = "class" if isinstance(value, type) else "await" if isinstance(value, Coroutine) else "object"
        return [self.number(value), sort, self.described(value if sort == "class" else type(value))]

    def number(self, value: Any) -> int:
        """Of a value, which is kept for good."""
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.kept)
            self.kept.append(value)
        return self.numbers[id(value)]

    def described(self, kind: Any) -> Any:
        """A class: its number, name, special methods and bases, those of Python's by their names. Made once."""
        number = self.number(kind)
        if number in self.classes:
            return self.classes[number]
        specials = [name for name in dir(kind) if name.startswith("__") and getattr(object, name, None) is None]
        orders = ("__lt__", "__le__", "__gt__", "__ge__")
        specials += [name for name in orders if getattr(kind, name) is not getattr(object, name)]
        if kind.__hash__ not in (None, object.__hash__):
            specials.append("__hash__")
        if kind.__hash__ is None:
            specials.append("unhashable")
        if issubclass(kind, tuple):
            specials += [name for name in getattr(kind, "_fields", ()) if isinstance(name, str)]
        bases: list[Any] = [
            kind_name if base in MUTABLE or vars(builtins).get(kind_name) is base else self.described(base)
            for base in type.__dict__["__bases__"].__get__(kind)
            for kind_name in [base.__name__]
            if base is not object
        ]
        self.classes[number] = [number, kind.__name__, specials, bases]
        return self.classes[number]

    def module(self, name: str) -> Any:
        """A module of the agent's, loaded once."""
        if name not in self.modules:
            if sys.path[:1] != [self.folder]:
                sys.path.insert(0, self.folder)
            loaded = importlib.import_module(name)
            if name == self.main and self.setup:
                exec(compile(self.setup, "<setup>", "exec"), vars(loaded))
            self.modules[name] = loaded
        return self.modules[name]

    def answer(self, request: Any) -> Any:
        """Do what was asked."""
        verb, *rest = request
        if verb == "names":
            module, names = self.module(rest[0] or self.main), rest[1]
            return {name: encode(getattr(module, name), self.keep) for name in names if hasattr(module, name)}
        if verb == "assign":
            return setattr(self.module(rest[0]), rest[1], decode(rest[2], self.find))
        if verb == "test":
            return self.test(*rest)
        target = self.kept[rest[0]]
        given = [decode(item, self.find) for item in rest[1]]
        named = {key: decode(item, self.find) for key, item in rest[2].items()}
        value = encode(self.do(verb, target, given, named), self.keep)
        items = [*given, *named.values()]
        return [value, [encode(item, self.keep) if isinstance(item, (list, dict, set)) else None for item in items]]

    def do(self, verb: str, target: Any, given: list[Any], named: dict[str, Any]) -> Any:
        """What is asked of a kept value."""
        if verb == "call":
            return target(*given, **named)
        if verb == "exit":
            name, message = given
            kind = getattr(builtins, name, None) if isinstance(name, str) else None
            kind = kind if isinstance(kind, type) or name is None else Exception
            return type(target).__exit__(target, kind, kind and kind(message), None)
        if verb == "enter":
            return type(target).__enter__(target)
        if verb == "bare":
            return bare(target, data_type(type(target)))
        if verb == "await":
            import asyncio  # slow to load, and seldom needed

            return asyncio.run(target)
        simple: dict[str, Any] = {
            "get": getattr,
            "set": setattr,
            "del": delattr,
            "str": str,
            "repr": repr,
            "format": format,
            "len": len,
            "iter": iter,
            "next": next,
            "reversed": reversed,
            "hash": hash,
            "bool": bool,
            "getitem": operator.getitem,
        }
        if verb in simple:
            return simple[verb](target, *given)
        if verb.startswith("r") and f"__{verb[1:]}__" in vars(operator):
            return vars(operator)[f"__{verb[1:]}__"](*given, target)
        return vars(operator)[f"__{verb}__"](target, *given)

    def test(self, prelude: str, code: str, entry: str) -> list[Any]:
        """Run a test in this process: did it pass, and what is to be said of it. Nothing here is safe from cheats."""
        if sys.path[:1] != [self.folder]:
            sys.path.insert(0, self.folder)
        scope: dict[str, Any] = {"__name__": "tests"}
        wanted = [*unknown(prelude, code), *([entry] if entry else [])]
        if "sys" in wanted:
            scope["sys"] = sys
            wanted.remove("sys")
        if wanted:
            module = self.module(self.main)
            scope.update({name: getattr(module, name) for name in wanted if hasattr(module, name)})
        try:
            exec(compile(prelude, "<tests>", "exec"), scope)
            exec(compile(code, "<test>", "exec"), scope)
        except AssertionError as error:
            return [False, str(error) or explain(code, scope)]
        return [True, ""]

    def find(self, body: Any) -> Any:
        """A kept value by its number, one of Python's functions by its name, or what stands for the tests' own."""
        number, sort, name, *_ = body
        if sort == "builtin":
            return getattr(builtins, number)
        if sort in ("type", "dict"):
            return number if sort == "type" else DICTS[number](name)
        return self.kept[number] if sort == "kept" else (Next if sort == "next" else Handed)(self, number, name)

    def ask(self, number: int, given: Any, named: Any) -> Any:
        """Call what the tests handed over."""
        sent = [encode(item, self.keep) for item in given]
        also = {key: encode(item, self.keep) for key, item in named.items()}
        with self.turn:
            send(self.pipes[1], ["ask", number, sent, also])
            return self.heard()

    def heard(self) -> Any:
        """The reply of the tests, which may ask for something before they give it. Raises what their code raised."""
        while True:
            kind, *rest = receive(self.pipes[0])
            if kind == "ok":
                return decode(rest[0], self.find)
            if kind == "error":
                names, message, place = rest
                known = next(vars(builtins)[name] for name in names if name in vars(builtins))
                error = known(message) if not issubclass(known, UnicodeError) else ValueError(message)
                error.__dict__["_handed"] = place
                raise error
            send(self.pipes[1], self.said([kind, *rest]))

    def serve(self, incoming: int, outgoing: int) -> None:
        """Answer until the tests are gone."""
        self.pipes = (incoming, outgoing)
        while True:
            try:
                request = receive(incoming)
            except EOFError:
                return
            send(outgoing, self.said(request))

    def said(self, request: Any) -> Any:
        """The reply to a request."""
        try:
            return ["ok", self.answer(request)]
        except BaseException as error:  # whatever the agent's code raises, SystemExit too, is told to the tests
            names = [_name(kind) for kind in type(error).__mro__]
            body: Any = None
            place = vars(error).get("_handed")
            if isinstance(place, int):
                body = [place, "raised", None]
            elif vars(builtins).get(names[0]) is not type(error) and isinstance(error, Exception):
                body = self.keep(error)
            return ["error", names, _message(error), _trace(error, self.folder), body, self.made(error)]

    def made(self, error: BaseException) -> Any:
        """What an exception is made from, so that the tests' own holds the same."""
        try:
            return [encode(item, self.keep) for item in error.__reduce__()[1]]  # with the file's name of an OSError
        except BaseException:
            return None


class Handed:
    """A function of the tests': it is called in their process."""

    def __init__(self, server: Server, number: int, name: str) -> None:
        self._server, self._number, self.__name__ = server, number, name

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._server.ask(self._number, given, named)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handed) and other._number == self._number

    def __hash__(self) -> int:
        return self._number


class Next(Handed):
    """An iterator of the tests'."""

    def __iter__(self) -> Next:
        return self

    def __next__(self) -> Any:
        return self._server.ask(self._number, (), {})


def _name(kind: Any) -> str:
    """Of a class, with its module where it is not one of Python's builtins."""
    own = vars(builtins).get(kind.__name__) is kind
    return str(kind.__name__ if own else f"{kind.__module__}.{kind.__qualname__}")


def _message(error: BaseException) -> str:
    try:
        return str(error)[:MOST_TRACE]
    except BaseException as worse:
        return f"(its text cannot be made: {type(worse).__name__})"


def _trace(error: BaseException, folder: str) -> str:
    """The traceback from the agent's own files on."""
    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
    except BaseException:
        return type(error).__name__
    own = [index for index, line in enumerate(lines) if line.startswith('  File "') and not _ours(line)]
    kept = ["Traceback (most recent call last):\n", *lines[own[0] :]] if own else lines[-1:]
    return "".join(kept).replace(folder + "/", "")[-MOST_TRACE:]


def _ours(line: str) -> bool:
    return any(part in line for part in ("palaestra.envs.code.inside", "importlib", "<frozen"))

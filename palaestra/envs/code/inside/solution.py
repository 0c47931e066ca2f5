"""The process of the agent's code: loads it, and does what the tests ask for. What it answers is only data to them."""

from __future__ import annotations

import builtins
import importlib
import sys
import traceback
from typing import Any

from palaestra.envs.code.inside.pieces import explain, unknown
from palaestra.envs.code.inside.wire import decode, encode, receive, send

MOST_TRACE = 2000
"""Characters of a traceback."""


class Server:
    """Answers the requests of the tests, one after another.

    Args:
        main: name of the module that the tests mean when they name none.
        setup: code to run in that module after it is loaded.
        folder: where the agent's modules lie.
    """

    def __init__(self, main: str, setup: str, folder: str) -> None:
        self.main, self.setup, self.folder = main, setup, folder
        self.kept: list[Any] = []
        self.modules: dict[str, Any] = {}

    def keep(self, value: Any) -> list[Any]:
        """Remember a value that is no plain data; its number and what to call it."""
        self.kept.append(value)
        return [len(self.kept) - 1, type(value).__name__]

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
        if verb == "test":
            return self.test(*rest)
        target = self.kept[rest[0]]
        given = [decode(item, self.find) for item in rest[1]]
        if verb == "get":
            return encode(getattr(target, given[0]), self.keep)
        if verb == "set":
            setattr(target, *given)
            return None
        if verb == "call":
            named = {key: decode(item, self.find) for key, item in rest[2].items()}
            value = encode(target(*given, **named), self.keep)
            return [value, [encode(item, self.keep) if isinstance(item, (list, dict, set)) else None for item in given]]
        specials: dict[str, Any] = {
            "len": len,
            "item": lambda thing, key: thing[key],
            "iter": iter,
            "in": lambda thing, item: item in thing,
            "str": str,
            "repr": repr,
        }
        return encode(specials[verb](target, *given), self.keep)

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
        """A kept value by its number, or one of Python's own functions by its name."""
        return getattr(builtins, body[0]) if isinstance(body[0], str) else self.kept[body[0]]

    def serve(self, incoming: int, outgoing: int) -> None:
        """Answer until the tests are gone."""
        while True:
            try:
                request = receive(incoming)
            except EOFError:
                return
            try:
                said = ["ok", self.answer(request)]
            except BaseException as error:  # whatever the agent's code raises, SystemExit too, is told to the tests
                names = [kind.__name__ for kind in type(error).__mro__]
                said = ["error", names, _message(error), _trace(error, self.folder)]
            send(outgoing, said)


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

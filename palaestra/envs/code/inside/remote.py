"""What the tests hold in place of the solution's classes, objects and functions. All they do is asked in its process.

Nothing here believes an answer more than it must: `==`, `<` and arithmetic with plain data are never decided by the
solution, or an object that calls itself equal to everything would pass every `assert`. Between two things of the
solution's they are asked: a test such as `assert V(1, 2) + V(3, 4) == V(4, 6)` trusts the class that it is about.
"""

from __future__ import annotations

import builtins
from typing import Any

from palaestra.envs.code.inside.wire import PLAIN, decode, encode

ORDERS = ("lt", "le", "gt", "ge")
BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")
UNARY = ("neg", "pos", "invert")
SIMPLE = ("len", "iter", "next", "contains", "getitem", "setitem", "delitem", "reversed", "hash", "bool", "enter")
"""Special methods that are asked for as they are."""


class Unjudged(BaseException):
    """A test does what cannot be done across the border of two processes, whatever the solution is."""


class Kind(type):
    """Of what stands for the solution's classes: calls make objects there."""

    def __new__(cls, name: str, bases: Any, space: Any) -> Any:
        """A class of the tests' own that derives from one of the solution's. Raises Unjudged."""
        owner = next(base for base in bases if isinstance(base, Kind))
        raise owner._solution.refuse(f"it derives the class {name} from one of the solution's")

    def __init__(cls, *_: Any) -> None:
        """Nothing: `make` has made it."""

    def __call__(cls, *given: Any, **named: Any) -> Any:
        """An object of the solution's."""
        return call(cls._solution, cls._number, given, named)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") and name != "__members__":
            raise AttributeError(name)
        return ask(cls._solution, "get", cls._number, name)

    def __setattr__(cls, name: str, value: Any) -> None:
        ask(cls._solution, "set", cls._number, name, value)

    def __iter__(cls) -> Any:
        return iter(ask(cls._solution, "iter", cls._number))

    def __len__(cls) -> int:
        return int(ask(cls._solution, "len", cls._number))

    def __bool__(cls) -> bool:
        return True

    def __getitem__(cls, key: Any) -> Any:
        return ask(cls._solution, "getitem", cls._number, key)

    def __contains__(cls, item: Any) -> bool:
        return bool(ask(cls._solution, "contains", cls._number, item))


class Named:
    """Attributes that are asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        me = vars(self)
        return ask(me["_solution"], "get", me["_number"], name)

    def __str__(self) -> str:
        return str(ask(self._solution, "str", self._number))

    def __format__(self, form: str) -> str:
        return str(ask(self._solution, "format", self._number, form))

    def __repr__(self) -> str:
        return str(ask(self._solution, "repr", self._number))


class Remote(Named):
    """Something of the solution's that is no plain data: a function, an object of a class of its own."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return call(self._solution, self._number, given, named)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__"):
            object.__setattr__(self, name, value)
        else:
            ask(self._solution, "set", self._number, name, value)

    def __delattr__(self, name: str) -> None:
        ask(self._solution, "del", self._number, name)

    def __eq__(self, other: Any) -> Any:
        if self is other:
            return True
        return bool(ask(self._solution, "eq", self._number, other)) if ours(other) else NotImplemented

    def __ne__(self, other: Any) -> Any:
        return bool(ask(self._solution, "ne", self._number, other)) if ours(other) else NotImplemented

    def __hash__(self) -> int:
        return id(self)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """What the block raised is told, and goes on: a solution that swallowed it would swallow failed asserts."""
        said = [None, None] if kind is None else [kind.__name__, str(error)]
        ask(self._solution, "exit", self._number, *said)


def ours(value: Any) -> bool:
    """Is it something of the solution's."""
    return isinstance(value, (Remote, Kind))


def _asked(verb: str) -> Any:
    def special(self: Any, *given: Any) -> Any:
        answer = ask(self._solution, verb, self._number, *given)
        if verb == "iter" and not hasattr(type(answer), "__next__"):
            return iter(answer)
        checks: dict[str, Any] = {"len": int, "hash": int, "bool": bool, "contains": bool}
        return checks[verb](answer) if verb in checks else answer

    return special


def _with(verb: str) -> Any:
    """An operator. With plain data the solution may answer with an object of its own alone, and says no order."""

    def special(self: Any, other: Any) -> Any:
        plain = not ours(other)
        if plain and verb in ORDERS:
            return NotImplemented
        answer = ask(self._solution, verb, self._number, other)
        if plain and not isinstance(answer, Remote):
            return NotImplemented
        return answer

    return special


SPECIALS: dict[str, Any] = {
    **{f"__{verb}__": _asked(verb) for verb in (*SIMPLE, *UNARY)},
    **{f"__{verb}__": _with(verb) for verb in (*ORDERS, *BINARY, *(f"r{verb}" for verb in BINARY))},
}


FIELDS: dict[str, Any] = {
    name: property(lambda self, name=name: ask(self._solution, "get", self._number, name))  # type: ignore[misc]
    for name in ("count", "index")
}
"""Methods of a tuple that a named tuple may have fields of the name of."""


def make(solution: Any, said: Any) -> Any:
    """The class that stands for one of the solution's, made once.

    Args:
        said: its number, name, special methods, and its bases: each as this one, or the name of an exception or of
            a type of plain data.
    """
    number, name, specials, bases = said
    if number not in solution.classes:
        found: list[Any] = []
        for base in bases:
            known = vars(builtins).get(base) if isinstance(base, str) else None
            if isinstance(base, list):
                found.append(make(solution, base))
            elif isinstance(known, type) and (known in PLAIN or issubclass(known, Exception)):
                found.append(known)
        plain = any(issubclass(base, PLAIN) for base in found)
        if not any(isinstance(base, Kind) for base in found):
            found.insert(0, Named if plain else Remote)
        allowed = FIELDS if plain else SPECIALS
        space = {key: allowed[key] for key in specials if key in allowed}
        if any(issubclass(base, Exception) for base in found):
            space["args"] = property(lambda self: ask(self._solution, "get", self._number, "args"))
        space.update(_solution=solution, _number=number, __module__="solution")
        solution.classes[number] = type.__new__(Kind, str(name), tuple(found), space)
    return solution.classes[number]


def found(solution: Any, body: Any) -> Any:
    """What stands here for something of the solution's: the same for the same."""
    number, sort, rest, *data = body
    if sort == "handed":
        return solution.handed[number]
    if sort == "await":
        return solution.objects.setdefault(number, _awaited(solution, number))
    if sort == "class":
        return make(solution, rest)
    if number not in solution.objects:
        kind = make(solution, rest)
        if data:  # of a type that derives from one of plain data: that data decides, whatever the class says
            base = next(base for base in kind.__mro__ if base in PLAIN)
            thing = base.__new__(kind, decode(data[0], lambda inner: found(solution, inner)))
        else:
            thing = kind.__new__(kind)
        vars(thing).update(_solution=solution, _number=number)
        solution.objects[number] = thing
    return solution.objects[number]


async def _awaited(solution: Any, number: int) -> Any:
    return ask(solution, "await", number)


def ask(solution: Any, verb: str, number: int, *given: Any) -> Any:
    """Ask for something, with arguments."""
    return call(solution, number, given, {}, verb)


def call(solution: Any, number: int, given: Any, named: Any, verb: str = "call") -> Any:
    """Ask for a call. What it did to its arguments is done to them here, too."""
    sent = [encode(item, solution.number) for item in given]
    also = {key: encode(item, solution.number) for key, item in named.items()}
    value, after = solution.ask(verb, number, sent, also)
    before, items = [*sent, *also.values()], [*given, *named.values()]
    for item, was, now in zip(items, before, after):  # noqa: B905  (Python 3.8 has no strict)
        if now is not None and now != was:
            become(item, decode(now, lambda body: found(solution, body)))
    return decode(value, lambda body: found(solution, body))


def become(item: Any, now: Any) -> None:
    """What a call did to an argument, and to what lies in it."""
    if type(item) is not type(now):
        return
    if isinstance(item, list):
        same = len(item) == len(now)
        item[:] = [_kept(item[place], each) if same else each for place, each in enumerate(now)]
    elif isinstance(item, dict):
        new = {key: _kept(item[key], each) if key in item else each for key, each in now.items()}
        item.clear()
        item.update(new)
    elif isinstance(item, set):
        item.clear()
        item.update(now)


def _kept(item: Any, now: Any) -> Any:
    if isinstance(item, (list, dict, set)) and type(item) is type(now):
        become(item, now)
        return item
    return now

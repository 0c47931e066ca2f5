"""What the tests hold in place of the solution's classes, objects and functions. All they do is asked in its process.

Nothing here believes an answer more than it must: `==`, `<` and arithmetic with plain data are never decided by the
solution, or an object that calls itself equal to everything would pass every `assert`. Between two things of the
solution's they are asked: a test such as `assert V(1, 2) + V(3, 4) == V(4, 6)` trusts the class that it is about.
Where only plain data is to decide (`judge = "data"`) the tests hold a `Bare` in place of all of this.
"""

from __future__ import annotations

import builtins
import operator
from typing import Any

from palaestra.envs.code.inside.wire import DICTS, MUTABLE, PLAIN, encode

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
        raise owner._solution_.refuse(f"it derives the class {name} from one of the solution's")

    def __init__(cls, *_: Any) -> None:
        """Nothing: `make` has made it."""

    def __call__(cls, *given: Any, **named: Any) -> Any:
        """An object of the solution's."""
        return call(cls._solution_, cls._number_, given, named)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") and name != "__members__":
            raise AttributeError(name)
        return ask(cls._solution_, "get", cls._number_, name)

    def __setattr__(cls, name: str, value: Any) -> None:
        ask(cls._solution_, "set", cls._number_, name, value)

    def __iter__(cls) -> Any:
        return iter(ask(cls._solution_, "iter", cls._number_))

    def __len__(cls) -> int:
        return int(ask(cls._solution_, "len", cls._number_))

    def __bool__(cls) -> bool:
        return True

    def __instancecheck__(cls, thing: Any) -> bool:
        return cls.__subclasscheck__(type(thing))

    def __subclasscheck__(cls, kind: Any) -> bool:
        return cls._number_ in getattr(kind, "_chain_", ())

    def __getitem__(cls, key: Any) -> Any:
        return ask(cls._solution_, "getitem", cls._number_, key)

    def __contains__(cls, item: Any) -> bool:
        return bool(ask(cls._solution_, "contains", cls._number_, item))


class Named:
    """Attributes that are asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        me = vars(self)
        return ask(me["_solution_"], "get", me["_number_"], name)

    def __str__(self) -> str:
        return str(ask(self._solution_, "str", self._number_))

    def __format__(self, form: str) -> str:
        return str(ask(self._solution_, "format", self._number_, form))

    def __repr__(self) -> str:
        return str(ask(self._solution_, "repr", self._number_))


class Remote(Named):
    """Something of the solution's that is no plain data: a function, an object of a class of its own."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return call(self._solution_, self._number_, given, named)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__"):
            object.__setattr__(self, name, value)
        else:
            ask(self._solution_, "set", self._number_, name, value)

    def __delattr__(self, name: str) -> None:
        ask(self._solution_, "del", self._number_, name)

    def __eq__(self, other: Any) -> Any:
        if self is other:
            return True
        return bool(ask(self._solution_, "eq", self._number_, other)) if ours(other) else _by_data(self, "eq", other)

    def __ne__(self, other: Any) -> Any:
        return bool(ask(self._solution_, "ne", self._number_, other)) if ours(other) else _by_data(self, "ne", other)

    def __hash__(self) -> int:
        return id(self)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """What the block raised is told, and goes on: a solution that swallowed it would swallow failed asserts."""
        said = [None, None] if kind is None else [kind.__name__, str(error)]
        ask(self._solution_, "exit", self._number_, *said)


def ours(value: Any) -> bool:
    """Is it something of the solution's."""
    return isinstance(value, (Remote, Kind, Bare))


def _by_data(self: Any, verb: str, other: Any) -> Any:
    """An operator with plain data, of an object of a class that derives from `list` or the like: its data decides.

    That is fetched and taken here, so that the solution never sees what it should be.
    """
    if type(self)._data_ is None:
        return NotImplemented
    data = ask(self._solution_, "bare", self._number_)
    if type(data) is not type(self)._data_:
        return NotImplemented
    known = vars(operator)
    return known[verb](data, other) if verb in known else known[verb[1:]](other, data)


def _asked(verb: str) -> Any:
    def special(self: Any, *given: Any) -> Any:
        answer = ask(self._solution_, verb, self._number_, *given)
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
            return _by_data(self, verb, other)
        answer = ask(self._solution_, verb, self._number_, other)
        if plain and not isinstance(answer, Remote):
            return _by_data(self, verb, other)
        return answer

    return special


SPECIALS: dict[str, Any] = {
    **{f"__{verb}__": _asked(verb) for verb in (*SIMPLE, *UNARY)},
    **{
        f"__{verb}__": _with(verb) for verb in (*ORDERS, *(f"{way}{verb}" for way in ("", "r", "i") for verb in BINARY))
    },
    "unhashable": None,
}


class Bare(Named):
    """Something of the solution's where only plain data is to decide: no operators, no class, equal to itself alone."""

    __call__ = Remote.__call__
    __setattr__ = Remote.__setattr__
    __len__, __iter__, __next__ = _asked("len"), _asked("iter"), _asked("next")
    __getitem__, __contains__ = _asked("getitem"), _asked("contains")
    __format__ = object.__format__  # type: ignore[assignment]

    def __init__(self, solution: Any, number: int) -> None:
        vars(self).update(_solution_=solution, _number_=number)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return "<something of the solution's>"


FIELDS: dict[str, Any] = {
    name: property(lambda self, name=name: ask(self._solution_, "get", self._number_, name))  # type: ignore[misc]
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
        known = [make(solution, base) if isinstance(base, list) else _python(base) for base in bases]
        kinds = [base for base in known if isinstance(base, Kind)]
        errors = [base for base in known if not isinstance(base, Kind) and base and issubclass(base, Exception)]
        held = [base._data_ if isinstance(base, Kind) else base for base in known]
        data = next((kind for kind in (*PLAIN, *reversed(MUTABLE)) if kind in held), None)
        plain = data in PLAIN
        # What holds plain data derives from nothing else here: a class beside it may not bring operators along.
        parents = (Named, data) if plain else (*([] if kinds else [Remote]), *kinds, *errors)
        allowed = FIELDS if plain else SPECIALS
        space = {"__hash__" if key == "unhashable" else key: allowed[key] for key in specials if key in allowed}
        if errors and not plain:
            space["args"] = property(lambda self: ask(self._solution_, "get", self._number_, "args"))
        if data in MUTABLE:
            space["__class__"] = property(lambda self: data)  # for `isinstance(stack, list)`
        space.update(_solution_=solution, _number_=number, __module__="solution", _data_=data)
        space["_chain_"] = frozenset([number]).union(*(base._chain_ for base in kinds))
        solution.classes[number] = type.__new__(Kind, str(name), parents, space)
    return solution.classes[number]


def _python(name: Any) -> Any:
    """A type of Python's that a class of the solution's derives from: an exception, one of plain data, a container."""
    known = vars(builtins).get(name)
    if isinstance(known, type) and issubclass(known, Exception):
        return known
    return next((kind for kind in (*PLAIN, *MUTABLE) if kind.__name__ == name), None)


def found(solution: Any, body: Any) -> Any:
    """What stands here for something of the solution's: the same for the same."""
    number, sort, rest, *data = body
    if sort == "dict":
        return rest if solution.strict else DICTS[number](rest)
    if sort in ("type", "handed", "raised"):
        solution.led = True
        return number if sort == "type" else getattr(solution, sort)[number]
    if solution.strict:
        return Bare(solution, number)
    if sort == "await":
        return solution.objects.setdefault(number, _awaited(solution, number))
    if sort == "class":
        return make(solution, rest)
    if number not in solution.objects:
        kind = make(solution, rest)
        if data and kind._data_ in PLAIN:  # that data decides, whatever the class says
            thing = kind._data_.__new__(kind, solution.read(data[0]))
        else:
            thing = kind.__new__(kind)
        vars(thing).update(_solution_=solution, _number_=number)
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
            become(item, solution.read(now))
    return solution.read(value)


def become(item: Any, now: Any) -> None:
    """What a call did to an argument, and to what lies in it."""
    if type(item) is not type(now) or ours(item):
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

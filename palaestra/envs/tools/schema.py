"""A tool is a typed Python function: its schema from signature and docstring, its arguments checked by pydantic."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    ValidationError,
    create_model,
)

from palaestra.envs.errors import BadInput
from palaestra.envs.tools.calls import Call

STATE = ("self", "state")
"""Names of a first parameter that is given the episode's state and that no agent sees."""

_NO_STATE = (str, int, float, bool)
"""Types that no state has, since no tool could change it: a first parameter of these is the agent's."""

_LATER = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
"""Functions whose result is not what they return."""

_ARGS = re.compile(r"^[ \t]*(?:Args|Arguments|Parameters):[ \t]*\n(.*?)(?=\n[ \t]*\n|\Z)", re.DOTALL | re.MULTILINE)
_ARG = re.compile(r"^[ \t]+\*{0,2}(\w+)(?:[ \t]*\([^)]*\))?:[ \t]*(.*)$")


class WrongArguments(Exception):
    """A call does not fit its tool; the message tells the agent how."""


@dataclass(frozen=True)
class Tool:
    """A function that an agent can call.

    Attributes:
        name: as the agent calls it.
        about: what it does, from the docstring.
        parameters: JSON schema of the arguments.
        order: names of the arguments in their order, for calls that leave names out.
        check: turns the arguments by name into those of the function. Raises WrongArguments.
        run: the function; its first parameter is the state.
    """

    name: str
    about: str
    parameters: Mapping[str, Any]
    order: tuple[str, ...]
    check: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    run: Callable[..., object]

    def schema(self) -> dict[str, Any]:
        """Name, description and parameters, as chat APIs take them."""
        return {"name": self.name, "description": self.about, "parameters": dict(self.parameters)}

    def arguments(self, call: Call) -> Mapping[str, Any]:
        """The arguments of a call, checked. Raises WrongArguments with what to tell the agent."""
        if len(call.positional) > len(self.order):
            raise WrongArguments(f"{self.name} takes {len(self.order)} arguments, not {len(call.positional)}")
        given: dict[str, Any] = dict(zip(self.order, call.positional, strict=False))
        twice = given.keys() & call.arguments.keys()
        if twice:
            raise WrongArguments(f"{self.name}: argument {min(twice)!r} was given twice")
        return self.check({**given, **call.arguments})


def tool(function: Callable[..., object], name: str | None = None, *, state: bool = True) -> Tool:
    """The tool of a function or method.

    Args:
        function: every parameter has a type, but for a first one called `self` or `state`, which gets the state. (One
            that is a text, a number or a truth value, such as `state: str` of an address, is an argument.) The
            docstring says what it does; under `Args:` it may have a line for each argument.
        name: as the agent calls it; None for the function's own.
        state: has the environment a state. Without one only an untyped first parameter stands for it (and is None).

    Arguments are checked as pydantic does by default, which converts what stands for the type without loss: for `int`,
    the text '5' and the float 5.0 are 5, and True is 1. Types such as `pydantic.StrictInt` take nothing else.

    Raises:
        BadInput: an untyped argument, `*args` or `**kwargs`, a type that pydantic has no schema for, an `async`
            function or a generator, no function.
    """
    name = name or str(getattr(function, "__name__", ""))
    if not callable(function) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise BadInput(f"{function!r} is no function with a name that an agent could call")
    if any(test(each) for each in (function, type(function).__call__) for test in _LATER):
        raise BadInput(f"tool {name}: it is asynchronous or a generator; wrap it in a function that returns its result")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # some that are written in C, such as int
        raise BadInput(f"tool {name}: Python does not know its arguments; wrap it in a typed function") from None
    hints = _hints(function, name)
    stateful = bool(parameters) and _is_state(parameters[0].name, hints, state)
    parameters = parameters[1:] if stateful else parameters
    about, told = _docstring(function)
    fields = _fields(hints, name, parameters, told)
    try:
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
        model: type[BaseModel] = create_model(name, __config__=config, **fields)
        schema = model.model_json_schema(by_alias=True)
    except (PydanticUserError, PydanticUndefinedAnnotation, TypeError, ValueError) as error:
        raise BadInput(f"tool {name}: an argument has a type without a JSON schema: {_line(error)}") from None
    schema.pop("title", None)
    for part in schema.get("properties", {}).values():
        part.pop("title", None)
    order = tuple(parameter.name for parameter in parameters)

    def run(state: object, /, **arguments: object) -> object:  # an argument may be called `state`, too
        return function(state, **arguments) if stateful else function(**arguments)

    return Tool(name, about, schema, order, lambda given: _checked(name, model, order, given), run)


def _hints(function: Callable[..., object], name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, SyntaxError, AttributeError) as error:
        raise BadInput(f"tool {name}: a type cannot be resolved: {_line(error)}") from None


def _is_state(first: str, hints: Mapping[str, Any], state: bool) -> bool:
    return first in STATE and (first not in hints or (state and hints[first] not in _NO_STATE))


def _fields(
    hints: Mapping[str, Any], name: str, parameters: Sequence[inspect.Parameter], told: Mapping[str, str]
) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for index, parameter in enumerate(parameters):
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise BadInput(
                f"tool {name}: argument {parameter.name!r} cannot be called by its name; write such ones out"
            )
        if parameter.name not in hints:
            raise BadInput(
                f"tool {name}: argument {parameter.name!r} has no type; write one, for instance {parameter.name}: str"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        # Fields have names of their own: an argument may be called `schema` or `_id`, a field may not.
        fields[f"a{index}"] = (
            hints[parameter.name],
            Field(default, alias=parameter.name, description=told.get(parameter.name)),
        )
    return fields


def _checked(name: str, model: type[BaseModel], order: Sequence[str], given: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        checked = model.model_validate(dict(given))
    except ValidationError as error:
        first, *more = error.errors(include_url=False, include_context=False, include_input=False)
        where = ".".join(str(part)[:40] for part in first["loc"])
        what = {"missing": "is missing", "extra_forbidden": "is none of its arguments"}.get(first["type"], first["msg"])
        rest = f" (and {len(more)} more)" if more else ""
        names = ", ".join(order) or "none"
        raise WrongArguments(f"{name}: argument {where!r}: {what}{rest}; its arguments: {names}") from None
    return {parameter: getattr(checked, f"a{index}") for index, parameter in enumerate(order)}


def _docstring(function: Callable[..., object]) -> tuple[str, dict[str, str]]:
    """The first paragraph, and what is said of each argument."""
    text = inspect.getdoc(function) or ""
    told: dict[str, str] = {}
    section, last = _ARGS.search(text), ""
    for line in section[1].splitlines() if section else ():
        if found := _ARG.match(line):
            last = found[1]
            told[last] = found[2].strip()
        elif last:
            told[last] += f" {line.strip()}"
    return " ".join(text.split("\n\n")[0].split()), told


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def told(error: BaseException) -> str:
    """Name and text of an exception. Never raises, as an exception's own `__str__` may."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__} (without a text that can be written)"


def written(result: object) -> str:
    """What a tool returned, as the agent reads it: texts as they are, the rest as JSON where that can hold it.

    Never raises: of what cannot be written (a number of thousands of digits, a `__str__` that breaks) it says so.
    """
    if isinstance(result, str):
        return result
    try:
        return result.model_dump_json() if isinstance(result, BaseModel) else json.dumps(result, ensure_ascii=False)
    except Exception:  # of a serializer or `__str__` that somebody wrote
        try:
            return str(result)
        except Exception as error:
            return f"(a {type(result).__name__} that cannot be written: {type(error).__name__})"

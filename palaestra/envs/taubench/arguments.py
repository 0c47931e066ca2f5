"""Checks a call against the JSON schema of its tool, and says in one line what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from palaestra.envs.tools.schema import WrongArguments

LARGEST = 10**9
"""Numbers beyond this are refused: no price, count or date part is larger."""

LONGEST = 100
"""Elements that a list may have."""

_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}
_WORDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "array": "a list",
    "object": "an object",
}


def check(tool: str, schema: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, if they fit.

    Args:
        schema: of all arguments together: an object with `properties` and `required`.

    Raises:
        WrongArguments: the first argument that is missing, unknown or of another kind, in one line.
    """
    try:
        return dict(_object(schema, given, ""))
    except WrongArguments as error:
        names = ", ".join(schema["properties"]) or "none"
        raise WrongArguments(f"{tool}: {error}; its arguments: {names}") from None


def _object(schema: Mapping[str, Any], given: Mapping[Any, Any], where: str) -> Mapping[str, Any]:
    known: Mapping[str, Any] = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in given:
            raise WrongArguments(f"argument {where + name!r} is missing")
    checked = {}
    for name, value in given.items():
        if name in known:
            checked[name] = _value(known[name], value, f"{where}{name}")
        elif not where or not isinstance(name, str) or not _is_short(value):
            raise WrongArguments(f"argument {where + str(name)[:40]!r} is none of its arguments")
        else:
            checked[name] = value
    return checked


def _is_short(value: object) -> bool:
    """May this stand in an object under a name that the schema does not know: agents copy whole rows into calls."""
    if isinstance(value, int | float):
        return abs(value) <= LARGEST
    return value is None or (isinstance(value, str) and len(value) <= LONGEST)


def _value(schema: Mapping[str, Any], value: object, where: str) -> object:
    kind = schema["type"]
    if isinstance(value, tuple) and kind == "array":
        value = list(value)
    if not isinstance(value, _KINDS[kind]) or isinstance(value, bool):
        raise WrongArguments(f"argument {where!r} must be {_WORDS[kind]}")
    if isinstance(value, int | float) and not abs(value) <= LARGEST:
        raise WrongArguments(f"argument {where!r} is out of range")
    allowed: Sequence[object] | None = schema.get("enum")
    if allowed is not None and value not in allowed:
        raise WrongArguments(f"argument {where!r} must be one of {', '.join(map(repr, allowed))}")
    if isinstance(value, list):
        if len(value) > LONGEST:
            raise WrongArguments(f"argument {where!r} has {len(value)} elements, at most {LONGEST} are taken")
        return [_value(schema["items"], part, f"{where}.{place}") for place, part in enumerate(value)]
    return _object(schema, value, f"{where}.") if isinstance(value, dict) else value

"""Writes the tables of options into the pages, from the settings themselves: `python docs/options.py`.

A page says where a table belongs, and of what; a test holds the pages to the code:

    <!-- options: palaestra.trainers.rft:RFTConfig -->
    <!-- end of the options -->

    <!-- contestants -->
    <!-- end of the contestants -->
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

DOCS = Path(__file__).resolve().parent
PLACE = re.compile(r"(<!-- options: ([\w.]+):(\w+) -->\n).*?(<!-- end of the options -->)", re.DOTALL)
NAMES = re.compile(r"(<!-- contestants -->\n).*?(<!-- end of the contestants -->)", re.DOTALL)
_ENTRY = re.compile(r"^    \w+(?:, \w+)*: ")
_TOGETHER = 3  # options in a row; more of one text get a row each
_PLAIN = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "anything"}


def told(settings: type[BaseModel]) -> dict[tuple[str, ...], str]:
    """What the docstring's `Attributes` say, by the names that share a text: `a, b: text; c: text`."""
    lines: list[str] = []
    _, _, attributes = inspect.cleandoc(settings.__doc__ or "").partition("\nAttributes:\n")
    for line in attributes.splitlines():
        if _ENTRY.match(line):
            lines.append(line.strip())
        elif line.startswith("        ") and lines:
            lines[-1] += " " + line.strip()
        else:
            break
    found: dict[tuple[str, ...], str] = {}
    key = rf"\b(?:{'|'.join(settings.model_fields)})\b"
    names_of = f"{key}(?:, {key})*"
    for line in lines:
        # only the names of options begin a text: what is said of one may have a colon, too
        for names, text in re.findall(rf"({names_of}): (.*?)(?=[;.] {names_of}: |$)", line):
            found[tuple(names.split(", "))] = text if text.endswith(".") else text + "."
    return found


def values(annotation: Any, limits: list[Any]) -> str:
    """What an option can be, in words."""
    kind = typing.get_origin(annotation)
    if kind in (types.UnionType, typing.Union):
        return " or ".join(values(part, limits) for part in typing.get_args(annotation))
    if kind is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(annotation))
    if kind is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        return values(inner, [*limits, *more])
    if kind in (tuple, list):
        inner = typing.get_args(annotation)[0]
        return f"list of {_PLAIN[inner]}s" if inner in _PLAIN else f"list of {values(inner, [])}"
    if kind is dict:
        return "keys and values"
    if annotation in (None, type(None)):
        return "none"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return f"keys of `{annotation.__name__}`"
    return _PLAIN[annotation] + (_range(limits) if annotation in (int, float) else "")


def _range(limits: list[Any]) -> str:
    words = {"ge": " from {}", "gt": " above {}", "le": " to {}", "lt": " below {}"}
    bounds = [(limit, name) for limit in limits for name in words if hasattr(limit, name)]
    return "".join(words[name].format(getattr(limit, name)) for limit, name in bounds)


def default(field: FieldInfo) -> str:
    """What holds where nobody says, as it is written in a configuration."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "needed"
    if isinstance(value, BaseModel):
        changed = {key: getattr(value, key) for key in type(value).model_fields if key in value.model_fields_set}
        return f"`{json.dumps(changed)}`" if changed else "its defaults"
    return "none" if value is None else f"`{json.dumps(value)}`"


def table(module: str, name: str) -> str:
    """The options that a class of settings adds to those of its base. Raises KeyError for one without a text."""
    settings: type[BaseModel] = getattr(importlib.import_module(module), name)
    own = [key for key in settings.model_fields if key in settings.__annotations__ and key != "kind"]
    texts = told(settings)
    known = {key for names in texts for key in names}
    if missing := [key for key in own if key not in known]:
        raise KeyError(f"{module}:{name} does not say what {missing[0]!r} is")
    rows = ["| option | default | values | what it is |", "| --- | --- | --- | --- |"]
    groups = [(names, text) for names, text in texts.items() if len(names) <= _TOGETHER]
    groups += [((key,), text) for names, text in texts.items() if len(names) > _TOGETHER for key in names]
    for names, text in groups:
        fields = [(key, settings.model_fields[key]) for key in names if key in own]
        if not fields:
            continue
        kinds = dict.fromkeys(values(field.annotation, list(field.metadata)) for _, field in fields)
        cells = [
            ", ".join(f"`{key}`" for key, _ in fields),
            ", ".join(default(field) for _, field in fields),
            "; ".join(kinds),
            text[0].upper() + text[1:],
        ]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def contestants() -> str:
    """The names that `palaestra compare` knows, with what is fixed of each."""
    from palaestra.worldmodel.methods import CONTESTANTS

    rows = ["| name | method | what is fixed | what it is |", "| --- | --- | --- | --- |"]
    for each in CONTESTANTS.values():
        fixed = [f"`{key}={json.dumps(value)}`" for key, value in each.fixed.items()]
        fixed += [] if each.share == 1 else [f"{each.share:.2g} of the rollouts"]
        page = "controls.md#options-of-best-of-k" if each.recipe.name == "best-of-k" else f"{each.recipe.name}.md"
        rows.append(f"| `{each.name}` | [{each.recipe.name}]({page}) | {', '.join(fixed) or '-'} | {each.what} |")
    return "\n".join(rows) + "\n"


def written(page: str) -> str:
    """A page with its tables as the code has them."""
    page = NAMES.sub(lambda place: f"{place[1]}{contestants()}{place[2]}", page)
    return PLACE.sub(lambda place: f"{place[1]}{table(place[2], place[3])}{place[4]}", page)


if __name__ == "__main__":
    for page in sorted(DOCS.rglob("*.md")):
        before = page.read_text(encoding="utf-8")
        if (after := written(before)) != before:
            page.write_text(after, encoding="utf-8")
            print(page.relative_to(DOCS))

"""The tools of a domain as an agent calls them: schemas of the data set, functions of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

from palaestra.envs.errors import BadInput
from palaestra.envs.taubench import airline, retail
from palaestra.envs.taubench.arguments import check
from palaestra.envs.taubench.arithmetic import calculate
from palaestra.envs.taubench.data import Domain
from palaestra.envs.taubench.world import Refused, World
from palaestra.envs.tools.calls import Call
from palaestra.envs.tools.schema import Tool, WrongArguments

TRANSFER = "transfer_to_human_agents"
"""The call that ends the conversation."""


def _think(world: World, thought: str) -> str:
    return ""


def _calculate(world: World, expression: str) -> str:
    return calculate(expression)


def _transfer(world: World, summary: str) -> str:
    return "Transfer successful"


_SHARED: Mapping[str, Callable[..., str]] = {"think": _think, "calculate": _calculate, TRANSFER: _transfer}
_OWN: Mapping[str, Mapping[str, Callable[..., str]]] = {"airline": airline.TOOLS, "retail": retail.TOOLS}


@lru_cache(maxsize=8)
def tools(domain: Domain) -> Mapping[str, Tool]:
    """The tools of a domain by name. Raises BadInput where the data set has one that nobody wrote here."""
    functions = {**_SHARED, **_OWN[domain.name]}
    made: dict[str, Tool] = {}
    for schema in domain.schemas:
        name, parameters = str(schema["name"]), schema["parameters"]
        if name not in functions:
            raise BadInput(f"tau-bench's {domain.name} has a tool {name!r} that this version does not know")
        order = tuple(parameters["properties"])
        checked = partial(check, name, parameters)
        made[name] = Tool(name, str(schema["description"]), parameters, order, checked, functions[name])
    return made


def brief(tool: Tool) -> str:
    """A line about a tool: `name(argument: kind, ...) - what it does`."""
    arguments = ", ".join(f"{name}: {_kind(part)}" for name, part in tool.parameters["properties"].items())
    return f"{tool.name}({arguments}) - {tool.about.split('. ')[0].rstrip('.')}"


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(repr, schema["enum"]))
    if schema["type"] == "array":
        return f"[{_kind(schema['items'])}]"
    if schema["type"] == "object":
        return "{" + ", ".join(f"{name!r}: {_kind(part)}" for name, part in schema["properties"].items()) + "}"
    return str(schema["type"])


def make(domain: Domain, world: World, call: Call) -> tuple[str, bool]:
    """Make a call.

    Returns:
        What it answers, refusals too (`Error: ...`), and whether there is such a tool and its arguments fit.
    """
    box = tools(domain)
    tool = box.get(call.name)
    if tool is None:
        return f"There is no tool {call.name[:60]!r}; there are: {', '.join(box)}.", False
    try:
        arguments = tool.arguments(call)
    except WrongArguments as error:
        return f"Wrong call: {error}.", False
    except RecursionError:
        return f"Wrong call: {call.name}: an argument is nested too deep.", False
    try:
        return str(tool.run(world, **arguments)), True
    except Refused as error:
        return f"Error: {error}", True

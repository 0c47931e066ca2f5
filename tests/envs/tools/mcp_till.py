"""A real MCP server over stdio (or HTTP, given a port) that the tests start: a till that keeps what was sold."""

from __future__ import annotations

import os
import sys
from typing import Any

from mcp import MCPError
from mcp.server.mcpserver import MCPServer
from mcp.types import (
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

server = MCPServer("till", log_level="CRITICAL")  # a traceback of each refusal takes seconds to draw
sold: dict[str, int] = {}


@server.tool()
def sell(item: str, amount: int = 1) -> str:
    """Sell some of an item."""
    if amount < 1:
        raise ValueError("sell at least one")
    sold[item] = sold.get(item, 0) + amount
    return f"sold {amount} {item}"


@server.tool()
def total(item: str) -> str:
    """How many of an item were sold."""
    return str(sold.get(item, 0))


@server.tool()
def tax(state: str, self: int = 1, name: str = "") -> str:
    """Where taxes go."""
    return f"{state} {self} {name}"


@server.tool()
def note(what: Any, also: Any = None) -> str:
    """Take anything down."""
    return repr(what)


@server.tool()
def refuse(code: int) -> str:
    """Answer with an error of the protocol."""
    raise MCPError(code, f"no, says {code}")


@server.tool(name="sold-of.all")
def sold_of_all(most: int = 9) -> str:
    """What was sold, under a name that no function of Python has."""
    return f"at most {most}: {sorted(sold)}"


@server.tool(structured_output=False)
def show(kind: str) -> Any:
    """Answer with something else than a text."""
    page = EmbeddedResource(type="resource", resource=TextResourceContents(uri="file:///a", text="what is on it"))
    blob = BlobResourceContents(uri="file:///b", mime_type="image/png", blob="aGk=")
    return {
        "page": [page],
        "blob": [EmbeddedResource(type="resource", resource=blob)],
        "link": [ResourceLink(type="resource_link", uri="file:///c", name="a name")],
        "image": [ImageContent(type="image", data="aGk=", mime_type="image/png")],
        "structured": CallToolResult(content=[], structured_content={"answer": 42}),
        "both": CallToolResult(content=[TextContent(type="text", text="it is 42")], structured_content={"answer": 42}),
    }[kind]


@server.tool()
def learn() -> str:
    """Offer one more tool from now on."""
    server.add_tool(total, name="new-total")
    return "learned"


@server.tool()
def die() -> str:
    """End the server."""
    os._exit(3)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run("stdio")

"""An MCP server over stdio, as anybody might have one: a notebook with two tools. `mcp_env.py` makes a gym of it."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("notes", log_level="CRITICAL")
pages: dict[str, str] = {}


@server.tool()
def write(title: str, text: str) -> str:
    """Write a page of the notebook, or write it anew."""
    pages[title] = text
    return f"{title!r} has {len(text.split())} words"


@server.tool()
def read(title: str = "") -> str:
    """Read a page; without a title, the titles of all pages."""
    return pages.get(title, "there is no such page") if title else "\n".join(sorted(pages))


if __name__ == "__main__":
    server.run("stdio")

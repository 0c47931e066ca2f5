"""An environment of an MCP server's tools: what users want, and a judge that asks the server itself.

Try it:  palaestra check mine/Notes-v0 --load examples/mcp_env.py --fast      (extra: tools)
"""

import sys
from pathlib import Path

from palaestra.envs.tools import Goal, Server, register_mcp

SHOPS = {"baker": "bread", "chemist": "soap", "florist": "roses", "grocer": "rice"}


def goal(shop: str, thing: str) -> Goal:
    """Write down what to bring from where."""
    return Goal(
        f"Write a page {shop!r} that says: buy {thing}",
        judge=lambda notes: notes.call("read", title=shop) == f"buy {thing}",
        solution=[f"write({shop!r}, 'buy {thing}')"],
    )


goals = {shop: goal(shop, thing) for shop, thing in SHOPS.items()}
register_mcp(
    "mine/Notes-v0",
    Server(command=[sys.executable, str(Path(__file__).with_name("mcp_server.py"))]),
    goals={"train": {"baker": goals.pop("baker")}, "test": goals},
    summary="Write pages of a notebook that an MCP server keeps",
)

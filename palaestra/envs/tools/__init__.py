"""Environments of tools: what an agent calls, a user's requests, and a judge of what came of it.

    register_tools("mine/Till-v0", [Till.sell], state=Till, goals={"train": {"two": Goal("Sell two apples.", judge)}})
    register_mcp("mine/Files-v0", Server(command=["my-mcp-server"]), goals=...)

`calls.py` reads what agents write, `schema.py` makes tools of typed functions, `env.py` holds the conversation,
`mcp_server.py` speaks to MCP servers, `mcp_env.py` makes environments of them (extra `tools`).
"""

from __future__ import annotations

from palaestra.envs.tools.env import Goal, ToolEnv, register_tools
from palaestra.envs.tools.mcp_env import McpEnv, Remote, register_mcp
from palaestra.envs.tools.mcp_server import Server
from palaestra.envs.tools.schema import Tool, tool

__all__ = ["Goal", "McpEnv", "Remote", "Server", "Tool", "ToolEnv", "register_mcp", "register_tools", "tool"]

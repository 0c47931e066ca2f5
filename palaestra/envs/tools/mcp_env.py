"""Any MCP server as an environment: its tools, a user's requests, a judge that may call the tools itself.

What a server keeps cannot be copied, so these rewind by replay: over stdio in a fresh process for each episode. Over
HTTP every episode meets the same server; replay holds there only if it keeps nothing, or keeps it by session.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from palaestra.envs.core import Fidelity, Task
from palaestra.envs.errors import BadInput
from palaestra.envs.registry import EnvSpec
from palaestra.envs.tools.env import FINISH, Goal, ToolEnv, check_goals, register_class, rules
from palaestra.envs.tools.mcp_server import Connection, Server
from palaestra.envs.tools.schema import Tool


class Remote:
    """What a judge sees of a server: `remote.call("total", month=3)` gives the text that the tool answers."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def call(self, name: str, /, **arguments: Any) -> str:
        """Call a tool. Raises EnvFault where the server is gone."""
        return self.connection.call(name, arguments)


class McpEnv(ToolEnv):
    """You help a user by calling tools."""

    fidelity: ClassVar[Fidelity] = Fidelity.REPLAY
    server: ClassVar[Server]

    def __init__(self) -> None:
        super().__init__()
        self._connection: Connection | None = None
        self._lease: weakref.finalize[[], McpEnv] | None = None

    def fresh(self, task: Task, rng: np.random.Generator) -> Remote:
        """A new connection, and over stdio a new process. Raises EnvFault where the server does not start."""
        return Remote(self._connect(anew=True))

    def tools(self, state: Remote | None) -> Mapping[str, Tool]:
        return (state.connection if state is not None else self._connect(anew=False)).tools

    def tool(self, state: Remote, name: str) -> Tool | None:
        """Asks the server once more for a name that it did not list: it may have added a tool since."""
        if name not in state.connection.tools:
            state.connection.refresh()
        return state.connection.tools.get(name)

    def instructions(self, task: Task) -> str:
        """Raises EnvFault where the server, which is asked for its tools, does not start."""
        return rules(self.about, self._connect(anew=False).tools.values())

    def close(self) -> None:
        super().close()
        if self._lease is not None:
            self._lease.detach()
        if self._connection is not None:
            self._connection.close()
        self._connection = self._lease = None

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _connect(self, anew: bool) -> Connection:
        if self._connection is not None and (not anew or not self._connection.used) and self._connection.alive:
            return self._connection
        if self._connection is not None:
            self._connection.close()
        self._connection = Connection(self.server)
        if FINISH in self._connection.tools:
            self._connection.close()
            raise BadInput(f"the MCP server {self.server} has a tool {FINISH!r}, which here ends an answer; rename it")
        self._lease = weakref.finalize(self, self._connection.close)
        return self._connection


def register_mcp(
    id: str,
    server: Server,
    *,
    goals: Mapping[str, Mapping[str, Goal]],
    instructions: str = "You help a user by calling tools.",
    max_steps: int = 20,
    **rest: Any,
) -> EnvSpec:
    """Make an environment of an MCP server.

    Args:
        id: of the environment, such as `mine/Files-v0`.
        server: its command or address. Nothing is started before an episode begins.
        goals: split -> task name -> goal; `judge` is called with a `Remote`.
        instructions: one or two sentences for the agent; how to call and the tools' schemas are added.
        max_steps: answers until an episode is truncated.
        rest: other fields of `EnvSpec`.

    Raises:
        BadInput: a goal that nothing judges.
    """
    check_goals(id, goals)
    home = sys._getframe(1).f_globals.get("__name__", __name__)  # whose source belongs to the fingerprint
    body = {"server": server, "goals": goals, "about": instructions, "__module__": home}
    cls = type(id.split("/")[-1].split("-v")[0], (McpEnv,), body)
    return register_class(id, cls, goals, max_steps, {"extra": "tools", "requires": ("mcp",), **rest})

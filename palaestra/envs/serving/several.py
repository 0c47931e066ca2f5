"""Servers of one list: instances take turns among them, so all of them have to serve the same."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from palaestra.envs.errors import BadInput, EnvFault
from palaestra.envs.serving.connection import Address
from palaestra.envs.serving.wire import one_line

_agreed: dict[tuple[str, ...], str] = {}
_asking = threading.Lock()


def agree(
    servers: Sequence[Address], asked: Address, about: Mapping[str, Any], ask: Callable[[Address], Mapping[str, Any]]
) -> None:
    """Make sure that the servers of a list serve the same: once in a process, and again when one says something new.

    Args:
        servers: the list.
        asked: the one that said `about` of itself.
        ask: asks another one. One that does not answer (EnvFault) is passed over: that is told when it is to play.

    Raises:
        BadInput: one serves something else; says which and what.
    """
    key, said = tuple(sorted({server.http for server in servers})), _served(about)
    with _asking:
        if len(key) < 2 or _agreed.get(key) == said:
            return
        for server in servers:
            if server.http == asked.http:
                continue
            try:
                other = _served(ask(server))
            except EnvFault:
                continue
            if other != said:
                raise BadInput(
                    f"url: all servers of a list serve the same, but {asked.http} serves {one_line(said, 200)} and "
                    f"{server.http} {one_line(other, 200)}"
                )
        _agreed[key] = said


def _served(about: Mapping[str, Any]) -> str:
    return f"{about['env']}({json.dumps(about['settings'], sort_keys=True)}) {about['fingerprint']}"

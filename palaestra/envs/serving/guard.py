"""Who may speak to a server: holders of its token, and no web page of somebody else's."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from palaestra.envs.errors import BadInput
from palaestra.envs.serving.wire import TOKEN_VARIABLE

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LEAST_TOKEN = 16
"""Characters of a token at the least: shorter ones can be guessed over the network."""


def is_loopback(host: str) -> bool:
    """Does an address or name mean this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_token(host: str, token: str | None, what: str = "the environment") -> None:
    """May a server listen on `host` with this token, and so show `what` to the network. Raises BadInput."""
    if token is None:
        if not is_loopback(host):
            raise BadInput(
                f"listening on {host} opens {what} to the network, which needs a token of {LEAST_TOKEN} "
                f"characters or more: set {TOKEN_VARIABLE} (or --token)"
            )
        return
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise BadInput(
            f"the token must have at least {LEAST_TOKEN} printable ASCII characters without blanks, "
            f"this one has {len(token)} characters; `openssl rand -hex 16` makes one"
        )


class Guard:
    """Refuses requests before they reach the application.

    - Without the token (where the server has one): 401. Compared in constant time. `/health` is open.
    - A browser that a foreign page sends here names that page as its Origin: 403. Checked always.
    - On loopback, a page can point its own host name at 127.0.0.1 (DNS rebinding) and is then of the same origin; the
      Host header still holds that name, so names other than this machine's are refused: 403.
    """

    def __init__(self, app: App, host: str, token: str | None) -> None:
        self._app = app
        self._local = is_loopback(host)
        self._expected = f"Bearer {token}".encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refused = self._refused(scope)
        if refused is None:
            await self._app(scope, receive, send)
            return
        await _deny(scope, send, *refused)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        headers = dict(scope["headers"])
        host, origin = headers.get(b"host", b""), headers.get(b"origin")
        if self._local and not is_loopback(_name(host)):
            return 403, "the Host header must name this machine (127.0.0.1 or localhost)"
        if origin is not None and origin.split(b"://")[-1] != host:
            return 403, "requests of web pages that this server did not serve are refused"
        if self._expected is None or scope["path"] == "/health":
            return None
        if hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
            return None
        return 401, f"this server needs its token: Authorization: Bearer TOKEN (Palaestra reads {TOKEN_VARIABLE})"


def _name(host: bytes) -> str:
    try:
        return urlsplit("//" + host.decode("ascii")).hostname or ""
    except ValueError:
        return ""


async def _deny(scope: Scope, send: Send, status: int, line: str) -> None:
    body = line.encode() + b"\n"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    prefix = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": f"{prefix}.start", "status": status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})

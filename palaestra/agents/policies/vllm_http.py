"""HTTP to one vLLM server: its connections, what is said when they break, and an address without its password."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

import aiohttp
from yarl import URL

from palaestra.agents.engine import Engine, EngineFault
from palaestra.envs import BadInput

HINT = "is it the base URL of a vLLM server, such as http://localhost:8000/v1?"

_MOST = 32 * 2**20
"""Bytes of an answer; the log-probs of 100,000 ids take less."""


class Down(Exception):
    """The server is gone or does not answer. The message is one line."""


class Connections:
    """To a server, found by its URL or started by an engine of ours.

    Args:
        where: the URL, or the engine.
        key: sent as a bearer token to a URL; None for none.

    Attributes:
        label: the URL without credentials, or what stands for our own engine.
        headers: that say who asks.
        seen: how often the engine had been started when it was last connected to.
    """

    def __init__(self, where: Engine | str, key: str | None = None) -> None:
        self._engine = where if isinstance(where, Engine) else None
        self.label, self.seen, self.headers = "engine", 0, dict[str, str]()
        self._session: aiohttp.ClientSession | None = None
        self._calls: set[asyncio.Task[tuple[int, str]]] = set()
        if isinstance(where, str):
            self.label, basic = _address(where)
            self.headers = ({"Authorization": f"Bearer {key}"} if key else {}) | basic

    def _open(self) -> aiohttp.ClientSession:
        """To where the server is now; an engine that is started again is somewhere else."""
        if self._session is None:
            # uvicorn closes what was idle for 5 s; a connection must not be taken up again just then.
            connector: aiohttp.BaseConnector
            if self._engine is not None:
                self.seen = self._engine.starts
                connector = aiohttp.UnixConnector(str(self._engine.socket), limit=0, keepalive_timeout=3)
            else:
                connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
            self._session = aiohttp.ClientSession(connector=connector, headers=self.headers)
        return self._session

    async def close(self) -> None:
        """Give the connections back; calls that are under way are Down."""
        session, self._session = self._session, None
        for call in self._calls:  # aiohttp would leave one waiting whose answer has begun to come
            call.cancel()
        if session is not None:
            await session.close()

    async def json(self, method: str, route: str, seconds: float = 30) -> dict[str, Any]:
        """An answer that may be missing: servers without development routes do not tell everything."""
        try:
            status, text = await self.call(method, route, seconds=seconds)
        except (Down, TimeoutError):
            return {}
        return object_of(text) if status == 200 else {}

    async def call(
        self, method: str, route: str, body: Mapping[str, Any] | None = None, *, seconds: float
    ) -> tuple[int, str]:
        """Status and text. Raises Down, TimeoutError."""
        call = asyncio.create_task(self._asked(method, route, body, seconds))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            await asyncio.wait([call])
        finally:
            call.cancel()  # where nobody waits for it any more
        if call.cancelled():
            raise Down(f"{self.label}: its connections were given up")
        return call.result()

    async def _asked(self, method: str, route: str, body: Mapping[str, Any] | None, seconds: float) -> tuple[int, str]:
        base = "http://localhost" if self._engine is not None else self.label
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._open().request(method, base + route, json=body, timeout=timeout) as reply:
                return reply.status, (await self._read(reply)).decode("utf-8", "replace")
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError, ValueError, EngineFault) as error:
            raise Down(f"{self.label} {_why(error)}") from error

    async def _read(self, reply: aiohttp.ClientResponse) -> bytes:
        pieces, size = list[bytes](), 0
        while piece := await reply.content.readany():
            pieces.append(piece)
            size += len(piece)
            if size > _MOST:
                raise Down(f"{self.label} gives an answer without an end: more than {_MOST / 2**20:g} MiB")
        return b"".join(pieces)


def _why(error: Exception) -> str:
    """What became of a call that broke, for a line that begins with the server."""
    if isinstance(error, aiohttp.TooManyRedirects):
        return "redirects in a circle, or too often"
    if isinstance(error, aiohttp.RedirectClientError):
        return f"redirects to what is no server: {line_of(error)}"
    if isinstance(error, aiohttp.ClientResponseError):
        return "does not answer as HTTP does"  # aiohttp's own words hold a picture of where it stopped
    why = error.os_error.strerror if isinstance(error, aiohttp.ClientConnectorError) else None
    return f"cannot be reached: {why or line_of(error)}"


def _address(text: str) -> tuple[str, dict[str, str]]:
    """A base URL without `/v1` and without its `user:password@`, which nothing that is shown may hold; their header."""
    try:
        url = URL(text)
        bare = str(url.with_user(None)).rstrip("/").removesuffix("/v1") if url.host else ""
    except ValueError:
        bare = ""
    if not bare.startswith(("http://", "https://")):
        raise BadInput(f"{text.rpartition('@')[2]!r} is no server; {HINT}")
    basic = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
    return bare, {"Authorization": f"Basic {basic}"} if url.user else {}


def parsed(text: str) -> Any:
    """Of JSON. Raises ValueError where it is none, or is nested too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def object_of(text: str) -> dict[str, Any]:
    """Of JSON; nothing where it is something else."""
    try:
        found = parsed(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def message_of(text: str) -> str:
    """What a server says is wrong, in one line."""
    try:
        error = parsed(text)
        error = error.get("error", error)
        return " ".join(str(error.get("message", error) if isinstance(error, dict) else error).split())[:200]
    except (ValueError, AttributeError):
        return " ".join(text.split())[:120]


def line_of(error: BaseException) -> str:
    """An error's message in one line; its kind where it has none."""
    return " ".join(str(error).split())[:160] or type(error).__name__

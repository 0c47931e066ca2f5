"""The only way out of a browser context: an HTTP proxy of one session that lets through to the allowed hosts alone.

A context is made with this proxy, and Chromium sends everything through it: pages, redirects, frames, workers,
WebSockets, beacons. The browser itself resolves no names (`chromium.FLAGS`), so what goes past the proxy finds nobody.
Interception in the page (Playwright's `route`) would miss redirects and workers, so the wall stands here.

Hosts of `sites` are answered by the gate itself and need no socket: pages of a package, or of our own. Their names end
in `.test`, which no real host has, and are the same in every process, so that addresses in observations are too.
"""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from urllib.parse import unquote, urlsplit

from palaestra.envs.errors import BadInput

HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 8 * 1024 * 1024
CONNECT_SECONDS = 20.0
IDLE_SECONDS = 120.0
MOST_REFUSED = 20

MARK = "x-palaestra-gate"
"""Header of what the gate itself answers in place of a host; its value is the gate's `mark`."""


@dataclass(frozen=True)
class Asked:
    """A request to a site of ours: `target` is path and query."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Answered:
    """What a site of ours answers."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/html; charset=utf-8"),)
    body: bytes = b""


Site = Callable[[Asked], Awaitable[Answered]]


class Allowed:
    """An allow-list: `host` (ports 80 and 443), `host:port`, `*.host` (its sub-domains and itself).

    Raises:
        BadInput: an entry is none of these.
    """

    def __init__(self, hosts: tuple[str, ...]) -> None:
        self.hosts = hosts
        self._rules: list[tuple[bool, str, tuple[int, ...]]] = []
        for entry in hosts:
            found = re.fullmatch(r"(\*\.)?([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?", entry)
            if found is None:
                raise BadInput(f"{entry!r} is no host to allow; write host, host:port or *.host")
            ports = (int(found[3]),) if found[3] else (80, 443)
            self._rules.append((bool(found[1]), found[2].lower().strip("[]"), ports))

    def allows(self, host: str, port: int) -> bool:
        """May this host be reached at this port."""
        name = host.lower().rstrip(".").strip("[]")
        return any(
            port in ports and (name == known or (wild and name.endswith(f".{known}")))
            for wild, known, ports in self._rules
        )


class Gate:
    """The proxy of one session. Lives in the browser's event loop.

    Attributes:
        refused: hosts that something on a page wanted and did not get, as host:port (`MOST_REFUSED` at most).
        mark: value of the header `MARK`; a secret, so that no host can write it before it has seen it.
    """

    def __init__(self, allowed: Allowed, sites: Mapping[str, Site]) -> None:
        self.allowed, self.sites = allowed, sites
        self.refused: list[str] = []
        self.mark = secrets.token_hex(16)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        """Start to listen; the address for Chromium's proxy setting."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=HEAD_LIMIT)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def may_open(self, url: str) -> bool:
        """May the agent go to this address itself."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            return False
        if parts.scheme not in ("http", "https"):
            return False
        return (parts.scheme == "http" and port == 80 and host in self.sites) or self.allowed.allows(host, port)

    async def close(self) -> None:
        """Stop listening and cut all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, ValueError, UnicodeError):
            pass  # a connection that breaks off concerns the page alone
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; may another one follow on this connection."""
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_SECONDS)
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = [
            (name.strip(), value.strip()) for name, colon, value in (li.partition(":") for li in lines[1:]) if colon
        ]
        if method == "CONNECT":
            host, _, number = target.rpartition(":")
            return await self._tunnel(host.strip("[]"), int(number), reader, writer)
        parts = urlsplit(target)
        host, port = parts.hostname or "", parts.port or 80
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        if host in self.sites and port == 80:
            return await self._answer(self.sites[host], method, path, headers, reader, writer)
        if not self.allowed.allows(host, port):
            self._refuse(host, port)
            await self._instead(writer, _refusal(f"{host}:{port}" if port != 80 else host))
            return False
        return await self._forward(method, path, (host, port), headers, reader, writer)

    async def _instead(self, writer: asyncio.StreamWriter, answer: Answered) -> None:
        """Answer in place of a host, marked as the gate's own."""
        marked = replace(answer, headers=(*answer.headers, (MARK, self.mark)))
        await _write(writer, marked, close=True)

    def _refuse(self, host: str, port: int) -> None:
        name = f"{host[:100]}:{port}"
        if name not in self.refused and len(self.refused) < MOST_REFUSED:
            self.refused.append(name)

    async def _answer(
        self,
        site: Site,
        method: str,
        path: str,
        headers: list[tuple[str, str]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        known = {name.lower(): value for name, value in headers}
        length = int(known.get("content-length", "0"))
        if length > BODY_LIMIT or "transfer-encoding" in known or "upgrade" in known:
            await _write(writer, Answered(400, body=b"not understood"), close=True)
            return False
        body = await asyncio.wait_for(reader.readexactly(length), IDLE_SECONDS)
        try:
            answer = await site(Asked(method, path, known, body))
        except Exception as error:  # shown as a page, as any server would
            answer = Answered(500, body=f"the site failed: {escape(f'{type(error).__name__}: {error}')}".encode())
        await _write(writer, answer, head_only=method == "HEAD")
        return True

    async def _tunnel(self, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if not self.allowed.allows(host, port):
            self._refuse(host, port)
            await _write(writer, _refusal(f"{host}:{port}"), close=True)
            return False
        far = await _connect(host, port)
        if far is None:
            await _write(writer, Answered(502, body=b"no connection"), close=True)
            return False
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _both_ways((reader, writer), far)
        return False

    async def _forward(
        self,
        method: str,
        path: str,
        where: tuple[str, int],
        headers: list[tuple[str, str]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        far = await _connect(*where)
        if far is None:
            await self._instead(writer, Answered(502, body=f"{where[0]} cannot be reached".encode()))
            return False
        kept = [(n, v) for n, v in headers if n.lower() not in ("connection", "proxy-connection", "keep-alive")]
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in kept), "Connection: close"]
        far[1].write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        await _both_ways((reader, writer), far)
        return False


def static(folder: Path, prefix: str = "/") -> Site:
    """A site of the files of a folder. What lies outside of it is not there."""
    root = folder.resolve()

    async def site(asked: Asked) -> Answered:
        path = unquote(urlsplit(asked.target).path)
        name = path.removeprefix(prefix) if path.startswith(prefix) else "\0"
        if name.endswith("/") or not name:
            name += "index.html"
        try:
            file = (root / name).resolve()
            content = file.read_bytes() if file.is_relative_to(root) else None
        except (OSError, ValueError):
            content = None
        if content is None:
            return Answered(404, body=b"<title>Not found</title><h1>There is no such page</h1>")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        kind += "; charset=utf-8" if kind.startswith("text/") or kind.endswith("javascript") else ""
        return Answered(headers=(("Content-Type", kind), ("Cache-Control", "max-age=3600")), body=content)

    return site


def _refusal(where: str) -> Answered:
    said = f"{escape(where)} is not among the hosts that may be visited here."
    return Answered(403, body=f"<title>Not allowed</title><h1>Not allowed</h1><p>{said}</p>".encode())


async def _write(
    writer: asyncio.StreamWriter, answer: Answered, *, close: bool = False, head_only: bool = False
) -> None:
    lines = [f"HTTP/1.1 {answer.status} -"]
    lines += [
        f"{name}: {value}" for name, value in answer.headers if name.lower() not in ("content-length", "connection")
    ]
    lines += [f"Content-Length: {len(answer.body)}", f"Connection: {'close' if close else 'keep-alive'}"]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (b"" if head_only else answer.body))
    await writer.drain()


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    try:
        return await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_SECONDS)
    except (OSError, TimeoutError, UnicodeError):
        return None


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _both_ways(near: Ends, far: Ends) -> None:
    """Carry bytes until either side is done answering."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()

    up = asyncio.ensure_future(carry(near[0], far[1]))
    down = asyncio.ensure_future(carry(far[0], near[1]))
    try:
        await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        far[1].close()

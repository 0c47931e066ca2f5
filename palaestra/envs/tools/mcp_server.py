"""A connection to an MCP server, over stdio or streamable HTTP, through the official SDK (extra `tools`).

The SDK is asynchronous; a connection has a thread of its own with an event loop in it, so that environments call it as
they call anything else. A server that dies, hangs or speaks something else raises EnvFault.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

from pydantic import ValidationError

from palaestra.envs.errors import BadInput, EnvFault, MissingExtra
from palaestra.envs.tools.schema import Tool, WrongArguments

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult

_NOWHERE = logging.NullHandler()
_ELSEWHERE = {"patternProperties", "$ref", "allOf", "anyOf", "oneOf", "if"}
"""What in a schema may allow arguments beside those in `properties`."""
_DEEPEST = 100
"""How deep lists and objects of an argument may be nested: parsers of JSON stop at some 200 and leave it unanswered."""


@dataclass(frozen=True)
class Server:
    """Where an MCP server is: a command that speaks over its stdin and stdout, or the address of one over HTTP.

    Attributes:
        command: program and arguments. A fresh process serves each episode.
        url: of streamable HTTP, such as `http://127.0.0.1:8000/mcp`. All episodes share what this server keeps.
        env: environment variables of the process, beside the few that the SDK passes on (PATH, HOME, ...).
        timeout_s: seconds that starting, or a call, may take.
    """

    command: Sequence[str] = ()
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if bool(self.command) == bool(self.url) or isinstance(self.command, str):
            raise BadInput("an MCP server is given by its command, a list of program and arguments, or by its url")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise BadInput(f"the url of an MCP server begins with http:// or https://, not {self.url!r}")

    def __str__(self) -> str:
        return self.url or " ".join(" ".join(self.command).split())  # a script in it may have several lines


class Connection:
    """One session with a server. Opens at once; `close` may be called twice and from any thread.

    Attributes:
        tools: what the server offers, by name.
        used: has a call been made.

    Raises:
        MissingExtra: the SDK is not installed. BadInput: there is no such program. EnvFault: the server did not start,
            or is none.
    """

    def __init__(self, server: Server) -> None:
        try:
            import mcp  # noqa: F401
        except ImportError:
            raise MissingExtra("the MCP SDK", "tools") from None
        # The SDK logs every line that is no message. Without a handler the interpreter would write them all to stderr.
        logging.getLogger("mcp").addHandler(_NOWHERE)
        path = server.env.get("PATH", os.environ.get("PATH"))
        if server.command and shutil.which(server.command[0], path=path) is None:
            raise BadInput(f"the MCP server {server} cannot start: there is no program {server.command[0]!r} to run")
        self.server, self.used = server, False
        self.tools: Mapping[str, Tool] = {}
        self._ready: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: Callable[[], object] | None = None  # breaks the start off, later ends the session
        self._client: Client | None = None
        self._log: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._thread = threading.Thread(target=self._run, name="mcp", daemon=True)
        self._thread.start()
        try:
            self._ready.result(server.timeout_s)
        except FutureTimeout:
            self.close()
            raise EnvFault(f"the MCP server {server} did not start within {server.timeout_s:g} s") from None
        except Exception as error:
            log = self._logged()
            self.close()
            raise EnvFault(f"the MCP server {server} did not start: {_reason(error)}{log}") from error

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Call a tool; what it answers, errors of the tool included. Raises EnvFault where the server is gone."""
        self.used = True
        client, loop = self._client, self._loop
        if client is None or loop is None or not self._thread.is_alive():
            raise EnvFault(f"the MCP server {self.server} is gone{self._logged()}")
        limit = self.server.timeout_s
        waiting = client.call_tool(name, dict(arguments), read_timeout_seconds=limit)
        try:
            result = asyncio.run_coroutine_threadsafe(waiting, loop).result(limit + 5)
        except Exception as error:
            if (told := _told(error)) is not None:
                return told
            raise EnvFault(
                f"the MCP server {self.server} failed at {name}: {_reason(error)}{self._logged()}"
            ) from error
        text = shown(result)
        return f"Error: {text}" if result.is_error else text

    def refresh(self) -> None:
        """Ask for the tools again: a server may add some meanwhile. Raises EnvFault where it is gone."""
        client, loop, limit = self._client, self._loop, self.server.timeout_s
        if client is None or loop is None or not self._thread.is_alive():
            raise EnvFault(f"the MCP server {self.server} is gone{self._logged()}")
        waiting = asyncio.run_coroutine_threadsafe(asyncio.wait_for(_offered(client), limit), loop)
        try:
            self.tools = waiting.result(limit + 5)
        except Exception as error:
            raise EnvFault(
                f"the MCP server {self.server} did not list its tools: {_reason(error)}{self._logged()}"
            ) from error

    @property
    def alive(self) -> bool:
        """Can calls be made, as far as is known."""
        return self._client is not None and self._thread.is_alive()

    def close(self) -> None:
        """End the session, and the process of a stdio server."""
        loop, over = self._loop, self._over
        if loop is not None and over is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(over)
        if self._thread is not threading.current_thread():
            self._thread.join(10)
        self._log.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
        finally:
            self._client = None

    async def _serve(self) -> None:
        from anyio import CancelScope
        from mcp import Client

        over = asyncio.Event()
        with CancelScope() as scope:
            self._loop, self._over = asyncio.get_running_loop(), scope.cancel
            async with Client(_transport(self.server, self._log), read_timeout_seconds=self.server.timeout_s) as client:
                self.tools = await _offered(client)
                self._client, self._over = client, over.set
                self._ready.set_result(None)
                await over.wait()
                self._client = None

    def _logged(self) -> str:
        with contextlib.suppress(ValueError, OSError):
            self._log.seek(0)
            lines = self._log.read()[-2_000:].strip().splitlines()
            if lines:
                return f"; its log ends with: {lines[-1][:300]}"
        return ""


async def _offered(client: Client) -> dict[str, Tool]:
    """All tools of a server by name. Raises what the SDK raises for what are no tools."""
    tools: dict[str, Tool] = {}
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor, cache_mode="refresh")
        for each in page.tools:
            tools[each.name] = _tool(each.name, each.description or "", each.input_schema)
        cursor = page.next_cursor
        if not cursor:
            return tools


def _transport(server: Server, log: IO[str]) -> Any:
    if server.url:
        return server.url
    from mcp import StdioServerParameters
    from mcp.client.stdio import get_default_environment, stdio_client

    program, *arguments = server.command
    environ = {**get_default_environment(), **server.env}
    parameters = StdioServerParameters(command=program, args=arguments, env=environ, encoding_error_handler="replace")
    return stdio_client(parameters, errlog=log)  # type: ignore[arg-type]


def _told(error: BaseException) -> str | None:
    """What to tell the agent, where the server answered and refused the call, by whatever code.

    None where it is no answer of the server: the SDK says with two codes that it is gone, or out of its time.
    """
    from mcp import MCPError
    from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT

    lost = (CONNECTION_CLOSED, REQUEST_TIMEOUT)
    return f"Error: {error.error.message}" if isinstance(error, MCPError) and error.error.code not in lost else None


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ValidationError):  # what the SDK says of a message that is none of MCP's
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        said = f"wrong at {'.'.join(str(part)[:40] for part in first['loc'])!r}: {first['msg']}"
    else:
        said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:300]}"


def shown(result: CallToolResult) -> str:
    """What a tool answered, as the agent reads it.

    Texts and the texts of embedded resources as they are; of other parts what they are and where; structured content
    as JSON where no text stands for it, as the protocol says one should.
    """
    parts = [_part(part) for part in result.content]
    texts = any(getattr(getattr(part, "resource", part), "text", None) is not None for part in result.content)
    if result.structured_content is not None and not texts:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    return "\n".join(parts)


def _part(part: Any) -> str:
    """One part of an answer: text, image, audio, a resource or a link to one."""
    inner = getattr(part, "resource", part)
    if (text := getattr(inner, "text", None)) is not None:
        return str(text)
    told = (part.type, *(getattr(inner, each, None) for each in ("name", "title", "uri", "mime_type", "description")))
    return f"[{' '.join(str(each) for each in told if each)}]"


def _unsendable(value: object, depth: int = 0) -> str | None:
    """What is in an argument that JSON cannot carry to every server: there it would end the session, or hang."""
    if depth > _DEEPEST:
        return f"lists or objects nested more than {_DEEPEST} deep"
    match value:
        case None | bool():
            return None
        case str():
            return None if value.isascii() or _is_utf8(value) else "half a surrogate pair, which is no text"
        case int():
            return None if -(2**63) <= value < 2**64 else "a whole number of more than 64 bits"
        case float():
            return None if math.isfinite(value) else f"{value}, which is no JSON value"
        case list() | tuple():
            parts: Iterable[object] = value
        case dict():
            if not all(isinstance(key, str) for key in value):
                return "an object with names that are no texts"
            parts = chain(value.keys(), value.values())
        case _:
            return f"a {type(value).__name__}"
    return next(filter(None, (_unsendable(part, depth + 1) for part in parts)), None)


def _is_utf8(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def _tool(name: str, about: str, schema: Mapping[str, Any]) -> Tool:
    properties: Mapping[str, Any] = schema.get("properties") or {}
    needed: Sequence[str] = schema.get("required") or ()
    # JSON schema would take any further argument unless it says otherwise. Servers made with the SDK do not say so, and
    # drop what they do not know without a word; where properties are listed, and only there, they are taken for all.
    closed = schema.get("additionalProperties", "properties" not in schema or bool(_ELSEWHERE & schema.keys())) is False

    def check(given: Mapping[str, Any]) -> Mapping[str, Any]:
        for argument in given:
            if closed and argument not in properties:
                names = ", ".join(properties) or "none"
                raise WrongArguments(f"{name}: argument {argument[:40]!r} is none of its arguments: {names}")
        for argument in needed:
            if argument not in given:
                raise WrongArguments(f"{name}: argument {argument!r} is missing")
        for argument, value in given.items():
            if problem := _unsendable(argument) or _unsendable(value):
                raise WrongArguments(f"{name}: argument {argument[:40]!r} holds {problem}")
        return given

    def run(state: Any, /, **arguments: Any) -> object:  # an argument may be called `state`, too
        return state.call(name, **arguments)

    shown = {key: value for key, value in schema.items() if key not in ("title", "$schema")}
    return Tool(name, " ".join(about.split()), shown, tuple(properties), check, run)

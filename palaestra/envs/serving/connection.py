"""A client's end of one session: a WebSocket on which one message is asked and answered at a time.

A server that is not there is a fault at once, one that hangs is a fault at the deadline, and nothing is tried again.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import gymnasium

from palaestra.envs.errors import BadInput, EnvFault, MissingExtra, NoOracle
from palaestra.envs.serving.answers import OURS, Form, problem
from palaestra.envs.serving.guard import is_loopback
from palaestra.envs.serving.wire import MEGABYTE, Kind, frame, one_line, read
from palaestra.envs.serving.wire import Refusal as Unreadable

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

_CONNECT_S = 10.0
_LARGEST_ANSWER = 256 * MEGABYTE


class ForeignSnapshot(EnvFault):
    """The server did not make this snapshot: it was started anew since."""


class UnknownType(EnvFault):
    """The server does not know this type of message: it is OpenEnv's, not ours."""


class Address:
    """Where a server is.

    Args:
        url: `http://HOST:PORT` or `https://...`, a path in front of `/ws` allowed; `ws://` and `wss://` mean the same.

    Raises:
        BadInput: this is no such address, or it holds a password, which would be stored with every episode.
    """

    def __init__(self, url: object) -> None:
        if not isinstance(url, str):
            raise BadInput(f"url must be the address of a server, such as http://127.0.0.1:8000, got {url!r:.80}")
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
            (host or "").encode("idna")
        except ValueError as error:  # UnicodeError is one
            raise BadInput(f"url {url!r:.80} is no address ({error})") from None
        if parts.scheme not in ("http", "https", "ws", "wss") or not host:
            raise BadInput(f"url {url!r:.80} is not of the form http://HOST:PORT")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise BadInput("url: give only http://HOST:PORT and a path; a token goes into an environment variable")
        safe = parts.scheme in ("https", "wss")
        path = parts.netloc + parts.path.rstrip("/")
        self.http = f"{'https' if safe else 'http'}://{path}"
        self.websocket = f"{'wss' if safe else 'ws'}://{path}/ws"
        self.local = is_loopback(host)


def headers(token_variable: str) -> dict[str, str]:
    """What shows the token, if there is one. Raises BadInput for one that no header can hold."""
    token = os.environ.get(token_variable, "")
    if not (token.isascii() and token.isprintable()):
        raise BadInput(f"the token in {token_variable} holds characters that a header cannot")
    return {"Authorization": f"Bearer {token}"} if token else {}


class Connection:
    """An open session.

    Args:
        address: of the server.
        token_variable: the environment variable that holds the token, if the server wants one.
        deadline_s: seconds until an answer must be there.

    Attributes:
        ended: the other end has ended the session.
        forms: type of a message -> what its answer must hold.

    Raises:
        EnvFault: nobody answers there.
        BadInput: who answers wants a token or is no environment server.
        MissingExtra: websockets is not installed.
    """

    def __init__(self, address: Address, token_variable: str, deadline_s: float) -> None:
        try:
            from websockets.exceptions import InvalidStatus, WebSocketException
            from websockets.sync.client import connect
        except ModuleNotFoundError:
            raise MissingExtra("websockets (a served environment)", "serve") from None
        self._where, self._deadline_s = address.http, deadline_s
        self._lost = ""
        self.ended = False
        self.forms: Mapping[str, Form] = OURS
        try:
            opened = connect(
                address.websocket,
                additional_headers=headers(token_variable),
                open_timeout=min(_CONNECT_S, deadline_s),
                close_timeout=1.0,
                # Pings of the server are answered by the connection's own thread; our own would take another one.
                ping_interval=None,
                compression=None,
                max_size=_LARGEST_ANSWER,
                proxy=None if address.local else True,
            )
            self._end = contextlib.ExitStack()
            self._socket: ClientConnection = self._end.enter_context(opened)
        except InvalidStatus as error:
            raise self._denied(error.response.status_code, bytes(error.response.body or b""), token_variable) from None
        except (WebSocketException, ValueError) as error:  # it sends us on to what is no address, for instance
            raise BadInput(f"{self._where} is no environment server: {one_line(str(error))}") from None
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            raise EnvFault(f"no environment server answers at {self._where}: {_named(error)}") from None
        self._socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _denied(self, status: int, body: bytes, token_variable: str) -> Exception:
        said = one_line(body[:400].decode("utf-8", "replace"), 200)
        if status in (401, 403):
            which = f"set {token_variable} to its token" if status == 401 else "ask whoever runs it"
            return BadInput(f"{self._where} refused this client ({status}: {said or 'no reason given'}); {which}")
        if status == 503:
            return EnvFault(f"{self._where} takes no more connections (503)")
        return BadInput(f"{self._where} is no environment server: it answered /ws with HTTP {status}")

    @property
    def open(self) -> bool:
        """Can something be asked, as far as is known without asking."""
        from websockets.protocol import State

        return not self._lost and self._socket.protocol.state is State.OPEN

    def ask(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        """Send a message and wait for its answer.

        Returns:
            The data of the answer, which has been looked through.

        Raises:
            EnvFault: the server has gone, did not answer in time, answered with something else, or says that the
                environment broke.
            BadInput: the server says that it cannot be used like this. NoOracle: that it has no oracle for this.
            gymnasium.error.ResetNeeded: there is no episode to go on with.
        """
        from websockets.exceptions import ConnectionClosed

        if self._lost:
            raise EnvFault(self._lost)
        try:
            self._socket.send(frame(kind, data))
            answer = self._socket.recv(timeout=self._deadline_s)
        except TimeoutError:
            self._lose(f"{self._where} did not answer within {self._deadline_s:g} s")
        except ConnectionClosed as error:
            self.ended = True
            self._last_words()
            close = error.rcvd
            reason = f"{close.code} {close.reason}".strip() if close is not None else "the connection broke off"
            self._lose(f"{self._where} has closed the session ({reason})")
        except OSError as error:
            self.ended = True
            self._lose(f"{self._where} is gone: {_named(error)}")
        try:
            message = read(answer)
            type_, told = message["type"], message.get("data", {})
        except (Unreadable, KeyError):
            type_, told = None, None
        if not isinstance(type_, str) or not isinstance(told, dict):
            self._lose(f"{self._where} answered with what is no message of an environment server")
        if type_ == "error":
            raise self._error(told)
        form = self.forms.get(kind)
        if form is not None and (wrong := problem(form, type_, told)) is not None:
            self._lose(f"{self._where} answered {kind!r} with what cannot be used: {wrong}")
        return told

    def _last_words(self) -> None:
        """A server that is full, or was asked nothing for too long, says so before it closes."""
        with contextlib.suppress(Exception):
            message = read(self._socket.recv(timeout=1.0))
            if message.get("type") == "error":
                self._lost = f"{self._where}: {_words(message['data'])}"
        if self._lost:
            raise EnvFault(self._lost)

    def _error(self, told: dict[str, Any]) -> Exception:
        said, code, kind = _words(told), told.get("code"), told.get("kind")
        if kind == Kind.RESET_NEEDED:
            return gymnasium.error.ResetNeeded(said)
        if kind == Kind.NO_ORACLE:
            return NoOracle(f"{self._where}: {said}")
        if kind == Kind.FOREIGN_SNAPSHOT:
            return ForeignSnapshot(f"{self._where}: {said}")
        if code == "UNKNOWN_TYPE":
            return UnknownType(f"{self._where}: {said}")
        if kind == Kind.IDLE:
            self.ended, self._lost = True, f"{self._where}: {said}"
        if kind == Kind.BAD_INPUT or (kind is None and code == "VALIDATION_ERROR"):
            return BadInput(f"{self._where}: {said}")
        return EnvFault(f"{self._where}: {said}")

    def _lose(self, why: str) -> NoReturn:
        self._lost = why
        self.cut()
        raise EnvFault(why) from None

    def cut(self) -> None:
        """Break the connection off, also while another thread waits for an answer; the server closes the session."""
        self._lost = self._lost or f"the connection to {self._where} was broken off here"
        with contextlib.suppress(OSError):
            self._socket.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the session. May be called twice."""
        self._lost = self._lost or "the connection was closed here"
        with contextlib.suppress(Exception):
            self._end.close()


def _words(told: Mapping[str, Any]) -> str:
    """What a refusal says."""
    said = told.get("message")
    return (one_line(said) if isinstance(said, str) else "") or "it refused that, and did not say why"


def _named(error: BaseException) -> str:
    return one_line(str(error), 200) or type(error).__name__

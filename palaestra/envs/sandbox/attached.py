"""The two streams of a container's first process, over the connection that the engine hands over when one attaches.

Without a terminal the engine packs what the container writes into frames of its own: one byte that says which stream it
was, three zeros, four bytes of length (big endian), the data. What is written to the container goes as it is.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Protocol, cast

_STDOUT, _STDERR, _ENGINE = 1, 2, 3
_HEADER = 8
_PIECE = 256 * 1024
_WORDS = 4096


class Connection(Protocol):
    """What sockets, TLS sockets and channels of SSH have in common."""

    def settimeout(self, value: float, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: memoryview, /) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None: ...


class _SocketView(socket.SocketIO):
    _sock: socket.socket


class AttachedWire:
    """The `Wire` to a container's first process.

    Args:
        attached: as the Docker SDK's `attach_socket` gives it, with stdin, stdout and stderr, before the start.
    """

    def __init__(self, attached: Closable) -> None:
        self._attached = attached
        # Over plain sockets it is a view for reading; both directions are in the socket behind it.
        behind = cast("_SocketView", attached)._sock if isinstance(attached, socket.SocketIO) else attached
        self._connection = cast("Connection", behind)
        self._header = bytearray()  # of the engine's frame that comes next, as far as it has come
        self._stream, self._left = _STDOUT, 0  # of the engine's frame that is being read
        self._ready = bytearray()
        self._words = bytearray()

    def write(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._connection.settimeout(_left(deadline))
            view = view[self._connection.send(view[:_PIECE]) :]

    def read(self, size: int, deadline: float) -> bytes:
        while not self._ready:
            self._connection.settimeout(_left(deadline))
            data = self._connection.recv(_PIECE)
            if not data:
                return b""
            self._unpack(data)
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        return taken

    def words(self) -> str:
        """The end of what was written to stderr, by the guest or by the engine."""
        return self._words.decode("utf-8", "replace")

    def shut(self) -> None:
        """End the connection for all who hold it: the guest's stdin ends, and a `read` in another thread returns.

        To be done before `close`: a thread that waits for a file which is closed may wait on for the next file that
        gets its number.
        """
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection, which ends when the last who holds it lets go."""
        for held in (self._connection, self._attached):
            with contextlib.suppress(OSError):
                held.close()

    def _unpack(self, data: bytes) -> None:
        """Sort the engine's frames, which begin and end anywhere in `data`, into the two streams."""
        view = memoryview(data)
        while view:
            if self._left == 0:
                missing = _HEADER - len(self._header)
                self._header += view[:missing]
                view = view[missing:]
                if len(self._header) < _HEADER:
                    return
                self._stream, self._left = self._header[0], int.from_bytes(self._header[4:], "big")
                self._header.clear()
                if self._stream not in (_STDOUT, _STDERR, _ENGINE):
                    raise OSError(f"the engine speaks of a stream {self._stream}")
                continue
            part = view[: self._left]
            self._left -= len(part)
            view = view[len(part) :]
            if self._stream == _STDOUT:
                self._ready += part
            else:
                self._words += part
                del self._words[:-_WORDS]


def _left(deadline: float) -> float:
    """Seconds until the deadline. Raises TimeoutError past it."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds

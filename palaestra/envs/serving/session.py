"""Sessions of a server: each has an environment of its own, which lives in one thread from its making to its closing.

A call that passes its deadline is not waited for: the environment's `abort` kills what it hangs on, the session is
over, and its thread ends whenever the call does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

import gymnasium

from palaestra.envs.errors import BadInput, EnvFault, NoOracle, PalaestraError
from palaestra.envs.serving.wire import Code, Kind, Refusal, bad, fault

log = logging.getLogger("palaestra.serving")
_PATIENCE_S = 1.0
"""Until a call has taken that long, nobody watches whether its client is still there."""


class Player(Protocol):
    """What a session's thread holds: an environment and all that belongs to its episode."""

    def close(self) -> None: ...
    def abort(self) -> None: ...


P = TypeVar("P", bound=Player)
Call = tuple[Callable[[Any], str], "asyncio.Future[str]"]


class Session(Generic[P]):
    """One thread with one player, made at the first call.

    Args:
        create: makes the player.
        deadline_s: how long a call may take, the making included.
        shared: many clients' calls come here, so none that is given up ends it.

    Attributes:
        attached: a connection holds it, and looks itself whether it is left alone.
    """

    def __init__(self, create: Callable[[], P], deadline_s: float, *, shared: bool = False) -> None:
        self.id = secrets.token_urlsafe(16)
        self.used = time.monotonic()
        self.over = self.attached = False
        self._create, self._deadline_s, self._shared = create, deadline_s, shared
        self._player: P | None = None
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"session {self.id[:6]}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Is the thread still there."""
        return self._thread.is_alive()

    @property
    def busy(self) -> bool:
        """Is a call on its way."""
        return self._turn.locked()

    async def call(self, work: Callable[[P], str], gone: Callable[[], Awaitable[None]] | None = None) -> str:
        """Run a call in the session's thread, after those before it, and wait for its text.

        Args:
            gone: awaited once the call has taken a second; when it returns, nobody wants the answer any more.

        Raises:
            Refusal: the call failed, or passed its deadline, or the session is over.
            asyncio.CancelledError: nobody wants the answer any more. The environment has been aborted.
        """
        async with self._turn:
            if self.over:
                raise bad("this session is over; begin another one", 404)
            self.used = time.monotonic()
            answer: asyncio.Future[str] = self._loop.create_future()
            self._calls.put((work, answer))
            try:
                await asyncio.wait({answer}, timeout=min(_PATIENCE_S, self._deadline_s))
                if not answer.done():
                    await self._long(answer, gone)
            finally:
                self.used = time.monotonic()
                if not answer.done():
                    answer.cancel()
                    if not self._shared:
                        self.abandon()
            return answer.result()

    async def _long(self, answer: asyncio.Future[str], gone: Callable[[], Awaitable[None]] | None) -> None:
        """Wait on, for the answer, the deadline or the client's leaving, whichever comes first."""
        leaving = asyncio.ensure_future(gone()) if gone is not None else None
        either: set[asyncio.Future[Any]] = {answer} if leaving is None else {answer, leaving}
        try:
            left = max(0.0, self._deadline_s - _PATIENCE_S)
            await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return
            if leaving is not None and leaving.done():
                raise asyncio.CancelledError
        finally:
            if leaving is not None:
                leaving.cancel()
        text = f"the call took longer than {self._deadline_s:g} s, so the session is over"
        raise fault(text, 504, Kind.DEADLINE)

    def leave(self) -> None:
        """End the session after the calls that it was given: the thread closes the environment."""
        self.over = True
        self._calls.put(None)

    def abandon(self) -> None:
        """End the session in the middle of a call: abort what it hangs on, without waiting."""
        self.leave()
        player = self._player
        if player is not None:
            threading.Thread(target=_quietly, args=(player.abort,), name="abort", daemon=True).start()

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end. False when it has not within `seconds`."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            work, answer = item
            try:
                if self._player is None:
                    self._player = self._create()
                text, error = work(self._player), None
            except (
                BaseException
            ) as raised:  # whatever an environment raises is this call's answer, never the thread's end
                text, error = "", _refusal(raised)
            with contextlib.suppress(RuntimeError):  # the server has ended meanwhile
                self._loop.call_soon_threadsafe(_settle, answer, text, error)
            del item, work, answer, text, error
        if self._player is not None:
            _quietly(self._player.close)
            self._player = None


def _settle(answer: asyncio.Future[str], text: str, error: Refusal | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(text)
    else:
        answer.set_exception(error)


def _refusal(raised: BaseException) -> Refusal:
    """What a client is told of an exception: one line; the traceback is the server's own business."""
    if isinstance(raised, Refusal):
        return raised
    if isinstance(raised, NoOracle):
        return bad(str(raised), 404, Kind.NO_ORACLE)
    if isinstance(raised, BadInput):
        return bad(str(raised))
    if isinstance(raised, gymnasium.error.ResetNeeded):
        return bad(str(raised), 409, Kind.RESET_NEEDED)
    if isinstance(raised, EnvFault | PalaestraError):
        return fault(f"{type(raised).__name__}: {raised}")
    log.error("a call of an environment failed", exc_info=raised)
    return fault(f"{type(raised).__name__}: {raised}")


def _quietly(call: Callable[[], object]) -> None:
    with contextlib.suppress(BaseException):
        call()


class Sessions(Generic[P]):
    """All sessions of a server, `limit` of them at the most.

    Args:
        create: makes the player of a session.
        limit: sessions at once.
        deadline_s: how long one call may take.
        idle_s: how long a session may be left alone before it is closed.
    """

    def __init__(self, create: Callable[[], P], limit: int, deadline_s: float, idle_s: float) -> None:
        self.limit, self.idle_s = limit, idle_s
        self._create, self._deadline_s = create, deadline_s
        self._open: dict[str, Session[P]] = {}
        self._leaving: list[Session[P]] = []

    def __len__(self) -> int:
        return len(self._open)

    def begin(self) -> Session[P]:
        """A new session. Raises Refusal when there are as many as there may be, hung ones that do not end included."""
        self._leaving = [session for session in self._leaving if session.alive]
        if len(self._open) >= self.limit or len(self._open) + len(self._leaving) >= 2 * self.limit:
            message = (
                f"the server is full: {len(self._open)} of {self.limit} sessions are taken; ask for fewer episodes at "
                "once, or serve with more --sessions"
            )
            raise Refusal(Code.CAPACITY_REACHED, Kind.FULL, message, 503)
        session = Session(self._create, self._deadline_s)
        self._open[session.id] = session
        return session

    def find(self, id: object) -> Session[P]:
        """A session by its id. Raises Refusal."""
        session = self._open.get(id) if isinstance(id, str) else None
        if session is None:
            raise Refusal(Code.SESSION_ERROR, Kind.BAD_INPUT, "there is no such session; POST /reset begins one", 404)
        return session

    def end(self, session: Session[P]) -> None:
        """Close a session; its environment is closed in its own thread."""
        if self._open.pop(session.id, None) is not None:
            session.leave()
            self._leaving.append(session)

    async def reap(self) -> None:
        """Close what has been left alone for too long, again and again."""
        while True:
            await asyncio.sleep(min(5.0, self.idle_s / 4))
            until = time.monotonic() - self.idle_s
            for session in [one for one in self._open.values() if not one.attached and not one.busy]:
                if session.over or session.used < until:
                    self.end(session)

    async def close(self, seconds: float) -> None:
        """Close all sessions and wait until their environments are closed, `seconds` at the most."""
        for session in list(self._open.values()):
            if session.busy:
                session.abandon()
            self.end(session)
        until = time.monotonic() + seconds
        for session in self._leaving:
            await asyncio.to_thread(session.join, until - time.monotonic())
        self._leaving.clear()

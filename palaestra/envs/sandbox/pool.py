"""A warm pool: the next sandbox is ready before it is asked for.

A sandbox is lent once and never again: what ran in it is gone with it. Whoever takes one closes it as any other; the
pool starts the next ones in threads of its own. When this process ends, however it ends, its sandboxes end: each guest
ends at the end of its stdin.

There is a pool for each kind (backend, limits, image), and tasks may bring an image each, so all pools of a process
share one number of places: where they are taken, the warm sandbox that has idled longest in another pool gives way.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox.client import GuestSandbox
from palaestra.envs.sandbox.errors import SandboxUnavailable
from palaestra.envs.sandbox.interface import Limits
from palaestra.envs.sandbox.places import VARIABLE, Places, usual_places

_STARTERS = 4
_BACKOFF = 0.5  # seconds after a start that failed
_STUCK = 30.0  # seconds for which whoever finds all lent waits: less than a collector gives a reset
_RETURN = 20.0  # seconds in which what made sandboxes before may come back, as an engine that is started again


@dataclass(frozen=True)
class PoolState:
    """How many sandboxes are ready, being started, and lent."""

    ready: int
    starting: int
    lent: int


class Pool:
    """Keeps sandboxes of one kind ready. Safe to use from several threads; a forked child gets an empty one.

    Args:
        start: starts one.
        ready: how many wait to be asked for.
        most: how many there are at most, lent ones included; `take` waits while all are lent.
        places: shared with other pools; None: `PLACES`, with all pools of this process.

    Attributes:
        process: the process whose pool it is.

    Raises:
        BadInput: `ready` below 0 or `most` below 1.
    """

    def __init__(
        self, start: Callable[[], GuestSandbox], *, ready: int = 2, most: int = 64, places: Places | None = None
    ) -> None:
        if not (_whole(ready, 0) and _whole(most, 1)):
            raise BadInput(f"a pool keeps ready >= 0 of most >= 1 sandboxes, got ready={ready!r}, most={most!r}")
        self._start, self._target, self._most = start, ready, most
        self._places = places or usual_places()
        self._empty()
        with self._change:
            self._places.pools.add(self)
        _pools.add(self)

    def _empty(self) -> None:
        self.process = os.getpid()
        self._change = self._places.change
        self._ready: deque[tuple[float, GuestSandbox]] = deque()  # since when (monotonic)
        self._starting = self._lent = self._leaving = self._waiting = 0
        self._asked = time.monotonic()
        self._failed: Exception | None = None
        self._worked = False  # has one ever started
        self._lost: float | None = None  # since when (monotonic) none does
        self._closed = False
        self._threads: list[threading.Thread] = []

    def take(self, patience: float = 120.0) -> GuestSandbox:
        """A fresh sandbox that answers. Close it to give its place back.

        Where sandboxes did start before and no longer do, this waits some 20 seconds for them to start again; where all
        are lent, 30 for one to come back: whoever lent them may be one of those who wait.

        Raises:
            SandboxUnavailable, ImageMissing: none can be started, or none came free within `patience` seconds.
            BadInput: the pool is closed.
        """
        if os.getpid() != self.process:
            self._empty()  # after a fork: those sandboxes are the parent's
        deadline = time.monotonic() + patience
        while True:
            box = self._next(deadline)
            gone = box.on_close = self._loan()
            try:
                alive = box.alive()
                with self._change:
                    self._hire()  # not before: a start takes the processor from the answer that somebody waits for
                if alive:
                    return box
            except BaseException:  # an interrupt, mostly: nobody has it, so nobody would close it
                box.close()
                gone()
                raise
            box.close()
            gone()

    def _next(self, deadline: float) -> GuestSandbox:
        with self._change:
            self._waiting += 1
            self._failed, self._asked = None, time.monotonic()
            stuck: float | None = None  # since when nothing can be started
            try:
                while not self._ready:
                    if self._closed:
                        raise BadInput("this pool of sandboxes is closed")
                    if self._failed is not None and not self._may_return():
                        raise self._failed
                    self._hire()
                    now = time.monotonic()
                    stuck = None if self._starting or self._wanted() else stuck or now
                    until = deadline if stuck is None else min(deadline, stuck + _STUCK)
                    if now >= until:
                        raise SandboxUnavailable(f"no sandbox came free in time: {self._shortage()}")
                    self._change.wait(until - now)
                self._lent += 1
                return self._ready.popleft()[1]
            finally:
                self._waiting -= 1

    def _shortage(self) -> str:
        state = f"{self._lent} of {self._most} are lent, {self._starting} are being started"
        if self._places.taken >= self._places.most:
            state += f"; all pools together have {self._places.taken}, which is the most"
        return f"{state}; run fewer episodes at once, or allow more with ${VARIABLE}"

    def _may_return(self) -> bool:
        """Is what makes sandboxes gone for so short a time that it is worth waiting for. The lock is held."""
        if not self._worked or self._lost is None or not isinstance(self._failed, SandboxUnavailable):
            return False
        return time.monotonic() < self._lost + _RETURN

    def _loan(self) -> Callable[[], None]:
        """What gives the place of one that is lent back, once."""
        process, due = os.getpid(), [True]

        def gone() -> None:
            if os.getpid() != process:  # a fork has no place here; and who held the lock then may not exist there
                return
            with self._change:
                if due:
                    due.clear()
                    self._lent -= 1
                    self._hire()
                    self._change.notify_all()  # another pool may be waiting for the place

        return gone

    def state(self) -> PoolState:
        """What there is now."""
        with self._change:
            return PoolState(len(self._ready), self._starting, self._lent)

    def fill(self, patience: float = 120.0) -> None:
        """Wait until as many are ready as shall be. Raises what starting them raised."""
        deadline = time.monotonic() + patience
        with self._change:
            self._failed, self._asked = None, time.monotonic()
            self._hire()
            while (self._starting or self._wanted()) and time.monotonic() < deadline:
                if self._failed is not None:
                    raise self._failed
                self._change.wait(0.05)

    def close(self) -> None:
        """End what is ready; those that are lent belong to whoever took them. May be called twice."""
        if os.getpid() != self.process:
            return
        with self._change:
            self._closed = True
            left = [box for _, box in self._ready]
            self._ready.clear()
            self._leaving += len(left)
            self._change.notify_all()
        for box in left:
            self._end(box)
        for thread in self._threads:
            thread.join(10.0)

    def _end(self, box: GuestSandbox) -> None:
        """Close what nobody took; it has its place until it is gone."""
        try:
            box.close()
        finally:
            with self._change:
                self._leaving -= 1
                self._change.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- starting them -----------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many there are of its own."""
        return len(self._ready) + self._starting + self._lent + self._leaving

    @property
    def idle_since(self) -> float | None:
        """Since when (monotonic) its first warm sandbox has been ready; None where nobody can do without one."""
        return self._ready[0][0] if len(self._ready) > self._waiting else None

    def may_displace(self, since: float) -> bool:
        """May a sandbox of another pool, ready since then, give way to one of this."""
        return since < self._asked or self.missing > 0

    @property
    def missing(self) -> int:
        """How many are waited for and not being started."""
        return max(0, self._waiting - len(self._ready) - self._starting)

    def give_way(self) -> GuestSandbox:
        """The warm sandbox that has been ready longest, to be closed by the caller. The lock is held."""
        return self._ready.popleft()[1]

    def _wanted(self) -> bool:
        enough = len(self._ready) + self._starting >= self._target + self._waiting
        if enough or self.size >= self._most:
            return False
        free = self._places.most - self._places.taken
        if not self.missing and (waited_for := self._places.missing(self)):
            return free > waited_for  # to keep one ready is no reason to let others wait
        return free > 0 or self._places.longest_idle(self) is not None

    def _hire(self) -> None:
        """See to it that a thread starts what is wanted. The lock is held."""
        if self._closed or not self._wanted():
            return
        if self._starting == len(self._threads) < _STARTERS:
            thread = threading.Thread(target=self._work, daemon=True, name="sandbox pool")
            self._threads.append(thread)
            thread.start()
        self._change.notify_all()

    def _work(self) -> None:
        while True:
            with self._change:
                while not (self._closed or self._wanted()):
                    self._change.wait()
                if self._closed:
                    return
                full = self._places.taken >= self._places.most
                gives_way = self._places.longest_idle(self) if full else None
                displaced = gives_way.give_way() if gives_way is not None else None
                self._starting += 1  # in the place of the one displaced
            box: GuestSandbox | None = None
            failed: Exception | None = None
            try:
                if displaced is not None:
                    displaced.close()
                box = self._start()
            except Exception as error:  # told to whoever is waiting
                failed = error
            with self._change:
                self._starting -= 1
                if box is not None and not self._closed:
                    self._ready.append((time.monotonic(), box))
                    box = None
                self._leaving += box is not None
                self._failed = failed
                self._worked = self._worked or failed is None
                self._lost = None if failed is None else self._lost or time.monotonic()
                self._change.notify_all()
            if box is not None:
                self._end(box)
            if failed is not None:
                with self._change:
                    if self._may_return():  # whoever asks waits for that anyway
                        self._change.wait_for(lambda: self._closed, _BACKOFF)
                    else:
                        self._change.wait_for(lambda: self._closed or self._waiting, _BACKOFF)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_shared: dict[tuple[object, ...], Pool] = {}
_lock = threading.Lock()


def lend(backend: str | None = None, limits: Limits | None = None, **settings: object) -> GuestSandbox:
    """A fresh sandbox from this process's pool of that kind (see `palaestra.envs.sandbox.start`).

    Raises:
        SandboxUnavailable, ImageMissing, BadInput: as `start`.
    """
    from palaestra.envs.sandbox import check_settings, choose, start

    backend = choose(*settings) if backend is None else backend
    check_settings(backend, limits, settings)
    limits = limits or Limits()
    if backend == "docker":  # the engine is part of the kind, whatever DOCKER_HOST says later
        settings = {"host": os.environ.get("DOCKER_HOST") or None, **settings}
    kind = (backend, limits, *sorted(settings.items()))
    with _lock:
        if kind not in _shared:
            _shared[kind] = Pool(lambda: start(backend, limits, **settings), most=1_000_000)  # `places` are fewer
        pool = _shared[kind]
    usual_places()  # somebody may have allowed more meanwhile
    return pool.take()


@atexit.register
def drain() -> None:
    """Close all pools of this process."""
    for pool in list(_pools):
        with contextlib.suppress(Exception):
            pool.close()
    _shared.clear()

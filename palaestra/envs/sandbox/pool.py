"""A warm pool: the next sandbox is ready before it is asked for.

A sandbox is lent once and never again: what ran in it is gone with it. Whoever takes one closes it as any other; the
pool starts the next ones in threads of its own. When this process ends, however it ends, its sandboxes end: each guest
ends at the end of its stdin.
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

_STARTERS = 4
_BACKOFF = 0.5  # seconds after a start that failed
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

    Raises:
        BadInput: `ready` below 0 or `most` below 1.
    """

    def __init__(self, start: Callable[[], GuestSandbox], *, ready: int = 2, most: int = 64) -> None:
        if ready < 0 or most < 1:
            raise BadInput(f"a pool keeps ready >= 0 of most >= 1 sandboxes, got ready={ready}, most={most}")
        self._start, self._target, self._most = start, ready, most
        self._empty()
        _pools.add(self)

    def _empty(self) -> None:
        self._pid = os.getpid()
        self._change = threading.Condition()
        self._ready: deque[GuestSandbox] = deque()
        self._starting = self._lent = self._waiting = 0
        self._failed: Exception | None = None
        self._worked = False  # has one ever started
        self._lost: float | None = None  # since when (monotonic) none does
        self._closed = False
        self._threads: list[threading.Thread] = []

    def take(self, patience: float = 120.0) -> GuestSandbox:
        """A fresh sandbox that answers. Close it to give its place back.

        Where sandboxes did start before and no longer do, this waits some 20 seconds for them to start again.

        Raises:
            SandboxUnavailable, ImageMissing: none can be started, or none came free within `patience` seconds.
            BadInput: the pool is closed.
        """
        if os.getpid() != self._pid:
            self._empty()  # after a fork: those sandboxes are the parent's
        deadline = time.monotonic() + patience
        while True:
            box = self._next(deadline)
            alive = box.alive()
            with self._change:
                self._hire()  # not before: a start takes the processor from the answer that somebody waits for
            if alive:
                box.on_close = self._given_back
                return box
            box.close()
            self._given_back()

    def _next(self, deadline: float) -> GuestSandbox:
        with self._change:
            self._waiting += 1
            self._failed = None
            try:
                while not self._ready:
                    if self._closed:
                        raise BadInput("this pool of sandboxes is closed")
                    if self._failed is not None and not self._may_return():
                        raise self._failed
                    self._hire()
                    if not self._change.wait(deadline - time.monotonic()) and time.monotonic() > deadline:
                        state = f"{self._lent} of {self._most} are lent, {self._starting} are being started"
                        raise SandboxUnavailable(f"no sandbox came free in time: {state}")
                self._lent += 1
                return self._ready.popleft()
            finally:
                self._waiting -= 1

    def _may_return(self) -> bool:
        """Is what makes sandboxes gone for so short a time that it is worth waiting for. The lock is held."""
        if not self._worked or self._lost is None or not isinstance(self._failed, SandboxUnavailable):
            return False
        return time.monotonic() < self._lost + _RETURN

    def _given_back(self) -> None:
        with self._change:
            self._lent -= 1
            self._hire()

    def state(self) -> PoolState:
        """What there is now."""
        with self._change:
            return PoolState(len(self._ready), self._starting, self._lent)

    def fill(self, patience: float = 120.0) -> None:
        """Wait until as many are ready as shall be. Raises what starting them raised."""
        deadline = time.monotonic() + patience
        with self._change:
            self._failed = None
            self._hire()
            while len(self._ready) < min(self._target, self._most - self._lent) and time.monotonic() < deadline:
                if self._failed is not None:
                    raise self._failed
                self._change.wait(0.05)

    def close(self) -> None:
        """End what is ready; those that are lent belong to whoever took them. May be called twice."""
        if os.getpid() != self._pid:
            return
        with self._change:
            self._closed = True
            left = list(self._ready)
            self._ready.clear()
            self._change.notify_all()
        for box in left:
            box.close()
        for thread in self._threads:
            thread.join(10.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- starting them -----------------------------------------------------------------------------------------------

    def _wanted(self) -> bool:
        enough = len(self._ready) + self._starting >= self._target + self._waiting
        return not enough and len(self._ready) + self._starting + self._lent < self._most

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
                self._starting += 1
            box: GuestSandbox | None = None
            failed: Exception | None = None
            try:
                box = self._start()
            except Exception as error:  # told to whoever is waiting
                failed = error
            with self._change:
                self._starting -= 1
                if box is not None and not self._closed:
                    self._ready.append(box)
                    box = None
                self._failed = failed
                self._worked = self._worked or failed is None
                self._lost = None if failed is None else self._lost or time.monotonic()
                self._change.notify_all()
            if box is not None:
                box.close()
            if failed is not None:
                with self._change:
                    if self._may_return():  # whoever asks waits for that anyway
                        self._change.wait_for(lambda: self._closed, _BACKOFF)
                    else:
                        self._change.wait_for(lambda: self._closed or self._waiting, _BACKOFF)


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_shared: dict[tuple[object, ...], Pool] = {}
_lock = threading.Lock()


def lend(backend: str | None = None, limits: Limits | None = None, **settings: object) -> GuestSandbox:
    """A fresh sandbox from this process's pool of that kind (see `palaestra.envs.sandbox.start`).

    Raises:
        SandboxUnavailable, ImageMissing, BadInput: as `start`.
    """
    from palaestra.envs.sandbox import choose, start

    backend, limits = backend or choose(*settings), limits or Limits()
    if backend == "docker":  # the engine is part of the kind, whatever DOCKER_HOST says later
        settings = {"host": os.environ.get("DOCKER_HOST"), **settings}
    kind = (backend, limits, *sorted(settings.items()))
    with _lock:
        if kind not in _shared:
            _shared[kind] = Pool(lambda: start(backend, limits, **settings))
        pool = _shared[kind]
    return pool.take()


@atexit.register
def drain() -> None:
    """Close all pools of this process."""
    for pool in list(_pools):
        with contextlib.suppress(Exception):
            pool.close()
    _shared.clear()

"""The JVMs of this process: borrowed at `reset`, given back at `close`, kept warm for the next episode.

Lock-free on purpose: an environment that is garbage collected gives its JVM back from wherever the collector runs.
"""

from __future__ import annotations

import atexit
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from palaestra.envs.errors import EnvFault
from palaestra.envs.jvm import LIVE, Jvm

IDLE_SECONDS = 300
"""An idle JVM (some 300 MB) is ended at the next borrowing or giving back after this time."""

LOADS = 1000
"""A JVM is replaced after so many episodes, before anything an engine never frees adds up."""


class Pooled(Protocol):
    """An engine in a JVM of its own."""

    jvm: Jvm
    loads: int

    @property
    def alive(self) -> bool: ...
    def close(self) -> None: ...


E = TypeVar("E", bound=Pooled)


def most_idle() -> int:
    """How many idle JVMs are kept: as many as there are cores, at least two."""
    return max(2, os.cpu_count() or 2)


def most_live() -> int:
    """How many JVMs may run at once: what fits into nine tenths of the memory at 350 MB each, at least four."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 64
    return max(4, int(memory * 0.9 / 350e6))


class Pool(Generic[E]):
    """The warm engines of one kind.

    Args:
        what: what they are, for messages ("ScienceWorld").
        start: starts one. Raises EnvFault or BadInput.
    """

    def __init__(self, what: str, start: Callable[[], E]) -> None:
        self.what, self._start = what, start
        self._idle: deque[tuple[float, E]] = deque()
        os.register_at_fork(after_in_child=self._idle.clear)
        atexit.register(self.close_all)

    def borrow(self) -> E:
        """A warm engine, or a new one.

        Raises:
            EnvFault: it does not start, or there are too many. BadInput: there is no usable Java.
        """
        self._trim()
        while self._idle:
            try:
                _, engine = self._idle.pop()
            except IndexError:
                break
            if engine.alive:
                return engine
            engine.close()
        if len(LIVE) >= most_live():
            raise EnvFault(
                f"{len(LIVE)} JVMs are running ({self.what} wants another), as many as fit into memory; close "
                "environments or use fewer"
            )
        return self._start()

    def give_back(self, engine: E) -> None:
        """An engine is no longer needed: kept for the next one, or ended when it is broken, old or one too many."""
        if engine.jvm.owner != os.getpid():
            return
        if engine.alive and engine.loads < LOADS:
            self._idle.append((time.monotonic(), engine))
        else:
            engine.close()
        self._trim()

    def _trim(self) -> None:
        while self._idle and (len(self._idle) > most_idle() or time.monotonic() - self._idle[0][0] > IDLE_SECONDS):
            try:
                _, engine = self._idle.popleft()
            except IndexError:
                break
            engine.close()

    def close_all(self) -> None:
        """End every JVM of this process, the borrowed ones and those of other pools too."""
        self._idle.clear()
        for jvm in list(LIVE.values()):
            jvm.close()

"""The JVMs of this process: borrowed at `reset`, given back at `close`, kept warm for the next episode.

`JvmEngine` is an engine in a JVM, `Pool` keeps the warm ones of a kind, `JvmEnv` is an environment that borrows one.

Lock-free on purpose: an environment that is garbage collected gives its JVM back from wherever the collector runs.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, TypeVar

from palaestra.envs.core import Task, TextEnv
from palaestra.envs.errors import EnvFault
from palaestra.envs.jvm import LIVE, JavaError, Jvm

IDLE_SECONDS = 300
"""An idle JVM (some 300 MB) is ended at the next borrowing or giving back after this time."""

LOADS = 1000
"""A JVM is replaced after so many episodes, before anything an engine never frees adds up."""


class JvmEngine:
    """An engine in a JVM of its own.

    Args:
        jvm: a JVM that was just started.
        interface: the Java class of the engine's outer interface; one is made.

    Attributes:
        loads: how many episodes it has begun.

    Raises:
        EnvFault: the interface cannot be made; the JVM is ended.
    """

    def __init__(self, jvm: Jvm, interface: str) -> None:
        self.jvm, self.loads = jvm, 0
        try:
            self._server = jvm.new(interface)
        except BaseException as error:
            self.close()
            if isinstance(error, JavaError):
                raise EnvFault(f"{jvm.what} does not start: {error}") from error
            raise

    @property
    def alive(self) -> bool:
        """Can it be used."""
        return self.jvm.alive

    def close(self) -> None:
        """End the JVM. May be called twice."""
        self.jvm.close()


E = TypeVar("E", bound=JvmEngine)
S = TypeVar("S")


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


class JvmEnv(TextEnv[S], Generic[S, E]):
    """An environment whose world is in a borrowed JVM."""

    pool: ClassVar[Pool[E]]

    def __init__(self) -> None:
        super().__init__()
        self._engine: E | None = None
        self._lease: weakref.finalize[[E], JvmEnv[S, E]] | None = None

    def engine(self) -> E:
        """The engine of the running episode. Raises EnvFault when it was given back."""
        if self._engine is None:
            raise EnvFault(f"the {self.pool.what} JVM of this instance is closed")
        return self._engine

    def borrowed(self) -> E:
        """An engine for the next episode: the one at hand unless it is dead or old. Errors as `Pool.borrow`."""
        if self._engine is not None and self._engine.alive and self._engine.loads < LOADS:
            return self._engine
        self._return()
        engine = self.pool.borrow()
        self._engine, self._lease = engine, weakref.finalize(self, self.pool.give_back, engine)
        return engine

    def distance(self, task: Task, actions: Sequence[str]) -> int | None:
        """As in the base class; None where the JVM is gone."""
        if self._engine is None or not self._engine.alive:
            return None
        return super().distance(task, actions)

    def abort(self) -> None:
        """Kill this instance's JVM, from any thread. What hangs on it raises EnvFault; the next reset gets another."""
        engine = self._engine
        if engine is not None:
            engine.jvm.kill()

    def close(self) -> None:
        """Give the JVM back to the pool. May be called twice; a later reset borrows another."""
        super().close()
        self._return()

    def _return(self) -> None:
        lease, self._lease, self._engine = self._lease, None, None
        if lease is not None:
            lease()

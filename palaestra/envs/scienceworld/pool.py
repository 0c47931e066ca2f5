"""The JVMs of this process: borrowed at `reset`, given back at `close`, kept warm for the next episode.

Lock-free on purpose: an environment that is garbage collected gives its JVM back from wherever the collector runs.
"""

from __future__ import annotations

import atexit
import os
import time
from collections import deque

from palaestra.envs.errors import EnvFault
from palaestra.envs.scienceworld.engine import Engine
from palaestra.envs.scienceworld.jvm import LIVE

IDLE_SECONDS = 300
"""An idle JVM (some 300 MB) is ended at the next borrowing or giving back after this time."""

LOADS = 1000
"""A JVM is replaced after so many episodes, before anything the engine never frees adds up."""


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


_idle: deque[tuple[float, Engine]] = deque()


def borrow() -> Engine:
    """A warm engine, or a new one.

    Raises:
        EnvFault: it does not start, or there are too many. BadInput: there is no usable Java.
    """
    _trim()
    while _idle:
        try:
            _, engine = _idle.pop()
        except IndexError:
            break
        if engine.alive:
            return engine
        engine.close()
    if len(LIVE) >= most_live():
        raise EnvFault(
            f"{len(LIVE)} ScienceWorld JVMs are running, as many as fit into memory; close environments or use fewer"
        )
    return Engine()


def give_back(engine: Engine) -> None:
    """An engine is no longer needed: kept for the next one, or ended when it is broken, old or one too many."""
    if engine.jvm.owner != os.getpid():
        return
    if engine.alive and engine.loads < LOADS:
        _idle.append((time.monotonic(), engine))
    else:
        engine.close()
    _trim()


def _trim() -> None:
    while _idle and (len(_idle) > most_idle() or time.monotonic() - _idle[0][0] > IDLE_SECONDS):
        try:
            _, engine = _idle.popleft()
        except IndexError:
            break
        engine.close()


def close_all() -> None:
    """End every JVM of this process, the borrowed ones too."""
    _idle.clear()
    for jvm in list(LIVE.values()):
        jvm.close()


os.register_at_fork(after_in_child=_idle.clear)
atexit.register(close_all)

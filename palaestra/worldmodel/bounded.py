"""A bound for calls of a real environment behind imagination, where a collector sets none.

Many episodes wait for one browser or JVM there, and how long they wait says nothing of it, so the collector has no
deadline for imagined steps. What hangs is told by the call itself, from when its turn has come.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from palaestra.agents.workers import quietly
from palaestra.envs import TextEnv

SECONDS = 60.0
"""Of one step, as in a collection."""


@contextmanager
def bounded(env: TextEnv[Any], steps: int = 1, seconds: float | None = SECONDS) -> Iterator[None]:
    """Abort what takes longer than `seconds` a step: the environment raises EnvFault then, and its reset begins anew.

    One that cannot be aborted (plain code without processes of its own) is not bounded.
    """
    if seconds is None or type(env).abort is TextEnv.abort:
        yield
        return
    late = threading.Event()

    def abort() -> None:
        late.set()
        quietly(env.abort)

    timer = threading.Timer(seconds * max(1, steps), abort)
    timer.daemon = True
    timer.start()
    try:
        yield
    except BaseException:
        if late.is_set():
            quietly(env.close)
        raise
    finally:
        timer.cancel()

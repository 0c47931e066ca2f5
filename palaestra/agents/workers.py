"""Threads that run what blocks: one thread an environment instance, calls with deadlines, and the pool of instances.

An instance lives in one thread from its making to its closing, so environments that are bound to a thread work too. A
call that passes its deadline is not waited for: the environment's `abort` is called, thread and instance are given up,
and the next episode gets fresh ones.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from palaestra.envs import Task, TextEnv

Call = Callable[[], object]


@dataclass(frozen=True)
class Finished:
    """A call has come to its end: what a worker posts to the events.

    Attributes:
        worker: who ran it.
        call: its number at that worker; a number that is not the worker's newest belongs to a call long given up.
        value: what it returned; None when it raised.
        error: what it raised, or None.
        trace: the traceback as text; empty without an error.
    """

    worker: Worker
    call: int
    value: object
    error: BaseException | None
    trace: str


@dataclass(frozen=True)
class Stop:
    """The run is to stop: Ctrl-C was pressed."""


Events = SimpleQueue[Finished | Stop]


class Worker:
    """A thread that runs one call after another and posts what came of each.

    Args:
        events: where the results are posted.
        name: of the thread.
    """

    def __init__(self, events: Events, name: str) -> None:
        self.calls = 0
        self.deadline: float | None = None
        self._events = events
        self._calls: SimpleQueue[tuple[int, Call] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Call, seconds: float | None = None) -> None:
        """Run a call in this thread; `seconds` is how long it may take (None: as long as it likes)."""
        self.calls += 1
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self._calls.put((self.calls, call))

    def leave(self) -> None:
        """End the thread after the calls that it was given."""
        self._calls.put(None)

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end. False when it has not within `seconds`."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    @property
    def ident(self) -> int | None:
        """The thread's identity, as `sys._current_frames` has it."""
        return self._thread.ident

    @property
    def alive(self) -> bool:
        """Is the thread still there."""
        return self._thread.is_alive()

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            number, call = item
            try:
                finished = Finished(self, number, call(), None, "")
            except BaseException as error:  # whatever an environment or an engine raises is this call's result
                finished = Finished(self, number, None, error, traceback.format_exc())
            self._events.put(finished)
            del item, call, finished
        self._farewell()

    def _farewell(self) -> None:
        """Done in the thread at its very end."""


class EnvWorker(Worker):
    """A thread with the one environment instance that it made. The instance is made at the first call.

    Args:
        create: makes the instance.
        env_id: id of the environment.
    """

    def __init__(self, events: Events, create: Callable[[], TextEnv[Any]], env_id: str) -> None:
        self.env_id = env_id
        self.fingerprint: str | None = None
        self._create = create
        self._env: TextEnv[Any] | None = None
        super().__init__(events, f"env {env_id}")

    def env(self) -> TextEnv[Any]:
        """The instance. To be called in this worker's thread only."""
        if self._env is None:
            self._env = self._create()
        return self._env

    def distance(self, task: Task, actions: Sequence[str]) -> int | None:
        """How far this idle instance is from the end of `actions`; None where it does not stand on the way."""
        return self._env.distance(task, actions) if self._env is not None else None

    def abandon(self) -> None:
        """Give the thread up in the middle of a call: nobody waits for it, and `abort` kills what it hangs on."""
        self.calls += 1
        self.leave()
        env = self._env
        if env is not None:
            threading.Thread(target=_quietly, args=(env.abort,), name=f"abort {self.env_id}", daemon=True).start()

    def _farewell(self) -> None:
        if self._env is not None:
            _quietly(self._env.close)
            self._env = None


def _quietly(call: Callable[[], object]) -> None:
    with contextlib.suppress(BaseException):
        call()


class EnvPool:
    """The environment instances of a collection: reused over episodes, `size` of them at the most.

    Args:
        create: makes an instance from an environment's id.
        size: how many there may be at once, those that were given up not counted.
        events: where the workers post.
    """

    def __init__(self, create: Callable[[str], TextEnv[Any]], size: int, events: Events) -> None:
        self._create = create
        self._size = size
        self._events = events
        self._idle: list[EnvWorker] = []
        self._busy: set[EnvWorker] = set()
        self._leaving: list[EnvWorker] = []

    def take(self, task: Task, actions: Sequence[str] = (), *, fresh: bool = False) -> EnvWorker:
        """An instance for `task`, the one nearest to the end of `actions`; a new one if none is idle.

        Args:
            fresh: a new one in any case, because the last one broke on this task.
        """
        fitting = [] if fresh else [worker for worker in self._idle if worker.env_id == task.env]
        if fitting:
            far = len(actions) + 1
            distances = [(worker.distance(task, actions) if actions else None, worker) for worker in fitting]
            worker = min(distances, key=lambda pair: far if pair[0] is None else pair[0])[1]
            self._idle.remove(worker)
        else:
            if self._idle and len(self._idle) + len(self._busy) >= self._size:
                self._dismiss(self._idle.pop(0))
            worker = EnvWorker(self._events, lambda: self._create(task.env), task.env)
        self._busy.add(worker)
        return worker

    def give_back(self, worker: EnvWorker) -> None:
        """The instance is whole and idle."""
        self._busy.discard(worker)
        self._idle.append(worker)

    def discard(self, worker: EnvWorker) -> None:
        """The instance broke: close it, in its own thread, and never use it again."""
        self._busy.discard(worker)
        self._dismiss(worker)

    def abandon(self, worker: EnvWorker) -> None:
        """The instance hangs: kill what it hangs on and do not wait."""
        self._busy.discard(worker)
        worker.abandon()

    def close(self, seconds: float) -> None:
        """Close all instances; what has not closed within `seconds` is aborted and left behind."""
        until = time.monotonic() + seconds
        for worker in [*self._idle, *self._busy]:
            self._dismiss(worker)
        self._idle.clear()
        self._busy.clear()
        for worker in self._leaving:
            if not worker.join(until - time.monotonic()):
                worker.abandon()
        self._leaving.clear()

    def _dismiss(self, worker: EnvWorker) -> None:
        self._leaving = [other for other in self._leaving if other.alive]
        worker.leave()
        self._leaving.append(worker)

"""Who runs what blocks, and how the collector's loop hears of it: calls go out, what came of them is posted as events.

An instance with a thread of its own lives in it from its making to its closing, so environments that are bound to a
thread work too. A call that passes its deadline is not waited for: the environment's `abort` is called, thread and
instance are given up, and the next episode gets fresh ones.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

from palaestra.agents.instance import Ask
from palaestra.agents.policy import Completion, Request
from palaestra.envs import Task


@dataclass(frozen=True)
class Finished:
    """A call has come to its end: what a worker or an engine posts to the events.

    Attributes:
        worker: who ran it.
        call: its number at that worker; a number that is not the worker's newest belongs to a call long given up.
        value: what it returned; None when it raised.
        error: what it raised, or None.
        trace: the traceback as text; empty without an error.
    """

    worker: EnvWorker | Engine
    call: int
    value: object
    error: BaseException | None = None
    trace: str = ""


@dataclass(frozen=True)
class Stop:
    """The run is to stop: Ctrl-C was pressed."""


@dataclass(frozen=True)
class Answered:
    """A policy whose engine answers each request by itself has answered one.

    Attributes:
        call: the number under which it was asked.
        value: the answer.
    """

    call: int
    value: Completion


Event = Finished | Answered | Stop
Events = SimpleQueue[Event]


class Engine(Protocol):
    """What answers a batch of requests at a time, and posts the completions.

    Attributes:
        calls: number of the newest call.
        lost: it is gone and will never answer again; ask another one.
    """

    calls: int

    @property
    def lost(self) -> bool: ...

    def submit(self, requests: Sequence[Request]) -> None:
        """Hand over a batch. `Finished.value` will be its completions, in order."""
        ...

    def leave(self) -> None:
        """End it after the batch it has."""
        ...

    def join(self, seconds: float) -> bool:
        """Wait for its end. False when it has not come within `seconds`."""
        ...


class PolicyThread:
    """A policy in a thread of its own.

    Args:
        act: answers a batch.
        events: where the completions are posted.
        name: of the thread.
    """

    lost = False

    def __init__(self, act: Callable[[Sequence[Request]], object], events: Events, name: str) -> None:
        self.calls = 0
        self._act, self._events = act, events
        self._batches: SimpleQueue[tuple[int, Sequence[Request]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, requests: Sequence[Request]) -> None:
        """See `Engine`."""
        self.calls += 1
        self._batches.put((self.calls, requests))

    def leave(self) -> None:
        """See `Engine`."""
        self._batches.put(None)

    def join(self, seconds: float) -> bool:
        """See `Engine`."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (item := self._batches.get()) is not None:
            number, requests = item
            try:
                finished = Finished(self, number, self._act(requests))
            except BaseException as error:  # whatever an engine raises is this call's result
                finished = Finished(self, number, None, error, traceback.format_exc())
            self._events.put(finished)
            del item, requests, finished


class EnvWorker(ABC):
    """One environment instance, seen from the collector's loop: it is asked, and what came of it is posted.

    Args:
        env_id: id of the environment.
        events: where the results are posted.

    Attributes:
        calls: number of the newest call.
        deadline: when the call at work has to be done, by `time.monotonic`; None for no limit.
        standing: where the idle instance stands: task and actions; None where its episode is over.
    """

    def __init__(self, env_id: str, events: Events) -> None:
        self.env_id, self._events = env_id, events
        self.calls = 0
        self.deadline: float | None = None
        self.standing: tuple[Task, tuple[str, ...]] | None = None

    def submit(self, ask: Ask, seconds: float | None = None) -> None:
        """Ask something; `seconds` is how long it may take (None: as long as it likes)."""
        self.calls += 1
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self._send(self.calls, ask)

    @abstractmethod
    def _send(self, number: int, ask: Ask) -> None:
        """Hand a call over."""

    @abstractmethod
    def leave(self) -> None:
        """Close the instance after the calls that it was given."""

    @abstractmethod
    def abandon(self) -> None:
        """Give the instance up in the middle of a call: nobody waits for it, and `abort` kills what it hangs on."""

    @abstractmethod
    def join(self, seconds: float) -> bool:
        """Wait until the instance is closed. False when it has not been within `seconds`."""

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Is the instance not closed yet."""

    @property
    def lost(self) -> bool:
        """Is it known to be gone, with the machine that it was on."""
        return False

    def where(self) -> str:
        """Where the call at work stands, for people: a traceback, where there is one."""
        return "another process"


class Played(Protocol):
    """An instance that is used from here: an `Instance`, or what stands here for one elsewhere."""

    def answer(self, ask: Ask) -> object:
        """What comes of it; blocks."""
        ...

    def abort(self) -> None:
        """From another thread: kill what a call hangs on."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class ThreadWorker(EnvWorker):
    """An instance in a thread of its own."""

    def __init__(self, env_id: str, events: Events, instance: Played) -> None:
        super().__init__(env_id, events)
        self._instance = instance
        self._calls: SimpleQueue[tuple[int, Ask] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name=f"env {self.env_id}", daemon=True)
        self._thread.start()

    def _send(self, number: int, ask: Ask) -> None:
        self._calls.put((number, ask))

    def leave(self) -> None:
        self._calls.put(None)

    def abandon(self) -> None:
        self.calls += 1
        self.leave()
        abort = self._instance.abort
        threading.Thread(target=quietly, args=(abort,), name=f"abort {self.env_id}", daemon=True).start()

    def join(self, seconds: float) -> bool:
        if self._thread is not None:
            self._thread.join(max(0.0, seconds))
        return not self.alive

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def where(self) -> str:
        frame = sys._current_frames().get(self._thread.ident or -1) if self._thread is not None else None
        return "".join(traceback.format_stack(frame)) if frame is not None else "a thread that has ended"

    def _work(self) -> None:
        while self.run(self._calls.get()):
            pass

    def run(self, item: tuple[int, Ask] | None) -> bool:
        """Do one call and post what came of it, or close the instance. False when that was the last."""
        if item is None:
            quietly(self._instance.close)
            return False
        number, ask = item
        try:
            finished = Finished(self, number, self._instance.answer(ask))
        except BaseException as error:  # whatever an environment raises is this call's result
            finished = Finished(self, number, None, error, traceback.format_exc())
        self._events.put(finished)
        return True


def quietly(call: Callable[[], object]) -> None:
    """Do something whose failure concerns nobody any more."""
    with contextlib.suppress(BaseException):
        call()

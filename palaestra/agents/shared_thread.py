"""One thread for thousands of instances whose environments answer at once (`Needs.NOTHING`).

Should one of them take its time after all, it holds nobody up: the thread in which it does becomes its own, for good,
and another one takes over the rest.
"""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue

from palaestra.agents.instance import Ask
from palaestra.agents.workers import Events, Played, ThreadWorker

LEND = 0.1
"""Seconds after which a call has taken too long to share a thread."""

_Call = tuple["SharedWorker", tuple[int, Ask] | None]


class SharedWorker(ThreadWorker):
    """An instance in a thread that it shares, until it was slow once."""

    def __init__(self, env_id: str, events: Events, instance: Played, among: SharedThread) -> None:
        self._among = among
        self._closed = False
        super().__init__(env_id, events, instance)

    def _start(self) -> None:
        pass  # the thread is there already

    def owns(self, thread: threading.Thread) -> None:
        """From now on this is the instance's own thread."""
        self._thread = thread

    def keep_on(self) -> None:
        """In its own thread: all that is asked from now on."""
        self._work()

    def _send(self, number: int, ask: Ask) -> None:
        if self._thread is None:
            self._among.put((self, (number, ask)))
        else:
            super()._send(number, ask)

    def leave(self) -> None:
        if self._thread is None:
            self._among.put((self, None))
        else:
            super().leave()

    def abandon(self) -> None:
        self._among.look(at_once=self)
        super().abandon()

    def join(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self.alive and time.monotonic() < until:
            self._among.look()
            time.sleep(0.001)
        if not self.alive and self._thread is not None:
            self._thread.join(max(0.0, until - time.monotonic()))
        return not self.alive

    @property
    def alive(self) -> bool:
        return not self._closed

    def where(self) -> str:
        return super().where() if self._thread is not None else "a thread that it shares"

    def run(self, item: tuple[int, Ask] | None) -> bool:
        goes_on = super().run(item)
        if item is None:
            self._closed = True
            self._calls.put(None)  # where the instance got a thread of its own meanwhile, that one ends, too
        return goes_on


class SharedThread:
    """The thread. To be used from one other thread."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._turn = 0
        self._busy: tuple[SharedWorker, float] | None = None
        self._thread = self._next()

    def put(self, call: _Call) -> None:
        """Have a call made when those before it are."""
        self._calls.put(call)

    def look(self, *, at_once: SharedWorker | None = None) -> None:
        """If the call at work takes long, leave the thread to its instance and go on in another one.

        Args:
            at_once: however short it has been at work, if it is this instance.
        """
        busy = self._busy
        if busy is None or (time.monotonic() - busy[1] < LEND and busy[0] is not at_once):
            return
        with self._lock:
            if self._busy is not busy:
                return  # it has just ended
            busy[0].owns(self._thread)
            self._turn += 1
            self._busy = None
            self._thread = self._next()

    def close(self, seconds: float) -> None:
        """End the thread when all calls are made; wait no longer than `seconds`."""
        self._calls.put(None)
        self._thread.join(max(0.0, seconds))

    def _next(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, args=(self._turn,), name="shared env thread", daemon=True)
        thread.start()
        return thread

    def _work(self, turn: int) -> None:
        while (call := self._calls.get()) is not None:
            worker, item = call
            with self._lock:
                self._busy = (worker, time.monotonic())
            goes_on = worker.run(item)
            with self._lock:
                mine = self._turn == turn
                if mine:
                    self._busy = None
            if not mine:
                if goes_on:
                    worker.keep_on()
                return
            del call, worker, item

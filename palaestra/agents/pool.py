"""The environment instances of a collection: reused over episodes, so many of them at the most, the nearest one first.

An idle instance that stands in the middle of an episode is worth keeping where rewinding means replaying: a fork of
that episode goes on from there. So a fork takes the idle instance that has gone the longest part of its way, and what
goes nowhere near takes one whose episode is over before one that stands somewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from palaestra.agents.workers import EnvWorker
from palaestra.envs import Task


class EnvPool:
    """All instances. Used from one thread.

    Args:
        place: makes an instance from an environment's id, where it belongs.
        size: how many there may be at once, those that were given up not counted.
    """

    def __init__(self, place: Callable[[str], EnvWorker], size: int) -> None:
        self._place, self._size = place, size
        self._busy: set[EnvWorker] = set()
        # dictionaries in place of lists: in the order of coming back, and any one can be taken out at once
        self._idle: dict[EnvWorker, None] = {}
        self._over: dict[str, dict[EnvWorker, None]] = {}
        self._standing: dict[str, dict[EnvWorker, None]] = {}
        self._at: dict[Task, dict[EnvWorker, None]] = {}
        self._leaving: list[EnvWorker] = []
        self._trim_at = 16

    def take(self, task: Task, actions: Sequence[str] = (), *, fresh: bool = False) -> EnvWorker:
        """An instance for `task`, the one nearest to the end of `actions`; a new one if none is idle.

        Args:
            fresh: a new one in any case, because the last one broke on this task.
        """
        worker = None
        while not fresh and (worker := self._idle_for(task, actions)) is not None:
            self._forget(worker)
            if not worker.lost:
                break
            self._dismiss(worker)
        if worker is None:
            if self._idle and len(self._idle) + len(self._busy) >= self._size:
                oldest = next(iter(self._idle))
                self._forget(oldest)
                self._dismiss(oldest)
            worker = self._place(task.env)
        worker.standing = None
        self._busy.add(worker)
        return worker

    def give_back(self, worker: EnvWorker) -> None:
        """The instance is whole and idle; `worker.standing` says where it stands."""
        self._busy.discard(worker)
        self._idle[worker] = None
        if worker.standing is None:
            self._over.setdefault(worker.env_id, {})[worker] = None
        else:
            self._standing.setdefault(worker.env_id, {})[worker] = None
            self._at.setdefault(worker.standing[0], {})[worker] = None

    def discard(self, worker: EnvWorker) -> None:
        """The instance broke: close it, where it lives, and never use it again."""
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
            worker.leave()
            self._leaving.append(worker)
        for store in (self._idle, self._over, self._standing, self._at):
            store.clear()
        self._busy.clear()
        for worker in self._leaving:
            if not worker.join(until - time.monotonic()):
                worker.abandon()
        self._leaving.clear()

    def _idle_for(self, task: Task, actions: Sequence[str]) -> EnvWorker | None:
        return (self._nearest(task, actions) if actions else None) or self._any(task.env)

    def _nearest(self, task: Task, actions: Sequence[str]) -> EnvWorker | None:
        """The idle instance whose own history is the longest beginning of `actions`."""
        found, longest, wanted = None, -1, tuple(actions)
        for worker in self._at.get(task, ()):
            assert worker.standing is not None
            done = worker.standing[1]
            if len(done) > longest and done == wanted[: len(done)]:
                found, longest = worker, len(done)
        return found

    def _any(self, env_id: str) -> EnvWorker | None:
        """The instance that was idle longest, of those whose episode is over where there are any."""
        for store in (self._over, self._standing):
            for worker in store.get(env_id, ()):
                return worker
        return None

    def _forget(self, worker: EnvWorker) -> None:
        """It is not idle any more."""
        del self._idle[worker]
        if worker.standing is None:
            del self._over[worker.env_id][worker]
            return
        del self._standing[worker.env_id][worker]
        task = worker.standing[0]
        del self._at[task][worker]
        if not self._at[task]:
            del self._at[task]

    def _dismiss(self, worker: EnvWorker) -> None:
        worker.leave()
        self._leaving.append(worker)
        if len(self._leaving) >= self._trim_at:
            self._leaving = [other for other in self._leaving if other.alive]
            self._trim_at = 2 * len(self._leaving) + 16

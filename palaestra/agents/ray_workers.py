"""An instance and an engine that live in actors of a Ray cluster, seen from the collector's loop.

Calls go out without a thread that waits for them: Ray calls back when one has ended.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from palaestra.agents.elsewhere import Making
from palaestra.agents.instance import Ask
from palaestra.agents.policy import Request
from palaestra.agents.ray_link import load_ray
from palaestra.agents.workers import EnvWorker, Events, Finished
from palaestra.envs import EnvFault


class Actor:
    """An actor that is ready.

    Attributes:
        handle: Ray's.
        load: instances that it holds.
        lost: a call to it could not be made: its process or machine is gone.
        silent_since: when it was told to give up an instance that hangs, by `time.monotonic`, where it has not said yet
            that it did; None: it answers.
    """

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.load = 0
        self.lost = False
        self.silent_since: float | None = None

    def was_told(self, answer: Any) -> None:
        """It was told what takes no time where it is well; `answer` is Ray's sign that it did it."""
        if self.silent_since is None:
            self.silent_since = time.monotonic()
        answer.future().add_done_callback(self._answers)

    def _answers(self, _: Any) -> None:
        self.silent_since = None

    def came_of(self, call: Any, what: str, kind: type[Exception]) -> tuple[Any, BaseException | None, str]:
        """Value, error and traceback of a call that has ended, or whose actor has.

        Args:
            call: Ray's future of what the actor tells.
            what: to whom it happened, where the actor, its machine or Ray is gone.
            kind: of the error that says so.
        """
        try:
            value, error, trace = call.result()
        except Exception as lost:  # of several kinds, by what is gone
            self.lost = True
            told = f"{what} is lost: {_first_line(lost)}"
            return None, kind(told), f"{kind.__name__}: {told}"
        return value, error, trace


class RayWorker(EnvWorker):
    """An instance in a host of the cluster. It is made when it is first asked.

    Args:
        host: where.
        number: of the instance, in the whole collection.
        making: how it is made.
    """

    def __init__(self, env_id: str, events: Events, host: Actor, number: int, making: Making) -> None:
        super().__init__(env_id, events)
        self._host, self._number = host, number
        self._making: Making | None = making
        self._closing: Any = None
        host.load += 1

    def _send(self, number: int, ask: Ask) -> None:
        making, self._making = self._making, None
        answer = self._host.handle.ask.remote(self._number, ask, making)
        answer.future().add_done_callback(partial(self._done, number))

    def _done(self, number: int, future: Any) -> None:
        """In a thread of Ray's."""
        what = f"{self.env_id}: the machine or process that played it"
        self._events.put(Finished(self, number, *self._host.came_of(future, what, EnvFault)))

    def leave(self) -> None:
        self._drop(hangs=False)

    def abandon(self) -> None:
        self.calls += 1
        self._drop(hangs=True)

    def _drop(self, *, hangs: bool) -> None:
        if self._closing is not None:
            return
        self._host.load -= 1
        self._closing = False
        if self._making is None and not self._host.lost:
            self._closing = self._host.handle.drop.remote(self._number, hangs)
            if hangs:
                self._host.was_told(self._closing)

    def join(self, seconds: float) -> bool:
        if self._closing:
            ready, _ = load_ray().wait([self._closing], timeout=max(0.0, seconds))
            return bool(ready)
        return not self.alive

    @property
    def alive(self) -> bool:
        return self._closing is None

    @property
    def lost(self) -> bool:
        return self._host.lost

    def where(self) -> str:
        return "a host of the cluster"


class RayEngine:
    """A replica of the policy. See `palaestra.agents.workers.Engine`."""

    def __init__(self, events: Events, actor: Actor) -> None:
        self.calls = 0
        self._events, self._actor = events, actor

    @property
    def lost(self) -> bool:
        """See `Engine`."""
        return self._actor.lost

    def submit(self, requests: Sequence[Request]) -> None:
        """See `Engine`."""
        self.calls += 1
        answer = self._actor.handle.act.remote(list(requests))
        answer.future().add_done_callback(partial(self._done, self.calls))

    def _done(self, number: int, future: Any) -> None:
        came = self._actor.came_of(future, "a replica of the policy", RuntimeError)
        self._events.put(Finished(self, number, *came))

    def leave(self) -> None:
        """See `Engine`. The crew ends the actor."""

    def join(self, seconds: float) -> bool:
        """See `Engine`."""
        return True


def _first_line(error: BaseException) -> str:
    return " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())

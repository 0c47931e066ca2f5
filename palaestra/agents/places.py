"""Where a collection's environments live, and what answers its requests.

An instance is placed by what its environment declares that it needs (`TextEnv.needs`): in a thread that all such
instances share, in a thread of its own, or in a process of its own. Environments of other machines are `RemoteEnv`s,
which need a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from queue import SimpleQueue
from typing import Any, Protocol

from palaestra.agents.elsewhere import Making
from palaestra.agents.episode import Actor
from palaestra.agents.instance import Instance
from palaestra.agents.policy import Policy
from palaestra.agents.processes import ProcessInstance
from palaestra.agents.shared_thread import LEND, SharedThread, SharedWorker
from palaestra.agents.workers import Engine, EnvWorker, Events, PolicyThread, ThreadWorker
from palaestra.envs import Needs, TextEnv, find, make

Factory = Callable[[str], TextEnv[Any]]
"""Makes an instance from an environment's id."""


class Crew(Protocol):
    """All that works for a collection. Used from its thread.

    Attributes:
        events: where all of them post.
    """

    events: Events

    def place(self, env_id: str) -> EnvWorker:
        """Make an instance where it belongs. Raises BadInput where there is no such environment."""
        ...

    def free(self, asked: Collection[Engine]) -> Engine | None:
        """An engine that is not among those that have been asked; None where all are at work."""
        ...

    def look(self, longest: float) -> float:
        """See to what is stuck or lost. Gives the seconds after which to look again, at the most `longest`."""
        ...

    def leave(self) -> None:
        """The engines will be asked no more."""
        ...

    def close(self, seconds: float) -> None:
        """End all that is left; what has not ended within `seconds` is left behind."""
        ...


class LocalCrew:
    """A `Crew` of threads and processes of this machine, and the policy in one thread.

    Args:
        policy: who acts.
        settings: keyword arguments of `palaestra.make`.
        factory: makes instances in place of it; they are placed by its attribute `needs` if it has one, else each in a
            thread of its own.
    """

    def __init__(self, policy: Policy, settings: Mapping[str, Any], factory: Factory | None = None) -> None:
        self.events: Events = SimpleQueue()
        self._policy, self._settings, self._factory = policy, settings, factory
        self._engine: PolicyThread | None = None
        self._shared: SharedThread | None = None
        self._makings: dict[str, Making] = {}

    def place(self, env_id: str) -> EnvWorker:
        """See `Crew`."""
        needs = self._needs(env_id)
        if needs is Needs.PROCESS:
            return ThreadWorker(env_id, self.events, ProcessInstance(self._making(env_id)))
        inside = self._policy if self._policy.looks_inside else None
        instance = Instance(lambda: self._create(env_id), inside)
        if needs is Needs.THREAD:
            return ThreadWorker(env_id, self.events, instance)
        if self._shared is None:
            self._shared = SharedThread()
        return SharedWorker(env_id, self.events, instance, self._shared)

    def free(self, asked: Collection[Engine]) -> Engine | None:
        """See `Crew`."""
        if self._engine is None:
            self._engine = PolicyThread(self._policy.act, self.events, f"policy {self._policy.name}")
        return None if self._engine in asked else self._engine

    def look(self, longest: float) -> float:
        """See `Crew`."""
        if self._shared is None:
            return longest
        self._shared.look()
        return min(longest, LEND)

    def leave(self) -> None:
        """See `Crew`."""
        if self._engine is not None:
            self._engine.leave()

    def close(self, seconds: float) -> None:
        """See `Crew`."""
        until = time.monotonic() + seconds
        if self._shared is not None:
            self._shared.close(seconds)
        if self._engine is not None:
            self._engine.join(until - time.monotonic())

    def _needs(self, env_id: str) -> Needs:
        if self._policy.actor is Actor.HUMAN:  # who sits before this process, and thinks for as long as they like
            return Needs.THREAD
        if self._factory is not None:
            return Needs(getattr(self._factory, "needs", Needs.THREAD))
        return find(env_id).load().needs

    def _create(self, env_id: str) -> TextEnv[Any]:
        return self._factory(env_id) if self._factory is not None else make(env_id, **self._settings)

    def _making(self, env_id: str) -> Making:
        if env_id not in self._makings:
            inside = self._policy if self._policy.looks_inside else None
            self._makings[env_id] = Making.of(env_id, self._settings, self._factory, inside)
        return self._makings[env_id]

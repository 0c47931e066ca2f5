"""Collecting on a Ray cluster: environments in actors, policies as replicas, one writer of the store.

    collect(tasks, policy, store, concurrency=512, cluster=RayCluster("10.0.0.1:6379"))

The collector's loop is the same, and so is all that it promises; only the crew is another one. The store is written by
the process that collects and nobody else, so nothing is stored twice, and a machine that is lost takes nothing with it
that was stored: what it had in flight is a fault, and is tried again elsewhere. A lost host or replica is replaced as
soon as the cluster has room for another one.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

from palaestra.agents.elsewhere import Making, pickled
from palaestra.agents.places import Factory
from palaestra.agents.policy import Policy
from palaestra.agents.ray_link import Lost, connect, disconnect, load_ray
from palaestra.agents.ray_workers import Actor, RayEngine, RayWorker
from palaestra.agents.streaming import StreamingPolicy
from palaestra.agents.workers import Engine, EnvWorker, Events, PolicyThread
from palaestra.envs import BadInput

_PATIENCE = 120.0
"""Seconds in which the cluster has to find room for a first host, and for another one when all are lost."""
_NO_ROOM = (
    f"the Ray cluster had no room for what is needed in {_PATIENCE:.0f} s; see `ray status`, ask for fewer replicas or "
    "hosts, or add machines, and collect again to go on"
)
NO_REPLICAS = "replicas are for models in this process; servers are asked from here, so use vllm:@URL,URL without them"
"""Why a policy that hands its requests to servers has none."""
_ASSEMBLY = 15.0
"""Seconds in which all that was asked for should be there before the first of it is used."""
_SILENCE = 20.0
"""Seconds after which a host is killed that does not even say that it gave up an instance: all of it hangs."""
_LOOK = 0.25
"""Seconds between two looks at what is lost or has come."""


@dataclass(frozen=True)
class RayCluster:
    """Where to collect.

    Attributes:
        address: `HOST:PORT` of the cluster's head, `auto` for the cluster that this machine belongs to, or `local` to
            start one of this machine alone.
        replicas: of the policy, which computes there; 0 leaves it with the caller, as befits one that asks servers (a
            `StreamingPolicy`, which has none).
        replica_gpus: GPUs that each replica gets.
        hosts: processes with environments in them, each of one CPU; None is as many as the cluster has CPUs for.
        make_policy: makes the policy of a replica there, where it cannot or should not be sent; None sends it.
    """

    address: str
    replicas: int = 0
    replica_gpus: float = 0.0
    hosts: int | None = None
    make_policy: Callable[[], Policy] | None = None

    def __post_init__(self) -> None:
        wrong = [
            (self.replicas < 0, f"replicas must not be negative, got {self.replicas}"),
            (self.replica_gpus < 0, f"replica_gpus must not be negative, got {self.replica_gpus}"),
            (self.hosts is not None and self.hosts < 1, f"hosts must be at least 1, got {self.hosts}"),
        ]
        for is_wrong, message in wrong:
            if is_wrong:
                raise BadInput(f"ray: {message}")

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Stay connected over several collections. Raises BadInput where there is no such cluster."""
        own = connect(self.address)
        try:
            yield
        finally:
            disconnect(own)

    def crew(self, policy: Policy, settings: Mapping[str, Any], factory: Factory | None) -> RayCrew:
        """Connect, and make what works for one collection.

        Raises:
            BadInput: there is no such cluster, or replicas are asked for of a policy that would not be asked there.
        """
        if self.replicas and isinstance(policy, StreamingPolicy):
            raise BadInput(f"ray: policy {policy.name}: {NO_REPLICAS}")
        return RayCrew(self, policy, settings, factory)


class RayCrew:
    """A `Crew` on a Ray cluster. See `palaestra.agents.places.LocalCrew` for the arguments."""

    def __init__(
        self, cluster: RayCluster, policy: Policy, settings: Mapping[str, Any], factory: Factory | None
    ) -> None:
        self.events: Events = SimpleQueue()
        self._cluster, self._policy, self._settings, self._factory = cluster, policy, settings, factory
        self._inside = policy if policy.looks_inside else None
        self._makings: dict[str, Making] = {}
        self._numbers = itertools.count()
        self._next_look = 0.0
        self._own = connect(cluster.address)
        try:
            hosts = cluster.hosts or max(1, int(load_ray().cluster_resources().get("CPU", 1)) - cluster.replicas)
            self._hosts = _Actors(hosts, partial(_host, load_ray()))
            self._replicas: _Actors | None = None
            self._local: PolicyThread | None = None
            self._engines: dict[Actor, RayEngine] = {}
            if self._inside is None and cluster.replicas:
                source = cluster.make_policy or policy
                raw = pickled(source, f"policy {policy.name}")
                make = partial(_replica, load_ray(), raw, cluster.make_policy is not None, cluster.replica_gpus)
                self._replicas = _Actors(cluster.replicas, make)
        except BaseException:
            disconnect(self._own)
            raise

    def place(self, env_id: str) -> EnvWorker:
        """See `Crew`: an instance in the host that has the fewest, and answers."""
        if env_id not in self._makings:
            self._makings[env_id] = Making.of(env_id, self._settings, self._factory, self._inside)
        host = min(self._hosts.there(), key=lambda each: (each.silent_since is not None, each.load))
        return RayWorker(env_id, self.events, host, next(self._numbers), self._makings[env_id])

    def free(self, asked: Collection[Engine]) -> Engine | None:
        """See `Crew`."""
        if self._replicas is None:
            if self._local is None:
                self._local = PolicyThread(self._policy.act, self.events, f"policy {self._policy.name}")
            return None if self._local in asked else self._local
        for actor in self._replicas.now():
            if actor not in self._engines:
                self._engines = {known: self._engines[known] for known in self._engines if not known.lost}
                self._engines[actor] = RayEngine(self.events, actor)
            if self._engines[actor] not in asked:
                return self._engines[actor]
        return None

    def look(self, longest: float) -> float:
        """See `Crew`: replaces what is lost."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK
            self._hosts.look()
            if self._replicas is not None:
                self._replicas.look()
        return min(longest, _LOOK)

    def leave(self) -> None:
        """See `Crew`."""
        if self._local is not None:
            self._local.leave()

    def close(self, seconds: float) -> None:
        """See `Crew`."""
        if self._local is not None:
            self._local.join(seconds)
        self._hosts.close()
        if self._replicas is not None:
            self._replicas.close()
        disconnect(self._own)


class _Actors:
    """So many actors of a kind, replaced where they are lost.

    Args:
        count: how many there should be.
        make: makes one; it need not be there at once.
    """

    def __init__(self, count: int, make: Callable[[], Any]) -> None:
        self._make, self._ray = make, load_ray()
        self._there: list[Actor] = []
        self._coming: dict[Any, Any] = {}  # what tells that it is ready -> the actor
        self._all_by = time.monotonic() + _ASSEMBLY
        self._none_since: float | None = None
        for _ in range(count):
            self._order()

    def there(self) -> list[Actor]:
        """Those that are ready: one at least; waits for the first one.

        Raises:
            Lost: there is none, and none comes.
        """
        while self._coming and time.monotonic() < self._all_by:  # so that the first ones do not get everything
            self.look(wait=0.5)
        self._all_by = 0.0
        self._replace()
        until = time.monotonic() + _PATIENCE
        while not self._there:
            self.look(wait=1.0)
            if not self._there and time.monotonic() > until:
                raise Lost(_NO_ROOM)
        return self._there

    def now(self) -> list[Actor]:
        """Those that are ready; waits for them the first time only. Raises Lost where there was none for long."""
        if self._all_by:
            return self.there()
        self._replace()
        if self._there:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = time.monotonic()
        elif time.monotonic() - self._none_since > _PATIENCE:
            raise Lost(_NO_ROOM)
        return self._there

    def look(self, wait: float = 0.0) -> None:
        """Take in those that have come, and order others for those that are lost. Raises what one says is wrong."""
        self._replace()
        if not self._coming:
            return
        ready, _ = self._ray.wait(list(self._coming), num_returns=len(self._coming), timeout=wait)
        for sign in ready:
            handle = self._coming.pop(sign)
            try:
                wrong: BaseException | None = self._ray.get(sign)
            except self._ray.exceptions.RayActorError as error:
                if error.actor_init_failed:  # and so would the next one
                    told = " ".join(str(error).strip().splitlines()[-1].split())[:300]
                    raise BadInput(
                        "one of the cluster's machines cannot run what it is to run; it needs the same Palaestra and "
                        f"the same packages as this one: {told}"
                    ) from error
                self._order()  # its machine was lost before it was ready
                continue
            if wrong is not None:
                raise wrong
            self._there.append(Actor(handle))

    def close(self) -> None:
        """End all of them."""
        for handle in [*self._coming.values(), *(actor.handle for actor in self._there)]:
            self._ray.kill(handle)

    def _replace(self) -> None:
        late = time.monotonic() - _SILENCE
        for actor in self._there:
            actor.lost = actor.lost or (actor.silent_since or late) < late
        lost = [actor for actor in self._there if actor.lost]
        self._there = [actor for actor in self._there if not actor.lost]
        for actor in lost:
            self._ray.kill(actor.handle)  # it may hang, and then would keep its processor
            self._order()

    def _order(self) -> None:
        handle = self._make()
        self._coming[handle.ready.remote()] = handle


def _host(ray: Any) -> Any:
    from palaestra.agents.ray_actors import EnvHost

    options = {"num_cpus": 1, "max_concurrency": 100_000, "scheduling_strategy": "SPREAD"}
    return ray.remote(EnvHost).options(**options).remote()


def _replica(ray: Any, policy: bytes, makes: bool, gpus: float) -> Any:
    from palaestra.agents.ray_actors import PolicyReplica

    options = {"num_cpus": 1, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}
    return ray.remote(PolicyReplica).options(**options).remote(policy, makes, sys.path)

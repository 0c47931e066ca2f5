"""What runs on the machines of a Ray cluster: hosts with environment instances in them, and replicas of a policy.

Neither knows of Ray: the actors are made of these classes.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
import traceback
from collections.abc import Sequence
from queue import Empty

from palaestra.agents.elsewhere import Making, also_look_in, portable
from palaestra.agents.instance import Ask
from palaestra.agents.places import LocalCrew
from palaestra.agents.policy import Completion, Policy, PolicyBase, Request
from palaestra.agents.workers import EnvWorker, Finished
from palaestra.envs import BadInput

Told = tuple[object, BaseException | None, str]
"""What came of a call: its value, or what it raised and the traceback."""

_Waiting = dict[EnvWorker, tuple[asyncio.AbstractEventLoop, "asyncio.Future[Told]"]]


class _Nobody(PolicyBase):
    """Whoever acts does so elsewhere."""

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        raise BadInput("the policy of this collection does not look inside")


class EnvHost:
    """Instances of one process of the cluster, each in a thread or process as its environment needs."""

    def __init__(self) -> None:
        self._crews: dict[str, LocalCrew] = {}
        self._workers: dict[int, EnvWorker] = {}
        self._waiting: _Waiting = {}

    async def ready(self) -> BaseException | None:
        """It is there: nothing is wrong."""
        return None

    async def ask(self, number: int, ask: Ask, making: Making | None = None) -> Told:
        """Ask an instance.

        Args:
            number: of the instance.
            making: how it is made, the first time that it is asked.
        """
        try:
            if making is not None:
                self._workers[number] = self._crew(making).place(making.env_id)
            worker = self._workers[number]
        except Exception as error:  # whatever the code of an environment raises when it is imported
            return None, _missing(error, "the environment"), traceback.format_exc()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Told] = loop.create_future()
        self._waiting[worker] = (loop, future)
        worker.submit(ask)
        return await future

    async def drop(self, number: int, hangs: bool) -> None:
        """Close an instance; one that hangs is aborted and not waited for."""
        worker = self._workers.pop(number, None)
        if worker is None:
            return
        if hangs:
            worker.abandon()
            return
        worker.leave()
        await asyncio.get_running_loop().run_in_executor(None, worker.join, 5.0)

    def _crew(self, making: Making) -> LocalCrew:
        if making.env_id not in self._crews:
            also_look_in(making.paths)
            if making.source is not None:
                making.source.load()
            policy: Policy = pickle.loads(making.policy) if making.policy is not None else _Nobody()
            factory = pickle.loads(making.factory) if making.factory is not None else None
            crew = LocalCrew(policy, making.settings, factory)
            threading.Thread(target=self._tell, args=(crew,), name="told by instances", daemon=True).start()
            self._crews[making.env_id] = crew
        return self._crews[making.env_id]

    def _tell(self, crew: LocalCrew) -> None:
        """In a thread of its own: hand what instances post to whoever waits for it."""
        while True:
            try:
                event = crew.events.get(timeout=crew.look(0.5))
            except Empty:
                continue
            if not isinstance(event, Finished) or not isinstance(event.worker, EnvWorker):
                continue
            loop, future = self._waiting.pop(event.worker)
            error = None if event.error is None else portable(event.error)
            loop.call_soon_threadsafe(_settle, future, (event.value, error, event.trace))


def _settle(future: asyncio.Future[Told], told: Told) -> None:
    if not future.done():
        future.set_result(told)


class PolicyReplica:
    """A policy of one process of the cluster.

    Args:
        raw: pickled: a policy, or what makes one when it is called.
        makes: it is what makes one.
        paths: where else to look for modules.
    """

    def __init__(self, raw: bytes, makes: bool, paths: Sequence[str]) -> None:
        self._raw, self._makes, self._paths = raw, makes, paths
        self._policy: Policy | None = None

    def ready(self) -> BaseException | None:
        """Load the policy; what is wrong with it, if anything is."""
        try:
            also_look_in(self._paths)
            loaded = pickle.loads(self._raw)
            self._policy = loaded() if self._makes else loaded
        except Exception as error:  # whatever a policy or its making raises
            return _missing(error, "the policy")
        return None

    def act(self, requests: Sequence[Request]) -> tuple[Sequence[Completion], BaseException | None, str]:
        """Answer a batch."""
        assert self._policy is not None
        try:
            return list(self._policy.act(requests)), None, ""
        except Exception as error:  # whatever an engine raises
            return [], portable(error), traceback.format_exc()


def _missing(error: Exception, what: str) -> BaseException:
    if isinstance(error, BadInput):
        return portable(error)
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return BadInput(f"{what} cannot be loaded on the cluster's machines, which need what this one has: {told}")

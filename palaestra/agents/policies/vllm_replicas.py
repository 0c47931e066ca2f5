"""Several vLLM servers with the same weights, as one: requests shared out among them, weights changed in all of them.

An event loop in a thread of its own talks to the servers. It has at most so many requests under way at each (the others
wait here, where they can still be put in order), notices a server that is gone or hangs, starts it again where it is
ours, and changes weights between requests: none is ever answered half by old weights and half by new ones.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, TypeVar

from palaestra.agents.engine import Engine, EngineFault
from palaestra.agents.policies.vllm_http import Down
from palaestra.agents.policies.vllm_prefixes import Job, Known, Waiting, at_home, choose
from palaestra.agents.policies.vllm_same import must_read_alike, must_say_the_same
from palaestra.agents.policies.vllm_server import Answer, Refused, Served, Server
from palaestra.envs import BadInput

_TRIES = 3
"""Times that an engine is started again before it is given up."""
_LOOKS = 2.0
"""Seconds between two looks at a server that is not ours and does not answer."""
_CLOSED = "the policy was closed before the answer came"

T = TypeVar("T")


class Replicas:
    """The servers of one policy.

    Args:
        places: engines, which are started where they do not run, and URLs of servers that do.
        model: under which name a found server serves the model; its first one by default.
        key: sent to found servers.
        concurrency: requests under way at each server.
        deadline: seconds that a server may take for one request.
        patience: seconds that requests wait for a found server that does not answer.

    Attributes:
        served: what the servers say of themselves.
        name, version: of the weights.
        faults: how often a server was found dead or hanging.

    Raises:
        BadInput: see `Server.identify`; or the servers serve different models. EngineFault: an engine does not start.
    """

    def __init__(
        self,
        places: Sequence[Engine | str],
        *,
        model: str | None,
        key: str | None,
        concurrency: int,
        deadline: float,
        patience: float,
    ) -> None:
        self._servers = [_server(place, key) for place in places]
        self._known = [Known() for _ in places]
        self._limit, self._deadline, self._patience = concurrency, deadline, patience
        self._waiting, self._lost = Waiting(), dict[Server, str]()
        self._come, self._called = deque[Job](), False
        self._tasks: set[asyncio.Task[None]] = set()
        self._mending: dict[Server, asyncio.Task[None]] = {}
        self._changing: asyncio.Task[Any] | None = None  # who changes the weights
        self._pumping = self._closed = False
        self._adapter: tuple[str, str] | None = None
        self._weights: tuple[str, str] | None = None  # folder and version of those that were loaded last
        self._first: dict[Server, Served] = {}  # what each server said of itself when it was found
        self._split = ""  # why the servers have different weights
        self.name, self.version, self.faults = "", "", 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        atexit.register(self.close)
        try:
            self.served = self._wait(self._open(model))
        except BaseException:
            self.close()
            raise

    # -- from any thread ---------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Take a request; its `done` is called from the loop's thread."""
        if self._closed:
            job.done(_CLOSED)
            return
        self._come.append(job)
        if not self._called:  # the loop is woken once for all that comes until it looks
            self._called = True
            self._loop.call_soon_threadsafe(self._take)

    def load(self, folder: Path, version: str, name: str, *, adapter: bool = False) -> None:
        """Change the weights of all servers, once what is under way is answered. Blocks until it is done.

        Args:
            folder: of the weights, as all servers see it.
            version, name: of these weights.
            adapter: it is a LoRA adapter of the weights that are there.

        Raises:
            BadInput: the servers do not take them; they go on with what they had. EngineFault: a server broke, or there
                is none any more. Where others have the new weights by then, no request is answered until weights are
                loaded that all take. One that is gone meanwhile gets them when it is back.
        """
        self._wait(self._change(folder, version, name, adapter))

    def compare(self, prompt: Sequence[int]) -> None:
        """Have all read a prompt. Raises BadInput where they turn out to serve different weights."""
        self._wait(must_read_alike(self._first, prompt))

    def forget(self) -> None:
        """Empty the prefix caches. Raises BadInput where a server does not."""
        self._wait(self._quietly(lambda server: server.forget()))

    def close(self) -> None:
        """Give everything back: what waits is answered with an error, and the engines that were started here end."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        for server in self._servers:
            if server.owned and server.engine is not None:
                server.engine.stop()  # from here: it may be starting, which the loop waits for
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        if not self._thread.is_alive():
            self._loop.close()

    @property
    def urls(self) -> list[str]:
        """Of the servers that were found, without credentials."""
        return [server.label for server in self._servers if not server.ours]

    def _wait(self, work: Coroutine[None, None, T]) -> T:
        if self._closed:
            work.close()
            raise EngineFault("the policy is closed")
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except CancelledError:
            raise EngineFault("the policy was closed meanwhile") from None

    # -- in the loop: beginning and end ------------------------------------------------------------------------------

    async def _open(self, model: str | None) -> Served:
        await asyncio.gather(*(server.start() for server in self._servers))
        found = [await server.identify(None if server.ours else model) for server in self._servers]
        self._first = dict(zip(self._servers, found, strict=True))
        must_say_the_same(self._first)
        return found[0]

    async def _leave(self) -> None:
        self._refuse(_CLOSED)
        going = [*self._tasks, *self._mending.values(), *([self._changing] if self._changing else [])]
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
        for server in self._servers:
            await server.close()
            await server.end()

    # -- in the loop: requests ---------------------------------------------------------------------------------------

    def _take(self) -> None:
        self._called = False  # before it looks: what comes from now on calls again
        while self._come:
            job = self._come.popleft()
            if self._closed:
                job.done(_CLOSED)
            else:
                self._waiting.add(job)
        if self._lost:
            self._look_again()
        self._soon()

    def _soon(self) -> None:
        """Share out what waits, after all that came at once has come."""
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._share)

    def _share(self) -> None:
        self._pumping = False
        if self._changing or self._closed:
            return
        if self._split:
            self._refuse(self._split)
        while len(self._waiting) and any(server.ready and server.in_flight < self._limit for server in self._servers):
            job = self._waiting.take(lambda job: at_home(job, self._servers, self._known, self._limit))
            place = choose(job, self._servers, self._known, self._limit)
            self._known[place].add(job.blocks)
            server = self._servers[place]
            server.in_flight += 1
            task = self._loop.create_task(self._serve(job, server))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _look_again(self) -> None:
        """A server that was given up may be back: what is asked now waits for it a while, if no other is there."""
        for server in list(self._lost):
            if not server.ours:
                self._mend(server, min(self._patience, 10 * _LOOKS))
        self._give_up()

    def _give_up(self) -> None:
        """What waits is told so where there is nobody left to wait for."""
        if len(self._lost) == len(self._servers):
            self._refuse("; ".join(self._lost.values()))

    def _refuse(self, why: str) -> None:
        for job in self._waiting.clear():
            job.done(why)

    async def _serve(self, job: Job, server: Server) -> None:
        answer: Answer | str
        try:
            model = self._adapter[0] if self._adapter else self._first[server].name
            answer = await self._ask({**job.body, "model": model, "prompt": job.prompt}, server)
        except asyncio.CancelledError:
            answer = _CLOSED
        except (Refused, Down) as error:
            answer = str(error)
        except Exception as error:  # whatever it is, somebody waits for this answer
            answer = f"{type(error).__name__}: {error}"
        server.in_flight -= 1
        try:
            job.done(answer)
        except Exception as error:  # such as ids that the tokenizer cannot turn into text
            job.done(f"{server.label} gave an answer that cannot be read: {type(error).__name__}: {error}")
        self._soon()

    async def _ask(self, body: dict[str, object], server: Server) -> Answer:
        try:
            return await server.complete(body, self._deadline)
        except Down as error:
            if "hangs" not in str(error) and server.ready and await server.healthy():
                return await self._ask_again(body, server)  # perhaps a connection broke, not the server
            self._mend(server, self._patience)
            raise

    async def _ask_again(self, body: dict[str, object], server: Server) -> Answer:
        """The second and last try: a server that fails at one token too is mended, whatever it says of its health."""
        try:
            return await server.complete(body, self._deadline)
        except Down as error:
            if server.ready and await server.answers():
                raise Refused(f"{error}; twice, though the server answers others") from error
            self._mend(server, self._patience)
            raise

    # -- in the loop: servers that break -----------------------------------------------------------------------------

    def _mend(self, server: Server, patience: float) -> None:
        if server in self._mending or self._closed:
            return
        server.ready = False
        self._lost.pop(server, None)
        self.faults += 1
        self._known[self._servers.index(server)].forget()
        self._mending[server] = self._loop.create_task(self._mended(server, patience))

    async def _mended(self, server: Server, patience: float) -> None:
        try:
            await server.close()
            why = await (self._restarted(server) if server.ours else self._back(server, patience))
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        del self._mending[server]
        if why:
            self._lost[server] = why
            self._give_up()
        else:
            server.ready = True
        self._soon()

    async def _restarted(self, server: Server) -> str:
        """Start an engine of ours again; why it does not, if it does not."""
        why = ""
        for _ in range(_TRIES):
            if self._closed:
                return _CLOSED
            try:
                await server.revive()
                if self._adapter is not None:
                    await server.adapt(self._adapter[1], self._adapter[0])
                return ""
            except (EngineFault, Refused, Down) as error:
                why = str(error)
        return f"the engine was started {_TRIES} times and does not come back: {why}"

    async def _back(self, server: Server, patience: float) -> str:
        """Wait for a server that is not ours."""
        until, why = self._loop.time() + patience, f"{server.label} has not answered for {patience:g} s"
        while self._loop.time() < until:
            if await server.healthy() and await server.answers():
                why = await self._caught_up(server)
                if not why:
                    return ""
            await asyncio.sleep(min(_LOOKS, patience))
        return why

    async def _caught_up(self, server: Server) -> str:
        """Give a server that is back what it has lost or missed: whoever started it again did not know of our weights.
        Why it cannot be one of ours any more, if it cannot."""
        first, names = self._first[server], await server.names()
        if first.name not in names:
            return f"{server.label} came back without the model {first.name!r}"
        version = await server.version()
        try:
            if self._weights is not None and version != self._weights[1]:
                await server.load(*self._weights)
            elif self._weights is None and version != first.version:
                return f"{server.label} came back with weights {version!r} in place of {first.version!r}"
            if self._adapter is not None and self._adapter[0] not in names:
                await server.adapt(self._adapter[1], self._adapter[0])
        except (Refused, Down) as error:
            return str(error)
        return ""

    # -- in the loop: weights ----------------------------------------------------------------------------------------

    async def _change(self, folder: Path, version: str, name: str, adapter: bool) -> None:
        before, taken = self._adapter, (f"adapter-{version}", str(folder)) if adapter else None
        whole = not self._split  # else each server may have something else, whatever was here before
        below = whole and before is not None and not adapter and version == self.version.partition("+")[0]

        async def change(server: Server) -> None:
            names = await server.names()
            if taken is not None and not (whole and taken == before and taken[0] in names):
                if taken[0] in names:
                    await server.drop(taken[0])
                await server.adapt(taken[1], taken[0])
            if before is not None and before[0] in names and (taken is None or before[0] != taken[0]):
                await server.drop(before[0])
            if adapter or below:  # the weights are there
                return
            try:
                await server.load(str(folder), version)
            except (Refused, Down):
                if server.ours:  # half of them may be in place
                    self._mend(server, self._patience)
                raise
            if server.engine is not None:
                server.engine.holds(folder)

        def settle() -> None:
            if not adapter and not below:
                self._weights = (str(folder), version)
            self.version, self.name = version, name
            self._adapter = taken

        await self._quietly(change, settle)

    async def _quietly(
        self, change: Callable[[Server], Coroutine[None, None, None]], settle: Callable[[], None] = lambda: None
    ) -> None:
        """Do something to all servers while no request is under way."""
        if self._changing:
            raise BadInput("the weights are being changed by somebody else just now")
        self._changing = asyncio.current_task()
        try:
            while self._tasks or self._mending:
                await asyncio.wait([*self._tasks, *self._mending.values()])
            changed: list[Server] = []
            for server in self._servers:
                if server in self._lost:
                    continue
                try:
                    await change(server)
                except (Refused, Down) as error:
                    if changed:
                        self._split = f"a change of weights failed, so that the servers have different ones: {error}"
                    raise
                changed.append(server)
            if not changed:
                raise Down("; ".join(self._lost.values()))
            for known in self._known:
                known.forget()
            self._split = ""
            settle()
        except Refused as error:
            raise BadInput(str(error)) from error
        except Down as error:
            raise EngineFault(str(error)) from error
        finally:
            self._changing = None
            self._soon()


def _server(place: Engine | str, key: str | None) -> Server:
    if isinstance(place, Engine) and place.inside:
        from palaestra.agents.policies.vllm_inside import Inside

        return Inside(place)
    return Server(place, key)

"""The same sandbox for asyncio: every method in a thread, and a cancelled `exec` ends its processes at once.

async with await start_async("bwrap") as box:
    print((await box.exec(["python3", "-c", "print(6 * 7)"])).stdout)
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox import given, start
from palaestra.envs.sandbox.client import GuestSandbox
from palaestra.envs.sandbox.errors import SandboxDied
from palaestra.envs.sandbox.interface import Entry, ExecResult, Limits, Sandbox, WorkCopy

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


# Not asyncio's own threads: those are few, and a command holds one for as long as it runs.
_threads = ThreadPoolExecutor(512, "palaestra-sandbox")


def _new_threads() -> None:
    """In a fork of this process the threads do not exist."""
    global _threads
    _threads = ThreadPoolExecutor(512, "palaestra-sandbox")


os.register_at_fork(after_in_child=_new_threads)


async def start_async(backend: str | None = None, limits: Limits | None = None, **settings: object) -> AsyncSandbox:
    """As `start`, without holding up the event loop. Cancelled, it closes what it was starting."""
    job: Future[GuestSandbox] = _threads.submit(functools.partial(start, backend, limits, **settings))
    try:
        box = await asyncio.shield(asyncio.wrap_future(job))
    except asyncio.CancelledError:
        if not job.cancel():
            job.add_done_callback(lambda done: None if done.exception() else done.result().close())
        raise
    return AsyncSandbox(box)


class AsyncSandbox:
    """A sandbox whose methods are awaited; what each does and raises is said in `Sandbox`.

    Args:
        box: the sandbox; from now on to be used through this only.

    Raises:
        BadInput: it is none.
    """

    def __init__(self, box: Sandbox) -> None:
        if not isinstance(box, Sandbox):
            raise BadInput(f"AsyncSandbox is made of a Sandbox, not {given.kind(box)}")
        self.box = box
        self._turn = asyncio.Lock()  # one command at a time, as in `Sandbox`

    @property
    def limits(self) -> Limits:
        """What it may use."""
        return self.box.limits

    async def exec(
        self,
        command: Sequence[str] | str,
        *,
        input: bytes | str = b"",
        cwd: str = ".",
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        timeout: float | None = None,
        background: bool = False,
    ) -> ExecResult:
        """Run a command. Cancelled, it returns once all of the command's processes are dead."""
        return await self._do(
            self.box.exec,
            command,
            input=input,
            cwd=cwd,
            env=env,
            user=user,
            timeout=timeout,
            background=background,
        )

    async def write_file(self, path: str, content: bytes | str, *, executable: bool = False) -> None:
        """Write a file."""
        await self._do(self.box.write_file, path, content, executable=executable)

    async def read_bytes(self, path: str) -> bytes:
        """Read a file."""
        return await self._do(self.box.read_bytes, path)

    async def read_file(self, path: str) -> str:
        """Read a file as text."""
        return await self._do(self.box.read_file, path)

    async def list(self, path: str = ".") -> Sequence[Entry]:
        """What lies in a folder."""
        return await self._do(self.box.list, path)

    async def snapshot(self, most: int | None = None) -> WorkCopy:
        """Copy the work directory."""
        return await self._do(self.box.snapshot, most)

    async def restore(self, copy: WorkCopy) -> None:
        """Make the work directory what it was."""
        await self._do(self.box.restore, copy)

    async def alive(self) -> bool:
        """Does it still answer."""
        return await self._do(self.box.alive)

    async def close(self) -> None:
        """End it and everything in it, at once: a command that runs ends with SandboxDied."""
        await asyncio.wrap_future(_threads.submit(self.box.close))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _do(
        self, method: Callable[_Arguments, _Result], *args: _Arguments.args, **settings: _Arguments.kwargs
    ) -> _Result:
        async with self._turn:
            job = _threads.submit(functools.partial(method, *args, **settings))
            call = asyncio.wrap_future(job)
            try:
                return await asyncio.shield(call)
            except asyncio.CancelledError:
                if not job.cancel():
                    await self._ended(call)
                raise

    async def _ended(self, call: asyncio.Future[_Result]) -> None:
        """A thread cannot be cancelled: end what it waits for, and wait until it comes back, however often we are
        cancelled meanwhile. Before that no other call may be made."""
        threading.Thread(target=self._cancel, daemon=True).start()  # it may have to wait for the input to be sent
        while not call.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([call])
        call.exception()

    def _cancel(self) -> None:
        with contextlib.suppress(SandboxDied):
            self.box.cancel()

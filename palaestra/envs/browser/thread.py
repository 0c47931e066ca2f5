"""The one thread of this process in which Playwright lives, and the browsers in it.

Environments are synchronous and each lives in a thread of its own; Playwright's objects belong to one event loop. So
one thread runs the loop, and calls come to it from anywhere (`call`): many episodes share it, and none waits for
another. Browsers are shared too: each episode has a context of its own in one of them, closed when it ends.

Nothing outlives this process, however it ends (`kill -9` included): Playwright's driver reads its standard input and
ends when that closes, and Chromium when the driver's pipe to it does.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import selectors
import signal
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from palaestra.envs.browser.chromium import FLAGS, find_chromium, require_playwright
from palaestra.envs.errors import EnvFault

if TYPE_CHECKING:
    from playwright.async_api import Browser, Playwright

T = TypeVar("T")

LAUNCH_SECONDS = 120.0
MOST_CONTEXTS = 8
"""Episodes in one browser at once: what a dying browser takes along."""

LOADS = 200
"""A browser takes no more episodes after so many, before anything it never frees adds up."""

IDLE_SECONDS = 300.0
"""A browser without an episode is closed after this time."""

CLOSE_SECONDS = 5.0
"""How long a browser may take to close before it is killed."""


@dataclass(eq=False)
class Shared:
    """A running browser. `served` counts the episodes that it had, `open` those that it has.

    Attributes:
        pid: of its first process.
        broken: something that every browser can do did not work, so no episode gets it any more.
    """

    browser: Browser
    pid: int
    served: int = 0
    open: int = 0
    broken: bool = False
    idle_since: float = field(default_factory=time.monotonic)

    @property
    def worn(self) -> bool:
        """Does it take no more episodes."""
        return self.broken or self.served >= LOADS

    @property
    def alive(self) -> bool:
        """Is it still there."""
        return self.browser.is_connected()


class BrowserThread:
    """The thread with the event loop. `call` and `later` may be used from every thread, the rest inside the loop."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.loop = asyncio.SelectorEventLoop(self._selector)
        # What is broken is found out by whoever waits for it; Playwright's own futures need no word on the terminal.
        self.loop.set_exception_handler(lambda loop, context: None)
        self._browsers: list[Shared] = []
        self._playwright: Playwright | None = None
        self._starting = asyncio.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="browsers", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # Inherited by the driver: Ctrl-C at the terminal stops the run, which then closes the browsers in order.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    # -- from any thread ---------------------------------------------------------------------------------------------

    def call(self, work: Coroutine[object, object, T], seconds: float, what: str) -> T:
        """Run in the loop and wait for it.

        Raises:
            EnvFault: it took longer than `seconds`, or a part of it longer than it may, or it was cancelled by `abort`.
                And whatever else it raises.
        """
        begun = time.monotonic()
        future = self.begin(work, seconds)
        try:
            return future.result(seconds + 30)
        except TimeoutError:  # of all of it or of a part: only the clock says how long that was
            raise EnvFault(f"{what} did not answer; given up after {time.monotonic() - begun:.0f} s") from None
        except (concurrent.futures.CancelledError, asyncio.CancelledError):
            raise EnvFault(f"{what} was aborted") from None
        finally:
            future.cancel()

    def begin(self, work: Coroutine[object, object, T], seconds: float) -> concurrent.futures.Future[T]:
        """Run in the loop; the future may be waited for and cancelled."""
        if self._stopped:
            work.close()
            raise EnvFault("the browsers of this process are closed")
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), self.loop)

    def later(self, work: Coroutine[object, object, object], seconds: float = 30.0) -> None:
        """Run in the loop; nobody waits for it or hears what becomes of it."""
        with contextlib.suppress(EnvFault, RuntimeError):
            self.begin(work, seconds)

    def close(self) -> None:
        """End all browsers and the thread. For the end of the process."""
        if self._stopped:
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._close_all(), self.loop).result(20)
        self._stopped = True
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)

    # -- inside the loop ---------------------------------------------------------------------------------------------

    async def borrow(self) -> Shared:
        """A browser with room for one more context; `give_back` it.

        Raises:
            BadInput: there is no Chromium. MissingExtra: no Playwright. EnvFault: it does not start.
        """
        async with self._starting:
            await self._trim()
            fitting = [each for each in self._browsers if each.open < MOST_CONTEXTS and not each.worn]
            shared = max(fitting, key=lambda each: each.open, default=None)
            if shared is None:  # shielded: if whoever asked is cancelled, the browser is there for the next one
                shared = await asyncio.shield(self._launch())
            shared.open += 1
            shared.served += 1
            return shared

    async def give_back(self, shared: Shared, *, broken: bool = False) -> None:
        """A context of this browser is closed, or was never made.

        Args:
            broken: making or closing it did not work. The browser is closed once the last of its episodes has ended:
                it may be slow alone.
        """
        shared.open -= 1
        shared.idle_since = time.monotonic()
        shared.broken |= broken
        await self._trim()

    async def _trim(self) -> None:
        now, idle, old = time.monotonic(), 0, []
        for each in self._browsers:
            if each.alive and each.open:
                continue
            idle += each.alive
            if not each.alive or each.worn or idle > 1 or now - each.idle_since > IDLE_SECONDS:
                old.append(each)
        self._browsers[:] = [each for each in self._browsers if each not in old]
        await asyncio.gather(*map(self._end, old))

    async def _end(self, shared: Shared) -> None:
        """Close a browser that nobody uses; kill one that does not answer, such as one that was stopped.

        It is no longer listed, so nobody else will: where whoever waits for it is cancelled, it is killed at once.
        """
        try:
            await asyncio.wait_for(shared.browser.close(), CLOSE_SECONDS)
        except BaseException as error:
            if shared.alive:  # its pipe is open, so the number is still its own
                with contextlib.suppress(OSError):
                    os.kill(shared.pid, signal.SIGKILL)
            if not isinstance(error, Exception):
                raise

    async def _launch(self) -> Shared:
        require_playwright()
        chromium = await asyncio.to_thread(find_chromium)
        for attempt in range(2):
            try:
                shared = await asyncio.wait_for(self._start(chromium.path), LAUNCH_SECONDS)
                break
            except Exception as error:
                self._playwright = None  # its driver may be dead: the second attempt starts another
                if attempt:
                    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
                    raise EnvFault(f"{chromium.path} did not start: {first}") from error
        self._browsers.append(shared)
        return shared

    async def _start(self, program: str) -> Shared:
        playwright = await self._driver()
        browser = await playwright.chromium.launch(
            executable_path=program,
            args=list(FLAGS),
            chromium_sandbox=os.geteuid() != 0,  # Chromium's own sandbox refuses to run as root
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
            timeout=LAUNCH_SECONDS * 1000,
            # Not through a proxy unless a context says so: and there, nobody listens.
            proxy={"server": "http://127.0.0.1:1", "bypass": "<-loopback>"},
        )
        return Shared(browser, await _pid(browser))

    async def _driver(self) -> Playwright:
        from playwright.async_api import async_playwright

        if self._playwright is None:
            self._playwright = await async_playwright().start()
        return self._playwright

    async def _close_all(self) -> None:
        await asyncio.gather(*map(self._end, self._browsers))
        self._browsers.clear()
        if self._playwright is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._playwright.stop(), 5)

    def let_go(self) -> None:
        """In a forked child: let go of all that the loop reads, so that the driver ends with the parent.

        The numbers of the files stay taken, by nothing: the objects that hold them may close them later.
        """
        self._stopped = True
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in [key.fd for key in self._selector.get_map().values()]:
            with contextlib.suppress(OSError):
                os.dup2(nothing, number, inheritable=False)
        os.close(nothing)


async def _pid(browser: Browser) -> int:
    """The number of a browser's first process."""
    cdp = await browser.new_browser_cdp_session()
    processes = (await cdp.send("SystemInfo.getProcessInfo"))["processInfo"]
    await cdp.detach()
    return next(int(each["id"]) for each in processes if each["type"] == "browser")


_current: BrowserThread | None = None
_making = threading.Lock()


def browsers() -> BrowserThread:
    """The thread of this process; started when first asked for."""
    global _current
    with _making:
        if _current is None:
            _current = BrowserThread()
        return _current


def _forked() -> None:
    global _current, _making
    thread, _current, _making = _current, None, threading.Lock()
    if thread is not None:
        thread.let_go()


def _exit() -> None:
    if _current is not None:
        _current.close()


os.register_at_fork(after_in_child=_forked)
atexit.register(_exit)

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


@dataclass(eq=False)
class Shared:
    """A running browser. `served` counts the episodes that it had, `open` those that it has."""

    browser: Browser
    served: int = 0
    open: int = 0
    idle_since: float = field(default_factory=time.monotonic)

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
            EnvFault: it took longer than `seconds`, or was cancelled by `abort`. And whatever it raises.
        """
        future = self.begin(work, seconds)
        try:
            return future.result(seconds + 30)
        except TimeoutError:
            raise EnvFault(f"{what} did not answer within {seconds:.0f} s") from None
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
            fitting = [each for each in self._browsers if each.open < MOST_CONTEXTS and each.served < LOADS]
            shared = max(fitting, key=lambda each: each.open, default=None) or await self._launch()
            shared.open += 1
            shared.served += 1
            return shared

    async def give_back(self, shared: Shared) -> None:
        """A context of this browser was closed."""
        shared.open -= 1
        shared.idle_since = time.monotonic()
        await self._trim()

    async def discard(self, shared: Shared) -> None:
        """A browser turned out to be dead: nobody gets it any more."""
        shared.open -= 1
        if shared in self._browsers:
            self._browsers.remove(shared)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(shared.browser.close(), 5)

    async def _trim(self) -> None:
        now, idle = time.monotonic(), 0
        for each in list(self._browsers):
            if each.alive and each.open:
                continue
            idle += each.alive
            if not each.alive or each.served >= LOADS or idle > 1 or now - each.idle_since > IDLE_SECONDS:
                self._browsers.remove(each)
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(each.browser.close(), 10)

    async def _launch(self) -> Shared:
        require_playwright()
        chromium = await asyncio.to_thread(find_chromium)
        for attempt in range(2):
            try:
                playwright = await self._driver()
                browser = await playwright.chromium.launch(
                    executable_path=chromium.path,
                    args=list(FLAGS),
                    chromium_sandbox=os.geteuid() != 0,  # Chromium's own sandbox refuses to run as root
                    handle_sigint=False,
                    handle_sigterm=False,
                    handle_sighup=False,
                    timeout=LAUNCH_SECONDS * 1000,
                    # Not through a proxy unless a context says so: and there, nobody listens.
                    proxy={"server": "http://127.0.0.1:1", "bypass": "<-loopback>"},
                )
                break
            except Exception as error:
                self._playwright = None  # its driver may be dead: the second attempt starts another
                if attempt:
                    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
                    raise EnvFault(f"{chromium.path} did not start: {first}") from error
        shared = Shared(browser)
        self._browsers.append(shared)
        return shared

    async def _driver(self) -> Playwright:
        from playwright.async_api import async_playwright

        if self._playwright is None:
            self._playwright = await async_playwright().start()
        return self._playwright

    async def _close_all(self) -> None:
        for each in self._browsers:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(each.browser.close(), 5)
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

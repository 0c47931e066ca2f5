"""One episode's browser context and its tabs: making and ending it, and what happens in it by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from palaestra.envs.browser.gate import Allowed, Gate, Site
from palaestra.envs.browser.thread import BrowserThread, Shared
from palaestra.envs.errors import EnvFault

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, CDPSession, Dialog, Page, Request

T = TypeVar("T")

MOST_TABS = 5

CONTEXT_SECONDS = 45.0
"""How long a browser that runs may take to make a context, which takes it some 20 ms, before another one is tried."""

MOST_NOTES = 10
"""Notes of what pages do by themselves that are kept from one look to the next; the rest is counted."""

LONGEST_NOTE = 520
"""Characters of a page's message, as it is quoted: signs that are escaped make it longer."""


@dataclass(frozen=True)
class Plan:
    """How a session is opened.

    Attributes:
        allowed: the hosts that may be reached.
        sites: hosts that the gate answers itself.
        viewport: width and height in pixels.
        clock: milliseconds that pass on the page with each action, by a clock of our own; None for the real one.
        scripts: run in every document before its own.
        shapes: list what is drawn (SVG, coloured boxes), too.
        load_seconds: how long a page may take.
        may_hang: an opened page that hangs is left and the agent told; False where pages are ours, then it is a fault.
        longest: characters of a tree.
    """

    allowed: Allowed
    sites: Mapping[str, Site] = field(default_factory=dict)
    viewport: tuple[int, int] = (1280, 960)
    clock: int | None = None
    scripts: tuple[str, ...] = ()
    shapes: bool = False
    load_seconds: float = 30.0
    may_hang: bool = False
    longest: int = 30_000


class Tab:
    """A page and the DevTools session to it. `opens` is called when it is about to open another tab.

    Attributes:
        busy: another document is on its way, as far as the browser told.
        pending: requests that are not answered yet.
        hung: it did not answer once.
        stopped: it took too long, so the rest of it was not loaded.
    """

    def __init__(self, page: Page, cdp: CDPSession, main_frame: str, opens: Callable[[], None]) -> None:
        self.page, self.cdp, self.main_frame = page, cdp, main_frame
        self.busy = self.hung = self.stopped = False
        self.pending: set[Request] = set()
        for event in ("frameRequestedNavigation", "frameScheduledNavigation", "frameStartedLoading"):
            cdp.on(f"Page.{event}", self._began)
        for event in ("frameStoppedLoading", "frameClearedScheduledNavigation"):
            cdp.on(f"Page.{event}", self._ended)
        page.on("request", lambda request: self.pending.add(request))
        page.on("requestfinished", lambda request: self.pending.discard(request))
        cdp.on("Page.windowOpen", lambda _: opens())
        page.on("requestfailed", lambda request: self.pending.discard(request))

    @property
    def loads(self) -> bool:
        """Is another document on its way."""
        return self.busy or any(
            each.is_navigation_request() and each.frame == self.page.main_frame for each in self.pending
        )

    def _began(self, event: Mapping[str, Any]) -> None:
        if event.get("frameId") == self.main_frame and event.get("disposition", "currentTab") == "currentTab":
            self.busy, self.stopped = True, False

    def _ended(self, event: Mapping[str, Any]) -> None:
        if event.get("frameId") == self.main_frame:
            self.busy = False


class Context:
    """A context with its tabs. All methods run in the browser thread's loop, but `die`.

    Attributes:
        notes: what happened since the last look that the agent should hear of.
        fault: why this session can no longer be used; None while it can.
        clipboard: what was copied last by keys; the browser's own is shared by all its contexts.
    """

    def __init__(self, thread: BrowserThread, plan: Plan) -> None:
        self.thread, self.plan = thread, plan
        self.gate = Gate(plan.allowed, plan.sites)
        self.notes: list[str] = []
        self._unsaid = 0
        self.fault: str | None = None
        self.clipboard = ""
        self._tabs: list[Tab] = []
        self._shared: Shared | None = None
        self._context: BrowserContext | None = None
        self._opening: set[asyncio.Future[None]] = set()
        self._expected = self._coming = 0
        self._had_page = False
        self._dead: asyncio.Future[None] = thread.loop.create_future()

    # -- making and ending -------------------------------------------------------------------------------------------

    async def _new_context(self, proxy: str) -> BrowserContext:
        """A context in a browser that has room; in a fresh one where that turns out to be dead."""
        width, height = self.plan.viewport
        for attempt in range(3):
            self._shared = await self.thread.borrow()
            try:
                made = self._shared.browser.new_context(
                    proxy={"server": proxy, "bypass": "<-loopback>"},
                    service_workers="block",
                    accept_downloads=False,
                    viewport={"width": width, "height": height},
                    reduced_motion="reduce",
                    locale="en-US",
                    timezone_id="UTC",
                )
                return await asyncio.wait_for(made, CONTEXT_SECONDS)
            except BaseException as error:  # also where all of the opening took too long, and this is cancelled
                shared, self._shared = self._shared, None
                await self.thread.give_back(shared, broken=True)
                if attempt == 2 or not isinstance(error, Exception):
                    raise
        raise AssertionError("unreachable")

    async def guard(self, work: Coroutine[object, object, T]) -> T:
        """Do something with the page; a page or browser that dies meanwhile ends it at once.

        Raises:
            EnvFault: the session is, or becomes, unusable. And what the work raises.
        """
        if self.fault is not None:
            work.close()
            raise EnvFault(self.fault)
        task = asyncio.ensure_future(work)
        try:
            both: set[asyncio.Future[Any]] = {task, self._dead}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise EnvFault(self.fault or "the page died")
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=5)

    def die(self, why: str) -> None:
        """Make the session unusable and close it. From any thread."""
        self.fault = self.fault or why
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.thread.loop.call_soon_threadsafe(self._broke, why)
        self.thread.later(self.close())

    async def close(self) -> None:
        """Close the context and everything in it. May be called twice."""
        self._broke("this session is closed")
        shared, self._shared = self._shared, None
        context, self._context = self._context, None
        self._tabs.clear()
        broken = context is not None  # until it has closed, too
        try:
            if context is not None:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(context.close(), 10)
                    broken = not self._had_page
            await self.gate.close()
        finally:
            if shared is not None:
                await self.thread.give_back(shared, broken=broken)

    @property
    def tab(self) -> Tab:
        """The tab that is looked at: the newest. Raises EnvFault when there is none any more."""
        self.check()
        if not self._tabs:
            raise EnvFault("all pages of this session are closed")
        return self._tabs[-1]

    def check(self) -> None:
        """Raises EnvFault when the session can no longer be used."""
        if self._shared is not None and not self._shared.alive:
            self.fault = "the browser died"
        if self.fault is not None:
            raise EnvFault(self.fault)

    # -- what happens by itself --------------------------------------------------------------------------------------

    def heard(self) -> tuple[str, ...]:
        """The notes since this was last asked, with a line for those that were only counted."""
        more = (f"And {self._unsaid} more messages or tabs.",) if self._unsaid else ()
        notes = (*self.notes, *more)
        self.notes.clear()
        self._unsaid = 0
        return notes

    def _note(self, what: str) -> None:
        """Keep a note of what a page did by itself. It may do so a thousand times a second, also while nobody looks."""
        if len(self.notes) < MOST_NOTES:
            self.notes.append(what)
        else:
            self._unsaid += 1

    def _expect_tab(self) -> None:
        self._expected += 1

    def _popped_up(self, page: Page) -> None:
        self._expected = max(0, self._expected - 1)
        full = len(self._tabs) + self._coming >= MOST_TABS  # said now: the next one may come before this one is there
        self._coming += not full
        task = asyncio.ensure_future(self._refuse(page) if full else self._welcome(page))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _refuse(self, page: Page) -> None:
        self._note("A page wanted to open another tab; there are too many, so it was closed.")
        with contextlib.suppress(Exception):
            await page.close()

    async def _welcome(self, page: Page) -> None:
        try:
            page.on("crash", lambda _: self._broke("the renderer of the page died"))
            page.on("close", self._closed)
            cdp = await page.context.new_cdp_session(page)
            await cdp.send("Page.enable")
            frame = (await cdp.send("Page.getFrameTree"))["frameTree"]["frame"]["id"]
            if self._tabs:
                self._note("A new tab was opened and is shown now.")
            self._tabs.append(Tab(page, cdp, frame, self._expect_tab))
            self._had_page = True
        except Exception as error:
            if not self._tabs:  # the first page; another one may well have closed itself again
                self._broke(f"the page cannot be opened: {first_line(error)}")
        finally:
            self._coming -= 1

    def _broke(self, why: str) -> None:
        self.fault = self.fault or why
        if not self._dead.done():
            self._dead.set_result(None)

    def _closed(self, page: Page) -> None:
        self._tabs = [tab for tab in self._tabs if tab.page is not page]

    async def _asked(self, dialog: Dialog) -> None:
        with contextlib.suppress(Exception):
            if dialog.type != "beforeunload":
                answer = "dismissed" if dialog.type == "prompt" else "accepted"
                said = repr(dialog.message[:500])[:LONGEST_NOTE]
                self._note(f"The page showed a message, which was {answer}: {said}")
            await (dialog.dismiss() if dialog.type == "prompt" else dialog.accept())


def first_line(error: BaseException) -> str:
    """The first line of an error, without what comes below it."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]

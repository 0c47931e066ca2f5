"""One episode's pages: opening the first, loading, passing time, looking. Lives in the browser thread's loop.

The context that they are in stands in `context.py`, what is done on a page in `hands.py`; what leaves the context goes
through `gate.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from palaestra.envs.browser import tree
from palaestra.envs.browser.context import Context, Plan, Tab, first_line
from palaestra.envs.browser.gate import MARK
from palaestra.envs.browser.silence import SILENCE
from palaestra.envs.browser.thread import BrowserThread
from palaestra.envs.browser.visual import add_shapes
from palaestra.envs.errors import EnvFault

TAB_SECONDS = 5.0
"""How long to wait for a tab that was announced."""

ALIGNED_MS = 8000
"""Where an aligned clock stands; it must lie beyond what passes while a page loads."""

HUNG_SECONDS = 5.0
"""How long a page that is no longer busy may take to answer."""

QUIET_SECONDS = 2.0
"""How long to wait for requests of a page that has loaded."""

STILL = "*, *::before, *::after { transition: none !important; animation: none !important; caret-color: transparent }"


@dataclass(frozen=True)
class Look:
    """What is to be seen: the tree as text, its elements in the order of their numbers, address and title."""

    text: str
    elements: tuple[tree.Element, ...]
    url: str
    title: str


class Session(Context):
    """A context whose pages are loaded, waited for and looked at. All methods run in the browser thread's loop."""

    def __init__(self, thread: BrowserThread, plan: Plan) -> None:
        super().__init__(thread, plan)
        self._begun = False
        self._spent = 0

    async def open(self, url: str) -> None:
        """Make the context and open the page. Whatever becomes of it, `close` gives everything back.

        Raises:
            EnvFault: the browser does not start, or the page cannot be opened. BadInput: there is no browser.
        """
        try:
            self._context = await self._new_context(await self.gate.open())
            self._context.on("close", lambda _: self._broke("the browser died"))
            if self.plan.clock is not None:
                await self._context.clock.install(time=0)
                await self._context.clock.pause_at(1000)
            for script in (SILENCE, *self.plan.scripts):
                await self._context.add_init_script(script)
            self._context.on("page", self._popped_up)
            self._context.on("dialog", self._asked)
            page = await self._context.new_page()
            while not self._tabs:
                self.check()
                await asyncio.sleep(0.002)
            assert self.tab.page is page
            await self.goto(url, first=True)
            self._begun = True
        except Exception as error:
            if type(error).__module__.startswith("playwright"):
                raise EnvFault(f"the page {url} could not be opened: {first_line(error)}") from error
            raise

    @property
    def _may_fail(self) -> bool:
        """Is a page that cannot be used told to the agent: it is not the first one, nor one of ours."""
        return self._begun and self.plan.may_hang

    # -- loading -----------------------------------------------------------------------------------------------------

    async def goto(self, url: str, *, first: bool = False) -> str | None:
        """Open an address in the current tab; why it could not be opened, or None.

        Args:
            first: the page of the task itself: without it there is no episode, so a failure raises EnvFault; so does
                an answer that comes from the gate instead of the host, or says that there is no such page (4xx, 5xx).
        """
        page, most = self.tab.page, self.plan.load_seconds
        try:
            answer = await page.goto(url, wait_until="domcontentloaded", timeout=most * 1000)
        except Exception as error:
            self.check()
            slow = "Timeout" in type(error).__name__
            said = f"it did not answer within {most:.0f} s" if slow else first_line(error).removeprefix("Page.goto: ")
            if first:
                raise EnvFault(f"the page {url} did not load: {said}") from error
            await self._stop_loading()
            await self._revive()
            return f"{url[:200]} could not be opened: {said}."
        if first and answer is not None:
            own = answer.headers.get(MARK) == self.gate.mark
            if own or answer.status >= 400:
                why = "its host may not be visited here" if answer.status == 403 else "its host cannot be reached"
                raise EnvFault(f"the page {url} did not load: {why if own else f'HTTP status {answer.status}'}")
        await self.settle()
        return None

    async def settle(self, *, still: bool = False) -> None:
        """Wait until what was done has had its effect: a page that loads has loaded, scripts have fetched.

        Args:
            still: a clock of our own does not run meanwhile.
        """
        await self._round_trip()
        await self._until(lambda: not self._expected, TAB_SECONDS)
        self._expected = 0
        if self._opening:
            await asyncio.wait(set(self._opening), timeout=self.plan.load_seconds)
            await self._round_trip()
        spent, self._spent = self._spent, 0
        if self.plan.clock is not None and not self.tab.loads:
            await self._pass(0 if still else max(0, self.plan.clock - spent))
            await self._round_trip()
        if not await self._until(lambda: not self.tab.loads, self.plan.load_seconds):
            self.notes.append(f"The page did not load within {self.plan.load_seconds:.0f} s.")
            await self._stop_loading()
            await self._revive()
        await self._until(lambda: not self.tab.pending, QUIET_SECONDS)
        self.tab.pending.clear()

    async def align(self) -> None:
        """Set the page's own clock to a fixed moment.

        Some real milliseconds pass between its start and its halt, and frames are counted from there.
        """
        clock = self.tab.page.clock
        ticks = float(await self.evaluate("performance.now()"))
        await clock.run_for(max(0, round(ALIGNED_MS - ticks)))
        await clock.set_system_time(ALIGNED_MS)

    async def spend(self, parts: int) -> None:
        """Let one of so many equal parts of an action's time pass now, before its end. Only with a clock of our own."""
        if self.plan.clock is not None:
            part = self.plan.clock // parts
            self._spent += part
            await self._pass(part)

    async def wait(self, milliseconds: int) -> None:
        """Let this time pass, by the clock of our own instead of an action's time, or by the real one."""
        if self.plan.clock is None:
            await asyncio.sleep(milliseconds / 1000)
        else:
            self._spent = self.plan.clock
            await self._pass(milliseconds)

    async def _pass(self, milliseconds: int) -> None:
        with contextlib.suppress(Exception):  # a document that is just being replaced has no clock
            await self.tab.page.clock.run_for(milliseconds)

    async def _round_trip(self) -> None:
        """What the page's process said before its answer to this has arrived then.

        Chromium answers nothing while a page of another process is awaited, so a tab that is about to load one is left.
        """
        for _ in range(2):
            if not await self._answers(self.plan.load_seconds):
                await self._leave_hung()
            await asyncio.sleep(0.005)
        self.check()

    async def _answers(self, seconds: float, *, whatever_loads: bool = False) -> bool:
        """Does the page answer in this time; one that loads another is not asked, unless wanted."""
        tab = self.tab
        asked = asyncio.ensure_future(tab.cdp.send("Runtime.evaluate", {"expression": "0"}))
        try:
            return await self._until(lambda: asked.done() or (tab.loads and not whatever_loads), seconds)
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    async def _revive(self) -> None:
        """Leave a page that hangs, now that nothing is loading any more."""
        if not await self._answers(HUNG_SECONDS, whatever_loads=True):
            await self._leave_hung()

    async def _leave_hung(self) -> None:
        """Of a page that hangs, end the script; if it hangs again, close its tab.

        Raises:
            EnvFault: it is the first page, or one of ours, or there is no other tab to be had.
        """
        self.check()
        hangs, most = self.tab, f"{self.plan.load_seconds:.0f} s"
        if not self._may_fail:
            raise EnvFault(f"the page hangs: it did not answer within {most}")
        if not hangs.hung:
            hangs.hung = True
            with contextlib.suppress(Exception):  # answered beside the page's own thread, or not at all
                await asyncio.wait_for(hangs.cdp.send("Runtime.terminateExecution"), HUNG_SECONDS)
            if await self._answers(HUNG_SECONDS, whatever_loads=True):
                self.notes.append(f"The page did not answer for {most}; the script that kept it busy was ended.")
                return
        if len(self._tabs) < 2:
            assert self._context is not None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._context.new_page(), TAB_SECONDS)
            if not await self._until(lambda: len(self._tabs) > 1, TAB_SECONDS):
                raise EnvFault("the page hangs, and no other tab could be opened")
        self._tabs.remove(hangs)
        self.notes.append("The page hangs; its tab was closed, and another one is shown now.")
        with contextlib.suppress(Exception):
            await asyncio.wait_for(hangs.page.close(), HUNG_SECONDS)

    async def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        end = self.thread.loop.time() + seconds
        while not done():
            if self.thread.loop.time() > end:
                return False
            await asyncio.sleep(0.004)
        return True

    async def _stop_loading(self) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.tab.cdp.send("Page.stopLoading"), 5)
        self.tab.busy, self.tab.stopped = False, True
        self.tab.pending.clear()

    async def _arrived(self) -> str:
        """Wait until all of the document is there, for `TAB_SECONDS` at most; what names the document.

        On a busy machine a document may be begun before the browser has said that one is on its way.
        """
        tab, end = self.tab, self.thread.loop.time() + TAB_SECONDS
        while True:
            answer = await tab.cdp.send("Runtime.evaluate", {"expression": "document.readyState"})
            whole = answer["result"].get("value") == "complete" and not tab.loads
            if whole or tab.stopped or self.thread.loop.time() > end:
                return str((await tab.cdp.send("Page.getFrameTree"))["frameTree"]["frame"]["loaderId"])
            await asyncio.sleep(0.01)

    async def forget_tab(self) -> bool:
        """Close the newest tab, if it is not the only one."""
        if len(self._tabs) < 2:
            return False
        await self._tabs.pop().page.close()
        return True

    # -- looking -----------------------------------------------------------------------------------------------------

    async def look(self) -> Look:
        """The page as it is now; without elements, and with a note, where it never stays long enough to be read.

        Raises:
            EnvFault: the latter, if it is the first page or one of ours; or there is no page any more.
        """
        why = ""
        for attempt in range(5):
            self.check()
            try:
                return await asyncio.wait_for(self._whole_look(), self.plan.load_seconds + TAB_SECONDS)
            except EnvFault:
                raise
            except TimeoutError:
                why = "it took too long"
                await self._leave_hung()
            except Exception as error:  # the document was replaced while it was read
                self.check()
                why = first_line(error)
                await asyncio.sleep(0.1 * (attempt + 1))
                if attempt >= 2 and self._may_fail:
                    await self._stop_loading()
        if not self._may_fail or "Protocol error" not in why:  # which is what a browser says that is still there
            raise EnvFault(f"the page cannot be read: {why}")
        self.notes.append("The page goes on replacing itself and could not be read.")
        return Look("", (), self.tab.page.url, "")

    async def _whole_look(self) -> Look:
        """A look during which the document stayed the same one; the last of several, if it never does."""
        document = await self._arrived()
        for _ in range(4):
            seen, before = await self._look(), document
            document = await self._arrived()
            if document == before:
                break
        return seen

    async def _look(self) -> Look:
        tab = self.tab
        found = (await tab.cdp.send("Accessibility.getFullAXTree"))["nodes"]
        frames: dict[int, list[Any]] = {}
        if any(node.get("role", {}).get("value") in ("Iframe", "IframePresentational") for node in found):
            await self._frames(tab, (await tab.cdp.send("Page.getFrameTree"))["frameTree"], frames)
        made = tree.elements(found, frames)
        if self.plan.shapes:
            snapshot = await tab.cdp.send(
                "DOMSnapshot.captureSnapshot",
                {"computedStyles": ["background-color", "visibility", "cursor", "background-image", "content"]},
            )
            add_shapes(made, snapshot)
        text, numbered = tree.render(made, self.plan.longest)
        history = await tab.cdp.send("Page.getNavigationHistory")
        shown = history["entries"][history["currentIndex"]]
        return Look(text, tuple(numbered), shown["url"], shown["title"])

    async def _frames(self, tab: Tab, branch: Mapping[str, Any], frames: dict[int, list[Any]]) -> None:
        for child in branch.get("childFrames", ()):
            frame = child["frame"]["id"]
            with contextlib.suppress(Exception):  # frames of other hosts live in other processes and are not shown
                owner = await tab.cdp.send("DOM.getFrameOwner", {"frameId": frame})
                nodes = await tab.cdp.send("Accessibility.getFullAXTree", {"frameId": frame})
                frames[owner["backendNodeId"]] = nodes["nodes"]
            await self._frames(tab, child, frames)

    async def evaluate(self, expression: str) -> Any:
        """Run a script in the page, for environments and oracles. Raises EnvFault when it fails."""
        try:
            return await self.script(expression)
        except Exception as error:
            self.check()
            raise EnvFault(f"a script in the page failed: {first_line(error)}") from error

    async def script(self, expression: str) -> Any:
        """Run a script in the page. Raises ValueError if it throws, and whatever the browser says."""
        # Not Playwright's own, which waits for a page that is loading.
        wanted = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = await self.tab.cdp.send("Runtime.evaluate", wanted)
        if "exceptionDetails" in answer:
            raise ValueError(answer["exceptionDetails"].get("exception", {}).get("description", "it raised something"))
        return answer["result"].get("value")

    async def picture(self) -> bytes | None:
        """A screenshot of what is in view, as PNG. None where the page hangs and may: the next action meets that."""
        try:
            return await self.tab.page.screenshot(timeout=15_000, animations="allow")
        except Exception as error:
            self.check()
            if self._may_fail and not await self._answers(HUNG_SECONDS, whatever_loads=True):
                return None
            raise EnvFault(f"no screenshot could be made: {first_line(error)}") from error

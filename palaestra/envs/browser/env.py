"""`BrowserEnv`: a TextEnv on real web pages. A family says which page, which hosts, and what counts as success."""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from abc import abstractmethod
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from palaestra.envs.browser import given
from palaestra.envs.browser.actions import VERBS, Action, NotUnderstood, parse
from palaestra.envs.browser.chromium import find_chromium, require_playwright
from palaestra.envs.browser.context import Plan
from palaestra.envs.browser.hands import perform
from palaestra.envs.browser.session import Look, Session
from palaestra.envs.browser.thread import browsers
from palaestra.envs.browser.tree import Element
from palaestra.envs.core import Fidelity, Reply, Task, TextEnv
from palaestra.envs.errors import BadInput, EnvFault
from palaestra.envs.fingerprint import code_fingerprint

T = TypeVar("T")

LONGEST_URL = 160
"""Characters of an address that are shown."""

LONGEST_KEPT = 2000
"""Characters of an address or a title in an episode's details: a page may give itself any."""

OPEN_SECONDS = 240.0
"""A first episode may have to start the driver and a browser on a busy machine."""

RULES = """\
You act on a web page. You see its accessibility tree: one element a line, with a number. Answer with one action:
{actions}
Numbers are those of the newest observation."""

_MEANINGS = {
    "click": "click [3]; click [120,80] at a point of the window",
    "type": "type [3] [words] [1] replaces what is in a field; 1 presses Enter afterwards, 0 does not",
    "select": "select [3] [option] chooses in a list",
    "scroll": "scroll [down], scroll [up], or scroll [3] [down] inside of an element",
    "back": "back",
    "goto": "goto [address]",
    "wait": "wait; wait [200] waits so many milliseconds",
    "restart": "restart goes back to the first page",
    "press": "press [Enter], press [Control+a]",
    "hover": "hover [3]; hover [3] [9,0] [9,5] goes on by pixels right and down",
    "drag": "drag [3] [5] onto an element, drag [3] [40,-10] by pixels right and down, drag [3] [40,-10] [5,9] and on",
    "stop": "stop [answer] ends the task with your answer",
}


@dataclass
class PageState:
    """What is known of the episode on this side; the page itself is in the browser.

    Attributes:
        look: the newest observation's tree and elements.
        start: address of the first page.
        answer: what `stop` said; None before.
        picture: where the newest screenshot lies; None without, and where the page hung as it was to be taken.
    """

    look: Look
    start: str
    answer: str | None = None
    picture: str | None = None

    @property
    def elements(self) -> Sequence[Element]:
        """The elements of the newest observation; number 1 comes first."""
        return self.look.elements


class BrowserEnv(TextEnv[PageState]):
    """You act on a web page.

    Args:
        screenshots: a folder that gets a PNG of every step (`screenshot_name`); None for none.
        load_seconds: how long a page may take to load.

    Raises:
        BadInput: a folder that cannot be written to, or no positive number of seconds.
    """

    fidelity: ClassVar[Fidelity] = Fidelity.REPLAY
    verbs: ClassVar[frozenset[str]] = VERBS

    def __init__(self, screenshots: str | None = None, load_seconds: float = 30.0) -> None:
        super().__init__()
        if isinstance(load_seconds, bool) or not isinstance(load_seconds, int | float) or not 0 < load_seconds <= 600:
            raise BadInput(f"load_seconds must be a number above 0, at most 600, got {load_seconds!r}")
        self.load_seconds = float(load_seconds)
        self.screenshots = _folder(screenshots) if screenshots is not None else None
        self._session: Session | None = None
        self._lease: weakref.finalize[..., BrowserEnv] | None = None

    # -- what a family writes ----------------------------------------------------------------------------------------

    @abstractmethod
    def plan(self, task: Task) -> Plan:
        """Which hosts may be reached, how large the window is. Raises BadInput for an unknown task."""

    @abstractmethod
    def start(self, task: Task) -> str:
        """The address of the first page."""

    async def prepare(self, session: Session, task: Task, rng: np.random.Generator) -> None:
        """Bring the opened page to where the episode begins."""

    @abstractmethod
    async def outcome(self, session: Session, state: PageState, task: Task) -> Reply | None:
        """What the page says now: a Reply without its observation if it counts, None if the episode just goes on."""

    def judge(self, state: PageState, task: Task) -> Reply:
        """What an answer (`state.answer`) is worth. Families without `stop` need none."""
        return Reply("", over=True)

    def told(self, task: Task) -> str:
        """What stands above the first observation."""
        return ""

    # -- TextEnv -----------------------------------------------------------------------------------------------------

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[PageState, str]:
        """Open the page in a context of its own.

        Raises:
            BadInput: an unknown task, or no browser here. EnvFault: the page does not load, or the browser broke.
        """
        plan, start = self.plan(task), self.start(task)
        require_playwright()
        find_chromium()
        self._leave()
        thread = browsers()
        session = Session(thread, plan)
        self._session = session
        self._lease = weakref.finalize(self, _forget, session)
        self._lease.atexit = False
        look = self._call(self._begin(session, task, rng, start), OPEN_SECONDS + self.load_seconds)
        state = PageState(look, start)
        self._take_picture(state, task, ())
        told = self.told(task)
        return state, f"{told}\n\n{_seen(look, ())}" if told else _seen(look, ())

    async def _begin(self, session: Session, task: Task, rng: np.random.Generator, start: str) -> Look:
        await session.open(start)
        await self.prepare(session, task, rng)
        session.heard()
        return await session.look()

    def act(self, state: PageState, action: str) -> Reply:
        """Take an action. Raises EnvFault when the page or the browser broke."""
        reply = self._answer(state, action)
        self._take_picture(state, self.task, (*self.history, action))
        return reply

    def _answer(self, state: PageState, action: str) -> Reply:
        session = self._session
        if session is None:
            raise EnvFault("the page of this instance is closed")
        task = self.task
        try:
            wanted = parse(action, self.verbs)
            element, onto = _element(state, wanted.target), _element(state, wanted.onto)
        except NotUnderstood as error:
            return Reply(f"{error}\n{_seen(state.look, ())}", valid=False)
        if wanted.verb == "stop":
            state.answer = wanted.text
            return self.judge(state, task)
        return self._call(self._act(session, state, task, wanted, element, onto), 60 + 6 * self.load_seconds)

    async def _act(
        self,
        session: Session,
        state: PageState,
        task: Task,
        wanted: Action,
        element: Element | None,
        onto: Element | None,
    ) -> Reply:
        session.check()
        problem = await perform(session, wanted, element, onto, state.start)
        state.look = await session.look()
        said = _seen(state.look, (*((problem,) if problem else ()), *session.heard()))
        reply = await self.outcome(session, state, task)
        if reply is None:
            return Reply(said, valid=problem is None)
        return Reply(
            f"{reply.observation}\n{said}" if reply.observation else said,
            reply.score,
            reply.reward,
            reply.success,
            reply.over,
            problem is None,
            reply.extra,
        )

    def details(self, state: PageState) -> Mapping[str, Any]:
        """`url`, `title`, `refused` (hosts that the page wanted and may not reach), and `screenshot` where one is."""
        refused = tuple(self._session.gate.refused) if self._session is not None else ()
        shown = {"screenshot": state.picture} if state.picture is not None else {}
        look = state.look
        return {"url": look.url[:LONGEST_KEPT], "title": look.title[:LONGEST_KEPT], "refused": refused, **shown}

    def instructions(self, task: Task) -> str:
        """The rules and the actions that this family knows."""
        lines = "\n".join(meaning for verb, meaning in _MEANINGS.items() if verb in self.verbs)
        return RULES.format(actions=lines)

    def fingerprint(self) -> str:
        """Versions of this class, of Playwright and of the browser."""
        cls: type = type(self)
        shared = code_fingerprint(BrowserEnv)
        return f"{code_fingerprint(cls)} {shared} playwright {metadata.version('playwright')} {find_chromium().version}"

    def distance(self, task: Task, actions: Sequence[str]) -> int | None:
        """As in the base class; None where the page is gone."""
        if self._session is None or self._session.fault is not None:
            return None
        return super().distance(task, actions)

    def abort(self) -> None:
        """End this instance's page, from any thread. What hangs on it raises EnvFault; the next reset opens another."""
        session = self._session
        if session is not None:
            session.die("the page was aborted")

    def close(self) -> None:
        """Close the page and its context. May be called twice; a later reset opens another."""
        super().close()
        self._leave()

    def evaluate(self, expression: str) -> Any:
        """Run a script in the page: for oracles, which see what is hidden. Raises EnvFault."""
        if self._session is None:
            raise EnvFault("the page of this instance is closed")
        return self._call(self._session.evaluate(expression), 30.0)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _call(self, work: Coroutine[object, object, T], seconds: float) -> T:
        try:
            if self._session is None:
                work.close()
                raise EnvFault("the page of this instance is closed")
            return self._session.thread.call(self._session.guard(work), seconds, f"the page of {type(self).__name__}")
        except (EnvFault, BadInput):
            self._leave()
            raise
        except Exception as error:
            self._leave()
            raise EnvFault(f"the browser broke: {type(error).__name__}: {error}") from error

    def _take_picture(self, state: PageState, task: Task, actions: Sequence[str]) -> None:
        if self.screenshots is None or self._session is None:
            return
        file = self.screenshots / screenshot_name(task, actions)
        if not file.exists():
            taken = self._call(self._session.picture(), 30.0)
            if taken is None:
                state.picture = None
                return
            _write(file, taken)
        state.picture = str(file)

    def _leave(self) -> None:
        lease, self._lease = self._lease, None
        session, self._session = self._session, None
        if lease is not None:
            lease.detach()
        if session is not None:
            try:
                session.thread.call(session.close(), 30.0, "closing a page")
            except Exception:  # nothing of it is used again
                session.fault = session.fault or "this session is closed"


def screenshot_name(task: Task, actions: Sequence[str]) -> str:
    """The file name of the picture after these actions, counted from the task's reset.

    It follows from the path alone, so forks share the pictures of what they have in common, and a viewer finds those of
    a stored episode without any record: the folder is the setting `screenshots` in the episode's provenance.
    """
    text = "\0".join((task.id, *actions)).encode("utf-8", "surrogatepass")
    return f"{hashlib.blake2b(text, digest_size=12).hexdigest()}.png"


def _forget(session: Session) -> None:
    """An instance was garbage collected without `close`."""
    session.thread.later(session.close())


def _seen(look: Look, notes: Sequence[str]) -> str:
    return "\n".join([*notes, f"URL: {look.url[:LONGEST_URL]}", look.text]).encode("utf-8", "replace").decode()


def _element(state: PageState, number: int | tuple[int, int] | None) -> Element | None:
    if not isinstance(number, int):
        return None
    if not 1 <= number <= len(state.elements):
        raise NotUnderstood(f"There is no element [{number}] here; the numbers are 1 to {len(state.elements)}.")
    element = state.elements[number - 1]
    if element.backend is None:
        raise NotUnderstood(f"[{number}] is nothing to act on.")
    return element


def _folder(name: str) -> Path:
    folder = given.path("screenshots", name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise BadInput(f"screenshots={name!r} cannot be written to: {error.strerror or error}") from None


def _write(file: Path, content: bytes) -> None:
    """All of the file or none of it, also where two instances write the same."""
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
            part.write(content)
        os.replace(part.name, file)
    except OSError as error:
        raise EnvFault(f"the screenshot {file} cannot be written: {error.strerror or error}") from error

"""Questions to answer on the web: task files in WebVoyager's form, and a small library of our own to begin with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from palaestra.envs.browser import given
from palaestra.envs.browser.actions import VERBS, click, select, typing
from palaestra.envs.browser.context import Plan
from palaestra.envs.browser.env import BrowserEnv, PageState
from palaestra.envs.browser.gate import Allowed, Site, static
from palaestra.envs.browser.judging import Case, Judge, by_reference, find_judge
from palaestra.envs.browser.session import Session
from palaestra.envs.browser.task_file import WebTask, read
from palaestra.envs.browser.tree import Element
from palaestra.envs.core import Reply, Task, TextEnv
from palaestra.envs.errors import BadInput, EnvFault, NoOracle
from palaestra.envs.fingerprint import digest

LIBRARY = Path(__file__).parent / "pages"
LIBRARY_HOST = "library.test"
FOLDER_HOST = "site.test"


_JUDGES = "name a file of them (references=FILE), or who judges answers (judge=module:name)"


class WebTasks(BrowserEnv):
    """You answer a question with what stands on a web site.

    Args:
        file: a task file (JSON Lines with web_name, id, ques, web); None for the tasks of the package's own library.
        references: WebVoyager's file of reference answers, for a file whose lines have none.
        judge: what an answer is worth: "reference", "module:name", or a function of a `Case`.
        hosts: further hosts that may be visited, with commas between, or a list of them.
        site: a folder of pages, served as http://site.test/ inside the browser.
        screenshots, load_seconds: as in `BrowserEnv`.

    Raises:
        BadInput: a file that cannot be read, a judge or a folder that there is not, a host that is none; no task of
            the file has a reference answer, and nobody else judges.
    """

    verbs: ClassVar[frozenset[str]] = VERBS

    def __init__(
        self,
        file: str | None = None,
        references: str | None = None,
        judge: Judge | str = "reference",
        hosts: str | Sequence[str] = "",
        site: str | None = None,
        screenshots: str | None = None,
        load_seconds: float = 30.0,
    ) -> None:
        super().__init__(screenshots, load_seconds)
        self._file = read(file if file is not None else LIBRARY / "tasks.jsonl", references)
        self._judge = find_judge(judge)
        if not any(map(self._judged, self._file.tasks.values())):
            raise BadInput(f"no task of {file} has a reference answer; {_JUDGES}")
        self._hosts = given.hosts(hosts)
        Allowed(self._hosts)
        self._sites: dict[str, Site] = {LIBRARY_HOST: static(LIBRARY)}
        self._folder = given.path("site", site) if site is not None else None
        if self._folder is not None:
            if not self._folder.is_dir():
                raise BadInput(f"site={site!r} is no folder")
            self._sites[FOLDER_HOST] = static(self._folder)

    def web_task(self, task: Task) -> WebTask:
        """The line of the file. Raises BadInput where there is none."""
        found = self._file.tasks.get(task.name)
        if found is None:
            raise BadInput(f"the task file has no task {task.name!r}; it has {len(self._file.tasks)} others")
        return found

    def _judged(self, task: WebTask) -> bool:
        """Can an answer to this task be judged."""
        return self._judge is not by_reference or bool(task.references)

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[PageState, str]:
        """As in `BrowserEnv`. Raises BadInput, too, for a task whose answer nobody could judge."""
        if not self._judged(self.web_task(task)):
            raise BadInput(f"the task {task.name} has no reference answer; {_JUDGES}")
        return super().begin(task, rng)

    def plan(self, task: Task) -> Plan:
        """The task's own host, those that were allowed besides, and the pages served from here."""
        hosts = (*self.web_task(task).allowed, *self._hosts)
        return Plan(Allowed(hosts), self._sites, load_seconds=self.load_seconds, may_hang=True)

    def start(self, task: Task) -> str:
        """The page that the task names."""
        return self.web_task(task).web

    def told(self, task: Task) -> str:
        """The question."""
        return f"Task: {self.web_task(task).ques}"

    def instructions(self, task: Task) -> str:
        """The question, the actions, and how to answer where a reference decides."""
        rule = (
            " Put the answer alone into stop: words around it count against it." if self._judge is by_reference else ""
        )
        actions = super().instructions(task)
        return f"You answer a question with what stands on a web site.{rule}\n{actions}\n{self.told(task)}"

    async def outcome(self, session: Session, state: PageState, task: Task) -> Reply | None:
        """Nothing but the answer counts."""
        return None

    def judge(self, state: PageState, task: Task) -> Reply:
        """Ask the judge. Raises EnvFault when it fails: that is nothing the agent did."""
        known = self.web_task(task)
        case = Case(known.ques, state.answer or "", known.references, self.history, state.look.text)
        try:
            score = float(self._judge(case))
        except BadInput:
            raise
        except Exception as error:
            raise EnvFault(f"the judge {self._judge!r} failed: {type(error).__name__}: {error}") from error
        if not 0.0 <= score <= 1.0:
            raise EnvFault(f"the judge {self._judge!r} said {score}, which is not between 0 and 1")
        return Reply("Your answer was taken.", score=score, success=score >= 1.0, over=True)

    def splits(self) -> Sequence[str]:
        """Those that the file names."""
        return tuple(self._file.splits)

    def tasks(self, split: str) -> Sequence[Task]:
        """All tasks of a split, in the order of the file."""
        if split not in self._file.splits:
            raise BadInput(f"the task file has no split {split!r}; it has: {', '.join(self._file.splits)}")
        env = self.registration.id if self.registration is not None else type(self).__name__
        return [Task(env=env, name=name, split=split) for name in self._file.splits[split]]

    def fingerprint(self) -> str:
        """As `BrowserEnv`, with the hashes of the tasks and of the pages served from here."""
        own = f" site {self._site_hash}" if self._folder is not None else ""
        return f"{super().fingerprint()} tasks {self._file.hash} library {_library_hash()}{own}"

    @cached_property
    def _site_hash(self) -> str:
        return _hash(self._folder) if self._folder is not None else ""


@lru_cache(maxsize=1)
def _library_hash() -> str:
    return _hash(LIBRARY)


def _hash(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest("|".join(f"{path.relative_to(folder)} {path.read_bytes().hex()}" for path in files))


_STEP = re.compile(r"(click|type|select) (\w+) (.+?)(?:: (.*))?")


def gold(env: TextEnv[PageState]) -> str:
    """The oracle of tasks that say how the answer is found (`via`) and what it is.

    `via` lists steps as "click link Events", "select combobox Room: Loft", "type textbox Words: owls", in order. The
    last link that is on the page comes next, and before it what is to be filled in there; then the answer is given.

    Raises:
        NoOracle: a task without an answer. BadInput: not a WebTasks.
    """
    inner = env.unwrapped
    if not isinstance(inner, WebTasks):
        raise BadInput(f"this oracle answers WebTasks, not {type(inner).__name__}")
    task = inner.web_task(inner.task)
    if not task.references:
        raise NoOracle(f"task {task.id} has no reference answer, so it has no oracle")
    answer = f"stop [{task.references[0]}]"
    if task.references[0] in inner.state.look.text and len(inner.history) >= len(task.via):
        return answer
    steps = [_STEP.fullmatch(step) for step in task.via]
    here = [_there(inner.state, step) if step is not None else None for step in steps]
    last = max((place for place, element in enumerate(here) if element is not None), default=-1)
    for place, (step, element) in enumerate(zip(steps, here, strict=True)):
        if step is not None and element is not None and (place == last or step[2] != "link"):
            action = _taking(step, element)
            if action is not None and action not in inner.history[-1:]:
                return action
    return answer


def _there(state: PageState, step: re.Match[str]) -> Element | None:
    """The element that a step is about, where it is on the page."""
    return next((each for each in state.elements if each.role == step[2] and each.name == step[3]), None)


def _taking(step: re.Match[str], element: Element) -> str | None:
    """The action of a step; None where it is done already."""
    verb, words = step[1], step[4]
    if verb == "click":
        return None if "checked: true" in element.states else click(element.number)
    if element.value == words:
        return None
    return select(element.number, words) if verb == "select" else typing(element.number, words, enter=True)

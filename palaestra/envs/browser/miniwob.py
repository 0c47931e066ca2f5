"""MiniWoB++ (Shi et al. 2017; Liu et al., arXiv 1802.08802): small web tasks, on the pages of the package `miniwob`.

The pages run as they are, served from the package. Three things are set from outside: the seed, so that a task is the
same each time; the clock, which stands still but for some milliseconds with each action, so that nothing depends on
how fast a model or a machine is; and the time limit, which is put so far away that only the raw reward counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path
from typing import ClassVar

import numpy as np

from palaestra.envs.browser.actions import VERBS
from palaestra.envs.browser.context import Plan
from palaestra.envs.browser.env import BrowserEnv, PageState
from palaestra.envs.browser.gate import Allowed, static
from palaestra.envs.browser.miniwob_pages import PAGES, PROTOCOLS, SEEDS
from palaestra.envs.browser.session import STILL, Session
from palaestra.envs.core import Reply, Task
from palaestra.envs.errors import BadInput, MissingExtra

HOST = "miniwob.test"
STEP_MS = 500
"""Milliseconds that pass on the page with each action."""

_STYLE = STILL + " #reward-display, #click-canvas, #sync-task-cover { display: none !important }"

_BEFORE = f"""(() => {{
  let s = 1; Math.random = () => (s = s * 16807 % 2147483647) / 2147483647;
  addEventListener('DOMContentLoaded', () => {{
    const style = document.createElement('style');
    style.textContent = {json.dumps(_STYLE)};
    document.head.append(style);
  }});
}})();"""

_BEGIN = """(() => {
  if (typeof core === 'undefined') return 'no task';
  core.EPISODE_MAX_TIME = 1e9; Math.seedrandom(%s); core.startEpisodeReal(); return '';
})()"""

_STATE = """(() => typeof WOB_DONE_GLOBAL === 'undefined' || core.ept0 === null ? {left: true} :
  {done: WOB_DONE_GLOBAL, raw: isNaN(WOB_RAW_REWARD_GLOBAL) ? -1 : +WOB_RAW_REWARD_GLOBAL,
   reason: '' + WOB_REWARD_REASON})()"""
"""An angle with a point on its vertex is worth "NaN" to a page that measures angles; here it is worth -1."""

AT_ONCE = frozenset({"chase-circle"})
"""Pages that count from their first moment: the first observation is of that moment, not of `STEP_MS` later."""


class MiniWoB(BrowserEnv):
    """A small task on a web page; the page itself says what to do.

    The reward is the page's raw one, from -1 to 1, without its decay by time; the score is its positive part, and
    success is a reward of 1. `info["raw_reward"]` and `info["reason"]` have what the page said at the end.

    Args:
        protocol: "solved" for the pages that the oracle solves; None for all.
        screenshots, load_seconds: as in `BrowserEnv`.

    Raises:
        BadInput: a protocol that there is not, and as `BrowserEnv`.
    """

    verbs: ClassVar[frozenset[str]] = VERBS - {"stop", "goto", "back", "restart"}

    def __init__(self, protocol: str | None = None, screenshots: str | None = None, load_seconds: float = 30.0) -> None:
        super().__init__(screenshots, load_seconds)
        if protocol is not None and protocol not in PROTOCOLS:
            raise BadInput(f"MiniWoB has no protocol {protocol!r}; it has: {', '.join(PROTOCOLS)}, or None")
        self.protocol = protocol

    def tasks(self, split: str) -> Sequence[Task]:
        """All tasks of a split; under the protocol `solved` those of the pages that the oracle solves."""
        every = super().tasks(split)
        if self.protocol is None:
            return every
        from palaestra.envs.browser.miniwob_oracle import SOLVED

        known = frozenset(SOLVED)
        return [task for task in every if page_of(task) in known]

    def plan(self, task: Task) -> Plan:
        """Only the package's pages; a clock of our own; what is drawn is listed, too."""
        return Plan(
            Allowed(()),
            {HOST: static(pages_folder())},
            viewport=(500, 500),
            clock=STEP_MS,
            scripts=(_BEFORE,),
            shapes=True,
            load_seconds=self.load_seconds,
        )

    def start(self, task: Task) -> str:
        """The task's page. Raises BadInput for a page or a seed that there is not."""
        return f"http://{HOST}/miniwob/{page_of(task)}.html"

    async def prepare(self, session: Session, task: Task, rng: np.random.Generator) -> None:
        """Seed the page and begin."""
        await session.align()
        await session.evaluate(_BEGIN % json.dumps(task.name.rpartition("/")[2]))
        await session.settle(still=page_of(task) in AT_ONCE)

    async def outcome(self, session: Session, state: PageState, task: Task) -> Reply | None:
        """The page's own verdict."""
        found = await session.evaluate(_STATE)
        if found.get("left"):
            return Reply("You have left the page of the task.", reward=-1.0, over=True)
        if not found["done"]:
            return None
        raw = float(found["raw"])
        extra = {"raw_reward": raw, "reason": found["reason"]}
        said = f"The task is over; the reward is {raw:g}."
        score = min(1.0, max(0.0, raw))
        return Reply(said, score=score, reward=raw, success=raw >= 1.0, over=True, extra=extra)

    def fingerprint(self) -> str:
        """As `BrowserEnv`, with the version of the pages."""
        return f"{super().fingerprint()} miniwob {metadata.version('miniwob')}"


def page_of(task: Task) -> str:
    """The page of a task named PAGE/SEED. Raises BadInput."""
    page, _, seed = task.name.rpartition("/")
    if page not in PAGES:
        raise BadInput(f"MiniWoB++ has no page {page!r} (task {task.name!r}); tasks are called PAGE/SEED")
    if not (seed.isascii() and seed.isdigit()) or len(seed) > 9:
        raise BadInput(f"MiniWoB++ task {task.name!r} has no seed; tasks are called PAGE/SEED")
    return page


@lru_cache(maxsize=1)
def pages_folder() -> Path:
    """Where the package keeps its pages. Raises MissingExtra without the package; imports nothing of it."""
    spec = util.find_spec("miniwob")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("MiniWoB++ (its pages)", "web")
    return Path(next(iter(spec.submodule_search_locations))) / "html"


def names(split: str) -> tuple[str, ...]:
    """The task names of a split, page by page within each seed."""
    return tuple(f"{page}/{seed}" for seed in SEEDS[split] for page in PAGES)

"""Does the judge of a world model tell good steps from others: on real pages of tasks that it did not learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from palaestra.agents.store import EpisodeStore
from palaestra.worldmodel.page import Status
from palaestra.worldmodel.transitions import Transition, transitions_of
from palaestra.worldmodel.world import LearnedWorld

FILE = "judged.json"


class Judged(BaseModel):
    """What a judge says of real pages on which an episode goes on, and of the ends that its world model imagines.

    Attributes:
        pages: how many it rated; common: the number that it says most often, and `share` how often.
        better: pages whose action raised the real score; auc: how often such a page is rated above one of the others
            (0.5: by chance).
        ends: real last steps that were imagined from the real page before; won: of them, of episodes that were won;
            ends_auc: how often an imagined end of these is rated above one of the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pages: int
    common: float
    share: float
    better: int
    auc: float
    ends: int = 0
    won: int = 0
    ends_auc: float = 0.5

    def text(self) -> str:
        """In a few sentences; without figures of which there is nothing to tell apart."""
        said = [
            f"On {self.pages} real pages of other tasks, on which the episode goes on, the judge of the first one says "
            f"{self.common:g} in {100 * self.share:.0f} %"
        ]
        if 0 < self.better < self.pages:
            said[0] += (
                f"; pages whose action raised the real score ({self.better}) are rated above the others with "
                f"probability {self.auc:.2f} (0.5 is chance)"
            )
        if 0 < self.won < self.ends:
            said.append(
                f"Of {self.ends} last steps, imagined from the real page before, those that won ({self.won}) are rated "
                f"above the others with probability {self.ends_auc:.2f}"
            )
        return " ".join(f"{each}." for each in said)


def judged(world: LearnedWorld, store: Path, known: set[str], most: int = 160) -> Judged:
    """Let a world model's judge rate pages.

    Args:
        store: real episodes. known: ids of tasks that it learnt from. most: pages, and as many ends, drawn by a fixed
            seed.
    """
    going: list[tuple[Transition, bool]] = []
    last: list[Transition] = []
    with EpisodeStore(store, mode="r") as opened:
        for path in opened.paths():
            score = 0.0
            for step in transitions_of(path) if path.episode.start.task.id not in known else ():
                if step.status is Status.OVER:
                    last.append(step)
                else:
                    going.append((step, step.score > score))
                score = step.score
    pages = [going[i] for i in _some(len(going), most)]
    ends = [last[i] for i in _some(len(last), most)]
    values = world.judge.rate([step.case("") for step, _ in pages])
    common, count = Counter(values).most_common(1)[0]
    worths = _imagined(world, ends)
    return Judged(
        pages=len(pages),
        common=common,
        share=count / len(pages),
        better=sum(better for _, better in pages),
        auc=_above(values, [better for _, better in pages]),
        ends=len(ends),
        won=sum(step.success for step in ends),
        ends_auc=_above(worths, [step.success for step in ends]),
    )


def _imagined(world: LearnedWorld, steps: Sequence[Transition]) -> list[float]:
    """What the judge says of these steps as they are imagined; 0 of what is no page."""
    branches = [step.branch("") for step in steps]
    found = world.predict([branch.asked(step.action) for branch, step in zip(branches, steps, strict=True)])
    for branch, step, page in zip(branches, steps, found, strict=True):
        branch.take(step.action, page)
    whole = [branch for branch in branches if branch.problem is None]
    said = iter(world.judge.rate([branch.case() for branch in whole]))
    return [next(said) if branch.problem is None else 0.0 for branch in branches]


def _some(of: int, most: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(0).permutation(of)[:most]]


def _above(values: Sequence[float], good: Sequence[bool]) -> float:
    """How often one of the good is above one of the others; ties count half, and 0.5 where either is missing."""
    up = [value for value, is_good in zip(values, good, strict=True) if is_good]
    other = [value for value, is_good in zip(values, good, strict=True) if not is_good]
    wins = [float(a > b) + 0.5 * float(a == b) for a in up for b in other]
    return float(np.mean(wins)) if wins else 0.5

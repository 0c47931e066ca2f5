"""Does the judge of a world model tell good steps from others: on real pages of tasks that it did not learn from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from palaestra.agents.store import EpisodeStore
from palaestra.worldmodel.page import Status
from palaestra.worldmodel.transitions import Transition, transitions_of
from palaestra.worldmodel.world import LearnedWorld

FILE = "judged.json"


class Judged(BaseModel):
    """What a judge says of real pages on which an episode goes on.

    Attributes:
        pages: how many it rated; common: the number that it says most often, and `share` how often.
        better: pages whose action raised the real score; auc: how often such a page is rated above one of the others
            (0.5: by chance).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pages: int
    common: float
    share: float
    better: int
    auc: float

    def text(self) -> str:
        """In a sentence."""
        return (
            f"On {self.pages} real pages of other tasks, on which the episode goes on, the judge of the first one says "
            f"{self.common:g} in {100 * self.share:.0f} %; pages whose action raised the real score ({self.better}) "
            f"are rated above the others with probability {self.auc:.2f} (0.5 is chance)."
        )


def judged(world: LearnedWorld, store: Path, known: set[str], most: int = 160) -> Judged:
    """Let a world model's judge rate pages.

    Args:
        store: real episodes. known: ids of tasks that it learnt from. most: pages, drawn by a fixed seed.
    """
    found: list[tuple[Transition, bool]] = []
    with EpisodeStore(store, mode="r") as opened:
        for path in opened.paths():
            score = 0.0
            for step in transitions_of(path) if path.episode.start.task.id not in known else ():
                if step.status is not Status.OVER:
                    found.append((step, step.score > score))
                score = step.score
    chosen = [found[i] for i in np.random.default_rng(0).permutation(len(found))[:most]]
    values = world.judge.rate([step.case("") for step, _ in chosen])
    common, count = Counter(values).most_common(1)[0]
    up = [value for value, (_, better) in zip(values, chosen, strict=True) if better]
    other = [value for value, (_, better) in zip(values, chosen, strict=True) if not better]
    wins = [float(a > b) + 0.5 * float(a == b) for a in up for b in other]
    auc = float(np.mean(wins)) if wins else 0.5
    return Judged(pages=len(chosen), common=common, share=count / len(chosen), better=len(up), auc=auc)

"""tau-bench's reward: 1 where the databases end up as under the ground truth and every output was told, else 0."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from palaestra.envs.taubench import toolbox
from palaestra.envs.taubench.data import Domain, TauTask, task
from palaestra.envs.taubench.world import Changes, World, differing


@dataclass(frozen=True)
class Verdict:
    """What came of an episode.

    Attributes:
        differing: rows that are not as under the ground truth.
        untold: outputs that the user was not told.
    """

    differing: tuple[str, ...]
    untold: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Is the reward 1."""
        return not self.differing and not self.untold


def judge(domain: Domain, name: str, changes: Changes, told: Iterable[str]) -> Verdict:
    """The verdict on an episode.

    Args:
        name: of the task.
        changes: the databases at the end.
        told: all that the agent said to the user. Letter case and the commas in what it said do not count.
    """
    wanted = task(domain, name)
    said = [text.lower().replace(",", "") for text in told]
    untold = tuple(output for output in wanted.outputs if not any(output.lower() in text for text in said))
    return Verdict(tuple(differing(domain.tables, changes, truth(domain, name))), untold)


@lru_cache(maxsize=1024)
def truth(domain: Domain, name: str) -> Changes:
    """The databases after the calls of the ground truth; not to be changed."""
    return after(domain, task(domain, name))


def after(domain: Domain, wanted: TauTask) -> Changes:
    """The databases after the calls of a task's ground truth."""
    world = World(domain.tables, {})
    for call in wanted.actions:
        toolbox.make(domain, world, call)
    return world.changes

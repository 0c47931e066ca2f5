"""Evaluation protocols of ScienceWorld by name: which tasks, which simplification, how many steps, which score.

Scores of different protocols are not comparable (the tasks, the step caps and the score itself differ).

`eto` (Song et al., arXiv 2403.02502). 24 task types, simplification "easy", a step cap for each task, and the *best*
raw score of the episode counts. Its splits are made by the rule that its authors state: of each type at most 120 train
variations and at most 10 of each held-out split, here the first ones of the official splits. That gives 1,408 train,
199 dev ("test-seen") and 211 test ("test-unseen") variations. The authors drew their 1,483 train and 194 dev variations
at random, and their lists are not part of this package: figures on train and dev are of the same rules on other
variations. Where their agents break the answer format they lose the score they had; that is a matter of the agent, and
is not done here.

`agentgym` (Xi et al., arXiv 2406.04151). 23 task types (no growing, inclined planes or genetics), no simplification, 30
rounds, and the *final* score counts. It numbers all variations of these types in one row (`flat_id`). Its 2,120 train
and 200 test ids come with its data set and are not known here, so the splits are the official ones for the 23 types:
results are of the same tasks and rules, on other variations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from palaestra.envs.errors import BadInput
from palaestra.envs.scienceworld.tasks import SPLITS, TASKS, names, parse, variations

_NOT_IN_AGENTGYM = frozenset({"5-1", "5-2", "9-1", "9-2", "9-3", "10-1", "10-2"})

_ETO_STEPS: Mapping[str, int] = {
    "boil": 100,
    "melt": 80,
    "freeze": 80,
    "change-the-state-of-matter-of": 80,
    "use-thermometer": 30,
    "measure-melting-point-known-substance": 120,
    "power-component": 20,
    "power-component-renewable-vs-nonrenewable-energy": 30,
    "test-conductivity": 30,
    "test-conductivity-of-unknown-substances": 30,
    "find-living-thing": 15,
    "find-non-living-thing": 15,
    "find-plant": 15,
    "find-animal": 15,
    "grow-plant": 30,
    "grow-fruit": 60,
    "chemistry-mix": 60,
    "chemistry-mix-paint-secondary-color": 15,
    "chemistry-mix-paint-tertiary-color": 30,
    "lifespan-longest-lived": 10,
    "lifespan-shortest-lived": 10,
    "lifespan-longest-lived-then-shortest-lived": 12,
    "identify-life-stages-1": 30,
    "identify-life-stages-2": 30,
}


@dataclass(frozen=True)
class Protocol:
    """How an evaluation is run.

    Attributes:
        name: as in `protocol=`.
        simplifications: what the engine is loaded with.
        best_score: does the best raw score of the episode count, or the final one.
        steps: step cap of each task.
        splits: split -> task names.
    """

    name: str
    simplifications: str
    best_score: bool
    steps: Mapping[str, int]
    splits: Mapping[str, tuple[str, ...]]

    def cap(self, task: str) -> int:
        """Step cap of a task. Raises BadInput for a task that the protocol leaves out."""
        if task not in self.steps:
            raise BadInput(f"protocol {self.name!r} leaves out the ScienceWorld task {task!r}")
        return self.steps[task]


def protocol(name: str) -> Protocol:
    """A protocol by name. Raises BadInput for an unknown one."""
    if name not in PROTOCOLS:
        raise BadInput(f"ScienceWorld has no protocol {name!r}; it has: {', '.join(PROTOCOLS)}, or None for its own")
    return _build(name)


PROTOCOLS = ("eto", "agentgym")


@lru_cache(maxsize=2)
def _build(name: str) -> Protocol:
    return _eto() if name == "eto" else _agentgym()


def _eto() -> Protocol:
    most = {"train": 120, "dev": 10, "test": 10}
    splits = {
        split: tuple(f"{task}/{number}" for task in _ETO_STEPS for number in variations(task, split)[:count])
        for split, count in most.items()
    }
    return Protocol("eto", "easy", True, _ETO_STEPS, splits)


def _agentgym() -> Protocol:
    kept = [task for task, (number, _) in TASKS.items() if number not in _NOT_IN_AGENTGYM]
    splits = {split: tuple(name for name in names(split) if parse(name)[0] in kept) for split in SPLITS}
    return Protocol("agentgym", "", False, dict.fromkeys(kept, 30), splits)


def flat_id(name: str) -> int:
    """AgentGym's number of a task such as `boil/12`. Raises BadInput for a task that it leaves out."""
    task, variation = parse(name)
    kept = protocol("agentgym")
    kept.cap(task)
    before = list(kept.steps)[: list(kept.steps).index(task)]
    return sum(TASKS[other][1] for other in before) + variation


def from_flat_id(number: int) -> str:
    """The task of an AgentGym number. Raises BadInput outside 0 .. number of variations - 1."""
    left = number
    for task in protocol("agentgym").steps if number >= 0 else ():
        if left < TASKS[task][1]:
            return f"{task}/{left}"
        left -= TASKS[task][1]
    raise BadInput(f"AgentGym has no ScienceWorld task number {number}")

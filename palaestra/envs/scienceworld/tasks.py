"""The 30 tasks of ScienceWorld, their 7,207 variations and the official splits (Wang et al., arXiv 2203.07540).

A static table, so that listing tasks needs no Java; a test compares it with what the engine itself says.
"""

from __future__ import annotations

import difflib
from functools import lru_cache

from palaestra.envs.errors import BadInput

TASKS: dict[str, tuple[str, int]] = {
    "boil": ("1-1", 30),
    "melt": ("1-2", 30),
    "freeze": ("1-3", 30),
    "change-the-state-of-matter-of": ("1-4", 30),
    "use-thermometer": ("2-1", 540),
    "measure-melting-point-known-substance": ("2-2", 436),
    "measure-melting-point-unknown-substance": ("2-3", 300),
    "power-component": ("3-1", 20),
    "power-component-renewable-vs-nonrenewable-energy": ("3-2", 20),
    "test-conductivity": ("3-3", 900),
    "test-conductivity-of-unknown-substances": ("3-4", 600),
    "find-living-thing": ("4-1", 300),
    "find-non-living-thing": ("4-2", 300),
    "find-plant": ("4-3", 300),
    "find-animal": ("4-4", 300),
    "grow-plant": ("5-1", 126),
    "grow-fruit": ("5-2", 126),
    "chemistry-mix": ("6-1", 32),
    "chemistry-mix-paint-secondary-color": ("6-2", 36),
    "chemistry-mix-paint-tertiary-color": ("6-3", 36),
    "lifespan-longest-lived": ("7-1", 125),
    "lifespan-shortest-lived": ("7-2", 125),
    "lifespan-longest-lived-then-shortest-lived": ("7-3", 125),
    "identify-life-stages-1": ("8-1", 14),
    "identify-life-stages-2": ("8-2", 10),
    "inclined-plane-determine-angle": ("9-1", 168),
    "inclined-plane-friction-named-surfaces": ("9-2", 1386),
    "inclined-plane-friction-unnamed-surfaces": ("9-3", 162),
    "mendelian-genetics-known-plant": ("10-1", 120),
    "mendelian-genetics-unknown-plant": ("10-2", 480),
}
"""Task -> (its number in the paper, number of variations), in the paper's order."""

SPLITS = ("train", "dev", "test")
"""The official splits: about 50, 25 and 25 % of each task's variations."""

ELECTRICAL = frozenset(name for name in TASKS if "power-component" in name or "conductivity" in name)
"""Tasks that cannot be done without connecting electrical parts."""


def variations(task: str, split: str) -> range:
    """The variations of a task that an official split holds: the first half, the third and the last quarter.

    A quarter is rounded down; what is left over belongs to the test split.
    """
    count = TASKS[task][1]
    quarter = count // 4
    return {"train": range(2 * quarter), "dev": range(2 * quarter, 3 * quarter), "test": range(3 * quarter, count)}[
        split
    ]


@lru_cache(maxsize=8)
def names(split: str) -> tuple[str, ...]:
    """All task names of an official split, such as `boil/12`: 3,592 train, 1,796 dev, 1,819 test."""
    return tuple(f"{task}/{number}" for task in TASKS for number in variations(task, split))


def parse(name: str) -> tuple[str, int]:
    """Task and variation of a name such as `boil/12`.

    Raises:
        BadInput: unknown task or variation.
    """
    task, _, number = name.partition("/")
    if task not in TASKS:
        near = difflib.get_close_matches(task, TASKS, n=2, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise BadInput(f"ScienceWorld has no task {task!r}{hint}")
    count = TASKS[task][1]
    if not (number.isascii() and number.isdigit()) or str(int(number)) != number or int(number) >= count:
        raise BadInput(f"ScienceWorld task {name!r}: {task} has the variations {task}/0 to {task}/{count - 1}")
    return task, int(number)

"""Held-out tasks in bins by how often the start model solves them: where does a method gain, and where does it lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

BINS = ("never", "below half", "half or more", "always")
"""How often the start model solves the tasks of a bin."""

Successes = Mapping[str, Sequence[float]]
"""Of each task the episodes, 1 for a success."""


def bin_of(shares: Sequence[float]) -> str:
    """The bin of a task from the start model's episodes on it, 1 for a success. Raises ValueError without any."""
    if not shares:
        raise ValueError("a task without episodes has no difficulty")
    share = sum(shares) / len(shares)
    if share in (0.0, 1.0):
        return "always" if share else "never"
    return "below half" if share < 0.5 else "half or more"


def binned(start: Successes, values: Successes) -> dict[str, dict[str, Sequence[float]]]:
    """A policy's episodes by the start model's success on the same task; bins without a task are left out."""
    found: dict[str, dict[str, Sequence[float]]] = {name: {} for name in BINS}
    for task, shares in start.items():
        if shares and values.get(task):
            found[bin_of(shares)][task] = values[task]
    return {name: tasks for name, tasks in found.items() if tasks}

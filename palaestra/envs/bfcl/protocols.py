"""ExIt's protocol on BFCL (arXiv 2509.04575): 100 base tasks to train on, the other 100 to test on, and its own rule.

Training asks the first request only, with at most 10 answers; testing asks all of them, with at most 60. A turn holds
if the worlds are as the ground truth leaves them and its calls so far are among the agent's, in their order. An episode
goes on after a turn that does not hold, and succeeds if the last one does. Which 100 tasks the authors drew
(stratified) is not published: here every other task of each set of API classes trains. Figures are of the same rules on
another draw.

The benchmark itself has no training split: outside this protocol all 800 tasks are `test`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from palaestra.envs.bfcl import judge
from palaestra.envs.bfcl import worlds as api
from palaestra.envs.bfcl.data import NAMES, Entry, entry
from palaestra.envs.tools.calls import Call

PROTOCOLS = ("exit",)

STEPS = {"train": 10, "test": 60}
"""Answers that an episode may have."""


@lru_cache(maxsize=2)
def names(split: str) -> tuple[str, ...]:
    """The task names of `train` or `test`: 100 each, in the benchmark's order. Raises NotInstalled."""
    strata: dict[frozenset[str], list[str]] = {}
    for name in NAMES["base"]:
        strata.setdefault(frozenset(entry(name).classes), []).append(name)
    train, turn = set[str](), 0
    for members in strata.values():
        for name in members:
            if turn % 2 == 0:
                train.add(name)
            turn += 1
    return tuple(name for name in NAMES["base"] if (name in train) == (split == "train"))


def why_failed(entry: Entry, turn: int, worlds: api.Worlds, truth: api.Worlds, calls: Sequence[Call]) -> str | None:
    """ExIt's verdict at the end of a turn: None where it holds.

    Args:
        calls: all calls of the agent since the first turn.
    """
    if not judge.same_state(worlds, truth):
        return "exit:state"
    expected = [call for calls_of_turn in entry.truth[: turn + 1] for call in calls_of_turn]
    return None if judge.contains(worlds, calls, expected) else "exit:calls"

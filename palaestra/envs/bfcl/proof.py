"""Plays the ground truth of all entries, and compares verdicts with the package's whole checker.

    python -m palaestra.envs.bfcl.proof              800 of 800, and 2,400 changed conversations, verdict by verdict
    python -m palaestra.envs.bfcl.proof --every 20   the same of every 20th entry

The changed conversations leave out, repeat, add or move calls of the ground truth. The package's checker evaluates
their texts, which are ours; no text of an agent comes near it.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from palaestra.envs.bfcl import data
from palaestra.envs.bfcl.data import Entry
from palaestra.envs.bfcl.env import STEPS
from palaestra.envs.core import TextEnv
from palaestra.envs.registry import find, make
from palaestra.envs.tools.calls import Call

Turns = list[list[Call]]
"""The calls of each turn."""

_fresh = itertools.count()  # the package keeps instances by the name of a model


def oracle_passes(env: TextEnv[Any], name: str) -> bool:
    """Play the oracle on a task."""
    oracle = find("bfcl").oracle()
    _, info = env.reset(options={"task": name})
    over = False
    while not over:
        _, _, terminated, truncated, info = env.step(oracle(env))
        over = terminated or truncated
    return bool(info["success"])


def changed(entry: Entry, rng: np.random.Generator) -> Turns:
    """A conversation that is the ground truth but for one change."""
    turns = [list(calls) for calls in entry.truth]
    full = [index for index, calls in enumerate(turns) if calls]
    turn = turns[full[int(rng.integers(len(full)))]]
    place = int(rng.integers(len(turn)))
    match int(rng.integers(4)):
        case 0:
            del turn[place]
        case 1:
            turn.insert(place, turn[place])
        case 2:
            turns[int(rng.integers(len(turns)))].append(turn[place])
        case _:
            turns[int(rng.integers(len(turns)))].append(turn.pop(place))
    return turns


def our_verdict(env: TextEnv[Any], entry: Entry, turns: Turns) -> str | None:
    """The kind of error with which our environment ends this conversation; None where it is passed."""
    _, info = env.reset(options={"task": entry.name})
    for calls in turns:
        together = -(-len(calls) // STEPS)  # two turns have 34 calls, more than a turn may have answers
        lists = [calls[place : place + together] for place in range(0, len(calls), max(1, together))]
        for answer in [*(f"[{', '.join(map(str, part))}]" for part in lists), "done"]:
            _, _, terminated, truncated, info = env.step(answer)
            if terminated or truncated:
                verdict: str | None = info["verdicts"][-1]
                return verdict
    raise AssertionError(f"{entry.name}: the conversation did not end")


def their_verdict(entry: Entry, turns: Turns) -> str | None:
    """The same of the package's `multi_turn_checker`, which plays all of it again."""
    from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker import multi_turn_checker

    id = f"multi_turn_{entry.category}_{entry.number}"
    told = {"id": id, "initial_config": entry.config, "involved_classes": list(entry.classes)}
    model = [[[str(call)] for call in calls] for calls in turns]
    truth = [[str(call) for call in calls] for calls in entry.truth]
    answer = multi_turn_checker(model, truth, told, id.rsplit("_", 1)[0], f"proof{next(_fresh)}")
    return None if answer["valid"] else str(answer["error_type"])


def run(names: Sequence[str], changes: int) -> tuple[list[str], list[str]]:
    """The entries that the oracle does not pass, and the changed conversations on which the verdicts differ."""
    env = make("bfcl")
    rng = np.random.default_rng(0)
    failed, differing = [], []
    for name in names:
        if not oracle_passes(env, name):
            failed.append(name)
        entry = data.entry(name)
        for _ in range(changes):
            turns = changed(entry, rng)
            ours, theirs = our_verdict(env, entry, turns), their_verdict(entry, turns)
            if ours != theirs:
                differing.append(f"{name}: {ours} here, {theirs} there: {[list(map(str, calls)) for calls in turns]}")
    return failed, differing


def main() -> int:
    """Print what was found; 1 if anything failed or differed."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--every", type=int, default=1)
    options.add_argument("--changes", type=int, default=3)
    chosen = options.parse_args()
    names = [name for category in data.CATEGORIES for name in data.NAMES[category][:: chosen.every]]
    failed, differing = run(names, chosen.changes)
    print(f"oracle: {len(names) - len(failed)} of {len(names)} passed", *failed, sep="\n")
    total = chosen.changes * len(names)
    print(
        f"verdicts of changed conversations: {total - len(differing)} of {total} as the package's", *differing, sep="\n"
    )
    return 1 if failed or differing else 0


if __name__ == "__main__":
    raise SystemExit(main())

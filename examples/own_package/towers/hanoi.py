"""The towers of Hanoi as a text environment: `move A C`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from palaestra import Reply, Task, TextEnv

PEGS = "ABC"


@dataclass
class State:
    """For each disc, the smallest first, the peg it lies on."""

    discs: list[str]

    def top(self, peg: str) -> int:
        """The smallest disc on a peg; a number above all discs if it is empty."""
        return self.discs.index(peg) if peg in self.discs else len(self.discs)

    def legal(self, source: str, target: str) -> bool:
        """May the top disc of `source` go to `target`."""
        return self.top(source) < self.top(target)


class Hanoi(TextEnv[State]):
    """Bring all discs from peg A to peg C. Only the top disc of a peg can be moved, and never onto a smaller one.
    Answer like: move A C
    """

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        state = State(["A"] * int(task.name.split()[0]))
        return state, describe(state)

    def act(self, state: State, action: str) -> Reply:
        found = re.fullmatch(r"move ([ABC]) ([ABC])", action.strip())
        if found is None:
            return Reply("Answer like: move A C", valid=False)
        if not state.legal(found[1], found[2]):
            return Reply("That move is not allowed. " + describe(state), valid=False)
        state.discs[state.top(found[1])] = found[2]
        done = state.discs.count("C") / len(state.discs)
        return Reply(describe(state), score=done, success=done == 1.0, over=done == 1.0)

    def admissible(self, state: State) -> Sequence[str]:
        return [f"move {a} {b}" for a in PEGS for b in PEGS if state.legal(a, b)]


def describe(state: State) -> str:
    """What the agent sees: the discs on each peg, the largest (lowest) first."""
    pegs = ([number + 1 for number, on in enumerate(state.discs) if on == peg][::-1] for peg in PEGS)
    return "; ".join(f"{peg}: {' '.join(map(str, discs)) or 'empty'}" for peg, discs in zip(PEGS, pegs, strict=True))


def next_move(env: TextEnv[State]) -> str:
    """The oracle: the first move of the shortest solution from here."""
    discs, target, move = env.state.discs, "C", ""
    for disc in reversed(
        range(len(discs))
    ):  # the largest disc that is not where it belongs must move; then what is on it
        if discs[disc] != target:
            move = f"move {discs[disc]} {target}"
            target = next(peg for peg in PEGS if peg not in (discs[disc], target))
    return move

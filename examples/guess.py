"""An environment of your own in some 20 lines, registered from outside the package.

Try it:  palaestra check mine/Guess-v0 --load examples/guess.py
"""

import re
from dataclasses import dataclass

from palaestra import Reply, TextEnv, register


@dataclass
class State:
    """All that changes in an episode. Because it is all, rewinding comes for free."""

    secret: int
    tries: int = 0


class Guess(TextEnv[State]):
    """Find a number between 1 and 100. After each guess you are told whether it is higher or lower."""

    def begin(self, task, rng):
        return State(int(rng.integers(1, 101))), "Guess."

    def act(self, state, action):
        if not re.fullmatch("[0-9]{1,3}", action.strip()):
            return Reply("Answer with a number between 1 and 100.", valid=False)
        state.tries += 1
        if int(action) == state.secret:
            return Reply(f"Right, after {state.tries} guesses.", score=1.0, success=True, over=True)
        return Reply("Higher." if int(action) < state.secret else "Lower.")


def halve(env):
    """An oracle: binary search. It looks at the hidden state only to know what the agent was told."""
    low, high = 1, 100
    for guess in (int(action) for action in env.history if re.fullmatch("[0-9]{1,3}", action.strip())):
        if guess < env.state.secret:
            low = max(low, guess + 1)
        else:
            high = min(high, guess - 1)
    return str((low + high) // 2)


register(
    "mine/Guess-v0",
    Guess,
    splits={"train": range(1000), "test": range(1000, 1200)},
    max_steps=10,
    oracles={"halve": halve},
    summary="Find a number between 1 and 100",
)

if __name__ == "__main__":
    from palaestra.envs.check import check

    print(check("mine/Guess-v0", fast=True))

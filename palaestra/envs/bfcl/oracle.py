"""The oracle: the calls of the ground truth, one an answer, then the end of the turn."""

from __future__ import annotations

from palaestra.envs.bfcl.data import entry
from palaestra.envs.bfcl.env import STEPS, State
from palaestra.envs.core import TextEnv


def truth(env: TextEnv[State]) -> str:
    """The next call of the ground truth that has not been made in this turn, or words where there is none left.

    Two turns have 34 calls, more than a turn may have answers: there several go into one.

    Raises:
        gymnasium.error.ResetNeeded: there is no episode.
    """
    state = env.state
    calls = entry(state.entry).truth[state.turn]
    if not calls:
        return "I cannot do that with the functions and the information that I have."
    made = iter(state.called)
    done = 0
    while done < len(calls) and calls[done] in made:
        done += 1
    left = calls[done:]
    if not left:
        return "done"
    together = -(-len(left) // max(1, STEPS - state.steps))
    return str(left[0]) if together == 1 else f"[{', '.join(map(str, left[:together]))}]"

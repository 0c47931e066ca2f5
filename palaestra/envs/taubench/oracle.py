"""The oracle: the calls of the ground truth, one an answer, then what the user is to be told."""

from __future__ import annotations

from palaestra.envs.core import TextEnv
from palaestra.envs.errors import BadInput
from palaestra.envs.taubench.data import task
from palaestra.envs.taubench.env import State, TauBench
from palaestra.envs.taubench.toolbox import TRANSFER


def truth(env: TextEnv[State]) -> str:
    """The next call of the ground truth, or words where there is none left. A transfer, which ends all, comes last.

    Raises:
        gymnasium.error.ResetNeeded: there is no episode. BadInput: that is no tau-bench.
    """
    if not isinstance(env, TauBench):
        raise BadInput(f"{type(env).__name__} is no tau-bench")
    state = env.state
    wanted = task(env.domain, state.task)
    calls = [str(call) for call in wanted.actions if call.name != TRANSFER]
    done = 0
    for call in state.calls:
        if done < len(calls) and call == calls[done]:
            done += 1
    if done < len(calls):
        return calls[done]
    told = any(not line.by_user for line in state.lines)
    last = next((str(call) for call in wanted.actions if call.name == TRANSFER), None)
    if last is not None and (told or not wanted.outputs):
        return last
    return f"That is done. {'; '.join(wanted.outputs)}".strip()

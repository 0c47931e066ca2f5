"""Episodes for the conformance check: walked at random, remembered, followed again and compared."""

from __future__ import annotations

import hashlib
import math
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, SupportsFloat

import numpy as np

from palaestra.envs.core import Reply, Snapshot, Task, TextEnv
from palaestra.envs.registry import Oracle


@dataclass(frozen=True)
class Seen:
    """All that one `reset` or `step` let be seen. `reset` and `restore` give no reward and no end."""

    observation: str
    score: float
    success: bool
    valid: bool
    reward: float = 0.0
    over: bool = False
    truncated: bool = False

    def difference(self, other: Seen, start: bool = False) -> str | None:
        """What is not the same, in words; None if all is. `start`: leave out what a restore does not give."""
        for name in ("observation", "score", "success", "valid", *(() if start else ("reward", "over", "truncated"))):
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                return f"{name} was {_short(mine)}, then {_short(others)}"
        return None


@dataclass
class Trace:
    """A walked episode.

    Attributes:
        task: its task.
        seen: what was seen at reset and after each action; one more than actions.
        actions: what was done.
        offered: which of the actions were picked from the listed ones.
        snapshots: step -> snapshot made there, or why none could be made.
        listed: step -> the actions listed there, at the steps of the snapshots.
        info: the pickled `info` of the reset.
    """

    task: Task
    seen: list[Seen]
    actions: list[str] = field(default_factory=list)
    offered: list[bool] = field(default_factory=list)
    snapshots: dict[int, Snapshot | str] = field(default_factory=dict)
    listed: dict[int, list[str] | None] = field(default_factory=dict)
    info: bytes = b""


def begin(env: TextEnv[Any], task: Task) -> Seen:
    """Reset to a task."""
    return of_info(*env.reset(options={"task": task}))


def of_info(observation: str, info: dict[str, Any]) -> Seen:
    """What a reset or a restore let be seen."""
    return Seen(observation, info["score"], info["success"], info["valid"])


def of_step(answer: tuple[str, SupportsFloat, bool, bool, dict[str, Any]]) -> Seen:
    """What a step let be seen."""
    observation, reward, over, truncated, info = answer
    return Seen(observation, info["score"], info["success"], info["valid"], float(reward), over, truncated)


def walk(
    env: TextEnv[Any],
    task: Task,
    *,
    seed: int,
    steps: int,
    snapshots: int,
    oracle: Oracle | None,
    inspect: Callable[[Any, Reply | None], None],
) -> Trace:
    """Walk an episode: a mixture of listed actions, the oracle's and random words, the same for the same seed.

    Args:
        steps: actions at most.
        snapshots: how many to make, at random steps.
        inspect: called with every answer of `reset` (two values) and `step` (five), and the `Reply` behind it.
    """
    rng = np.random.default_rng([seed, int(hashlib.sha256(task.id.encode()).hexdigest()[:12], 16)])
    marks = set(rng.integers(0, steps, snapshots).tolist()) | {0}
    replies = _overhear(env)
    answer: Any = env.reset(options={"task": task})
    inspect(answer, None)
    trace = Trace(task, [of_info(*answer)], info=pickle.dumps(answer[1]))
    vocabulary = _words(env.instructions(task))
    while len(trace.actions) < steps and not (trace.seen[-1].over or trace.seen[-1].truncated):
        if len(trace.actions) in marks:
            _mark(env, trace, answer[-1])
        action, offered = _choose(env, answer[0], answer[-1], rng, oracle, vocabulary)
        replies.clear()
        answer = env.step(action)
        inspect(answer, replies[-1] if replies else None)
        trace.actions.append(action)
        trace.offered.append(offered)
        trace.seen.append(of_step(answer))
    return trace


def follow(env: TextEnv[Any], trace: Trace, start: int) -> str | None:
    """Take the actions of a trace from step `start` on; what differs from it first, or None."""
    for step in range(start, len(trace.actions)):
        problem = trace.seen[step + 1].difference(of_step(env.step(trace.actions[step])))
        if problem:
            return f"after action {step + 1}: {problem}"
    return None


def _mark(env: TextEnv[Any], trace: Trace, info: dict[str, Any]) -> None:
    step = len(trace.actions)
    trace.listed[step] = None if info["actions"] is None else list(info["actions"])
    try:
        trace.snapshots[step] = env.snapshot()
    except Exception as error:
        trace.snapshots[step] = f"snapshot() raised {type(error).__name__}: {error}"


def _overhear(env: TextEnv[Any]) -> list[Reply]:
    """Collect what `act` returns: the base class clips the score, so a wrong one is seen only there."""
    replies: list[Reply] = []
    act = type(env).act

    def overheard(state: Any, action: str) -> Reply:
        reply: Reply = act(env, state, action)
        replies.append(reply)
        return reply

    setattr(env, "act", overheard)  # noqa: B010  (a method of this one instance)
    return replies


def _choose(
    env: TextEnv[Any],
    observation: str,
    info: dict[str, Any],
    rng: np.random.Generator,
    oracle: Oracle | None,
    vocabulary: Sequence[str],
) -> tuple[str, bool]:
    lot = rng.random()
    if lot < 0.4 and info["actions"]:
        return str(info["actions"][int(rng.integers(len(info["actions"])))]), True
    if lot < 0.8 and oracle is not None:
        try:
            return oracle(env), False
        except Exception:  # from where a random walk went, an oracle may not know on; `oracle` judges it apart
            pass
    return random_action(rng, [*vocabulary, *_words(observation)]), False


def random_action(rng: np.random.Generator, vocabulary: Sequence[str]) -> str:
    """A number, or up to three words: what an environment of unknown kind may understand."""
    if not vocabulary or rng.random() < 0.5:
        return str(int(rng.integers(0, 101)))
    return " ".join(str(word) for word in rng.choice(list(vocabulary), int(rng.integers(1, 4))))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)[:200]


def answer_problem(answer: Any, task: Task | None, reply: Reply | None) -> str | None:
    """What is wrong with what `reset` or `step` returned, or None."""
    if not isinstance(answer, tuple) or len(answer) not in (2, 5):
        return f"returned {_short(answer)}"
    observation, info = answer[0], answer[-1]
    if not isinstance(observation, str):
        return f"the observation is {_short(observation)}, not a text"
    try:
        observation.encode()
    except UnicodeEncodeError:
        return f"the observation {_short(observation)} holds half a surrogate pair, so it cannot be written as UTF-8"
    if len(answer) == 5:
        reward, over, truncated = answer[1:4]
        if not isinstance(reward, SupportsFloat) or not math.isfinite(float(reward)):
            return f"the reward is {_short(reward)}, not a finite number"
        if not (isinstance(over, bool) and isinstance(truncated, bool)):
            return f"terminated is {over!r} and truncated is {truncated!r}; both should be bools"
    if reply is not None and reply.score is not None and not 0.0 <= float(reply.score) <= 1.0:
        return f"act() gave the score {reply.score!r}, which is not in [0, 1]"
    return _info_problem(info, task)


def _info_problem(info: Any, task: Task | None) -> str | None:
    if not isinstance(info, dict):
        return f"info is {_short(info)}, not a dict"
    missing = {"score", "success", "valid", "actions", "task"} - set(info)
    if missing:
        return f"info lacks {sorted(missing)[0]!r}"
    if not isinstance(info["score"], float) or not 0.0 <= info["score"] <= 1.0:
        return f"info['score'] is {_short(info['score'])}, not a float in [0, 1]"
    for name in ("success", "valid"):
        if not isinstance(info[name], bool):
            return f"info[{name!r}] is {_short(info[name])}, not a bool"
    if info["actions"] is not None and not isinstance(info["actions"], Sequence):
        return f"info['actions'] is {_short(info['actions'])}, not a sequence"
    if task is not None and info["task"] != task:
        return f"info['task'] is {_short(info['task'])} in an episode of {task.id}"
    return None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:119] + "…"

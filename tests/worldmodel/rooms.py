"""A toy environment whose pages say all: walk to the exit and leave. A policy that reads a world model's prompt knows
what comes, so a perfect world model of text can be written by hand.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.agents.episode import Turn
from palaestra.agents.policy import Completion, PolicyBase, Request
from palaestra.envs import Reply, Task, TextEnv, register

ACTIONS = ("left", "right", "leave")
LAST = 4


@dataclass
class State:
    """Where one is, and where the exit is."""

    at: int
    exit: int


def page(at: int, exit: int) -> str:
    return f"You are in room {at}. The exit is in room {exit}."


def step(at: int, exit: int, action: str) -> tuple[int, str, str]:
    """Where an action leads, the page there, and how the episode stands."""
    if action not in ACTIONS:
        return at, "There is no such way.", "refused"
    if action == "leave":
        return at, ("You are out." if at == exit else "You are lost."), "over"
    at = max(0, at - 1) if action == "left" else min(LAST, at + 1)
    return at, page(at, exit), "going"


class Rooms(TextEnv[State]):
    """Go left or right to the exit and leave."""

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        at, exit = (int(number) for number in task.name.split("/")[0].split("-"))
        return State(at, exit), page(at, exit)

    def act(self, state: State, action: str) -> Reply:
        won = action == "leave" and state.at == state.exit
        state.at, seen, status = step(state.at, state.exit, action)
        return Reply(seen, float(won), success=won, over=status == "over", valid=status != "refused")

    def admissible(self, state: State) -> Sequence[str]:
        return ACTIONS


def solve(env: TextEnv[Any]) -> str:
    """The oracle."""
    here, there = env.state.at, env.state.exit
    return "leave" if here == there else "left" if there < here else "right"


PAIRS = [f"{a}-{b}" for a in range(LAST + 1) for b in range(LAST + 1)]
register(
    "toy/Rooms-v0",
    Rooms,
    splits={"train": [f"{pair}/train" for pair in PAIRS], "test": [f"{pair}/test" for pair in PAIRS]},
    max_steps=8,
    oracles={"solve": solve},
)


def task(pair: str, split: str = "train") -> Task:
    return Task(env="toy/Rooms-v0", name=f"{pair}/{split}", split=split)


class Draws(PolicyBase):
    """Says what its seed draws, without looking at anything."""

    def __init__(self, actions: Sequence[str] = ACTIONS, name: str = "draws") -> None:
        super().__init__(name=name)
        self.actions = tuple(actions)
        self.said: list[tuple[Request, str]] = []

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        answers = [self.actions[request.seed % len(self.actions)] for request in requests]
        self.said += zip(requests, answers, strict=True)
        return [Completion(answer) for answer in answers]


class Writes(PolicyBase):
    """A world model's policy that writes what a function makes of the prompt."""

    def __init__(self, write: Callable[[str], Completion | str], name: str = "writes") -> None:
        super().__init__(name=name)
        self.write = write
        self.asked: list[str] = []

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += [str(request.messages[-1]["content"]) for request in requests]
        answers = [self.write(str(request.messages[-1]["content"])) for request in requests]
        return [answer if isinstance(answer, Completion) else Completion(answer) for answer in answers]


def true_page(prompt: str) -> str:
    """What a perfect world model of rooms writes."""
    lines = prompt.splitlines()
    at, exit = (int(number) for number in re.findall("[0-9]+", lines[0]))
    done = [line.partition(": ")[2] for line in lines if line.startswith("Done: ")]
    for action in done:
        at = step(at, exit, action)[0]
    action = next(line.partition(": ")[2] for line in lines if line.startswith("Action: "))
    _, seen, status = step(at, exit, action)
    listed = "" if status == "over" else "\n" + "\n".join(ACTIONS)
    return f"{seen}\n== actions{listed}\n== {status}"


def true_worth(prompt: str) -> str:
    """What a perfect judge of rooms writes: 1 out, 0 lost, between them the nearer the better."""
    seen = re.findall("^Page: (.*)$", prompt, re.MULTILINE)[-1]
    if seen in ("You are out.", "You are lost."):
        return f"Score: {float(seen == 'You are out.')}"
    numbers = [int(number) for number in re.findall("[0-9]+", seen)]
    return f"It walks.\nScore: {0.9 - abs(numbers[0] - numbers[1]) / 10:.1f}" if numbers else "Score: 0.0"


def turn(observation: str, action: str, **more: Any) -> Turn:
    return Turn(observation=observation, completion=action, action=action, **more)


def tiny(path: Path, seed: int = 0) -> Path:
    """A fresh model of some 100,000 parameters."""
    from palaestra.agents.tiny import make_tiny
    from palaestra.worldmodel.judging import Case, question
    from palaestra.worldmodel.page import Asked, PageFormat

    form = PageFormat(actions=3)
    asked = Asked(task("0-1"), Rooms.__doc__ or "", page(0, 1), ("left",), page(0, 1), "right")
    case = Case(task("0-1"), "", page(0, 1), ("left",), page(0, 1), True)
    told = [str(m["content"]) for m in (*form.messages(asked), *question(case, form))]
    told += [page(a, b) for a in range(LAST + 1) for b in range(LAST + 1)]
    told += [
        "Answer with one action and nothing else.",
        "system\n",
        "user\n",
        "assistant\n",
        "You are out.",
        "Score: 0.5",
    ]
    told += [
        "There is no such way.",
        "You are lost.\n== over",
        "\n== actions\nleft\nright\nleave\n== going",
        "Score: 1.0",
    ]
    return make_tiny(told * 10, path, vocab=1000, hidden=64, layers=2, heads=4, context=512, seed=seed)


def settings(model: str | Path, **more: Any) -> dict[str, Any]:
    """WebEvolver that begins with a fresh model, which walks at random."""
    return {
        "env": "toy/Rooms-v0",
        "model": str(model),
        "constrain": True,
        "conversation": {"window": 0},
        "budget": 30,
        "iterations": 2,
        "sampling": {"temperature": 1.0, "max_tokens": 6},
        "objective": {"epochs": 3, "learning_rate": 3e-3, "batch": 8},
        "evaluation": {"tasks": 4},
        "world": {
            "page": {"actions": 3},
            "per_start": 3,
            "horizons": 2,
            "judge": False,
            "max_tokens": 48,
            "objective": {"epochs": 20, "learning_rate": 5e-3, "batch": 4, "micro_tokens": 4096},
        },
        "steps": 3,
        "accept": 0.0,
        **more,
    }


def main(out: str, model: str, dies_after: str = "") -> None:
    """Train; for tests that kill it.

    Args:
        dies_after: so many imagined episodes are stored, and the process kills itself; empty for never.
    """
    from palaestra.agents.episode import Actor, Episode
    from palaestra.agents.store import EpisodeStore
    from palaestra.trainers.config import config_of
    from palaestra.worldmodel.webevolver import WebEvolver, WebEvolverConfig

    stored, left = EpisodeStore.add, int(dies_after or -1)

    def add(self: EpisodeStore, episode: Episode, kept: Mapping[int, bytes] | None = None) -> bool:
        nonlocal left
        new = stored(self, episode, kept)
        left -= episode.provenance.actor is Actor.IMAGINED
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return new

    EpisodeStore.add = add  # type: ignore[method-assign]
    WebEvolver(config_of(WebEvolverConfig, settings(model)), out, progress="quiet").train()

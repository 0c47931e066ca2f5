"""Small settings of every method on the lamps, and a program that trains a method in children which it kills."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lamps

from palaestra.envs import Reply, Task, register
from palaestra.envs.errors import EnvFault
from palaestra.trainers.config import config_of
from palaestra.trainers.methods import METHODS
from palaestra.trainers.recipe import Recipe


class Flaky(lamps.Lamps):
    """Press the button of the lamp's colour."""

    def act(self, state: lamps.State, action: str) -> Reply:
        if self.task.name == "two/3" and action == "press blue":
            raise EnvFault("the blue button is broken")  # of this task, and every time
        return super().act(state, action)

    @property
    def task(self) -> Task:
        assert self._now is not None
        return self._now.task


register(
    "toy/FlakyLamps-v0",
    Flaky,
    splits={"train": [f"two/{n}" for n in range(10)], "test": [f"two/{n}" for n in range(20, 24)]},
    max_steps=4,
    oracles={"solve": lamps.solve},
)

_BUDGET = 24

_ONLINE: dict[str, Any] = {
    "constrain": False,  # so that the log-probs of what was sampled are the model's own
    "sampling": {"temperature": 1.0, "max_tokens": 3},
    "overlong": "learn",
    "group": 3,
    "prompts": 4,
    "policy": {"learning_rate": 1e-3, "batch": 6},
}

OWN: Mapping[str, dict[str, Any]] = {
    "eef": {"states": 1},
    "agent-r": {
        "transition": "end",
        "budget": 96,  # a wave of its search asks three times in each of ten tasks, and an end is two waves away
        "search": {"strategy": "best", "width": 3, "iterations": 12},
        "alpha": [0.4],
        "beta": 0.1,
    },
    "grpo": _ONLINE,
    "exit": {**_ONLINE, "minimum": 2, "capacity": 6, "p": 0.8, "embedder": None},
    "eto": {"forks": 1, "chosen": "best", "preference": {"learning_rate": 1e-3, "batch": 4, "epochs": 1}},
}
"""What a method needs besides the settings of all."""

NAMES = tuple(name for name, kind in METHODS.items() if kind.__module__.startswith("palaestra.trainers."))
"""Other rooms add theirs to `METHODS` when they are imported, and test them themselves."""

ONE_ROUND: Mapping[str, dict[str, Any]] = {"exit": {"p": 0.0}}
"""And for a run of a single round, before which no buffer is filled: one that is never drawn from is refused."""

LEARNS = frozenset(NAMES) - {"best-of-k"}
"""The methods whose rollouts teach something."""


def method(name: str, out: Path, model: Path, **more: Any) -> Recipe[Any]:
    """A method with small settings: two iterations, experts of both outcomes, a task that breaks."""
    settings: dict[str, Any] = lamps.settings(model)
    del settings["per_task"]
    settings |= {
        "env": "toy/FlakyLamps-v0",
        "conversation": {},
        "budget": _BUDGET,
        "experts": {"oracle": "solve", "slip": 0.5, "samples": 3},  # of both outcomes; some press the broken button
        "objective": {"epochs": 1, "learning_rate": 3e-3, "batch": 8},
        "evaluation": {"tasks": 3, "recovery": True},
    }
    kind = METHODS[name]
    return kind(config_of(kind.config_type, {**settings, **OWN.get(name, {}), **more}), out, progress="quiet")


def lines(out: Path) -> int:
    """Lines of a run's log so far."""
    try:
        return (out / "log.jsonl").read_text().count("\n")
    except FileNotFoundError:
        return 0


def child(name: str, out: Path, model: Path, moment: int | None = None, after: float = 0.0, **more: Any) -> str:
    """Train in a child; with a moment it is killed `after` seconds after the log's line `moment`. How did it end."""
    started = os.fork()
    if started == 0:
        try:
            method(name, out, model, **more).train()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ended, status = 0, 0
    while moment is not None and not ended:
        if lines(out) >= moment:
            time.sleep(after)
            os.kill(started, signal.SIGKILL)
            break
        time.sleep(0.002)
        ended, status = os.waitpid(started, os.WNOHANG)
    if not ended:
        status = os.waitpid(started, 0)[1]
    return "killed" if os.WIFSIGNALED(status) else "failed" if status else "finished"


def main(model: str, out: str) -> None:
    """Of every method an undisturbed run (`whole`), one that is killed at ten random moments and resumed (`killed`),
    and one of another seed (`other`); prints a JSON object of how the children ended."""
    import palaestra.agents.policies.hf
    import palaestra.trainers.clipped
    import palaestra.trainers.cross_entropy
    import palaestra.trainers.preference  # noqa: F401  # children need not load them again

    ends: dict[str, dict[str, list[str]]] = {}
    for name in NAMES:
        whole, killed, other = (Path(out, kind, name) for kind in ("whole", "killed", "other"))
        ends[name] = {"whole": [child(name, whole, Path(model))]}
        log = [json.loads(line)["event"] for line in (whole / "log.jsonl").read_text().splitlines()]
        last = max(place for place, event in enumerate(log) if event == "evaluate")  # and so it is not over before
        rng = random.Random(name)
        moments = sorted((rng.randint(0, last), rng.random() * 0.05) for _ in range(10))
        ends[name]["killed"] = [child(name, killed, Path(model), *moment) for moment in moments]
        ends[name]["killed"].append(child(name, killed, Path(model)))
        first = OWN.get(name, {}).get("budget", _BUDGET) // 2  # as the other runs have for their first round
        ends[name]["other"] = [
            child(name, other, Path(model), seed=1, iterations=1, budget=first, **ONE_ROUND.get(name, {}))
        ]
    print(json.dumps(ends))


PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); import every_method; every_method.main(*sys.argv[2:])"
"""Run with this folder and the arguments of `main`."""

"""What the real environment says of episodes that were imagined: only a gym can ask it. It teaches nobody anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from palaestra.agents.store import EpisodeStore
from palaestra.envs import Task, TextEnv
from palaestra.trainers.phases import Synthesis
from palaestra.trainers.rundir import read_record, write_whole
from palaestra.worldmodel.env import CUT

FILE = "truth.json"


def imagined(run: Path) -> Synthesis:
    """What a run imagined."""
    return read_record(next(iter(sorted(run.glob("iteration-*/synthesis.json")))), Synthesis)


class Truth(NamedTuple):
    """Of an imagined episode: was it kept, or cut; do its actions (after those of the real episode that it forks) solve
    the task in the real environment, and are they all understood there."""

    kept: bool
    cut: bool
    solved: bool
    possible: bool


def true(run: Path, found: Synthesis, env: TextEnv[Any]) -> list[Truth]:
    """What the real environment says of the imagined episodes of a run, in order. Asked once: a browser takes long."""
    if (run / FILE).is_file():
        return [Truth(*each) for each in json.loads((run / FILE).read_bytes())]
    answers: list[Truth] = []
    asked: dict[tuple[str, tuple[str, ...], int], tuple[bool, bool]] = {}
    with EpisodeStore(run / "episodes.sqlite", mode="r") as store:
        for path in map(store.path, found.episodes):
            episode, task, way = path.episode, path.episode.start.task, (path.actions, path.own)
            if (task.id, *way) not in asked:
                asked[task.id, *way] = _there(env, task, *way)
            cut = episode.final_observation in CUT.values()
            answers.append(Truth(episode.id in found.kept, cut, *asked[task.id, *way]))
    write_whole(run / FILE, json.dumps(answers).encode())
    return answers


def _there(env: TextEnv[Any], task: Task, actions: tuple[str, ...], own: int) -> tuple[bool, bool]:
    """Do these actions solve the task, and are those from `own` on understood. Who does nothing solves nothing."""
    if not actions:
        return False, True
    assert env.registration is not None
    env.reset(options={"task": task.model_copy(update={"env": env.registration.id})})
    valid = True
    for step, action in enumerate(actions):
        *_, over, late, info = env.step(action)
        valid = valid and (step < own or bool(info["valid"]))
        if over or late:
            break
    return bool(info["success"]), valid

"""Methods that fork train inside imagination, in a world that was really learnt, and are measured outside of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rooms

from palaestra.agents.collect import collect
from palaestra.agents.episode import Actor
from palaestra.agents.export import write_episodes
from palaestra.agents.policies.oracle import OraclePolicy, flawed
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.store import EpisodeStore
from palaestra.envs import Task, find
from palaestra.trainers.config import config_of
from palaestra.trainers.methods import METHODS
from palaestra.trainers.phases import Collected, Reflection
from palaestra.trainers.report import rounds
from palaestra.trainers.rundir import read_record
from palaestra.worldmodel.env import CUT, ID
from palaestra.worldmodel.training import TrainConfig, train_world

pytestmark = [pytest.mark.xdist_group("methods_inside"), pytest.mark.timeout(900)]

FIT = {"epochs": 6, "learning_rate": 3e-3, "batch": 8}
TASKS = [pair for pair in rooms.PAIRS if pair[0] != pair[2]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rooms.tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def world(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world model that learnt rooms from an oracle that slips, and to judge them, too."""
    place, spec = tmp_path_factory.mktemp("world"), find("toy/Rooms-v0")
    with EpisodeStore(place / "episodes.sqlite") as store:
        tasks = [rooms.task(pair) for pair in rooms.PAIRS]
        collect(tasks, flawed(OraclePolicy(spec), 0.4), store, samples=4, progress="quiet")
    fit = {"epochs": 15, "learning_rate": 4e-3, "batch": 8, "micro_tokens": 4096}
    known = {"env": "toy/Rooms-v0", "store": str(place), "model": str(tiny), "max_tokens": 48, "objective": fit}
    known |= {"page": {"actions": 3, "rules": False}, "held_out": 0.0, "per_kind": None, "worth": "score"}
    config = config_of(TrainConfig, known)
    train_world(config, place / "run")
    return place / "run"


@pytest.fixture(scope="module")
def experts(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a policy that walks at random did there, failed or not, as a file."""
    place = tmp_path_factory.mktemp("experts")
    tasks = [Task(env=ID, name=f"{pair}/train", split="train") for pair in TASKS]
    with EpisodeStore(place / "episodes.sqlite") as store:
        collect(tasks, RandomPolicy(), store, samples=3, env_settings=there(world), progress="quiet")
        made = [e for e in store.episodes() if len(e.turns) > 1 and e.final_observation not in CUT.values()]
        assert {e.provenance.actor for e in made} == {Actor.IMAGINED}
        write_episodes(made, place / "experts.jsonl")
    return place / "experts.jsonl"


def there(world: Path) -> dict[str, Any]:
    return {"env": "toy/Rooms-v0", "model": str(world)}


def trained(name: str, out: Path, model: Path, world: Path, **more: Any) -> None:
    shared = {key: rooms.settings(model)[key] for key in ("model", "constrain", "conversation", "sampling")}
    own = {"env": ID, "env_settings": there(world), "iterations": 1, "objective": FIT}
    made = METHODS[name](
        config_of(METHODS[name].config_type, {**shared, **own, "evaluation": {"tasks": 4}, **more}),
        out,
        progress="quiet",
    )
    made.train()
    assert {each.evaluation.card.env for each in rounds(out)} == {"toy/Rooms-v0"}
    return made


def test_eef_explores_the_failures_of_imagined_experts(tiny: Path, world: Path, experts: Path, tmp_path: Path) -> None:
    out = tmp_path / "eef"
    trained("eef", out, tiny, world, experts={"file": str(experts)}, states=2, budget=120)
    collected = [read_record(out / f"iteration-{n}/collected.json", Collected) for n in (0, 1)]
    assert [each.judged for each in collected] == [True, True]
    assert collected[1].faults == 0
    assert collected[0].episodes
    with EpisodeStore(out / "episodes.sqlite", mode="r") as store:
        heads = [store.head(id) for id in collected[1].episodes]
        forks = [head for head in heads if head.parent in collected[0].episodes]
        assert forks
        assert {head.actor for head in heads} == {Actor.IMAGINED}
        for head in forks:
            assert head.parent is not None
            whole = store.path(head.parent).observations()
            assert store.path(head.id).observations()[: head.fork_step + 1] == whole[: head.fork_step + 1]


def test_agent_r_searches_and_splices_in_imagination(tiny: Path, world: Path, tmp_path: Path) -> None:
    """A fresh model, which walks at random, in rooms that it may leave at once, too early or too late."""
    out = tmp_path / "agent-r"
    search = {"strategy": "best", "width": 3, "iterations": 12}
    settings = {"transition": "end", "search": search, "alpha": [0.4], "beta": 0.1, "budget": 200}
    tasks = [f"{number}-{number}/train" for number in range(rooms.LAST + 1)]
    trained("agent-r", out, tiny, world, tasks=tasks, **settings)
    with EpisodeStore(out / "episodes.sqlite", mode="r") as store:
        found = read_record(out / "iteration-1/reflection.json", Reflection)
        made = [store.head(splice.episode) for splice in found.splices if splice.episode is not None]
        assert made
        assert {head.actor for head in made} == {Actor.IMAGINED}
        assert all(head.parent is not None for head in made)
        assert store.summary().faults == 0

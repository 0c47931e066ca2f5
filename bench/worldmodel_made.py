"""What a study of world models is made of: the policy, real episodes, and the world models that learn from them.

All of it lies in the study's folder, and what is there is not made again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from worldmodel_studies import START, STUDIES, Study

from palaestra.agents.collect import collect, planned_keys
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Start, episode_id
from palaestra.agents.export import write_episodes
from palaestra.agents.models import load_model
from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policies.oracle import OraclePolicy, flawed
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policy import Policy, Sampling
from palaestra.agents.store import EpisodeStore
from palaestra.agents.tiny import env_texts, make_tiny
from palaestra.envs import find, make
from palaestra.trainers.config import config_of
from palaestra.trainers.evaluate import choose_tasks
from palaestra.trainers.rft import RFT, RFTConfig
from palaestra.trainers.rundir import RunDir
from palaestra.worldmodel.loading import read_card
from palaestra.worldmodel.training import TrainConfig, measure, train_world
from palaestra.worldmodel.world import LearnedWorld

MEMORY = 256 << 20
"""Bytes of prefixes that each policy keeps: looking ahead has four of them (who acts, explores, goes on, imagines)."""


@dataclass
class Run:
    """A study under way.

    Attributes:
        name: of the study.
        until: no step begins after this moment (`time.monotonic`).
        worlds: so many world models are trained, of different seeds; the seeds share them in turn.
    """

    name: str
    out: Path
    until: float
    worlds: int
    docs: Path

    @property
    def study(self) -> Study:
        """What is asked."""
        return STUDIES[self.name]

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.out / "worldmodel" / self.name

    def late(self) -> bool:
        """Is the time up."""
        return time.monotonic() > self.until

    @property
    def conversation(self) -> Conversation:
        """How the policy is shown an episode."""
        return Conversation(**self.study.conversation)

    def policy(self, model: Path | None = None, *, free: bool = False, temperature: float | None = None) -> HFPolicy:
        """The policy, by default with the weights that all begin with, at the temperature of its rollouts; `free` to
        write what no list holds."""
        drawn = Sampling(**self.study.sampling)
        return HFPolicy(
            load_model(model or policy_model(self)),
            sampling=drawn if temperature is None else drawn.model_copy(update={"temperature": temperature}),
            batch_size=32,
            constrain=self.study.lists and not free,
            memory=MEMORY,
        )


def policy_model(run: Run) -> Path:
    """The policy's weights, which all begin with; made once."""
    if run.study.begins:
        return policy_model(replace(run, name=run.study.begins))
    study, folder = run.study, run.folder
    model, fresh = folder / "policy-model", folder / "fresh-policy"
    if (model / "config.json").is_file():
        return model
    if study.schooled:
        fresh = policy_model(replace(run, name=study.schooled))
    elif not (fresh / "config.json").is_file():
        words = env_texts(study.env, episodes=study.vocabulary)
        make_tiny(words, fresh, vocab=study.known, hidden=128, layers=2, heads=4, name="tiny")
    settings = recipe_settings(study, fresh)
    settings |= {
        "evaluation": {**settings["evaluation"], "tasks": list(study.tasks[:10])},  # it is measured when it acts
        "tasks": list(study.taught),
        "budget": 0,
        "experts": experts(run),
        "objective": {**START, **study.cloning, "tokens": study.cloned},
    }
    RFT(config_of(RFTConfig, settings), folder / "policy", progress="quiet").train()
    part = folder / ".policy-model"
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(folder / "policy/iteration-0/model", part)
    part.rename(model)
    return model


def recipe_settings(study: Study, model: Path) -> dict[str, Any]:
    """What every recipe is told."""
    return {
        "env": study.env,
        "env_settings": dict(study.env_settings),
        "model": str(model),
        "constrain": study.lists,
        "conversation": dict(study.conversation),
        "sampling": dict(study.sampling),
        "evaluation": {
            "split": "dev",
            "temperature": study.sampling["temperature"],
            "between": False,
            "tasks": list(study.finals or study.tasks),
            "samples": study.tries if study.finals else study.answers,
        },
    }


# -- the world model ---------------------------------------------------------------------------------------------------


def episodes(run: Run) -> None:
    """Real episodes to learn the world from, and to measure a world model on."""
    study = run.study
    learnt, other = splits_of(study)
    oracles: list[Policy] = [OraclePolicy(study.env), *([flawed(study.env, study.slip)] if study.slip else [])]
    play(run, learnt, [(oracle, study.oracle) for oracle in oracles])
    play(run, learnt, [(RandomPolicy(study.words), study.random)])
    own = [run.policy()] if study.policy else []
    play(run, learnt, [(policy, study.policy) for policy in own])
    play(run, other, [(who, study.measured) for who in [*oracles, *own]])


def splits_of(study: Study) -> tuple[str, str]:
    """What a world model learns from, and what it is measured on."""
    splits = list(find(study.env).splits)
    return splits[0], next((split for split in ("test", "dev") if split in splits), splits[0])


def play(run: Run, split: str, who: Sequence[tuple[Policy, Sequence[str]]]) -> None:
    """Episodes of each policy in its tasks, into the study's store; those that are there are not played again."""
    study, env = run.study, make(run.study.env, **dict(run.study.env_settings))
    with EpisodeStore(run.folder / "episodes.sqlite") as store:
        for policy, names in who:
            collect(
                choose_tasks(env.tasks(split), names, study.env) if names else [],
                policy,
                store,
                env_settings=dict(study.env_settings),
                conversation=run.conversation,
                concurrency=32,
                progress="quiet",
            )
    env.close()


def experts(run: Run) -> dict[str, Any]:
    """Whom the policy clones: the oracle, whose episodes are played only once where the world model learns from them
    too."""
    study, file = run.study, run.folder / "experts.jsonl"
    if not set(study.taught) <= set(study.oracle):
        return {"oracle": "default"}
    if not file.is_file():
        oracle, split = OraclePolicy(study.env), splits_of(study)[0]
        play(run, split, [(oracle, study.oracle)])
        tasks = [Start(task=task) for task in find(study.env).split(split) if task.name in study.taught]
        with EpisodeStore(run.folder / "episodes.sqlite", mode="r") as store:
            found = [store.get(episode_id(key)) for key in planned_keys([(start, 1) for start in tasks], oracle)]
        write_episodes(found, file)
    return {"file": str(file), "replay": False}


def seen(run: Run, most: int = 300) -> list[str]:
    """Pages and actions of so many episodes that a world model may learn from: its words."""
    texts: list[str] = []
    with EpisodeStore(run.folder / "episodes.sqlite", mode="r") as store:
        ids = sorted(head.id for head in store.heads(split=[next(iter(find(run.study.env).splits))]))
        for path in map(store.path, ids[:most]):
            texts += [*path.observations(), *path.actions]
    return texts


def first_weights(run: Run, seed: int) -> Path:
    """The folder of the weights that a world model begins with; it is not there yet where they are fresh."""
    match run.study.onward:
        case "":
            return run.folder / f"fresh-{seed}"
        case "policy":
            return policy_model(run)
        case other:
            return world_model(replace(run, name=other), 0) / "model"


def world_model(run: Run, seed: int) -> Path:
    """A world model that was trained and measured: the run directory."""
    study, folder = run.study, run.folder
    if (folder / f"world-{seed}/fidelity.json").is_file():
        return folder / f"world-{seed}"
    episodes(run)
    fresh = first_weights(run, seed)
    config = {
        "env": study.env,
        "env_settings": dict(run.study.env_settings),
        "store": str(folder / "episodes.sqlite"),
        "model": str(fresh),
        "page": dict(study.page),
        "per_kind": None,  # crafting has a few dozen kinds of action, and a fresh model must see them all often
        "held_out": 0.0 if study.measured else 0.1,
        "max_tokens": study.max_tokens,
        "even_ends": study.even_ends,
        "judge": study.judges,
        "worth": study.worth,
        "objective": {**START, **study.fitted, "tokens": study.tokens},
        "seed": seed,
    }
    if not (fresh / "config.json").is_file():
        words = [*seen(run), *(["Task: Done: Page: Action: Score: 0.5\n== going"] * 200)]
        words += ["Write the page that comes next.", "Judge the page.", "The episode is over.", "\n== refused"] * 200
        make_tiny(words, fresh, vocab=1500, hidden=study.hidden, layers=study.layers, heads=4, seed=seed, name="world")
    told, world = config_of(TrainConfig, config), folder / f"world-{seed}"
    if train_world(told, world) is None:  # its tasks to be measured on are of another split
        env = make(study.env, **dict(study.env_settings))
        with EpisodeStore(folder / "episodes.sqlite", mode="r") as store, RunDir.open(world, "worldmodel", told) as of:
            measure(of, "", store, env, told, seed, splits=[splits_of(study)[1]])
        env.close()
    return world


def imagining(world: Path) -> LearnedWorld:
    """A trained world model, for many questions at once."""
    card = read_card(world / "model")
    sampling = Sampling(temperature=card.temperature, max_tokens=card.max_tokens)
    policy = HFPolicy(load_model(world / "model"), sampling=sampling, batch_size=64, memory=MEMORY)
    return LearnedWorld(policy, card.page)

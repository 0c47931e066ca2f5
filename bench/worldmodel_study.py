"""Is a world model of any use: how far it can be trusted, and what looking ahead and practising in it add.

    python bench/worldmodel_study.py [--out DIR] [--seeds N] [--study NAME] [--worlds N] [--minutes N] [--page]

The same command goes on where it was stopped. A world model is trained from a fresh tiny model on real episodes of
tasks that nobody else trains or is measured on (by the oracle, a flawed oracle, at random and by the policy itself) and
measured on such tasks that it did not learn from. Then the policy plays held-out tasks alone, looking ahead in the
world model, and looking ahead in the real environment; then `webevolver` runs beside its two controls. After every
step the findings are written to bench/results/worldmodel.md and into docs/results.md.

The policy is a fresh model of half a million parameters that has cloned solved episodes of yet other tasks.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import worldmodel_verifier as verified
from worldmodel_judged import FILE, judged
from worldmodel_page import Acted, acting_file, acting_files, write_page
from worldmodel_studies import ARMS, FIT, JUDGED, START, STUDIES, Study
from worldmodel_truth import imagined, true

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
from palaestra.trainers.compare import recipes_of
from palaestra.trainers.config import config_of
from palaestra.trainers.evaluate import choose_tasks, evaluate
from palaestra.trainers.rft import RFT, RFTConfig
from palaestra.trainers.rundir import write_whole
from palaestra.worldmodel.loading import read_card
from palaestra.worldmodel.lookahead import LookAhead, LookAheadPlan
from palaestra.worldmodel.methods import contestant
from palaestra.worldmodel.training import TrainConfig, train_world
from palaestra.worldmodel.world import LearnedWorld, World, real_world

ROOT = Path(__file__).resolve().parent.parent
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

    def policy(self, *, free: bool = False, temperature: float | None = None) -> HFPolicy:
        """The policy, by default at the temperature of its rollouts; `free` to write what no list holds."""
        drawn = Sampling(**self.study.sampling)
        return HFPolicy(
            load_model(policy_model(self)),
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
    train_world(config_of(TrainConfig, config), folder / f"world-{seed}")
    return folder / f"world-{seed}"


# -- acting ------------------------------------------------------------------------------------------------------------


def imagining(world: Path) -> LearnedWorld:
    """A trained world model, for many questions at once."""
    card = read_card(world / "model")
    sampling = Sampling(temperature=card.temperature, max_tokens=card.max_tokens)
    policy = HFPolicy(load_model(world / "model"), sampling=sampling, batch_size=64, memory=MEMORY)
    return LearnedWorld(policy, card.page)


def player(run: Run, arm: str, world: Path) -> Policy:
    """One of `ARMS`."""
    if arm == ARMS[0]:
        return run.policy()
    learned, depth = imagining(world), int(arm[-1])
    imagined = arm.startswith("imagined")
    seen: World = learned if imagined else real_world(run.study.env, dict(run.study.env_settings))
    return LookAhead(
        run.policy(),
        seen,
        learned.judge if arm == JUDGED else None,
        plan=LookAheadPlan(candidates=3, depth=depth, after=0),
        explorer=run.policy(temperature=run.study.explored) if run.study.explored is not None else None,
        roller=None if seen.lists else run.policy(free=True),
    )


def act(run: Run, seeds: int) -> None:
    """All arms, each of all seeds."""
    (run.folder / "acting").mkdir(parents=True, exist_ok=True)
    for name in run.study.arms:
        missing = [seed for seed in range(seeds) if not acting_file(run.folder, seed, name).is_file()]
        for seed in missing:
            if run.late():
                return
            file = acting_file(run.folder, seed, name)
            world = world_model(run, seed % run.worlds)
            began, acting = time.process_time(), player(run, name, world)
            with EpisodeStore(file.with_suffix(".sqlite")) as store:
                found = evaluate(
                    run.study.env,
                    acting,
                    store,
                    split="dev",
                    tasks=run.study.tasks,
                    env_settings=dict(run.study.env_settings),
                    conversation=run.conversation,
                    seed=seed,
                    samples=run.study.answers,
                    concurrency=36,
                    label=name,
                    progress="quiet",
                )
            spent = acting.spent.counts() if isinstance(acting, LookAhead) else {}
            acted = Acted(evaluation=found, spent=spent, world=world.name, seconds=time.process_time() - began)
            write_whole(file, acted.model_dump_json().encode())
            print(f"seed {seed}, {name}: {found.success.text(percent=True)}, {acted.seconds:.0f} s", flush=True)
        if missing:
            write_page(run.out / "worldmodel", run.docs)


def verifier(run: Run) -> Path:
    """The folder of a verifier that was trained and measured."""
    study, folder = run.study, run.folder / "verifier"
    if not (folder / verified.FILE).is_file():
        others = [replace(run, name=name) for name in study.verifier]
        for other in others:
            episodes(other)
        stores = [other.folder / "episodes.sqlite" for other in others]
        alone = [file for other in others for file in acting_files(other.folder, ARMS[0]).values()]
        found = verified.train_verifier(
            (study.env, dict(study.env_settings)),
            policy_model(run),
            stores,
            [*stores, *(file.with_suffix(".sqlite") for file in alone)],
            {**START, **study.fitted, "tokens": study.verified},
            folder,
        )
        print(found.text(), flush=True)
    return folder


# -- synthesis ---------------------------------------------------------------------------------------------------------


def synthesise(run: Run, seed: int, world: Path) -> None:
    """WebEvolver and its controls, of one seed."""
    study = run.study
    settings = {
        **recipe_settings(study, policy_model(run)),
        "tasks": list(study.trained),
        "budget": study.budget,
        "iterations": 2,
        "objective": dict(study.fit),
        "world": {
            "page": dict(study.page),
            "per_kind": None,
            "max_tokens": study.max_tokens,
            "worth": study.worth,
            **study.watched,
            "objective": {**FIT, "tokens": study.after},
        },
        "world_model": str(world / "model"),
        "steps": 7,
        "imagined": study.imagined,
    }
    recipes = recipes_of(
        [contestant(name) for name in study.compared],
        settings,
        run.folder / "synthesis",
        [seed],
        {"webevolver-untrained": {"world_model": None}},  # nobody was ever trained to imagine: the start model does
        {"progress": "quiet", "concurrency": 32},
    )
    for (name, _), recipe in recipes.items():
        if run.late():
            return
        if not (recipe.out / "report.html").is_file():
            recipe.train()
            print(f"seed {seed}, {name}: done", flush=True)


def rejudge(run: Run, seeds: int) -> None:
    """Train a verifier, and ask it about what was imagined."""
    place = run.folder / "verifier"
    runs = [run.folder / "synthesis" / f"webevolver-{seed}" for seed in range(seeds)]
    runs = [each for each in runs if (each / "report.html").is_file()]
    if run.late() or not runs:
        return
    verifier(run)
    env = make(run.study.env)
    made = {each: imagined(each) for each in runs}
    found = verified.rejudged(place, {each: (made[each], true(each, made[each], env)) for each in runs})
    env.close()
    write_whole(place / verified.AGAIN, found.model_dump_json().encode())
    write_page(run.out / "worldmodel", run.docs)


def go(run: Run, seeds: int) -> None:
    """Run the study, or go on with it."""
    for seed in range(run.worlds):
        if not run.late():
            world = world_model(run, seed)
            if run.study.judges and not (world / FILE).is_file():
                known = set(read_card(world / "model").tasks)
                found = judged(imagining(world), run.folder / "episodes.sqlite", known)
                write_whole(world / FILE, found.model_dump_json().encode())
            write_page(run.out / "worldmodel", run.docs)
    if run.study.taught:
        act(run, seeds)
        for seed in range(seeds if run.study.trained else 0):
            if not run.late():
                synthesise(run, seed, world_model(run, seed % run.worlds))
                write_page(run.out / "worldmodel", run.docs)
        if run.study.verifier:
            rejudge(run, seeds)


def main() -> int:
    """Run, or go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs/results", help="where the runs are kept")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--worlds", type=int, help="world models of different seeds; default: one a seed")
    parser.add_argument("--study", choices=list(STUDIES), action="append", help="one of them; default: all")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no step after so many")
    parser.add_argument("--page", action="store_true", help="run nothing, write what is finished")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/results.md", help="the page")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    for name in () if given.page else given.study or list(STUDIES):
        if why := find(STUDIES[name].env).why_not_ready():
            print(f"{name} is left out: {why}", flush=True)
            continue
        seeds = given.seeds if STUDIES[name].taught else 1
        go(Run(name, given.out, until, given.worlds or seeds, given.docs), seeds)
    write_page(given.out / "worldmodel", given.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())

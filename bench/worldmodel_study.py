"""Is a world model of any use: how far it can be trusted, and what looking ahead and practising in it add.

    python bench/worldmodel_study.py [--out DIR] [--seeds N] [--study NAME] [--worlds N] [--minutes N] [--page]

The same command goes on where it was stopped. A world model is trained on real episodes of tasks that
nobody else trains or is measured on (by the oracle, a flawed oracle, at random and by the policy itself) and measured
on such tasks that it did not learn from. Then the policy plays held-out tasks alone, looking ahead in the
world model, and looking ahead in the real environment; then `webevolver` runs beside its two controls, and where a
study says so the policies that these ended with look ahead, too. After every step the findings are written to
bench/results/worldmodel.md and into docs/results.md.

The policy is a model of half a million parameters or somewhat more that has cloned solved episodes of yet other tasks.
Both begin with fresh weights; where a study does otherwise, its part of the page says so.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import worldmodel_verifier as verified
from worldmodel_judged import FILE, judged
from worldmodel_made import Run, episodes, imagining, policy_model, recipe_settings, world_model
from worldmodel_page import Acted, acting_file, acting_files, later_folder, rounds_file, worlds, write_page
from worldmodel_studies import ARMS, FIT, JUDGED, LATER, START, STUDIES
from worldmodel_truth import imagined, true

from palaestra.agents.policy import Policy
from palaestra.agents.store import EpisodeStore
from palaestra.envs import find, make
from palaestra.trainers.compare import recipes_of
from palaestra.trainers.evaluate import evaluate
from palaestra.trainers.phases import Fitted
from palaestra.trainers.rundir import read_record, write_whole
from palaestra.worldmodel.loading import read_card
from palaestra.worldmodel.lookahead import LookAhead, LookAheadPlan
from palaestra.worldmodel.methods import contestant
from palaestra.worldmodel.world import World, real_world

ROOT = Path(__file__).resolve().parent.parent


# -- acting ------------------------------------------------------------------------------------------------------------


def player(run: Run, arm: str, world: Path, model: Path | None = None) -> Policy:
    """One of `ARMS`, by default with the weights that all begin with."""
    if arm == ARMS[0]:
        return run.policy(model)
    learned, depth = imagining(world), int(arm[-1])
    imagined = arm.startswith("imagined")
    seen: World = learned if imagined else real_world(run.study.env, dict(run.study.env_settings))
    return LookAhead(
        run.policy(model),
        seen,
        learned.judge if arm == JUDGED else None,
        plan=LookAheadPlan(candidates=3, depth=depth, after=0),
        explorer=run.policy(model, temperature=run.study.explored) if run.study.explored is not None else None,
        roller=None if seen.lists else run.policy(model, free=True),
    )


def play_tasks(run: Run, arm: str, seed: int, file: Path, world: Path, model: Path | None = None) -> None:
    """One arm of one seed in the held-out tasks, into `file`; its episodes are kept beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    began, acting = time.process_time(), player(run, arm, world, model)
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
            label=arm,
            progress="quiet",
        )
    spent = acting.spent.counts() if isinstance(acting, LookAhead) else {}
    acted = Acted(evaluation=found, spent=spent, world=world.name, seconds=time.process_time() - began)
    write_whole(file, acted.model_dump_json().encode())
    print(f"seed {seed}, {file.stem}: {found.success.text(percent=True)}, {acted.seconds:.0f} s", flush=True)


def act(run: Run, seeds: int) -> None:
    """All arms, each of all seeds."""
    for name in run.study.arms:
        missing = [seed for seed in range(seeds) if not acting_file(run.folder, seed, name).is_file()]
        for seed in missing:
            if run.late():
                return
            play_tasks(run, name, seed, acting_file(run.folder, seed, name), world_model(run, seed % run.worlds))
        if missing:
            write_page(run.out / "worldmodel", run.docs)


def ended_with(ended: Path, method: str) -> Path | None:
    """The last weights of a recipe's run; None if those are the start model's.

    Of `self-improve` they are those after its rounds: its last fit is the control of the others' last fits, and learns
    what the first round won once more.
    """
    last = max(int(file.parent.name[10:]) for file in ended.glob("iteration-*/fit.json"))
    fitted = read_record(ended / f"iteration-{last - (method == LATER[0])}/fit.json", Fitted)
    return ended / fitted.model if fitted.model else None


def measure_rounds(run: Run, seed: int) -> None:
    """Self-improvement alone: the weights after its rounds, measured as the recipes measure their last ones."""
    study, place = run.study, run.folder / "synthesis"
    file, ended = rounds_file(run.folder, seed), place / f"{LATER[0]}-{seed}"
    if file.is_file() or run.late() or not (ended / "report.html").is_file():
        return
    with EpisodeStore(file.with_suffix(".sqlite")) as store:
        found = evaluate(
            study.env,
            run.policy(ended_with(ended, LATER[0])),
            store,
            split="dev",
            tasks=study.finals or study.tasks,
            env_settings=dict(study.env_settings),
            conversation=run.conversation,
            seed=seed,
            samples=study.tries if study.finals else study.answers,
            concurrency=32,
            label="after its rounds",
            progress="quiet",
        )
    write_whole(file, found.model_dump_json().encode())
    print(f"seed {seed}, {LATER[0]} after its rounds: {found.success.text(percent=True)}", flush=True)


def act_later(run: Run, seeds: int) -> None:
    """The policies that the recipes ended with, each of its seed, with the world model that theirs ended with."""
    for method, name in [(method, name) for method in LATER for name in run.study.later]:
        ends = {seed: run.folder / "synthesis" / f"{method}-{seed}" for seed in range(seeds)}
        files = {seed: acting_file(later_folder(run.folder, method), seed, name) for seed in ends}
        missing = [s for s in ends if (ends[s] / "report.html").is_file() and not files[s].is_file()]
        for seed in missing:
            if run.late():
                return
            trained = worlds(run.folder, method, seed)
            world = trained[-1] if trained else world_model(run, seed % run.worlds)
            play_tasks(run, name, seed, files[seed], world, ended_with(ends[seed], method))
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
        {},
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
    env = make(run.study.env, **dict(run.study.env_settings))
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
                measure_rounds(run, seed)
                write_page(run.out / "worldmodel", run.docs)
        act_later(run, seeds)
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

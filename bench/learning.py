"""Every method and every control on environments of exact rewind, with five seeds: `docs/results.md`.

    python bench/learning.py [--out DIR] [--seeds N] [--study NAME] [--methods A,B] [--jobs N] [--page] [--docs FILE]

The same command goes on where it was killed. Seeds run side by side, one process each (`--jobs`), first those of all
studies' first seed; the page is written anew with every run that is finished. One core a process is enough, and
OMP_NUM_THREADS=1 makes the weights the same again on the same kind of processor.

Each study has a start model of its own, the same for all contestants and seeds: a fresh model of half a million
parameters (`palaestra.agents.tiny`) that has cloned solved episodes of tasks that nobody trains or is measured on, and
in the crafting world has learnt there to judge single actions too (`learning_start`).
WebShop needs the data set `webshop` (`palaestra data list`); a study whose data is not here is left out, and said so.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from learning_page import page, parts, section
from learning_start import judged, write_attempts, write_experts, write_judgements
from learning_studies import IMPROVED, IMPROVEMENTS, JUDGES, JUDGING, MODEL, REHEARSING, START, STUDIES, Study

from palaestra.agents.conversation import Conversation
from palaestra.agents.policy import Sampling
from palaestra.agents.tiny import env_texts, make_tiny
from palaestra.envs import find
from palaestra.trainers.chat_data import read_chats
from palaestra.trainers.compare import compare_methods
from palaestra.trainers.config import config_of
from palaestra.trainers.methods import contestant
from palaestra.trainers.objective import fit, objective_of
from palaestra.trainers.recipe import Recipe
from palaestra.trainers.rft import RFT, RFTConfig
from palaestra.trainers.rundir import write_whole
from palaestra.trainers.sample import Sample

ROOT = Path(__file__).resolve().parent.parent


def start_model(study: Study, out: Path) -> Path:
    """The model that all contestants begin with; made once."""
    model = out / "start-model"
    if (model / "config.json").is_file():
        return model
    cloned = cloned_model(study, out)
    part = out / ".start-model"
    shutil.rmtree(part, ignore_errors=True)
    if study.judgements:
        told_to_judge(study, out, cloned, part)
    else:
        last = shown_attempts(study, out, cloned) if study.shown else cloned
        shutil.copytree(last / "model", part)
    part.rename(model)
    return model


def cloned_model(study: Study, out: Path) -> Path:
    """A fresh model, or that of another study, that has cloned the oracle; the folder of that iteration."""
    fresh = out / "fresh-model"
    if study.onward:
        fresh = start_model(STUDIES[study.onward], out.parent / study.onward)
    elif not (fresh / "config.json").is_file():
        vocab, episodes = study.vocabulary
        make_tiny(env_texts(study.env, episodes=episodes), fresh, vocab=vocab, name="tiny", **MODEL)
    return clones(study, fresh, study.taught, {"oracle": "default"}, {**START, "tokens": study.ids}, out / "start")


def clones(
    study: Study, model: Path, tasks: Sequence[str], experts: dict[str, Any], fitted: dict[str, Any], run: Path
) -> Path:
    """A model that clones experts; the folder of that iteration."""
    settings = {
        **shared(study, model),
        "tasks": list(tasks),
        "budget": 0,
        "experts": experts,
        "objective": {**study.settings["objective"], **fitted},
        "evaluation": {**study.settings["evaluation"], "recovery": False},
    }
    if not (run / "iteration-0/fit.json").is_file():
        RFT(config_of(RFTConfig, settings), run, progress="quiet").train()
    return run / "iteration-0"


def shown_attempts(study: Study, out: Path, cloned: Path) -> Path:
    """Go on from a cloned model with attempts of its own that the oracle improves on; the folder of that iteration."""
    from palaestra.agents.policies.hf import HFPolicy

    file = out / "attempts.jsonl"
    if not file.is_file():
        sampling = Sampling(**study.settings["sampling"])
        policy = HFPolicy(cloned / "model", sampling=sampling, constrain=True)
        shown = Conversation(**{"style": find(study.env).style, **study.settings.get("conversation", {})})
        recall = study.settings["evaluation"]["recall"]
        write_attempts(study.env, study.settings["env_settings"], study.attempted, policy, shown, recall, file)
    experts, fitted = {"file": str(file)}, {**JUDGING, "tokens": study.shown}
    return clones(study, cloned / "model", study.attempted, experts, fitted, out / "shown")


def told_to_judge(study: Study, out: Path, cloned: Path, model: Path) -> None:
    """Go on from a cloned model with judgements, among every third clone so that these are not forgotten."""
    from palaestra.agents.policies.hf import HFPolicy

    file = out / "judgements.jsonl"
    tasks = study.judged or study.taught
    write_judgements(judged(study.env, study.settings["env_settings"], tasks, study.judgements), file)
    with gzip.open(cloned / "samples.jsonl.gz", "rt") as lines:
        samples = [Sample.model_validate_json(line) for line in lines][::3]
    samples += read_chats(str(file), HFPolicy(cloned / "model").template, "train")
    objective = objective_of({**study.settings["objective"], **JUDGING, "tokens": study.judging})
    fit(cloned / "model", samples, objective, model, seed=0, splits=("train",), name="start-model")


def shared(study: Study, model: Path) -> dict[str, Any]:
    """What all contestants are told."""
    return {"iterations": 2, **study.settings, "env": study.env, "model": str(model), "constrain": True}


def own_of(study: Study, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What single contestants are told besides."""
    again = {"evaluation": {"improve": IMPROVEMENTS, **study.settings["evaluation"]}}
    return {name: {**study.own.get(name, {}), **(again if name in IMPROVED else {})} for name in names}


def rehearsed(study: Study, out: Path, name: str) -> dict[str, dict[str, Any]]:
    """What the contestants that judge are told besides: judgements of the start model's, for all their fits."""
    if not study.rehearsed:
        return {}
    file = out / name / "rehearsed.jsonl"
    lines = (out / (study.begins or name) / "judgements.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, "".join(lines[: study.rehearsed]).encode())
    return {each: {"general": str(file), "eta": REHEARSING} for each in JUDGES}


def run_study(name: str, out: Path, seeds: Sequence[int], names: Sequence[str], docs: Path) -> None:
    """Run these seeds of a study, or go on with them; the page is written with every run."""
    study, folder = STUDIES[name], out / name
    model = start_model(STUDIES[study.begins or name], out / (study.begins or name))

    told = shared(study, model)
    if study.failing:
        experts = folder / "experts.jsonl"
        if not experts.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            failing = {"mastered": study.mastered, "patience": study.patience}
            write_experts(study.env, told["env_settings"], told["tasks"], study.failing, experts, **failing)
        told["experts"] = {"file": str(experts)}

    own, more = own_of(study, names), rehearsed(study, out, name)
    own = {each: {**settings, **more.get(each, {})} for each, settings in own.items()}

    def train(recipe: Recipe[Any]) -> None:
        if recipe.out not in finished(folder):
            recipe.train()
            with alone(out):
                write_section(study, out, name, names)
                write_page(out, docs)

    for seed in seeds:
        compare_methods(
            [contestant(each) for each in names],
            told,
            folder,
            seeds=[seed],
            own=own,
            run=train,
            progress="quiet",
            concurrency=32,
        )
        print(f"{name}: seed {seed} is done: {docs}", flush=True)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """One process writes the page at a time."""
    with open(out / ".page.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def finished(folder: Path) -> set[Path]:
    """The runs of a study that are done: their report is the last that they write."""
    return {file.parent for file in folder.glob("*/report.html")}


def shown(names: Sequence[str], ends: Collection[str]) -> tuple[list[str], int]:
    """Which contestants a page shows, and how many seeds of them: as many runs as fit, of equal seeds for all.

    Args:
        names: all contestants, the reference first.
        ends: the runs that are finished, as "eef-0".

    Returns:
        The names in their order and the number of seeds; none where there is nothing to set beside the reference.
    """
    best: tuple[list[str], int] = ([], 0)
    for seeds in range(1, len(ends) + 1):
        done = [name for name in names if all(f"{name}-{seed}" in ends for seed in range(seeds))]
        if len(done) > 1 and done[0] == names[0] and len(done) * seeds >= len(best[0]) * best[1]:
            best = done, seeds
    return best


def write_section(study: Study, out: Path, name: str, names: Sequence[str]) -> None:
    """A study's part of the page (see `shown`)."""
    folder, begins = out / name, STUDIES[study.begins or name]
    done, seeds = shown(names, {path.name for path in finished(folder)})
    if not done:
        return
    said = {
        "iterations": 2,
        **study.settings,
        **({"experts": failing_experts(study)} if study.failing else {}),
        "own": {key: value for key, value in own_of(study, names).items() if value},
        "start": {**MODEL, **START, "vocabulary": begins.vocabulary[0]},
        "taught": {"tasks": len(begins.taught), "ids": begins.ids},
        "judging": {"judgements": begins.judgements, "ids": begins.judging, **JUDGING} if begins.judgements else None,
        **({"shown": {"tasks": len(begins.attempted), "ids": begins.shown, **JUDGING}} if begins.shown else {}),
        **({"rehearsed": {"judgements": study.rehearsed, "eta": REHEARSING, "by": JUDGES}} if study.rehearsed else {}),
    }
    missing = [each for each in names if each not in done]
    text = section(study.title, study.why, folder, done, seeds, said, missing)
    write_whole(folder / "section.md", text.encode())


def failing_experts(study: Study) -> dict[str, Any]:
    """What is said of experts that win or fail."""
    faultless = (
        f"{len(study.mastered)} of {len(study.settings['tasks'])} tasks" if study.mastered else "half of the tasks"
    )
    return {"faultless": faultless, "failed, slip": study.failing, "failed, give up after": study.patience}


def write_page(out: Path, docs: Path) -> None:
    """The page of all that is finished, with what people remarked on it (`learning_remarks.md`).

    A study of which nothing is finished in `out` keeps the part that the page has of it, as made from other runs.
    """
    had = parts(docs.read_text(encoding="utf-8")) if docs.is_file() else {}
    found = [_text(out / name / "section.md") or had.get(study.title, "") for name, study in STUDIES.items()]
    found.append(_text(Path(__file__).with_name("results") / "worldmodel.md"))  # worldmodel_study.py writes that part
    remarks = _text(Path(__file__).with_name("learning_remarks.md"))
    write_whole(docs, page([text for text in found if text], remarks).encode())


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def side_by_side(studies: Sequence[str], seeds: int, jobs: int, given: Sequence[str]) -> int:
    """Each seed of each study in a process of its own, so many at once. Returns the worst exit status."""
    one = [
        [sys.executable, __file__, *given, "--study", name, "--seed", str(n)] for n in range(seeds) for name in studies
    ]
    with ThreadPoolExecutor(jobs) as pool:
        return max((abs(status) for status in pool.map(subprocess.call, one)), default=0)


def chosen(study: Study, given: str | None) -> list[str]:
    """The contestants of a study: all of its own, or those named; RFT is always there, as the reference."""
    return ["rft", *(n for n in study.names if n != "rft" and (given is None or n in given.split(",")))]


def main() -> int:
    """Run, or go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs/results", help="where the runs are kept")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, help="this one alone, in this process")
    parser.add_argument("--study", choices=list(STUDIES), action="append", help="one of them; default: all")
    parser.add_argument("--methods", help="contestants with commas between them; default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="seeds at once")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page of what is finished")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/results.md", help="the page")
    given = parser.parse_args()
    if given.page:
        for name, study in STUDIES.items():
            write_section(study, given.out, name, chosen(study, given.methods))
        write_page(given.out, given.docs)
        return 0
    studies = []
    for name in given.study or list(STUDIES):
        if why := find(STUDIES[name].env).why_not_ready():
            print(f"{name} is left out: {why}", flush=True)
        else:
            studies.append(name)
    if given.seed is not None:
        for name in studies:
            run_study(name, given.out, [given.seed], chosen(STUDIES[name], given.methods), given.docs)
        return 0
    for name in studies:
        begins = STUDIES[name].begins or name
        start_model(STUDIES[begins], given.out / begins)
        print(f"{name}: the start model is there", flush=True)
    rest = ["--out", str(given.out), "--docs", str(given.docs)]
    rest += ["--methods", given.methods] if given.methods else []
    return side_by_side(studies, given.seeds, given.jobs, rest)


if __name__ == "__main__":
    sys.exit(main())

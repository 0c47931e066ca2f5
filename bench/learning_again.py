"""The last weights of finished runs in the bakery, measured once more on many more held-out tasks than their study has.

    python bench/learning_again.py FOLDER SEEDS [NAME ...]

FOLDER is that of the runs of the study `crafting-book`: OUT/crafting-book of `bench/learning.py --out OUT`. Its 20
held-out tasks are all that `palaestra/Crafting-v0` has of them; here are 50 of each of its depths, two answers each, of
targets with such things at the start as no training task has (`learning_worlds`). The start model is measured once.
What is measured is kept in FOLDER/again, and the same command goes on where it was killed.
Figures are success in per cent, and points of success between contestants, paired by task and seed, with 95 %
bootstrap intervals over both.
"""

from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path
from statistics import fmean

from learning_studies import STUDIES, crafting
from learning_worlds import BAKERY

from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policy import Sampling
from palaestra.agents.store import EpisodeStore
from palaestra.trainers.evaluate import evaluate
from palaestra.trainers.rundir import write_whole
from palaestra.trainers.statistics import two_way

TASKS = crafting((2, 3), range(50), ("bakery",))
START = "start model"

Solved = dict[str, list[float]]
"""Task -> the share of its episodes that solved it."""


def weights(folder: Path, name: str, seed: int) -> Path:
    """Where the weights of a contestant or of the start model are."""
    if name == START:
        return folder / "start-model"
    fits = (folder / f"{name}-{seed}").glob("iteration-*/model")
    return max(fits, key=lambda path: int(path.parent.name.removeprefix("iteration-")))


def measured(folder: Path, name: str, seed: int) -> Solved:
    """Measure, or read what was measured."""
    file = folder / "again" / f"{name.replace(' ', '-')}-{seed}.json"
    if file.is_file():
        known: Solved = json.loads(file.read_text(encoding="utf-8"))
        return known
    settings = STUDIES["crafting-book"].settings
    sampling = Sampling(**{**settings["sampling"], "temperature": settings["evaluation"]["temperature"]})
    policy = HFPolicy(weights(folder, name, seed), sampling=sampling, constrain=True)
    with EpisodeStore(":memory:") as store:
        found = evaluate(
            BAKERY,
            policy,
            store,
            split="dev",
            tasks=TASKS,
            samples=2,
            env_settings=settings["env_settings"],
            seed=seed,
            concurrency=32,
            progress="quiet",
        )
    solved = {each.task: [fmean(map(float, each.successes))] for each in found.tasks}
    file.parent.mkdir(exist_ok=True)
    write_whole(file, json.dumps(solved).encode())
    return solved


def main(folder: str, seeds: str, *names: str) -> None:
    every = [START, *(names or ("rft", "eef", "sft-positives"))]
    found: dict[str, dict[int, Solved]] = {name: {} for name in every}
    for seed in range(int(seeds)):
        for name in every:
            found[name][seed] = measured(Path(folder), name, 0 if name == START else seed)
    for name, by_seed in found.items():
        print(f"{name}: {two_way(by_seed, (0.0, 1.0)).text(percent=True)}")
        for depth in ("d2/", "d3/"):
            part = {seed: {task: of[task] for task in of if task.startswith(depth)} for seed, of in by_seed.items()}
            print(f"    {depth[:2]}: {two_way(part, (0.0, 1.0)).text(percent=True)}")
    for first, second in combinations(every, 2):
        gaps = {
            seed: {task: [found[second][seed][task][0] - before[0]] for task, before in of.items()}
            for seed, of in found[first].items()
        }
        gap = two_way(gaps, (-1.0, 1.0))
        print(f"{second} over {first}: {100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]")


if __name__ == "__main__":
    main(*sys.argv[1:])

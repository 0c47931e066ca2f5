"""Success of the last weights of each contestant over the start model, and of one contestant over another.

    python bench/learning_pairs.py FOLDER SEEDS

FOLDER is that of a study's runs, as `bench/learning.py --out OUT` leaves them in OUT/STUDY; the contestants are those
of which SEEDS runs are finished. Points of success, paired by task and seed, with 95 % bootstrap intervals over both.
"""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path
from statistics import fmean

from palaestra.trainers.report import Round, rounds
from palaestra.trainers.statistics import two_way

Found = dict[str, dict[int, list[Round]]]


def solved(measured: Round) -> dict[str, float]:
    """Task -> share of its episodes that solved it."""
    return {each.task: fmean(map(float, each.successes)) for each in measured.evaluation.tasks}


def gap(before: dict[int, Round], after: dict[int, Round]) -> str:
    """How much more is solved after than before, in points."""
    pairs = {seed: (solved(before[seed]), solved(after[seed])) for seed in before}
    found = two_way({seed: {task: [b[task] - a[task]] for task in b} for seed, (a, b) in pairs.items()}, (-1.0, 1.0))
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def runs(folder: Path, seeds: int) -> Found:
    """Contestant -> seed -> what was measured of its run: start model, clones, last weights."""
    names = sorted({path.parent.name.rpartition("-")[0] for path in folder.glob("*-0/report.html")})
    wanted = {name: [folder / f"{name}-{seed}" for seed in range(seeds)] for name in names}
    done = {name: paths for name, paths in wanted.items() if all((each / "report.html").is_file() for each in paths)}
    return {name: dict(enumerate(map(rounds, paths))) for name, paths in done.items()}


def main(folder: str, seeds: str) -> None:
    found = runs(Path(folder), int(seeds))
    at = {
        (name, place): {seed: each[place] for seed, each in of.items()}
        for name, of in found.items()
        for place in (0, 1, -1)
    }
    for name in found:
        print(f"{name} over the start model: {gap(at[name, 0], at[name, -1])}")
        print(f"{name} over its clones: {gap(at[name, 1], at[name, -1])}")
    for first, second in combinations(found, 2):
        print(f"{second} over {first}: {gap(at[first, -1], at[second, -1])}")


if __name__ == "__main__":
    main(*sys.argv[1:])

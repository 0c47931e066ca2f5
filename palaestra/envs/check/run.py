"""`check`: keeps or breaks an environment its promises, one `Result` each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from palaestra.envs.check.bench import Bench, Broken
from palaestra.envs.check.promises import PROMISES
from palaestra.envs.check.report import Report, Result
from palaestra.envs.core import Task, TextEnv
from palaestra.envs.errors import BadInput
from palaestra.envs.registry import find, make
from palaestra.envs.source import load as load_source


def check(
    env_id: str,
    *,
    settings: Mapping[str, Any] | None = None,
    fast: bool = False,
    tasks: int | None = None,
    seed: int = 0,
    cycles: int | None = None,
    load: str | None = None,
    progress: Callable[[Result], None] | None = None,
) -> Report:
    """Prove that an environment keeps the promises of `TextEnv`, over many tasks of every split.

    The same `seed` walks the same episodes. An environment that is slow gets fewer of them: each promise is tried on at
    least one task of each split, then on further ones while its share of the time lasts (about 3 s fast, 45 s in full;
    the create/close cycles have 6 s and 2 minutes), and every result says how many it was tried on.

    A script that calls this for an environment of its own must do so under `if __name__ == "__main__":`, since one of
    the promises is about another process.

    Args:
        env_id: id or short name.
        settings: keyword arguments of the environment.
        fast: some tasks and 100 create/close cycles, instead of many and 1,000.
        tasks: tasks of each split at the most; None for 6 (fast) or 40.
        seed: of the choice of tasks, the walks and the moments of the snapshots.
        cycles: create/close cycles, at least 4.
        load: a file or module to import first, which registers the environment.
        progress: called with each result as soon as it is there.

    Raises:
        BadInput: there is no such environment, or it cannot run on this machine, or an argument is out of range.
    """
    if load is not None:
        load_source(load)
    spec = find(env_id)
    reason = spec.why_not_ready()
    if reason:
        raise BadInput(f"{spec.id} cannot be checked here: {reason}")
    per_split = tasks if tasks is not None else (6 if fast else 40)
    rounds = cycles if cycles is not None else (100 if fast else 1000)
    if per_split < 1 or rounds < 4 or seed < 0:
        raise BadInput(f"check needs tasks >= 1, cycles >= 4, seed >= 0, got {per_split}, {rounds}, {seed}")

    made = make(spec.id, **(settings or {}))  # a setting that cannot be used is bad input, not a broken promise
    try:
        chosen, fidelity = choose_tasks(made, per_split, seed), made.fidelity
    finally:
        with suppress(Exception):
            made.close()
    bench = Bench(spec, dict(settings or {}), chosen, fast=fast, seed=seed, cycles=rounds, fidelity=fidelity, load=load)
    results = []
    try:
        for name, promise in PROMISES.items():
            began = time.monotonic()
            try:
                passed, detail = True, promise(bench)
            except Broken as broken:
                passed, detail = False, str(broken)
            except Exception as error:  # whatever an environment raises where it should not is a finding
                passed, detail = False, f"raised {type(error).__name__}: {error}"
            results.append(Result(name=name, passed=passed, detail=detail, seconds=time.monotonic() - began))
            if progress is not None:
                progress(results[-1])
    finally:
        with suppress(Exception):  # `close` is judged by its own promise
            bench.close()
    return Report(
        env=spec.id,
        settings=dict(settings or {}),
        fidelity=fidelity,
        fast=fast,
        seed=seed,
        tasks=len(bench.traces),
        results=tuple(results),
    )


def choose_tasks(env: TextEnv[Any], per_split: int, seed: int) -> Sequence[Task]:
    """Tasks spread evenly over each split, at random places within the strides; the splits take turns."""
    rng = np.random.default_rng(seed)
    columns = []
    for split in env.splits():
        tasks = env.tasks(split)
        count = min(per_split, len(tasks))
        strides = (np.arange(count) + rng.random(count)) * len(tasks) / max(1, count)
        picks = rng.permutation(strides.astype(int))
        columns.append([tasks[index] for index in picks])
    longest = max(map(len, columns), default=0)
    return [column[row] for row in range(longest) for column in columns if row < len(column)]

"""Going back to step N by `restore` against stepping there from `reset`, for any environment.

    python bench/rewind.py [--env scienceworld bandit] [--step 30] [--rounds 5]

For each environment an episode of N actions is played (by its oracle where it has one, else by listed or random
actions; episodes that end early are left out), and then timed:

- stepping: reset, then every action, in a warm instance;
- restore: `restore(snapshot)` in an instance that stands elsewhere (in another task);
- nearest: `restore(snapshot)` in an instance that stands on the way, 5 steps before, as the collector picks it.

An exact snapshot copies the state; replay does what stepping does and compares digests. Ratios are stepping / restore.
Writes bench/results/rewind.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from palaestra.envs import Task, TextEnv, make
from palaestra.envs.registry import find

SETTINGS: dict[str, dict[str, Any]] = {"scienceworld": {"simplifications": "easy"}}
PREFERRED = {"scienceworld": ["boil/1", "chemistry-mix/3", "freeze/2"]}


def candidates(env: TextEnv[Any], name: str) -> list[Task]:
    """Tasks to try, those known to be long enough first."""
    tasks = env.tasks(env.splits()[0])
    wanted = PREFERRED.get(name, [])
    return [task for task in tasks if task.name in wanted] + [tasks[i] for i in range(0, len(tasks), 97)]


def plays(env: TextEnv[Any], task: Task, steps: int) -> list[str] | None:
    """Actions of an episode that goes on for at least so many steps; None if it ends before."""
    spec, rng = env.registration, random.Random(0)
    oracle = spec.oracle() if spec is not None and spec.oracles else None
    _, info = env.reset(options={"task": task})
    for _ in range(steps):
        if oracle is not None:
            action = oracle(env)
        else:
            action = rng.choice(list(info["actions"])) if info["actions"] else env.action_space.sample()
        _, _, over, truncated, info = env.step(action)
        if over or truncated:
            return None
    return list(env.history)


def timed(rounds: int, prepare: Any, act: Any) -> float:
    """Median seconds of `act`, each after `prepare`."""
    taken = []
    for _ in range(rounds):
        prepare()
        start = time.perf_counter()
        act()
        taken.append(time.perf_counter() - start)
    return median(taken)


def measure(name: str, steps: int, rounds: int) -> dict[str, Any]:
    settings = {"max_steps": 10 * steps, **SETTINGS.get(find(name).family, {})}
    env, other = make(name, **settings), make(name, **settings)
    tasks = candidates(env, find(name).family)
    task, actions = None, None
    for task in tasks[:60]:
        actions = plays(env, task, steps)
        if actions is not None:
            break
    if task is None or actions is None:
        raise SystemExit(f"{name}: no episode of {steps} steps found")
    snapshot = env.snapshot()
    elsewhere = next(t for t in tasks if t != task)

    def stand_before() -> None:
        other.replay(task, actions[: steps - 5])

    def step_there() -> None:
        env.reset(options={"task": task})
        for action in actions:
            env.step(action)

    def go_elsewhere() -> None:
        other.reset(options={"task": elsewhere})

    step_there()
    go_elsewhere()
    stepping = timed(rounds, lambda: None, step_there)
    restoring = timed(rounds, go_elsewhere, lambda: other.restore(snapshot))
    nearest = timed(rounds, stand_before, lambda: other.restore(snapshot)) if env.fidelity == "replay" else None
    env.close()
    other.close()
    row: dict[str, Any] = {"env": find(name).id, "fidelity": str(env.fidelity), "task": task.name, "step": steps}
    row |= {"stepping ms": round(1e3 * stepping, 3), "restore ms": round(1e3 * restoring, 3)}
    row["ratio"] = round(stepping / restoring, 2)
    if nearest is not None:
        row |= {"nearest ms": round(1e3 * nearest, 3), "nearest ratio": round(stepping / nearest, 2)}
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", nargs="*", default=["scienceworld", "bandit"])
    parser.add_argument("--step", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rows = []
    for name in args.env:
        rows.append(measure(name, args.step, args.rounds))
        print(json.dumps(rows[-1]), flush=True)
    result = {"command": "python bench/rewind.py " + " ".join(sys.argv[1:]), "rows": rows}
    place = Path(__file__).parent / "results" / "rewind.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Every environment family: steps/s, reset, snapshot and restore, memory an instance; beside the original's own engine.

    python bench/envs.py [--only alfworld webshop ...] [--tasks 6] [--seconds 5] [--webshop-original PYTHON]

Each row is measured in a process of its own. The oracle plays some tasks once; then those actions are played again and
again and only the calls are timed (without listing admissible actions, unless the engine does it by itself). "First" is
the first reset of each task, which reads what later ones have at hand; "memory" is what eight instances add to a
process that has imported everything, an eighth of it, children (JVMs) included.

Played again, actions meet caches: searches that were made, products that were read, states whose commands were listed.
That is how training visits tasks, many times each. "First visit" is the other end: fresh processes that play another
task to its end, which opens the data and imports what is imported late (the originals do so when they start), and then
each path once. The originals keep no such caches, so both figures stand beside theirs.
"Its process" is all that a process with one instance holds after the paths, children included.

Originals, on the same tasks and actions, in the same run: the packages `scienceworld` and `textworld-express`, and
ALFWorld's own engine (extra `alfworld`). The original WebShop cannot be installed from a package registry; where a
checkout of it runs, give its interpreter with --webshop-original: see `bench/webshop_original.py`. Ratios carry over
between machines, absolute figures do not. Writes bench/results/envs.json, and the table in docs/environments.md.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil

HERE = Path(__file__).parent
ROWS: dict[str, dict[str, Any]] = {
    "bandit": {},
    "crafting": {"fresh": 5},
    "webshop": {"fresh": 5},
    "webshopsmall": {"fresh": 5},
    "alfworld": {"split": "valid_unseen", "fresh": 5},
    "alfworldgenerated": {"fresh": 5},
    "scienceworld": {"settings": {"simplifications": "easy"}},
    "textworldexpress": {},
    "codetasks": {},
    "shell": {},
    "humaneval": {},
    "mbpp": {},
    "bfcl": {},
}
"""Environment -> how it is measured: its settings, the split, and in how many fresh processes first visits are."""


LICENCES = {
    "bandit": "ours, Apache-2.0",
    "crafting": "ours, Apache-2.0",
    "webshop": "engine ours; data: MIT, product texts from a shop's site that nobody here can license",
    "webshopsmall": "ours, Apache-2.0",
    "alfworld": "engine ours; games MIT; the original's planner (extra `alfworld`) GPL-3.0",
    "alfworldgenerated": "ours, Apache-2.0",
    "scienceworld": "the original engine, Apache-2.0",
    "textworldexpress": "the original engine, Apache-2.0",
    "codetasks": "ours, Apache-2.0",
    "shell": "ours, Apache-2.0",
    "humaneval": "engine ours; problems MIT",
    "mbpp": "engine ours; problems CC-BY-4.0",
    "bfcl": "engine ours; classes, data and checker of `bfcl-eval`, Apache-2.0",
}
PAGE = HERE.parent / "docs" / "environments.md"
BEGIN, END = "<!-- table: python bench/envs.py -->", "<!-- end of the table -->"


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    heads = [
        "environment",
        "splits",
        "rewind",
        "steps/s (first visit)",
        "reset ms (first)",
        "snapshot + restore µs",
        "MB an instance",
    ]
    lines = [[*heads, "the original, same run", "licence"], ["---"] * 9]
    for row in rows:
        name = row["env"].split("/")[1].rsplit("-v", 1)[0].lower()
        original = row.get("original")
        beside = "-"
        if original and "ratio" in row:
            beside = (
                f"{original['engine']}: {original['steps_per_second']:,} steps/s, reset {original['reset_ms']:,.0f} ms"
            )
            beside += f"; ours is {row['ratio']:,} times as fast"
            if "first_ratio" in row:
                beside += f", {row['first_ratio']:,} times on first visits"
            if "process_mb" in row and "process_mb" in original:
                beside += f"; its process {original['process_mb']:,.0f} MB, ours {row['process_mb']:,.0f}"
        splits = ", ".join(f"{split} {count:,}" for split, count in row["splits"].items())
        times = f"{row['reset_ms']:,} ({row['first_reset_ms']:,})"
        both = f"{row['snapshot_us'] + row['restore_us']:,.0f}"
        speed = f"{row['steps_per_second']:,.0f}"
        if "first_steps_per_second" in row:
            speed += f" ({row['first_steps_per_second']:,.0f})"
        lines.append([f"`{row['env']}`", splits, row["fidelity"], speed, times, both])
        lines[-1] += [str(row["memory_mb"]), beside, LICENCES[name]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def measure(name: str, tasks: int, seconds: float, settings: dict[str, Any], split: str | None) -> dict[str, Any]:
    """One row, and the actions that were played."""
    from palaestra.envs import find, make

    spec = find(name)
    oracle = spec.oracle()
    with_all = make(name, **settings)
    chosen = list(with_all.tasks(split or with_all.splits()[-1]))
    chosen = chosen[:: max(1, len(chosen) // (tasks + 1))][: tasks + 1]
    paths, first = [], []
    with_all.reset(options={"task": chosen[-1]})  # starts the engine, opens the data
    for task in chosen[:-1]:
        start = time.perf_counter()
        with_all.reset(options={"task": task})
        first.append(time.perf_counter() - start)
        over = False
        while not over:
            _, _, terminated, truncated, _ = with_all.step(oracle(with_all))
            over = terminated or truncated
        paths.append((task, with_all.history))
    steps, resets, saves, restores = [], [], [], []
    until = time.perf_counter() + seconds
    turn = 0
    while time.perf_counter() < until or turn < len(paths):
        task, actions = paths[turn % len(paths)]
        turn += 1
        start = time.perf_counter()
        with_all.reset(options={"task": task})
        resets.append(time.perf_counter() - start)
        for action in actions:
            start = time.perf_counter()
            with_all.step(action)
            steps.append(time.perf_counter() - start)
        start = time.perf_counter()
        snapshot = with_all.snapshot()
        saves.append(time.perf_counter() - start)
        start = time.perf_counter()
        with_all.restore(snapshot)
        restores.append(time.perf_counter() - start)
    with_all.close()
    return {
        "env": spec.id,
        "fidelity": str(spec.fidelity),
        "splits": {key: len(value) for key, value in spec.splits.items()},
        "steps": len(steps),
        "steps_per_second": round(len(steps) / sum(steps), 1),
        "reset_ms": round(1000 * median(resets), 3),
        "first_reset_ms": round(1000 * median(first), 3),
        "snapshot_us": round(1e6 * median(saves), 1),
        "restore_us": round(1e6 * median(restores), 1),
        "memory_mb": memory(name, settings, [task for task, _ in paths]),
        "paths": [(task.name, list(actions)) for task, actions in paths],
    }


def first_visits(
    name: str, settings: dict[str, Any], split: str | None, paths: list[tuple[str, list[str]]]
) -> dict[str, Any]:
    """Each path once, in a process that has played another task but been at none of these."""
    from palaestra.envs import find, make

    oracle = find(name).oracle()
    env = make(name, **settings)
    tasks = {task.name: task for task in env.tasks(split or env.splits()[-1])}
    played = {task for task, _ in paths}
    env.reset(options={"task": next(task for key, task in tasks.items() if key not in played)})
    over = False
    while not over:
        _, _, terminated, truncated, _ = env.step(oracle(env))
        over = terminated or truncated
    took: list[float] = []
    for task, actions in paths:
        env.reset(options={"task": tasks[task]})
        took += each_step(env.step, actions)
    found = {"seconds": sum(took), "steps": len(took), "process_mb": round(held() / 1e6, 1)}
    env.close()
    return found


def memory(name: str, settings: dict[str, Any], tasks: list[Any]) -> float:
    """MB that one more instance takes, with an episode going on."""
    from palaestra.envs import make

    first = make(name, **settings)
    first.reset(options={"task": tasks[0]})
    before = held()
    more = [make(name, **settings) for _ in range(8)]
    for place, env in enumerate(more):
        env.reset(options={"task": tasks[place % len(tasks)]})
    after = held()
    for env in (first, *more):
        env.close()
    return round((after - before) / 8 / 1e6, 2)


def held() -> int:
    """Bytes that this process and its children hold."""
    me = psutil.Process()
    total = me.memory_info().rss
    for child in me.children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


# -- the originals ----------------------------------------------------------------------------------------------------


def timed(play: Any, paths: list[tuple[str, list[str]]], seconds: float) -> dict[str, Any]:
    """Play the paths with `play(name, actions) -> (seconds of the reset, [seconds of each step])`."""
    resets: list[float] = []
    steps: list[float] = []
    until = time.perf_counter() + seconds
    turn = 0
    while turn < len(paths) or time.perf_counter() < until:
        reset, each = play(*paths[turn % len(paths)])
        resets.append(reset)
        steps += each
        turn += 1
    return {
        "steps_per_second": round(len(steps) / sum(steps), 2),
        "reset_ms": round(1000 * median(resets), 2),
        "process_mb": round(held() / 1e6, 1),
    }


def original_scienceworld(paths: list[tuple[str, list[str]]], seconds: float) -> dict[str, Any]:
    from scienceworld import ScienceWorldEnv

    from palaestra.envs.jdk import find_java
    from palaestra.envs.jvm import FLAGS, HASH_FLAG

    os.environ["JAVA_TOOL_OPTIONS"] = " ".join([*FLAGS, "-XX:+UnlockExperimentalVMOptions", HASH_FLAG])
    os.environ["PATH"] = f"{Path(find_java().path).parent}{os.pathsep}{os.environ['PATH']}"
    env = ScienceWorldEnv("", envStepLimit=10_000)

    def play(name: str, actions: list[str]) -> tuple[float, list[float]]:
        task, _, variation = name.partition("/")
        start = time.perf_counter()
        env.load(task, int(variation), "easy")
        env.reset()
        return time.perf_counter() - start, each_step(env.step, actions)

    found = timed(play, paths, seconds)
    env.close()
    return {"engine": "scienceworld 1.2.3, its own env.step", **found}


def original_textworldexpress(paths: list[tuple[str, list[str]]], seconds: float) -> dict[str, Any]:
    from textworld_express import TextWorldExpressEnv

    env = TextWorldExpressEnv(envStepLimit=10_000)
    loaded: list[str] = []

    def play(name: str, actions: list[str]) -> tuple[float, list[float]]:
        game, _, seed = name.partition("/")
        start = time.perf_counter()
        if loaded != [game]:
            env.load(gameName=game, gameParams="")
            loaded[:] = [game]
        env.reset(seed=int(seed), gameFold="test", generateGoldPath=False)
        return time.perf_counter() - start, each_step(env.step, actions)

    found = timed(play, paths, seconds)
    env.close()
    return {"engine": "textworld-express 1.1.0, its own env.step", **found}


def original_alfworld(paths: list[tuple[str, list[str]]], seconds: float) -> dict[str, Any]:
    from palaestra.envs import make

    env = make("alfworld", engine="textworld")

    def play(name: str, actions: list[str]) -> tuple[float, list[float]]:
        start = time.perf_counter()
        env.reset(options={"task": name})
        return time.perf_counter() - start, each_step(env.step, actions)

    found = timed(play, paths[:3], seconds)
    found["process_mb"] = round(found["process_mb"] - psutil.Process().memory_info().rss / 1e6, 1)  # the child alone
    env.close()
    return {"engine": "alfworld 0.4.2 on textworld 1.7.0", **found}


def each_step(step: Any, actions: list[str]) -> list[float]:
    """Seconds of every step."""
    took = []
    for action in actions:
        start = time.perf_counter()
        step(action)
        took.append(time.perf_counter() - start)
    return took


ORIGINALS = {
    "scienceworld": original_scienceworld,
    "textworldexpress": original_textworldexpress,
    "alfworld": original_alfworld,
}


def original_webshop(python: str, paths: list[tuple[str, list[str]]], seconds: float) -> dict[str, Any]:
    """In its own interpreter: its libraries are of another time."""
    asked = json.dumps({"paths": paths, "seconds": seconds})
    done = subprocess.run(
        [python, str(HERE / "webshop_original.py")], input=asked, capture_output=True, text=True, timeout=1800
    )
    if done.returncode:
        return {"engine": "webshop", "error": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def in_child(call: str, *args: Any) -> Any:
    """Call a function of this file in a fresh process."""
    code = (
        f"import pickle, sys; sys.path.insert(0, {str(HERE)!r}); import envs; a = pickle.load(sys.stdin.buffer); r = "
    )
    code += f"envs.{call}(*a); sys.stdout.flush(); open(sys.argv[1], 'wb').write(pickle.dumps(r))"
    place = Path(f"/tmp/palaestra-bench-{os.getpid()}")
    try:
        subprocess.run([sys.executable, "-c", code, str(place)], input=pickle.dumps(args), check=True)
        return pickle.loads(place.read_bytes())
    finally:
        place.unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(ROWS))
    parser.add_argument("--tasks", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--webshop-original", help="an interpreter that can import web_agent_site")
    parser.add_argument("--webshop-frozen", help="frozen goals, whose titles need no tagger: their first visits, too")
    args = parser.parse_args()
    rows = []
    for name in args.only:
        how = ROWS[name]
        try:
            row = in_child("measure", name, args.tasks, args.seconds, how.get("settings", {}), how.get("split"))
        except subprocess.CalledProcessError:
            print(f"{name}: could not be measured, see above", file=sys.stderr)
            continue
        paths = row.pop("paths")
        fresh = [
            in_child("first_visits", name, how.get("settings", {}), how.get("split"), paths)
            for _ in range(how.get("fresh", 0))
        ]
        if fresh:
            rate = sum(each["steps"] for each in fresh) / sum(each["seconds"] for each in fresh)
            row["first_steps_per_second"] = round(rate, 1)
            row["process_mb"] = median(each["process_mb"] for each in fresh)
        if name == "webshop" and args.webshop_frozen:
            frozen = in_child("first_visits", name, {"frozen": args.webshop_frozen}, how.get("split"), paths)
            row["first_frozen"] = {
                "steps_per_second": round(frozen["steps"] / frozen["seconds"], 1),
                "process_mb": frozen["process_mb"],
            }
        original = None
        if name in ORIGINALS:
            original = in_child(ORIGINALS[name].__name__, paths, args.seconds)
        elif name == "webshop" and args.webshop_original:
            original = original_webshop(args.webshop_original, paths, args.seconds)
        if original and "steps_per_second" in original:
            row["ratio"] = round(row["steps_per_second"] / original["steps_per_second"], 1)
            if fresh:
                row["first_ratio"] = round(row["first_steps_per_second"] / original["steps_per_second"], 1)
        row["original"] = original
        rows.append(row)
        print(json.dumps(row), flush=True)
    place = HERE / "results" / "envs.json"
    before = json.loads(place.read_text())["rows"] if place.exists() else []
    merged = {row["env"]: row for row in [*before, *rows]}
    result = {
        "command": "python bench/envs.py " + " ".join(sys.argv[1:]),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "rows": list(merged.values()),
    }
    place.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if PAGE.exists():
        before_it, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before_it}{BEGIN}\n{table(result['rows'])}\n{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

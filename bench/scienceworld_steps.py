"""ScienceWorld steps/s: Palaestra's step against the package's own `env.step`, on the same actions, in the same run.

    python bench/scienceworld_steps.py [--steps 25] [--rounds 3] [--tasks boil find-plant ...]

Both run on JVMs with the same flags, in turns (ours, theirs, theirs, ours ...), on the same gold paths. The package's
step lists all valid actions each time; "ours, listing" does that too, to show where the time goes. The first round
warms the JVMs up and does not count. Only the steps are timed, not the loads. Ratios carry over between machines,
absolute figures do not. Writes bench/results/scienceworld_steps.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import median

from scienceworld import ScienceWorldEnv

from palaestra.envs import make
from palaestra.envs.jdk import find_java
from palaestra.envs.jvm import FLAGS, HASH_FLAG
from palaestra.envs.scienceworld.oracle import gold_path

TASKS = ("boil", "find-plant", "chemistry-mix", "test-conductivity", "lifespan-longest-lived", "use-thermometer")


def ours(name: str, simplifications: str, actions: list[str], *, listing: bool) -> tuple[float, list[str]]:
    """Seconds for the steps, and the observations."""
    env = make("scienceworld", simplifications=simplifications, max_steps=10_000)
    _, info = env.reset(options={"task": name})
    seen = []
    start = time.perf_counter()
    for action in actions:
        observation, _, over, _, info = env.step(action)
        if listing:
            len(info["actions"])
        seen.append(observation)
        if over:
            break
    took = time.perf_counter() - start
    env.close()
    return took, seen


def theirs(env: ScienceWorldEnv, name: str, simplifications: str, actions: list[str]) -> tuple[float, list[str]]:
    """The same with the package."""
    task, _, variation = name.partition("/")
    env.load(task, int(variation), simplifications)
    env.reset()
    seen = []
    start = time.perf_counter()
    for action in actions:
        observation, _, over, _ = env.step(action)
        seen.append(observation)
        if over:
            break
    return time.perf_counter() - start, seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    args = parser.parse_args()
    java = find_java()
    os.environ["JAVA_TOOL_OPTIONS"] = " ".join([*FLAGS, "-XX:+UnlockExperimentalVMOptions", HASH_FLAG])
    os.environ["PATH"] = f"{Path(java.path).parent}{os.pathsep}{os.environ['PATH']}"  # the package starts plain `java`
    package = ScienceWorldEnv("", envStepLimit=10_000)
    rows = []
    for simplifications in ("easy", ""):
        for task in args.tasks:
            name = f"{task}/1"
            actions = list(gold_path(name, simplifications)[: args.steps])
            times: dict[str, list[float]] = {"ours": [], "package": [], "ours, listing": []}
            for turn in range(args.rounds + 1):
                order = list(times) if turn % 2 else list(times)[::-1]
                texts = {}
                for who in order:
                    if who == "package":
                        took, texts[who] = theirs(package, name, simplifications, actions)
                    else:
                        took, texts[who] = ours(name, simplifications, actions, listing=who != "ours")
                    if turn:
                        times[who].append(took / len(texts[who]))
                assert texts["ours"] == texts["package"] == texts["ours, listing"], name
            row = {"task": name, "simplifications": simplifications or "none", "steps": len(actions)}
            row |= {f"{who} ms": round(1000 * median(taken), 2) for who, taken in times.items()}
            row["ratio"] = round(median(times["package"]) / median(times["ours"]), 2)
            rows.append(row)
            print(json.dumps(row), flush=True)
    package.close()
    ratios = [float(row["ratio"]) for row in rows]
    result = {
        "command": "python bench/scienceworld_steps.py " + " ".join(sys.argv[1:]),
        "java": java.version,
        "flags": [*FLAGS, HASH_FLAG],
        "cores": os.cpu_count(),
        "median_ratio": round(median(ratios), 2),
        "steps_per_second_ours": round(1000 / median(float(row["ours ms"]) for row in rows), 1),
        "steps_per_second_package": round(1000 / median(float(row["package ms"]) for row in rows), 1),
        "rows": rows,
    }
    place = Path(__file__).parent / "results" / "scienceworld_steps.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"ours is {result['median_ratio']} times as fast (median of {len(rows)} task settings)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The long proof that ScienceWorld replays, and how often its gold paths win.

    python bench/scienceworld_replay.py [--variations 3] [--steps 25] [--java PATH] [--gold] [--tasks boil melt]

Every one of the 30 tasks, with several variations each, without simplifications and with "easy": the gold path's first
steps in two JVMs (a free look after every step, the admissible actions listed now and then in one of them), and a third
time without looks. Texts and scores must be the same. With --gold the whole path is played once to its end. Writes
bench/results/scienceworld_replay_java<MAJOR>.json (a run over some tasks only writes nothing).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from palaestra.envs.jdk import Java, ask, find_java
from palaestra.envs.jvm import FLAGS, HASH_FLAG
from palaestra.envs.scienceworld.engine import Engine
from palaestra.envs.scienceworld.proof import Case, compare, jar_hash
from palaestra.envs.scienceworld.tasks import TASKS


def chosen(count: int, wanted: int) -> list[int]:
    """Variations spread over all of a task's."""
    return sorted({1, *(i * (count - 1) // max(1, wanted - 1) for i in range(1, wanted))})


def plays_gold(engine: Engine, task: str, variation: int, simplifications: str) -> tuple[float, int]:
    """The raw score that the whole gold path ends with, and its length."""
    path = engine.gold(task, variation, simplifications)
    _, answer = engine.load(task, variation, simplifications)
    for action in path:
        if answer.completed or answer.score < 0:
            break
        if answer.choices and not action.isdigit():
            answer = engine.step("0")
        answer = engine.step(action)
    return answer.score, len(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variations", type=int, default=3)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--java", help="a java executable; default: the one that is found")
    parser.add_argument("--gold", action="store_true", help="also play every gold path to its end")
    parser.add_argument("--tasks", nargs="*", choices=[*TASKS, []], default=[])
    args = parser.parse_args()
    java = Java(args.java, *about(args.java)) if args.java else find_java()
    one, other = Engine(java), Engine(java)
    differences, scores, start, cases = [], {}, time.time(), 0
    for task in args.tasks or TASKS:
        for simplifications in ("", "easy"):
            for variation in chosen(TASKS[task][1], args.variations):
                cases += 1
                found = compare(Case(task, variation, simplifications, args.steps), one, other)
                if found is not None:
                    differences.append(f"{task}/{variation} {simplifications!r} step {found.step} {found.action!r}")
                outcome = "DIFFERS" if found else "same"
                if args.gold:
                    score, length = plays_gold(one, task, variation, simplifications)
                    scores[f"{task}/{variation} {simplifications or 'plain'}"] = (round(score, 3), length)
                    outcome += f"; gold path of {length} ends at {score:.2f}"
                print(f"{task}/{variation} {simplifications or 'plain'}: {outcome}", flush=True)
    one.close()
    other.close()
    said = ["JAVA" if argument == args.java else argument for argument in sys.argv[1:]]
    result = {
        "command": "python bench/scienceworld_replay.py " + " ".join(said),
        "java": java.version,
        "vm": java.vm,
        "jar": jar_hash(),
        "flags": [*FLAGS, HASH_FLAG],
        "cases": cases,
        "identical": cases - len(differences),
        "differences": differences,
        "gold_wins": f"{sum(score >= 1 for score, _ in scores.values())} of {len(scores)}" if scores else None,
        "gold_fails": {name: score for name, (score, _) in scores.items() if score < 1},
        "seconds": round(time.time() - start),
    }
    print(json.dumps(result, indent=1))
    if not args.tasks:
        place = Path(__file__).parent / "results" / f"scienceworld_replay_java{java.major}.json"
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 1 if differences else 0


def about(path: str) -> tuple[str, str, str]:
    """Version, origin and VM name of a given executable."""
    version, vm = ask(path)
    if not version:
        raise SystemExit(f"{path} does not run")
    return version, "--java", vm


if __name__ == "__main__":
    raise SystemExit(main())

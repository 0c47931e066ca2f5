"""Web pages under generated actions, in a live browser: what raises, how long steps take, what memory does.

    python bench/web_actions.py [--actions 10000] [--seconds 900] [--seed 1] [--only miniwob ...]

The actions go to MiniWoB++, WebShop's site and the library, or those of `--only`, in equal parts. Half of them are well
formed and aim at elements that are there, the others are verbs with arbitrary pieces, and noise. An episode goes on
until it ends or for 25 actions; each begins with another task. What an action raises is counted and shown, and the next
episode begins; so is a step of more than 30 s, with its action. Memory is that of this process, of Playwright's driver
and of the browsers, each by itself, without what files back (what several share is counted once). It is looked at with
the same page freshly opened, before the first action and after each twentieth of a family's. A browser serves 200
episodes (`thread.LOADS`); beside each figure stands how many it has served.
Where the seconds run out, fewer actions were run; the figures printed are those that were.
Writes bench/results/web_actions.json, where what it held of other families stays.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from random import Random
from typing import Any

import psutil

from palaestra.envs import Task, TextEnv, make
from palaestra.envs.browser.actions import VERBS
from palaestra.envs.browser.thread import browsers
from palaestra.envs.errors import EnvFault

FAMILIES = ("miniwob", "webshopsite", "webtasks")
EPISODE = 25
SLOW = 30.0
"""Seconds; a step that takes longer counts as a hang."""

PIECES = ("down", "up", "Enter", "Control+a", "Control+t", "F5", "200ms", "http://library.test/rooms.html", "-3,900",
          "1,1", "99999", "-1", "\ud800", "\0", "[", "]]", "<script>", "x" * 3000, "file:///etc/passwd",
          "٣")  # fmt: skip


def generated(rng: Random, elements: int) -> str:
    """One action, for a page of so many elements."""
    number = f"[{rng.randint(1, max(1, elements))}]"
    kind = rng.randrange(10)
    if kind < 5:
        forms = (f"click {number}", f"type {number} [{noise(rng)}] [{rng.randrange(2)}]", f"select {number} [a]",
                 f"hover {number}", f"drag {number} [{rng.randint(1, max(1, elements))}]", f"scroll {number} [down]",
                 f"click {point(rng)}", "back", "restart", "scroll [up]", f"wait [{rng.randint(1, 400)}]",
                 f"drag {rng.choice((number, point(rng)))} {led(rng)}",
                 f"hover {rng.choice((number, point(rng)))} {led(rng)}")  # fmt: skip
        return rng.choice(forms)
    if kind < 9:
        verb = rng.choice([*sorted(VERBS), "Type", "GOBACK", "Google", "frobnicate", ""])
        return " ".join([verb, *(f"[{rng.choice((noise(rng), *PIECES))}]" for _ in range(rng.randrange(4)))])
    return noise(rng)


def point(rng: Random) -> str:
    """A point of the window."""
    return f"[{rng.randrange(500)},{rng.randrange(500)}]"


def led(rng: Random) -> str:
    """Points along which a mouse is led, each in pixels from the one before."""
    return " ".join(f"[{rng.randint(-90, 90)},{rng.randint(-90, 90)}]" for _ in range(rng.randint(1, 8)))


def noise(rng: Random) -> str:
    """Some letters of any kind, lone surrogates among them."""
    return "".join(chr(rng.choice((rng.randint(0, 127), rng.randrange(0x110000)))) for _ in range(rng.randrange(30)))


def memory() -> dict[str, float]:
    """MB of this process, of the driver and of the browsers that no file backs.

    Programs and libraries are left out: of those a browser seems to use less while others run on the same machine.
    """
    found = {"python": 0, "driver": 0, "chromium": 0}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            words = process.cmdline()
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except (psutil.NoSuchProcess, OSError):  # it has just ended
            continue
        who = "python" if process.pid == os.getpid() else "driver" if "run-driver" in words else "chromium"
        found[who] += sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return {who: round(used / 2**10, 1) for who, used in found.items()}


def play(name: str, actions: int, end: float, rng: Random) -> dict[str, Any]:
    """A family's part."""
    env: TextEnv[Any] = make(name)
    tasks = [task for split in env.splits() for task in env.tasks(split)]
    found: dict[str, Any] = {"actions": 0, "valid": 0, "episodes": 0, "raised": [], "slow": [], "longest_s": 0.0}
    found["memory"] = []
    took = 0.0

    def begin(task: Task | None = None) -> None:
        env.reset(options={"task": task or rng.choice(tasks)})
        found["episodes"] += 1

    def measure() -> None:
        begin(tasks[0])
        served = max((each.served for each in browsers()._browsers if each.open), default=0)
        found["memory"].append({"actions": found["actions"], "served": served, **memory()})
        print(name, found["memory"][-1], flush=True)
        begin()

    measure()
    while found["actions"] < actions and time.monotonic() < end:
        action = generated(rng, len(env.state.elements))
        began = time.monotonic()
        over = False
        try:
            _, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated or len(env.history) >= EPISODE
            found["valid"] += bool(info["valid"])
        except Exception as error:  # what this run looks for
            found["raised"].append([info_of(env), repr(action)[:200], f"{type(error).__name__}: {error}"[:300]])
            over = True
        spent = time.monotonic() - began
        took += spent
        found["longest_s"] = max(found["longest_s"], round(spent, 2))
        if spent > SLOW:
            found["slow"].append([info_of(env), repr(action)[:200], round(spent, 1)])
        found["actions"] += 1
        if found["actions"] % max(1, actions // 20) == 0:
            measure()
        elif over:
            begin()
    found["ms_a_step"] = round(1000 * took / max(1, found["actions"]), 1)
    env.close()
    return found


def info_of(env: TextEnv[Any]) -> str:
    """Which task an error came up in."""
    try:
        return str(env.task.name)
    except EnvFault:
        return "?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actions", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=FAMILIES)
    given = parser.parse_args()
    end = time.monotonic() + given.seconds
    played: dict[str, Any] = {}
    for place, name in enumerate(given.only):
        load = os.getloadavg()[0]
        left = (end - time.monotonic()) / (len(given.only) - place)
        part = given.actions // len(given.only) + (place < given.actions % len(given.only))
        rng = Random(given.seed + FAMILIES.index(name))
        played[name] = {**play(name, part, time.monotonic() + left, rng), "seed": given.seed, "load": round(load, 1)}
        print(name, json.dumps(played[name]), flush=True)
    file = Path(__file__).parent / "results" / "web_actions.json"
    had = json.loads(file.read_text()) if file.is_file() else {}
    results = {name: {**had, **played}[name] for name in FAMILIES if name in {**had, **played}}
    results["actions"] = sum(each["actions"] for each in results.values())
    file.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{sum(each['actions'] for each in played.values())} actions; written: {file.name}")


if __name__ == "__main__":
    main()

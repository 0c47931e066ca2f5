"""Steps/s of a served environment: in process, by our client and server, by OpenEnv's client and server, in one run.

    python bench/serving.py [--envs crafting,webshopsmall] [--steps 1500] [--rounds 5] [--clients 1,8]

All play the same recorded episodes and take turns in every round, so what else the machine does hits all alike; the
ratios are the medians over the rounds. `python3 dev.py setup` puts OpenEnv into `.venv/openenv`; its
server runs the very same environment behind its own `create_app`. Writes bench/results/serving.json.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import palaestra
from palaestra.envs import Task, TextEnv

HERE = Path(__file__).parent
OPENENV = Path(sys.prefix) / "openenv"
Episodes = list[dict[str, Any]]
Speed = dict[str, float]


def record(name: str, steps: int) -> Episodes:
    """Episodes of random listed actions, `steps` in all."""
    env, rng = palaestra.make(name), np.random.default_rng(0)
    tasks, episodes, count = env.tasks("train"), [], 0
    while count < steps:
        task = tasks[int(rng.integers(len(tasks)))]
        _, info = env.reset(options={"task": task})
        actions: list[str] = []
        over = False
        while not over and count + len(actions) < steps:
            actions.append(info["actions"][int(rng.integers(len(info["actions"])))])
            _, _, terminated, truncated, info = env.step(actions[-1])
            over = terminated or truncated
        count += len(actions)
        episodes.append({"task": task.name, "split": task.split, "actions": actions})
    return episodes


def play(env: TextEnv[Any], episodes: Episodes, ready: threading.Barrier) -> list[float]:
    """Play recorded episodes. Returns the seconds of each step."""
    seconds = []
    assert env.registration is not None
    tasks = [Task(env=env.registration.id, name=each["task"], split=each["split"]) for each in episodes]
    env.reset(options={"task": tasks[0]})
    ready.wait()
    for task, episode in zip(tasks, episodes, strict=True):
        env.reset(options={"task": task})
        for action in episode["actions"]:
            began = time.perf_counter()
            env.step(action)
            seconds.append(time.perf_counter() - began)
    return seconds


def ours(episodes: Episodes, clients: int, name: str, **settings: Any) -> Speed:
    """Several environments at once, a thread each."""
    ready, results = threading.Barrier(clients + 1), list[float]()
    envs = [palaestra.make(name, **settings) for _ in range(clients)]
    threads = [threading.Thread(target=lambda env=env: results.extend(play(env, episodes, ready))) for env in envs]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    for env in envs:
        env.close()
    return {"steps_per_s": len(results) / took, "median_us": sorted(results)[len(results) // 2] * 1e6}


def theirs(url: str, file: Path, clients: int) -> Speed:
    """OpenEnv's client, in a process of its own."""
    command = [sys.executable, str(HERE / "serving_openenv.py"), "client", url, str(file), str(clients)]
    told: Speed = json.loads(subprocess.check_output(command, env=environ(), text=True))
    return told


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(OPENENV)}


@contextmanager
def server(command: list[str], port: int, **rest: Any) -> Iterator[str]:
    """A server process at a port."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, **rest)
    try:
        for _ in range(1200):
            assert process.poll() is None, f"{command} has ended"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def measure(name: str, steps: int, rounds: int, clients: int) -> dict[str, Any]:
    """All contestants on one environment."""
    episodes = record(name, steps)
    port, other = free_port(), free_port()
    with ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "episodes.json"
        file.write_text(json.dumps(episodes))
        url = stack.enter_context(server(["-m", "palaestra", "serve", name, "--port", str(port)], port))
        peer = [str(HERE / "serving_openenv.py"), "server", name, str(other)]
        there = stack.enter_context(server(peer, other, env=environ()))
        contestants = {
            "in process": lambda: ours(episodes, clients, name),
            "RemoteEnv, palaestra serve": lambda: ours(episodes, clients, "remote", url=url),
            "OpenEnv client, OpenEnv server": lambda: theirs(there, file, clients),
            "OpenEnv client, palaestra serve": lambda: theirs(url, file, clients),
        }
        results: dict[str, list[Speed]] = {key: [] for key in contestants}
        for number in range(rounds + 1):
            for key, contestant in contestants.items():
                speed = contestant()
                if number:  # the first round warms everything up
                    results[key].append(speed)
    base = "OpenEnv client, OpenEnv server"

    def middle(key: str, what: str, over: str | None = None) -> float:
        pairs = zip(results[key], results[over or key], strict=True)
        return statistics.median(one[what] / (two[what] if over else 1.0) for one, two in pairs)

    return {
        "env": name,
        "clients": clients,
        "steps": sum(len(each["actions"]) for each in episodes) * clients,
        "results": {
            key: {
                "steps_per_s": round(middle(key, "steps_per_s"), 1),
                "median_us_a_step": round(middle(key, "median_us"), 1),
                "over_in_process": round(middle(key, "steps_per_s", "in process"), 4),
                "over_openenv": round(middle(key, "steps_per_s", base), 3),
                "median_step_over_openenv": round(middle(key, "median_us", base), 3),
            }
            for key in contestants
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", default="crafting,webshopsmall")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", default="1,8")
    options = parser.parse_args()
    rows = []
    for name in options.envs.split(","):
        for clients in map(int, options.clients.split(",")):
            row = measure(name, options.steps // clients, options.rounds, clients)
            rows.append(row)
            print(f"{name}, {clients} at once:")
            for key, told in row["results"].items():
                print(
                    f"  {key:34} {told['steps_per_s']:10,.0f} steps/s  {told['median_us_a_step']:9,.0f} us a step  "
                    f"{told['over_in_process']:7.4f} of in process  {told['over_openenv']:6.2f} of OpenEnv's own, "
                    f"a step {told['median_step_over_openenv']:5.2f} of its time"
                )
    found: dict[str, Any] = {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "openenv": "0.10.0", "rows": rows}
    (HERE / "results" / "serving.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

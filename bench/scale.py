"""What the steps from a laptop to a cluster rest on: calls and stored episodes a second, memory, bytes on the wire.

    python bench/scale.py [--ray] [--episodes 2000] [--plan 100000]

The policy answers at once and everything else is on: real environments, the store on disk, progress. Times are CPU
seconds of this process with all its threads (not of processes and actors that environments live in), and wall time; on
a busy machine believe the former. With --ray
it also starts Ray on this machine, and measures an environment and a replica that live in its actors. Writes
bench/results/scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import palaestra
from palaestra.agents.collect import CollectReport, collect
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policy import Completion, Request
from palaestra.agents.store import EpisodeStore
from palaestra.envs import Needs, Task, TextEnv, make

TURNS = 8
Row = dict[str, float | int | str]


def bandits(count: int) -> Iterator[Task]:
    """So many tasks, none of which is there before it is asked for."""
    name = str(palaestra.find("bandit").split("train")[0].name)
    return (Task(env="palaestra/Bandit-v0", name=name, split="train", seed=number) for number in range(count))


class Placed:
    """Makes bandits that live where they are told to."""

    def __init__(self, needs: Needs) -> None:
        self.needs = needs

    def __call__(self, env: str) -> TextEnv[Any]:
        return make(env, max_steps=TURNS)


class Watching(RandomPolicy):
    """Answers at once, and notes what this process has in memory now and then, and how large a late request is."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: list[int] = []
        self.request = 0
        self._next = 0.0

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.5
            self.memory.append(megabytes())
            self.request = max(self.request, *(len(pickle.dumps(request)) for request in requests[:50]))
        return super().act(requests)


def megabytes() -> int:
    """What this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1_000_000


def measure(name: str, count: int, concurrency: int, **rest: Any) -> Row:
    """One collection of so many episodes."""
    policy, before = Watching(), megabytes()
    settings: dict[str, Any] = {"env_settings": {"max_steps": TURNS}, "progress": "quiet", **rest}
    with tempfile.TemporaryDirectory() as folder, EpisodeStore(Path(folder) / "episodes.sqlite") as store:
        cpu, wall = time.process_time(), time.perf_counter()
        report: CollectReport = collect(bandits(count), policy, store, concurrency=concurrency, **settings)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        store.checkpoint()
        size = store.file.stat().st_size
    row: Row = {
        "what": name,
        "episodes": report.episodes,
        "at_once": concurrency,
        "cpu_ms_per_call": round(cpu / report.model_calls * 1000, 3),
        "episodes_per_cpu_s": round(report.episodes / cpu),
        "calls_per_s_wall": round(report.model_calls / wall),
        "stored_bytes_per_episode": round(size / report.episodes),
        "memory_before_mb": before,
        "memory_most_mb": max(policy.memory, default=megabytes()),
        "request_bytes": policy.request,
    }
    print(json.dumps(row), flush=True)
    return row


def on_the_wire() -> Row:
    """Bytes of one step of an environment that lives elsewhere: what is asked, and what is answered."""
    from palaestra.agents.episode import Start
    from palaestra.agents.instance import Beginning, Instance

    instance = Instance(lambda: make("bandit", max_steps=TURNS))
    begin = Beginning(Start(task=next(bandits(1))))
    began, step = instance.begin(begin), instance.step("pull 1")
    return {
        "what": "bytes of an environment elsewhere, pickled",
        "begin_asked": len(pickle.dumps(begin)),
        "begin_answered": len(pickle.dumps(began)),
        "step_asked": len(pickle.dumps("pull 1")),
        "step_answered": len(pickle.dumps(step)),
    }


def with_ray(count: int) -> list[Row]:
    """The same on a Ray of this machine: environments in one actor, and the policy here or in another one."""
    from palaestra.agents.ray_cluster import RayCluster
    from palaestra.agents.ray_link import connect, disconnect

    connect("local")
    there: Callable[[int], RayCluster] = lambda replicas: RayCluster("local", hosts=1, replicas=replicas)  # noqa: E731
    factory = Placed(Needs.NOTHING)
    rows = [
        measure("Ray, environments in an actor", count, 64, env_factory=factory, cluster=there(0)),
        measure("Ray, environments and policy in actors", count, 64, env_factory=factory, cluster=there(1)),
    ]
    disconnect(True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--plan", type=int, default=100_000, help="tasks of the long plan, of one turn each")
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    count = options.episodes
    rows = [
        measure("16 at once", count, 16),
        measure("1,000 at once", count, 1000),
        measure("10,000 at once", max(count, 10_000), 10_000),
        measure("a thread each", count, 16, env_factory=Placed(Needs.THREAD)),
        measure("a process each", max(64, count // 4), 4, env_factory=Placed(Needs.PROCESS)),
        on_the_wire(),
    ]
    if options.plan:
        rows.append(measure("a long plan", options.plan, 64, env_settings={"max_steps": 1}))
    if options.ray:
        rows += with_ray(max(64, count // 2))
    result = {
        "command": "python bench/scale.py " + " ".join(sys.argv[1:]),
        "turns": TURNS,
        "rows": rows,
        "load_average": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
    }
    target = Path(__file__).parent / "results" / "scale.json"
    target.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

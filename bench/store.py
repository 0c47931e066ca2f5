"""Measures the episode store, and its commits against SQLite itself writing the same bytes in the same run.

    python bench/store.py --episodes 100000

100,000 episodes are a million turns. They are like those of a model in a text environment: 10 turns, some 420 sampled
and 300 read token ids, log-probs as float32; every second one is a fork, forks of forks included. Times are CPU seconds
of this process, user and system, so that other load on the machine does not distort them; `_wall` marks those by the
clock. In the end two other processes read (a query by task and outcome, a whole path, a tree) while this one writes.
Writes bench/results/store.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import resource
import sqlite3
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

from palaestra.agents.episode import Episode, Outcome, Provenance, Start, TokenRecord, Turn, episode_id, episode_key
from palaestra.agents.packing import pack
from palaestra.agents.store import EpisodeStore
from palaestra.envs import Task

_WORDS = Path(__file__).read_text().split()


def _turn(rng: random.Random, step: int) -> Turn:
    logprobs = array("f", (-rng.expovariate(2) for _ in range(42)))
    return Turn(
        observation=f"step {step}: " + " ".join(rng.choices(_WORDS, k=25)),
        completion="Thought: " + " ".join(rng.choices(_WORDS, k=12)) + "\nAction: open door",
        action="open door",
        thought=" ".join(rng.choices(_WORDS, k=12)),
        tokens=TokenRecord(
            context=tuple(rng.randrange(49_152) for _ in range(30)),
            completion=tuple(rng.randrange(49_152) for _ in range(42)),
            logprobs=tuple(logprobs),
            fresh=step == 0,
        ),
    )


def _episodes(count: int) -> Iterator[Episode]:
    """Every second episode forks one of the last hundred; turns are drawn from a pool to keep the making cheap."""
    rng = random.Random(0)
    pool = [tuple(_turn(rng, step) for step in range(10)) for _ in range(200)]
    recent: list[Episode] = []
    for number in range(count):
        provenance = Provenance(policy="smollm2-135m", policy_version="v1", recipe="rft", iteration=number // 5000)
        if number % 2 and recent:
            parent = rng.choice(recent[-100:])
            start = parent.fork(rng.randint(parent.start.fork_step, parent.end_step))
        else:
            start = Start(task=Task(env="palaestra/ScienceWorld-v0", name=f"boil/{number % 3000}", split="train"))
        outcome = rng.choice([Outcome.SUCCESS, Outcome.FAILURE])
        made = Episode(
            id=episode_id(episode_key(start, provenance, number)),
            start=start,
            sample=number,
            turns=pool[number % 200],
            outcome=outcome,
            score=float(outcome is Outcome.SUCCESS),
            provenance=provenance,
        )
        recent = [*recent[-99:], made]
        yield made


def _timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _raw_commits(path: Path, packed: list[tuple[bytes, bytes]]) -> float:
    """Seconds in which SQLite alone commits the same bytes one by one: no keys, no indexes, no checks."""
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA synchronous=NORMAL")
    raw.execute("CREATE TABLE t (row INTEGER PRIMARY KEY, head BLOB, body BLOB)")

    def write() -> None:
        for each in packed:
            raw.execute("BEGIN IMMEDIATE")
            raw.execute("INSERT INTO t VALUES (NULL, ?, ?)", each)
            raw.execute("COMMIT")

    seconds = _timed(write)
    raw.close()
    return seconds


def _read(path: str, stop: Event, said: Connection) -> None:
    """Another process: asks what a viewer and a recipe ask, until it is told to stop."""
    store = EpisodeStore(path, mode="r")
    chosen = random.Random(os.getpid())
    memory, asked, slowest, seen, spent = 0, 0, 0.0, 0, 0.0
    while not stop.is_set():
        began = time.process_time()
        heads = list(store.heads(task=f"boil/{chosen.randrange(3000)}", outcome="failure"))
        for each in heads[:1]:
            store.path(each.id)
            store.tree(each.id)
        seconds = time.process_time() - began
        newest = next(store.heads(order="-added", limit=1)).number
        assert newest >= seen, "a reader never sees less than before"
        slowest, spent, seen, asked = max(slowest, seconds), spent + seconds, newest, asked + 1
        if asked == 20:
            memory = _rss()
    said.send((asked, spent, slowest, _rss() - memory, seen))
    store.close()


def _grown_while_reading(store: EpisodeStore, count: int) -> int:
    """By how many kB this process is larger at its largest, while so many episodes pass, than after the first 500."""
    first, most = 0, 0
    for number, _ in enumerate(store.episodes(limit=count), start=1):
        if number == 500:
            first = most = _rss()
        elif number % 100 == 0:
            most = max(most, _rss())
    return most - first


def _rss() -> int:
    """What this process has in memory, in kB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def beside(path: Path, episodes: list[Episode]) -> dict[str, float | int]:
    """Two readers in processes of their own while episodes are added one by one."""
    context = get_context("spawn")
    stop = context.Event()
    lines = [context.Pipe(duplex=False) for _ in range(2)]
    readers = [context.Process(target=_read, args=(str(path), stop, line[1])) for line in lines]
    for reader in readers:
        reader.start()
    store = EpisodeStore(path)
    clock = time.perf_counter()
    adding = _timed(lambda: [store.add(each) for each in episodes])
    clock = time.perf_counter() - clock
    stop.set()
    told = [line[0].recv() for line in lines]
    for reader in readers:
        reader.join()
    number = len(store)
    store.close()
    return {
        "beside_two_readers_adds_per_s": round(len(episodes) / adding),
        "beside_two_readers_adds_per_s_wall": round(len(episodes) / clock),
        "reader_query_path_tree_ms": round(sum(each[1] for each in told) / sum(each[0] for each in told) * 1000, 2),
        "reader_slowest_ms": round(max(each[2] for each in told) * 1000, 1),
        "readers_asked": sum(each[0] for each in told),
        "reader_rss_growth_kb": max(each[3] for each in told),
        "reader_saw_of_all": round(min(each[4] for each in told) / number, 4),
    }


def rebuilding(store: EpisodeStore, roots: list[str]) -> dict[str, float | int]:
    """What queries and trees cost in a store of this size."""
    trees = {root: len(store.tree(root)) for root in roots}
    largest = max(trees, key=lambda root: trees[root])
    tasks = [f"boil/{number}" for number in range(0, 3000, 30)]
    found = [0]

    def query() -> None:
        found[0] = sum(len(list(store.heads(task=task, outcome="failure"))) for task in tasks)

    query_seconds = _timed(query)
    whole = _timed(lambda: [store.path(edge.child) for edge in store.tree(largest)])
    return {
        "by_task_and_outcome_ms": round(query_seconds / len(tasks) * 1000, 2),
        "by_task_and_outcome_finds": round(found[0] / len(tasks), 1),
        "newest_100_failures_ms": round(
            _timed(lambda: list(store.heads(outcome="failure", order="-added", limit=100))) * 1000, 2
        ),
        "tree_ms": round(_timed(lambda: [store.tree(root) for root in roots]) / len(roots) * 1000, 2),
        "largest_tree": trees[largest],
        "largest_tree_with_all_its_paths_ms": round(whole * 1000, 1),
    }


def measure(count: int, folder: Path) -> dict[str, float | int | str]:
    """All figures; see the keys."""
    source = _episodes(count)
    single = [next(source) for _ in range(min(5000, count // 2))]
    packed: list[tuple[bytes, bytes]] = []
    packing = _timed(lambda: packed.extend(pack(each) for each in single))
    path = folder / "store.sqlite"
    store = EpisodeStore(path)
    clock = time.perf_counter()
    adding = _timed(lambda: [store.add(each) for each in single])
    clock = time.perf_counter() - clock
    raw = _raw_commits(folder / "raw.sqlite", packed)
    bulk = _timed(lambda: store.add_all(source))
    store.close()

    opening = min(_timed(lambda: EpisodeStore(path, mode="r").close()) for _ in range(5))
    store = EpisodeStore(path, mode="r")
    ids = [head.id for head in store.heads()]
    some = random.Random(1).sample(ids, 1000)
    deep = max(some, key=lambda id: len(store.ancestors(id)))
    keys = [head.key for head in store.heads(limit=2000)]
    reading = _timed(lambda: sum(1 for _ in store.episodes(limit=20_000)))
    grown = _grown_while_reading(store, 20_000)
    forest = rebuilding(store, [head.id for head in store.roots()][:: max(1, count // 500)])
    turns = int(store.summary().turns)
    as_json = sum(len(each.model_dump_json()) for each in single[:500]) / 500
    figures: dict[str, float | int | str] = {
        "episodes": count,
        "turns": turns,
        "file_mb": round(path.stat().st_size / 1e6, 1),
        "bytes_per_episode": round(path.stat().st_size / count),
        "bytes_as_json": round(as_json),
        "json_over_stored": round(as_json / (path.stat().st_size / count), 2),
        "adds_per_s": round(len(single) / adding),
        "adds_per_s_wall": round(len(single) / clock),
        "load_average": round(os.getloadavg()[0], 1),
        "raw_sqlite_commits_per_s": round(len(single) / raw),
        "packing_per_s": round(len(single) / packing),
        "add_over_packing_plus_raw_sqlite": round(adding / (packing + raw), 2),
        "add_over_raw_sqlite": round(adding / raw, 2),
        "bulk_adds_per_s": round((count - len(single)) / bulk),
        "open_ms": round(opening * 1000, 2),
        "has_us": round(_timed(lambda: [store.has(key) for key in keys]) / len(keys) * 1e6, 1),
        "path_us": round(_timed(lambda: [store.path(id) for id in some]) / len(some) * 1e6),
        "path_of_deepest_us": round(_timed(lambda: store.path(deep)) * 1e6),
        "deepest_forks": len(store.ancestors(deep)),
        "episodes_read_per_s": round(min(20_000, count) / reading),
        "heads_read_per_s": round(count / _timed(lambda: sum(1 for _ in store.heads()))),
        "count_by_split_ms": round(_timed(lambda: store.count(split="train", outcome="success")) * 1000, 1),
        "rss_growth_while_reading_20000_kb": grown,
        **forest,
        "sqlite": sqlite3.sqlite_version,
        "python": platform.python_version(),
        "cores": os.cpu_count() or 0,
    }
    store.close()
    more = list(itertools.islice(_episodes(count + 4000), count, None))
    return {**figures, **beside(path, more)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--episodes", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "store.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.episodes, Path(folder))
    figures["command"] = f"python bench/store.py --episodes {options.episodes}"
    for name, value in figures.items():
        print(f"{name:36} {value}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

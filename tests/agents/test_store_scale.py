"""A store of 100,000 episodes opens without being read, answers from indexes, and iterates in flat memory."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from store_cases import episode, task

from palaestra.agents.store import EpisodeStore

SIZE = 100_000


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One root and one fork through the store, then copies of both rows with other names, by SQL."""
    path = tmp_path_factory.mktemp("big") / "s.sqlite"
    with EpisodeStore(path) as store:
        root = episode(n=6)
        store.add_all([root, episode(root.fork(3), n=2)])
    raw = sqlite3.connect(path)
    names = [row[1] for row in raw.execute("PRAGMA table_info(episodes)")]
    new = {"row": "n", "id": "'id' || n", "key": "'key' || n", "task": "'t' || (n % 997)", "iteration": "n % 50"}
    picked = ", ".join(new.get(name, name) for name in names)
    counted = f"WITH RECURSIVE counted (n) AS (SELECT 3 UNION ALL SELECT n + 1 FROM counted WHERE n < {SIZE})"
    raw.execute(f"INSERT INTO episodes {counted} SELECT {picked} FROM counted JOIN episodes ON row = 2 - n % 2")
    raw.execute(f"INSERT INTO bodies {counted} SELECT n, head, body FROM counted JOIN bodies ON row = 2 - n % 2")
    raw.commit()
    raw.close()
    return path


def steps_to_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Steps of SQLite's virtual machine that opening and one lookup take: a measure of work that no load disturbs."""
    steps, connect = [0], sqlite3.connect

    def count() -> int:
        steps[0] += 1
        return 0

    def counting(*args: object, **kwargs: object) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)  # type: ignore[call-overload]
        connection.set_progress_handler(count, 1)
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", counting)
        with EpisodeStore(path) as store:
            assert not store.has("nope")
    return steps[0]


def test_opening_does_the_same_work_for_two_episodes_as_for_a_hundred_thousand(
    big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EpisodeStore(tmp_path / "small.sqlite") as small:
        small.add_all([episode(), episode(sample=1)])
    began = time.perf_counter()
    store = EpisodeStore(big)
    found = store.has("nope")
    print(f"\nopened {big.stat().st_size / 1e6:.0f} MB in {(time.perf_counter() - began) * 1000:.1f} ms")
    assert not found
    assert len(store) == SIZE
    store.close()
    few, many = steps_to_open(tmp_path / "small.sqlite", monkeypatch), steps_to_open(big, monkeypatch)
    assert few > 50, "the counter counts"
    assert many <= few + 10


QUERIES: list[tuple[str, Callable[[EpisodeStore], object]]] = [
    ("has", lambda store: store.has("key9")),
    ("stored", lambda store: store.stored(["key9", "key10"])),
    ("get", lambda store: store.get("id9")),
    ("head", lambda store: store.head("id9")),
    ("path", lambda store: store.path("id10")),
    ("ancestors", lambda store: store.ancestors("id10")),
    ("children", lambda store: store.children("id9")),
    ("tree", lambda store: store.tree("id9")),
    ("wins", lambda store: store.wins("id9")),
    ("wins of a task", lambda store: store.wins(episode(task("x")).start)),
    ("by task", lambda store: list(store.heads(task="t5"))),
    ("by iteration", lambda store: store.count(recipe="rft", iteration=3)),
    ("by parent", lambda store: list(store.episodes(parent="id9"))),
    ("the newest", lambda store: list(store.episodes(order="-added", limit=5))),
]


@pytest.mark.parametrize("ask", [ask for _, ask in QUERIES], ids=[name for name, _ in QUERIES])
def test_a_query_never_scans_the_episodes(big: Path, ask: Callable[[EpisodeStore], object]) -> None:
    with EpisodeStore(big, mode="r") as store:
        said: list[str] = []
        store._connection.set_trace_callback(said.append)
        ask(store)
        store._connection.set_trace_callback(None)
        asked = [sql for sql in said if "episodes" in sql]
        assert asked
        for sql in asked:
            for *_, step in store._connection.execute(f"EXPLAIN QUERY PLAN {sql}"):
                limited = "LIMIT 5" in sql  # a scan from one end that stops after five
                assert limited or not step.startswith(("SCAN episodes", "SCAN bodies")), f"{step}: {sql}"


def test_memory_stays_flat_while_heads_pass(big: Path) -> None:
    with EpisodeStore(big, mode="r") as store:
        next(store.heads())
        tracemalloc.start()
        number = sum(1 for _ in store.heads(limit=30_000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert number == 30_000
    assert peak < 6e6, "one batch; all of them would be some 40 MB"


def test_memory_stays_flat_while_episodes_pass(tmp_path: Path) -> None:
    with EpisodeStore(tmp_path / "s.sqlite") as store:
        turn = episode(n=1).turns[0].model_copy(update={"observation": "x" * 50_000})
        store.add_all(episode(sample=i).model_copy(update={"turns": (turn,)}) for i in range(2000))
        tracemalloc.start()
        length = sum(len(each.turns[0].observation) for each in store.episodes())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert length == 100_000_000
    assert peak < 15e6


READER = """
import sys
from palaestra.agents.store import EpisodeStore
store = EpisodeStore(sys.argv[1], mode="r")
seen = asked = 0
while seen < int(sys.argv[2]):
    heads = list(store.heads(task="boil/0", outcome="failure"))
    assert len(heads) >= seen, (len(heads), seen)
    seen, asked = len(heads), asked + 1
    path = store.path(heads[-1].id)
    assert len(path.turns) == heads[-1].end_step, "an episode is there as a whole or not at all"
    tree = store.tree(heads[0].id)
    assert [edge.child for edge in tree][: len(heads) - 1] == [head.id for head in heads[1:]]
print(seen)
"""


def test_two_readers_in_other_processes_see_whole_episodes_while_they_are_added(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with EpisodeStore(path) as store:
        root = episode(task("boil/0"), n=4)
        store.add(root)
        command = [sys.executable, "-c", READER, str(path), "200"]
        readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        parent = root
        for number in range(1, 200):
            made = episode(parent.fork(parent.end_step - 1), n=2, sample=number)
            assert store.add(made)
            parent = made if number % 40 == 0 else parent
        assert [reader.communicate()[0].strip() for reader in readers] == ["200", "200"]
        assert [reader.returncode for reader in readers] == [0, 0]

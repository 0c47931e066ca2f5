"""`kill -9` at any moment: what was committed is readable, nothing is doubled, running again completes the plan."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path

from store_cases import episode, task

from palaestra.agents.episode import Episode
from palaestra.agents.store import EpisodeStore

STORES, KILLS_EACH = 5, 20


def planned(number: int) -> Episode:
    """The plan is endless; every third episode forks the one before it."""
    root = episode(task(f"t{number - number % 3}"), n=12, says="r" * 40)
    return (
        episode(root.fork(5), n=6, sample=number, says="f")
        if number % 3 == 1
        else (root if number % 3 == 0 else episode(task(f"u{number}"), n=9))
    )


def collect(path: Path, notes: Path, until: int) -> None:
    """Go through the plan; note each id after its commit. Notes are single short writes, so a kill cuts none in two."""
    out = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with EpisodeStore(path) as store:
        for number in range(until):
            made = planned(number)
            if not store.has(made.key):
                store.add(made)
                os.write(out, f"{made.id}\n".encode())
            if number % 40 == 39:
                store.checkpoint()


def noted(notes: Path) -> list[str]:
    return notes.read_text().split() if notes.exists() else []


def killed_at_work(path: Path, notes: Path, rng: random.Random) -> None:
    """Start a collector, let it commit a random number of episodes, wait a random moment, `kill -9`."""
    wanted = len(noted(notes)) + rng.randrange(0, 40)  # by progress, so that a busy machine changes nothing
    child = multiprocessing.get_context("fork").Process(target=collect, args=(path, notes, 10**9))
    child.start()
    deadline = time.monotonic() + 60
    while len(noted(notes)) < wanted and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(rng.random() * 0.02)
    child.kill()
    child.join()
    assert child.exitcode == -9


def test_a_hundred_kills_lose_nothing_that_was_committed(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"\nseed {seed}")
    rng = random.Random(seed)
    at_work = 0
    for run in range(STORES):
        path, notes = tmp_path / f"{run}.sqlite", tmp_path / f"{run}.txt"
        committed: list[str] = []
        stored: list[str] = []
        for kill in range(KILLS_EACH):
            before = len(committed)
            killed_at_work(path, notes, rng)
            committed = noted(notes)
            at_work += len(committed) > before
            with EpisodeStore(path) as store:
                store.check()
                assert [head.id for head in store.heads(limit=len(stored))] == stored, "what was there is there"
                stored = [head.id for head in store.heads()]
                for id in committed[before:]:
                    store.path(id)
            assert len(set(stored)) == len(stored), "none is doubled"
            assert len(set(committed)) == len(committed)
            assert set(committed) <= set(stored), "none that was committed is lost"
            assert len(stored) - len(committed) <= kill + 1, "a kill between commit and note leaves one without a note"
        complete(path, notes, len(stored) + 30)
    assert at_work > STORES * KILLS_EACH // 3, "the kills hit writers at work"


def complete(path: Path, notes: Path, until: int) -> None:
    """Running again completes the plan: each planned episode once, as planned."""
    collect(path, notes, until)
    with EpisodeStore(path, mode="r") as store:
        assert list(store.episodes()) == [planned(number) for number in range(until)]

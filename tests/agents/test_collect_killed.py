"""A collection can be killed at any moment: what was committed is whole, nothing is doubled, and it can go on."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from collecting import EPISODES, plan

from palaestra.agents.episode import Episode
from palaestra.agents.store import EpisodeStore

SCRIPT = str(Path(__file__).with_name("collecting.py"))
KILLS = 100


class Collector:
    """The process that forks collecting children, on the other side of two pipes."""

    def __init__(self, store: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, seconds: float) -> int:
        assert self.process.stdin is not None
        print(seconds, file=self.process.stdin, flush=True)
        return self.read()

    def read(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    started = Collector(tmp_path / "episodes.sqlite")
    yield started
    assert started.process.stdin is not None
    started.process.stdin.close()
    started.process.wait()


def gist(episode: Episode) -> tuple[Any, ...]:
    """All of an episode but what it cost."""
    return (
        episode.id, episode.key, episode.turns, episode.final_observation, episode.outcome, episode.score,
        episode.provenance.model_copy(update={"cost": None}),
    )  # fmt: skip


def contents(file: Path) -> dict[str, tuple[Any, ...]]:
    """Every episode, read whole. Fails if one cannot be read or is there twice."""
    if not committed(file):
        return {}
    with EpisodeStore(file, mode="r") as store:
        store.check()
        assert store.n_faults == 0
        episodes = [gist(episode) for episode in store.episodes()]
    found = {episode[0]: episode for episode in episodes}
    assert len(found) == len(episodes) == len({episode[1] for episode in episodes})
    return found


def test_a_hundred_kills_lose_nothing_that_was_committed_and_double_nothing(
    collector: Collector, tmp_path: Path
) -> None:
    file = tmp_path / "episodes.sqlite"
    moments = random.Random(0)
    known: dict[str, tuple[Any, ...]] = {}
    grew = 0
    for _ in range(KILLS):
        child = collector.start(0.01)
        if moments.random() < 0.5:  # in the midst of it, however slow the machine is
            while committed(file) <= len(known):
                time.sleep(0.002)
            time.sleep(moments.uniform(0.0, 0.05))
        else:  # at its very beginning, or anywhere
            time.sleep(moments.uniform(0.0, 0.2))
        os.kill(child, signal.SIGKILL)
        assert collector.read() == signal.SIGKILL, "the child was killed while it collected"
        found = contents(file)
        assert {id: found.get(id) for id in known} == known, "what was committed is there, unchanged"
        grew += len(found) > len(known)
        known = found
    assert grew >= KILLS // 4, "the kills fell into collecting, not before it"
    assert len(known) < EPISODES, "and not after it"

    assert collector.start(0.0) > 0
    assert collector.read() == 0
    plan(str(tmp_path / "undisturbed.sqlite"), 0.0)
    assert contents(file) == contents(tmp_path / "undisturbed.sqlite")
    assert len(contents(file)) == EPISODES


def test_ctrl_c_on_a_collecting_process_says_how_to_go_on_and_going_on_completes_the_plan(tmp_path: Path) -> None:
    file = tmp_path / "episodes.sqlite"
    command = [sys.executable, SCRIPT, str(file)]
    process = subprocess.Popen([*command, "0.02"], stderr=subprocess.PIPE, text=True)
    while not committed(file) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    made = len(contents(file))
    assert 0 < made < EPISODES
    assert f"stopped: {made} episodes were made and are stored" in errors
    assert "collect again into the same store to go on" in errors
    assert "Traceback" not in errors
    again = subprocess.run([*command, "0"], capture_output=True, text=True, check=True)
    assert int(again.stdout) == EPISODES - made
    assert len(contents(file)) == EPISODES


def committed(file: Path) -> int:
    try:
        with sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM episodes").fetchone()[0])
    except sqlite3.OperationalError:
        return 0

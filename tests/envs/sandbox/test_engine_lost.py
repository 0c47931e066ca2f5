"""The engine stops while episodes are in flight: they become faults, never results, and are run again."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from palaestra.agents.collect import CollectReport, collect
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.agents.policy import Request
from palaestra.agents.store import EpisodeStore
from palaestra.envs import Task, make
from palaestra.envs.sandbox import pool, private_engine
from palaestra.envs.sandbox.errors import SandboxUnavailable
from palaestra.envs.sandbox.private_engine import PrivateEngine

pytestmark = pytest.mark.xdist_group("docker")

EPISODES = 6  # more than the faults at which a collection begins to judge


class Stoppable:
    """An engine that can be stopped and started again in its place, as a service is.

    Args:
        engine: the one that runs.
    """

    def __init__(self, engine: PrivateEngine) -> None:
        self.host, self._folder, self._pid = engine.host, engine.folder, engine.pid
        self._again: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """On return it is gone, with its containers."""
        os.kill(self._pid, signal.SIGTERM)
        if self._again is not None:
            self._again.wait(60)
        until = time.monotonic() + 60
        while runs(self._pid):
            assert time.monotonic() < until, "the engine does not stop"
            time.sleep(0.02)

    def start(self) -> None:
        """On return it answers again, at the same address."""
        with (self._folder / "dockerd.log").open("ab") as log:
            command = private_engine._command(self._folder)
            self._again = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._pid = self._again.pid
        assert private_engine._answers(self._folder / "docker.sock", self._again)


def runs(pid: int) -> bool:
    """Is the process there, and not only its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def engine(second_engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stoppable]:
    """The engine that DOCKER_HOST names."""
    monkeypatch.setenv("DOCKER_HOST", second_engine.host)
    engine = Stoppable(second_engine)
    yield engine
    pool.drain()
    if runs(engine._pid):
        engine.stop()


class Collection:
    """A collection whose episodes are all in the middle of a command when `in_flight` is set.

    Once `lost` is set their commands are short.
    """

    def __init__(self, folder: Path) -> None:
        self.in_flight, self.lost = threading.Event(), threading.Event()
        self.store = EpisodeStore(folder / "episodes.sqlite")
        self._count = 0
        with make("code/codetasks") as env:
            self._starts: list[Task] = env.tasks("test")[:EPISODES]

    def run(self) -> CollectReport:
        """Make what the store does not hold."""
        return collect(
            self._starts,
            ScriptedPolicy(self._action),
            self.store,
            env_settings={"sandbox": "docker", "timeout": 45},
            concurrency=EPISODES,
            retries=20,  # while an engine ends slowly, a try may find one more sandbox that is about to go
            progress="quiet",
        )

    def _action(self, request: Request) -> str:
        assert request.env is not None
        if request.env.history:
            return "submit"
        if self.lost.is_set():
            return "run echo here again"
        self._count += 1
        if self._count == EPISODES:
            threading.Timer(0.3, self.in_flight.set).start()
        return "run sleep 40"

    def faults(self) -> list[str]:
        """What is said of each."""
        return [episode.error or "" for episode in self.store.faults()]


def test_episodes_in_flight_become_faults_and_run_again_on_the_engine_that_comes_back(
    engine: Stoppable, tmp_path: Path
) -> None:
    collection = Collection(tmp_path)

    def restart() -> None:
        collection.in_flight.wait(300)
        collection.lost.set()
        engine.stop()
        engine.start()

    operator = threading.Thread(target=restart)
    operator.start()
    report = collection.run()
    operator.join()
    assert (report.given_up, report.episodes) == (0, EPISODES)
    # Each of those in flight; and what took a sandbox that waited in the pool of the engine that was going.
    assert len(collection.faults()) >= EPISODES
    assert all("the docker sandbox" in error for error in collection.faults())
    made = list(collection.store.episodes(outcome="failure"))
    assert [[turn.action for turn in episode.turns] for episode in made] == [
        ["run echo here again", "submit"]
    ] * EPISODES
    assert all("here again" in episode.turns[1].observation for episode in made)


def test_an_engine_that_stays_away_ends_the_run_with_its_name_and_the_run_goes_on_later(
    engine: Stoppable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_RETURN", 2.0)
    collection = Collection(tmp_path)

    def stop() -> None:
        collection.in_flight.wait(300)
        collection.lost.set()
        engine.stop()

    operator = threading.Thread(target=stop)
    operator.start()
    with pytest.raises(SandboxUnavailable, match=f"{engine.host} does not answer"):
        collection.run()
    operator.join()
    assert len(collection.faults()) >= EPISODES
    assert len(collection.store) == 0  # no result was made of any of them
    engine.start()
    report = collection.run()
    assert (report.faults, report.episodes) == (0, EPISODES)

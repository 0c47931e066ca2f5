"""Environments live where they say they need to: together in a thread, each in a thread, each in a process."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from odd_env import CountingPolicy, World
from odd_env import tasks as odd_tasks
from pid_env import Inside, Make, PidEnv, tasks

from palaestra.agents.collect import CollectReport, collect
from palaestra.agents.elsewhere import portable
from palaestra.agents.episode import Outcome
from palaestra.agents.places import LocalCrew
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policy import Policy
from palaestra.agents.shared_thread import SharedWorker
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, EnvFault, MissingExtra, ReplayDiverged, TextEnv, find


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    with EpisodeStore(tmp_path / "episodes.sqlite") as opened:
        yield opened


def run(starts: Any, store: EpisodeStore, policy: Policy | None = None, **rest: Any) -> CollectReport:
    folder = str(store.file.parent)
    settings: dict[str, Any] = {"progress": "quiet", "concurrency": 3, "max_fault_rate": 0.9, "retries": 0}
    settings["env_factory"] = Make(folder)
    return collect(starts, policy or CountingPolicy(), store, **{**settings, **rest})


def test_an_environment_that_needs_a_process_has_one_and_makes_the_same_episodes(tmp_path: Path) -> None:
    made = []
    for name, factory in (("process", Make()), ("thread", lambda _: PidEnv())):
        with EpisodeStore(tmp_path / name) as store:
            assert run([*tasks("good", 4), *tasks("pid", 4)], store, env_factory=factory).episodes == 8
            tellers = {turn.observation for episode in store.episodes() for turn in episode.turns[1:]} - {"1", "2"}
            made.append({(e.start, e.turns, e.outcome) for e in store.episodes() if "good" in e.start.task.name})
        if name == "process":
            assert 1 <= len(tellers) <= 3
            assert str(os.getpid()) not in tellers
        else:
            assert tellers == {str(os.getpid())}
    assert made[0] == made[1]
    assert not multiprocessing.active_children()


def test_a_registered_environment_is_found_again_in_its_process(store: EpisodeStore, tmp_path: Path) -> None:
    """It stands in a file that only this process has loaded, as with `--load`."""
    from palaestra.envs.source import load

    file = tmp_path / "lone_env.py"
    source = (Path(__file__).parent / "pid_env.py").read_text()
    registers = "register('lone/Lone-v0', PidEnv, splits={'train': ['pid/0', 'good/1']})"
    file.write_text(f"{source}\nfrom palaestra.envs import register\n{registers}\n")
    load(str(file))
    plan = find("lone/Lone-v0").split("train")
    report = run(plan, store, env_factory=None, env_settings={"max_steps": 5})
    assert report.episodes == 2
    told = {turn.observation for episode in store.episodes() for turn in episode.turns}
    assert str(os.getpid()) not in told
    assert {episode.provenance.env_settings["max_steps"] for episode in store.episodes()} == {5}


def test_a_process_that_is_killed_is_a_fault_of_its_episode_and_a_fresh_one_is_tried(store: EpisodeStore) -> None:
    report = run([*tasks("once", 1), *tasks("killed", 1), *tasks("good", 6)], store, retries=1, concurrency=2)
    assert (report.episodes, report.given_up) == (7, 1)
    faults = list(store.faults())
    assert {fault.outcome for fault in faults} == {Outcome.ENV_ERROR}
    assert all("the environment's process ended by SIGKILL" in str(fault.error) for fault in faults)
    assert not multiprocessing.active_children()


def test_what_an_environment_raises_there_is_told_here_with_its_traceback(store: EpisodeStore) -> None:
    assert run([*tasks("raises", 1), *tasks("good", 2)], store).episodes == 2
    (fault,) = store.faults()
    assert "in _misbehave" in str(fault.error)
    assert str(fault.error).strip().endswith("ZeroDivisionError: a bug of the environment")
    with pytest.raises(BadInput, match=r"^there is no such task$"):
        run(tasks("none", 1), store)


def test_a_process_that_hangs_is_killed(store: EpisodeStore) -> None:
    report = run([*tasks("hangs", 1), *tasks("good", 3)], store, deadline=5.0)
    assert (report.episodes, report.given_up) == (3, 1)
    (fault,) = store.faults()
    assert fault.outcome is Outcome.TIMEOUT
    for process in multiprocessing.active_children():  # it was killed and is not waited for
        process.join(60)
    assert not multiprocessing.active_children()


def test_a_policy_that_looks_inside_looks_there(store: EpisodeStore) -> None:
    assert run(tasks("good", 3), store, Inside()).successes == 3
    looked = {turn.completion.splitlines()[1] for episode in store.episodes() for turn in episode.turns}
    assert f"in {os.getpid()}" not in looked


def test_what_cannot_go_to_another_process_is_named(store: EpisodeStore) -> None:
    class Holding(Make):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(BadInput, match="odd/Pid-v0 cannot be taken to another process: TypeError"):
        run(tasks("good", 1), store, env_factory=Holding())


def test_each_is_placed_by_what_it_declares_and_a_persons_environment_stays_with_them() -> None:
    crew = LocalCrew(RandomPolicy(), {})
    shared, again = crew.place("palaestra/Bandit-v0"), crew.place("palaestra/Bandit-v0")
    own = LocalCrew(RandomPolicy(), {}, World().make).place("odd/Odd-v0")
    from palaestra.agents.policies.human import HumanPolicy

    person = LocalCrew(HumanPolicy(), {})
    beside = person.place("palaestra/Bandit-v0")
    try:
        assert isinstance(shared, SharedWorker)
        assert isinstance(again, SharedWorker)
        assert not isinstance(own, SharedWorker)
        assert not isinstance(beside, SharedWorker)
    finally:
        for worker in (shared, again, own, beside):
            worker.leave()
            worker.join(5)
        crew.close(5)
    with pytest.raises(BadInput, match="unknown environment"):
        crew.place("none/None-v0")


@pytest.mark.parametrize(
    ("error", "arrives"),
    [
        (ZeroDivisionError("x"), ZeroDivisionError),
        (MissingExtra("torch", "train"), BadInput),
        (ReplayDiverged("t", 1, "a", "b"), ReplayDiverged),
        (type("Local", (Exception,), {})("said"), EnvFault),
    ],
)
def test_every_error_arrives(error: Exception, arrives: type[Exception]) -> None:
    again = portable(error)
    assert type(again) is arrives
    assert str(error) in str(again)


def test_an_odd_environment_in_a_thread_of_its_own_stays_there(store: EpisodeStore) -> None:
    world = World()
    assert run(odd_tasks("good/0", "good/1"), store, env_factory=world.make).episodes == 2
    assert all(isinstance(env, TextEnv) for env in world.closed)

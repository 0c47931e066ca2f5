"""What breaks is kept apart: a fault is stored with its traceback, tried again, and never a score."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from odd_env import CountingPolicy, World, many, tasks

from palaestra.agents.collect import CollectReport, Interrupted, TooManyFaults, collect
from palaestra.agents.episode import Episode, Outcome
from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.policy import Completion, Policy, Request
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Task
from palaestra.envs.errors import NoWay

DEADLINE = 2.0
"""Seconds. Nothing in these tests takes that long but what hangs until it is aborted."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    with EpisodeStore(tmp_path / "episodes.sqlite") as opened:
        yield opened


def run(starts: Any, store: EpisodeStore, world: World, policy: Policy | None = None, **rest: Any) -> CollectReport:
    settings = {"progress": "quiet", "deadline": DEADLINE, "max_fault_rate": 0.9, **rest}
    return collect(starts, policy or CountingPolicy(), store, env_factory=world.make, **settings)


def names(episodes: Iterator[Episode]) -> list[str]:
    return sorted(episode.start.task.name for episode in episodes)


def test_an_environment_that_raises_becomes_a_fault_with_its_traceback_and_gets_fresh_instances(
    store: EpisodeStore,
) -> None:
    world = World()
    report = run([*tasks("raises/0"), *many("good", 4), *many("bad", 4)], store, world)
    assert (report.episodes, report.faults, report.given_up) == (8, 3, 1)
    assert (report.success_rate, report.mean_score) == (0.5, 0.75), "a fault is no failure and no zero"
    assert "raises/0" not in names(store.episodes())
    faults = list(store.faults())
    assert names(iter(faults)) == ["raises/0"] * 3
    for attempt, fault in enumerate(faults):
        assert fault.outcome is Outcome.ENV_ERROR
        assert fault.error is not None
        assert "in _misbehave" in fault.error
        assert fault.error.strip().endswith("ZeroDivisionError: a bug of the environment")
        assert fault.actions == ("count",), "what was done before is kept"
        assert fault.labels["attempt"] == attempt
    used = world.by["raises/0"]
    assert len(set(map(id, used))) == 3
    assert set(map(id, used)) <= set(map(id, world.closed)), "broken instances are closed"


def test_a_retry_fills_the_same_key(store: EpisodeStore) -> None:
    report = run(tasks("flaky/0", "good/0"), store, World())
    assert (report.episodes, report.faults, report.given_up) == (2, 1, 0)
    (fault,) = store.faults()
    assert store.get(fault.id).key == fault.key
    assert store.get(fault.id).success


def test_faults_are_tried_again_when_collecting_again(store: EpisodeStore) -> None:
    world = World()
    assert run(tasks("flaky/0", "good/0"), store, world, retries=0).given_up == 1
    again = run(tasks("flaky/0", "good/0"), store, world, retries=0)
    assert (again.episodes, again.skipped, again.faults) == (1, 1, 0)


def test_an_environment_whose_process_is_killed_under_it_becomes_a_fault(store: EpisodeStore) -> None:
    world = World()
    report = run([*tasks("dies/0"), *many("good", 3)], store, world)
    assert (report.episodes, report.given_up) == (3, 1)
    fault = next(store.faults())
    assert fault.outcome is Outcome.ENV_ERROR
    assert "EnvFault: the environment's process is dead" in str(fault.error)
    assert "BrokenPipeError" in str(fault.error)


def test_a_hanging_environment_is_aborted_named_and_replaced(store: EpisodeStore) -> None:
    world = World()
    report = run([*tasks("hangs-once/0"), *many("good", 3)], store, world)
    assert (report.episodes, report.faults, report.given_up) == (4, 1, 0)
    (fault,) = store.faults()
    assert fault.outcome is Outcome.TIMEOUT
    assert "step 2 took longer than 2 s" in str(fault.error)
    assert "self.freed.wait()" in str(fault.error), "where it hung"
    hung, fresh = world.by["hangs-once/0"]
    assert world.aborted == [hung]
    assert hung is not fresh
    assert store.get(fault.id).success


def test_an_environment_that_hangs_at_its_reset_is_a_timeout_too(store: EpisodeStore) -> None:
    report = run([*tasks("hangs-at-reset/0"), *many("good", 3)], store, World(), retries=0, deadline=0.5)
    assert (report.episodes, report.given_up) == (3, 1)
    (fault,) = store.faults()
    assert (fault.outcome, fault.turns) == (Outcome.TIMEOUT, ())
    assert "the reset took longer" in str(fault.error)


def test_environments_that_hang_for_good_take_nobodys_place(store: EpisodeStore) -> None:
    """All places hang, abort does not help, and still every other episode is made; the late answers change nothing."""
    world = World()
    report = run(
        [*many("stuck", 2), *many("good", 10)], store, world, concurrency=2, retries=0, deadline=0.5, max_fault_rate=1.0
    )
    assert (report.episodes, report.faults) == (10, 2)
    assert names(store.episodes()) == sorted(task.name for task in many("good", 10))
    world.gate.set()
    assert store.n_faults == 2


def test_a_hanging_environment_delays_nobody(store: EpisodeStore) -> None:
    """The hanging one has no deadline and is let go by the last of the others: that they all end is the proof."""
    world = World(open_after=30)
    report = run([*many("stuck", 3), *many("good", 30)], store, world, concurrency=4, deadline=None)
    assert report.episodes == 33
    assert all(name.startswith("good") for name in world.ended[:30])


def test_a_policy_that_fails_on_one_request_fails_that_episode_only(store: EpisodeStore) -> None:
    class Picky(CountingPolicy):
        def act(self, requests: Sequence[Request]) -> list[Completion]:
            if any("good/3" in request.messages[1]["content"] for request in requests):
                raise RuntimeError("out of memory")
            return super().act(requests)

    report = run(many("good", 8), store, World(), Picky(), retries=1)
    assert (report.episodes, report.faults, report.given_up) == (7, 2, 1)
    assert {(fault.start.task.name, fault.outcome) for fault in store.faults()} == {("good/3", Outcome.POLICY_ERROR)}
    assert "RuntimeError: out of memory" in str(next(store.faults()).error)


def test_a_completion_that_carries_an_error_fails_that_episode_only(store: EpisodeStore) -> None:
    class Partial(CountingPolicy):
        def act(self, requests: Sequence[Request]) -> list[Completion]:
            return [
                Completion("", error="too long") if "good/1)" in request.messages[1]["content"] else answer
                for request, answer in zip(requests, super().act(requests), strict=True)
            ]

    report = run(many("good", 4), store, World(), Partial(), retries=0)
    assert (report.episodes, report.faults) == (3, 1)
    (fault,) = store.faults()
    assert (fault.outcome, fault.error) == (Outcome.POLICY_ERROR, "too long")


def test_an_oracle_that_breaks_or_hangs_fails_its_episode_only(store: EpisodeStore) -> None:
    def moody(env: Any) -> str:
        if env.task.name == "good/1":
            raise LookupError("no gold path")
        if env.task.name == "good/2":
            env.freed.wait()
        if env.task.name == "good/3":
            raise NoWay("lost in the woods")
        return "count"

    report = run(many("good", 5), store, World(), OraclePolicy(moody), retries=0)
    assert (report.episodes, report.faults) == (2, 3)
    faults = {fault.start.task.name: fault for fault in store.faults()}
    outcomes = {name: fault.outcome for name, fault in faults.items()}
    lost = Outcome.POLICY_ERROR
    assert outcomes == {"good/1": lost, "good/2": Outcome.TIMEOUT, "good/3": lost}
    assert faults["good/3"].error == "lost in the woods"


def test_a_policy_that_answers_too_few_is_a_bug_that_is_named(store: EpisodeStore) -> None:
    class Short(CountingPolicy):
        def act(self, requests: Sequence[Request]) -> list[Completion]:
            return super().act(requests)[1:]

    with pytest.raises(BadInput, match="gave 0 completions for 1 requests"):
        run(tasks("good/0"), store, World(), Short())


def test_an_environment_that_answers_otherwise_than_its_parent_is_a_fault_and_the_run_goes_on(
    store: EpisodeStore, tmp_path: Path
) -> None:
    world = World()
    run(tasks("good/0"), store, world)
    (parent,) = store.episodes()
    told = parent.turns[1].model_copy(update={"observation": "what was never said"})
    with EpisodeStore(tmp_path / "tampered") as other:
        other.add(parent.model_copy(update={"turns": (parent.turns[0], told, parent.turns[2])}))
        report = run([parent.fork(2), parent.fork(0), *many("good", 3)[1:]], other, world, retries=0)
        assert (report.episodes, report.faults) == (3, 1)
        (fault,) = other.faults()
    assert (fault.outcome, fault.start.fork_step) == (Outcome.ENV_ERROR, 2)
    assert "diverged at step 1: expected 'what was never said', got '1'" in str(fault.error)


def test_too_many_faults_stop_the_run_loudly_and_lose_nothing(store: EpisodeStore) -> None:
    world = World()
    plan = [*many("good", 8), *many("raises", 100), *many("good", 200)[100:]]
    with pytest.raises(TooManyFaults) as caught:
        run(plan, store, world, max_fault_rate=0.3, concurrency=4)
    text = str(caught.value)
    assert "the last one: ZeroDivisionError: a bug of the environment" in text
    assert "allowed are 30%" in text
    faults, made = store.n_faults, len(store)
    assert text.startswith(f"{faults} of {faults + made} attempts ended in a fault")
    assert 5 * 3 <= faults < 30, "it stops once five were given up, each after three attempts"
    assert made >= 4, "and what was made before is there"


def test_a_few_faults_do_not_stop_a_run_however_large_their_share(store: EpisodeStore) -> None:
    report = run([*tasks("raises/0"), *many("good", 2)], store, World(), max_fault_rate=0.0, min_faults=4)
    assert (report.episodes, report.faults) == (2, 3)


def test_a_run_that_makes_nothing_but_faults_never_ends_quietly(store: EpisodeStore) -> None:
    with pytest.raises(TooManyFaults, match="3 of 3 attempts"):
        run(tasks("raises/0"), store, World(), max_fault_rate=1.0)


def test_the_last_fault_is_told_without_the_path_to_its_class(store: EpisodeStore) -> None:
    with pytest.raises(TooManyFaults, match=r"; the last one: the environment's process is dead$"):
        run(tasks("dies/0"), store, World(), max_fault_rate=1.0)
    assert "palaestra.envs.errors.EnvFault: the environment's process is dead" in str(next(store.faults()).error)


def test_what_takes_all_in_flight_with_it_once_costs_no_more_than_those_attempts(store: EpisodeStore) -> None:
    report = run(many("flaky", 8), store, World(), max_fault_rate=0.2)
    assert (report.episodes, report.faults, report.given_up) == (8, 8, 0)


def test_a_run_that_goes_on_is_judged_as_one_that_was_not_disturbed(store: EpisodeStore, tmp_path: Path) -> None:
    plan = [*many("good", 9), *tasks("raises/0", "raises/1")]
    with EpisodeStore(tmp_path / "whole") as other:
        whole = run(plan, other, World(), max_fault_rate=0.2)
    run(plan[:9], store, World())
    rest = run(plan, store, World(), max_fault_rate=0.2)
    assert (rest.skipped, rest.faults, rest.given_up) == (9, whole.faults, whole.given_up) == (9, 6, 2)
    with pytest.raises(TooManyFaults, match=r"6 of 6 attempts .* 2 of 11 episodes .* \(18%, allowed are 10%\)"):
        run(plan, store, World(), max_fault_rate=0.1)
    assert len(store) == 9


def test_too_large_a_share_is_told_at_the_end_though_too_few_were_given_up_to_stop_for(store: EpisodeStore) -> None:
    with pytest.raises(TooManyFaults, match=r"6 of 10 attempts .* 2 of 6 episodes"):
        run([*tasks("raises/0", "raises/1"), *many("good", 4)], store, World(), max_fault_rate=0.2)
    assert len(store) == 4, "all that could be made was made first"


def test_after_any_end_no_thread_and_no_instance_is_left(store: EpisodeStore) -> None:
    before = threading.active_count()
    for plan in (many("raises", 5), [*tasks("hangs/0"), *tasks("good/1")], [*tasks("good/0"), "no task"]):
        world = World()
        with contextlib.suppress(TooManyFaults, BadInput):
            run(plan, store, world, max_fault_rate=0.5, deadline=0.5)
        wait_until(lambda world=world: set(map(id, world.closed)) == set(map(id, world.made)))  # type: ignore[misc]
    wait_until(lambda: threading.active_count() == before)


def wait_until(true: Callable[[], bool]) -> None:
    """Threads that were given up end on their own time. Waits for as long as the test may run."""
    while not true():
        time.sleep(0.01)


def test_ctrl_c_drops_what_is_in_flight_and_collecting_again_goes_on(store: EpisodeStore) -> None:
    """Two episodes stand at the gate when the signal comes, so at least these two are dropped."""
    world = World()

    class Presses(CountingPolicy):
        def act(self, requests: Sequence[Request]) -> list[Completion]:
            if len(world.ended) == 6:
                os.kill(os.getpid(), signal.SIGINT)
                world.ended.append("pressed")
            return super().act(requests)

    plan: list[Task] = [*many("stuck", 2), *many("good", 40)]
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="collect again into the same store to go on") as caught:
        run(plan, store, world, Presses(), concurrency=3, deadline=None)
    assert signal.getsignal(signal.SIGINT) is before
    assert caught.value.report.episodes == len(store) >= 5
    assert caught.value.dropped >= 2
    assert store.n_faults == 0
    world.gate.set()
    report = run(plan, store, world)
    assert report.episodes + report.skipped == len(store) == 42

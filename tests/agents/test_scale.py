"""The collector at scale: ten thousand episodes at once, a plan of any length, and nobody waits for anybody."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from odd_env import CountingPolicy, Odd, World, many, tasks

import palaestra
from palaestra.agents.collect import CollectReport, collect
from palaestra.agents.episode import Outcome
from palaestra.agents.instance import Ask
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policy import Completion, Policy, Request
from palaestra.agents.pool import EnvPool
from palaestra.agents.store import EpisodeStore
from palaestra.agents.workers import EnvWorker
from palaestra.envs import Needs, Task

MANY = 10_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    with EpisodeStore(tmp_path / "episodes.sqlite") as opened:
        yield opened


def run(starts: Any, policy: Policy, store: EpisodeStore, **rest: Any) -> CollectReport:
    return collect(starts, policy, store, progress="quiet", **rest)


def bandits(count: int) -> Iterator[Task]:
    """So many tasks, none of which is there before it is asked for."""
    name = str(palaestra.find("bandit").split("train")[0].name)
    return (Task(env="palaestra/Bandit-v0", name=name, split="train", seed=number) for number in range(count))


def megabytes() -> float:
    """What this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


class Sharing:
    """Makes the odd environments of a world, which say that they need nothing."""

    needs = Needs.NOTHING

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(self, env: str) -> Odd:
        return self.world.make(env)


# -- ten thousand at once ------------------------------------------------------------------------------------------


class Late(RandomPolicy):
    """Answers nobody before all have asked, and then the last one first."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.batch_size = count, count
        self.asked: list[tuple[Request, Callable[[Completion], None]]] = []
        self.most_threads, self.megabytes = 0, 0.0

    def submit(self, request: Request, done: Callable[[Completion], None]) -> None:
        self.asked.append((request, done))
        if len(self.asked) == self.count:
            self.most_threads, self.megabytes = threading.active_count(), megabytes()
            threading.Thread(target=self.answer_all).start()

    def answer_all(self) -> None:
        for request, done in reversed(self.asked):
            (answer,) = self.act([request])
            done(answer)


@pytest.mark.timeout(300)
def test_ten_thousand_episodes_are_under_way_at_once_in_few_threads_and_little_memory(store: EpisodeStore) -> None:
    policy, threads, before = Late(MANY), threading.active_count(), megabytes()
    report = run(bandits(MANY), policy, store, concurrency=MANY, env_settings={"max_steps": 1})
    assert (report.episodes, report.faults, len(store)) == (MANY, 0, MANY)
    assert len(policy.asked) == MANY, "all of them waited for their answer at the same time"
    assert policy.most_threads < threads + MANY / 20, "one is enough; where the machine stalls, some get their own"
    assert threading.active_count() <= threads + 1, "the one that answered may still be ending"
    assert policy.megabytes - before < 0.03 * MANY, "under 30 kB an episode"


def test_a_policy_that_answers_at_once_gets_all_that_wait_and_makes_the_same_episodes(tmp_path: Path) -> None:
    count = 1500
    made = []
    for name, policy, concurrency in (
        ("at once", RandomPolicy(), count),
        ("late", Late(count), count),
        ("few", RandomPolicy(), 3),
    ):
        with EpisodeStore(tmp_path / name) as store:
            plan = bandits(count)
            report = run(plan, policy, store, concurrency=concurrency, env_settings={"max_steps": 1})
            assert report.episodes == count
            made.append({(episode.id, episode.turns, episode.outcome) for episode in store.episodes()})
    assert made[0] == made[1] == made[2]


# -- however many are asked ----------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_memory_does_not_grow_with_the_number_of_tasks_that_are_asked(store: EpisodeStore) -> None:
    """A hundred thousand and more: new ones between some that the store holds by then."""
    objects: dict[int, int] = {}
    asked = [0]

    def plan() -> Iterator[Task]:
        fresh, known = bandits(4_000), list(bandits(100))
        for number in range(104_000):
            asked[0] += 1
            if number in (14_000, 94_000):
                gc.collect()
                objects[number] = len(gc.get_objects())
            yield next(fresh) if number % 26 == 0 else known[number % 100]

    report = run(plan(), RandomPolicy(), store, concurrency=64, env_settings={"max_steps": 1})
    assert asked[0] == 104_000
    assert report.episodes == len(store) == 4_000
    assert report.skipped == 100_000
    grown = objects[94_000] - objects[14_000]
    assert grown < 3_000, "some 3,000 episodes and 77,000 tasks later; one object for each would be seen"


# -- nobody waits for anybody --------------------------------------------------------------------------------------


def test_an_environment_that_is_slow_against_its_word_leaves_the_shared_thread_to_the_others(
    store: EpisodeStore,
) -> None:
    """The gate opens when all others have ended: did they share their thread with a slow one, this would never end."""
    world = World(open_after=40)
    plan = [*tasks("gated/0", "gated/1"), *many("good", 40)]
    before = threading.active_count()
    report = run(plan, CountingPolicy(), store, concurrency=8, deadline=None, env_factory=Sharing(world))
    assert report.episodes == 42
    assert sorted(world.ended[-2:]) == ["gated/0", "gated/1"]
    assert set(map(id, world.closed)) == set(map(id, world.made))
    assert threading.active_count() == before


def test_one_that_hangs_in_the_shared_thread_is_aborted_and_replaced(store: EpisodeStore) -> None:
    world = World()
    plan = [*many("hangs-once", 2), *many("good", 20)]
    report = run(plan, CountingPolicy(), store, deadline=0.5, max_fault_rate=0.9, env_factory=Sharing(world))
    assert (report.episodes, report.faults, report.given_up) == (22, 2, 0)
    assert {fault.outcome for fault in store.faults()} == {Outcome.TIMEOUT}
    assert all("self.freed.wait()" in str(fault.error) for fault in store.faults()), "where it hung"
    assert len(world.aborted) == 2


def test_an_answer_that_comes_late_keeps_no_other_request_waiting(store: EpisodeStore) -> None:
    """One request is answered when all other episodes are over."""

    world = World(open_after=19)

    class Moody(CountingPolicy):
        late: threading.Thread | None = None

        def submit(self, request: Request, done: Callable[[Completion], None]) -> None:
            if "good/0)" not in request.messages[1]["content"] or self.late is not None:
                done(Completion("count"))
                return
            self.late = threading.Thread(target=lambda: (world.gate.wait(), done(Completion("count"))))
            self.late.start()

    report = run(many("good", 20), Moody(batch_size=4), store, concurrency=4, env_factory=world.make)
    assert report.episodes == 20
    assert world.ended[-1] == "good/0"


def test_a_streaming_policy_gets_no_more_at_once_than_it_says(store: EpisodeStore) -> None:
    out, most = [0], [0]
    lock = threading.Lock()

    class Counts(CountingPolicy):
        def submit(self, request: Request, done: Callable[[Completion], None]) -> None:
            with lock:
                out[0] += 1
                most[0] = max(most[0], out[0])

            def answer() -> None:
                with lock:
                    out[0] -= 1
                done(Completion("count"))

            threading.Timer(0.001, answer).start()

    assert run(many("good", 30), Counts(batch_size=3), store, concurrency=12, env_factory=World().make).episodes == 30
    assert most[0] == 3


def test_what_goes_wrong_with_one_streamed_request_is_that_episodes_fault(store: EpisodeStore) -> None:
    class Breaks(CountingPolicy):
        def submit(self, request: Request, done: Callable[[Completion], None]) -> None:
            bad = "good/2)" in request.messages[1]["content"]
            done(Completion("", error="no such thing") if bad else Completion("count"))

    report = run(many("good", 5), Breaks(), store, retries=1, max_fault_rate=0.5, env_factory=World().make)
    assert (report.episodes, report.faults, report.given_up) == (4, 2, 1)


# -- the nearest instance ------------------------------------------------------------------------------------------


def pieces(store: EpisodeStore, world: World, count: int, **rest: Any) -> list[Any]:
    """Episodes of one turn each whose environments would go on."""
    run(many("good", count), CountingPolicy(), store, max_turns=1, env_factory=world.make, **rest)
    return list(store.episodes())


def test_a_fork_takes_the_instance_that_has_gone_its_way_already(store: EpisodeStore) -> None:
    world = World()
    (piece,) = pieces(store, world, 1)
    resets = sum(world.tries.values())
    plan = [piece.start, piece.fork(1)]  # the first one, by another version, ends where the second one begins
    report = run(plan, _version("1"), store, concurrency=1, max_turns=1, env_factory=world.make)
    assert report.episodes == 2
    assert (report.warm_starts, report.spared_steps, report.replayed_steps) == (1, 1, 0)
    assert sum(world.tries.values()) == resets + 1


class Idle(EnvWorker):
    """An instance that is only counted."""

    alive = True

    def _send(self, number: int, ask: Ask) -> None: ...
    def leave(self) -> None:
        self.alive = False  # type: ignore[misc]

    def abandon(self) -> None: ...
    def join(self, seconds: float) -> bool:
        return True


def test_the_nearest_idle_instance_is_the_one_whose_history_is_the_longest_beginning() -> None:
    made: list[Idle] = []

    def place(env_id: str) -> Idle:
        made.append(Idle(env_id, SimpleQueue()))
        return made[-1]

    pool = EnvPool(place, 4)
    one, other = tasks("good/0", "good/1")
    histories: list[tuple[Task, tuple[str, ...]] | None] = [
        (one, ("a",)), (one, ("a", "b")), (other, ("a", "b", "c")), None,
    ]  # fmt: skip
    workers = [pool.take(one) for _ in histories]
    assert len(made) == 4
    for worker, history in zip(workers, histories, strict=True):
        worker.standing = history
        pool.give_back(worker)
    assert pool.take(one, ("a", "b", "c")) is workers[1], "of the same task, and nearer than the first"
    assert pool.take(one, ("a", "c")) is workers[0]
    assert pool.take(one, ("x",)) is workers[3], "nothing stands on its way: the one whose episode is over"
    assert pool.take(other, ()) is workers[2], "the last one that is there, whatever it stands at"
    assert pool.take(one) is made[4], "none is idle"
    workers[0].standing = None
    pool.give_back(workers[0])
    elsewhere = pool.take(Task(env="odd/Other-v0", name="0", split="train"))
    assert elsewhere is made[5]
    assert not workers[0].alive, "it made room for one of another environment"


def _version(name: str) -> CountingPolicy:
    policy = CountingPolicy()
    policy.version = name
    return policy

"""The store keeps every episode once, keeps faults apart, and answers lazily."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import calm, episode, odd_episodes, task

from palaestra.agents.episode import Actor, Episode, Outcome
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Task


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    return EpisodeStore(tmp_path / "run" / "episodes.sqlite")


@settings(calm, max_examples=25)  # each makes a file
@given(st.lists(odd_episodes(), max_size=3, unique_by=lambda each: each.key))
def test_what_was_added_reads_back_equal_however_odd(
    tmp_path_factory: pytest.TempPathFactory, odd: list[Episode]
) -> None:
    path = tmp_path_factory.mktemp("odd") / "s.sqlite"
    with EpisodeStore(path) as store:
        assert [store.add(each) for each in odd] == [True] * len(odd)
    with EpisodeStore(path, mode="r") as store:
        assert list(store.episodes()) == odd
        for each in odd:
            assert store.get(each.id) == each
            assert store.has(each.key)
            where = {"env": each.start.task.env, "task": each.start.task.name, "split": each.start.task.split}
            assert each.id in [found.id for found in store.heads(**where)]
        assert list(store.keys()) == [each.key for each in odd]


def test_a_key_is_stored_once_and_never_overwritten(store: EpisodeStore) -> None:
    first, same_key = episode(says="a"), episode(says="b", outcome=Outcome.SUCCESS, score=1.0)
    assert store.add(first) is True
    assert store.add(first) is False
    assert store.add(same_key) is False
    assert list(store.episodes()) == [first]


def test_two_keys_with_one_id_are_an_error_not_a_silent_loss(store: EpisodeStore) -> None:
    store.add(episode())
    with pytest.raises(BadInput, match="has the id of another episode"):
        store.add(episode(sample=1).model_copy(update={"id": episode().id}))


def test_faults_are_kept_apart_and_do_not_take_the_key(store: EpisodeStore) -> None:
    faults = [episode(outcome=Outcome.ENV_ERROR, error=f"Traceback {i}") for i in range(3)]
    assert [store.add(fault) for fault in faults] == [True] * 3
    other = episode(sample=1, outcome=Outcome.TIMEOUT)
    store.add(other)
    assert not store.has(faults[0].key)
    assert (store.count(), store.n_faults) == (0, 4)
    assert store.add(episode(outcome=Outcome.SUCCESS))
    assert store.has(faults[0].key)
    assert list(store.faults()) == [*faults, other]
    assert list(store.faults(other.key)) == [other]
    assert (store.count(), store.n_faults) == (1, 4)


def test_keys_can_be_asked_for_one_by_one_in_bulk_and_by_filter(store: EpisodeStore) -> None:
    made = [episode(sample=i, recipe="rft" if i % 2 else None, iteration=i % 3) for i in range(1200)]
    assert store.add_all(made[:1100]) == 1100
    keys = [each.key for each in made]
    assert store.stored(keys) == set(keys[:1100])
    assert store.stored([]) == set()
    assert list(store.keys(recipe="rft", iteration=1)) == keys[1:1100:6]
    assert set(store.keys(prefix=task().id)) == set(keys[:1100])
    assert list(store.keys(prefix="other")) == []


def test_filters_narrow_together_and_orders_sort(store: EpisodeStore) -> None:
    won = episode(task("a"), outcome=Outcome.SUCCESS, score=1.0, n=5, policy_version="v2", recipe="eef", iteration=1)
    expert = episode(task("a"), actor="expert", score=0.4, n=2)
    tested = episode(task("b", split="test"), outcome=Outcome.TRUNCATED, score=0.7, n=1)
    fork = episode(won.fork(4), score=0.2, n=3)
    for each in (won, expert, tested, fork):
        store.add(each)

    def names(**where: object) -> list[Episode]:
        found = list(store.episodes(**where))  # type: ignore[arg-type]
        assert [each.id for each in store.heads(**where)] == [each.id for each in found]  # type: ignore[arg-type]
        return found

    assert names(task="a") == names(task=task("a")) == names(task=task("a").id) == [won, expert, fork]
    assert names(task=["a", task("b", split="test")]) == [won, expert, tested, fork]
    assert names(env="mine/Lab-v0", split="test") == [tested]
    assert names(outcome=Outcome.SUCCESS) == names(outcome="success") == [won]
    assert names(outcome=[Outcome.SUCCESS, Outcome.TRUNCATED]) == [won, tested]
    assert names(actor=Actor.EXPERT) == [expert]
    assert names(recipe="eef", iteration=1, policy_version="v2", policy="p") == [won]
    assert names(iteration=[0, 1]) == [won]
    assert names(parent=won.id, fork_step=4) == [fork]
    assert names(min_score=0.5) == [won, tested]
    assert names(order="-added") == [fork, tested, expert, won]
    assert names(order="score") == [fork, expert, tested, won]
    assert names(order="-turns", limit=2) == [won, fork]
    assert names(order="added", limit=2, offset=1) == [expert, tested]
    assert names(split="dev") == names(outcome=[]) == []
    assert (store.count(), len(store), store.count(task="a", split="train")) == (4, 4, 3)


def test_heads_say_what_episodes_are_without_their_turns(store: EpisodeStore) -> None:
    parent = episode(outcome=Outcome.SUCCESS, score=1.0)
    made = episode(
        parent.fork(2), n=4, score=0.5, recipe="eef", iteration=2, cost={"completion_tokens": 7, "seconds": 2}
    )
    store.add(parent)
    store.add(made)
    head = store.head(made.id)
    assert (head.number, head.id, head.key, head.task) == (2, made.id, made.key, task().id)
    assert (head.env, head.name, head.split) == ("mine/Lab-v0", "boil/1", "train")
    assert (head.parent, head.fork_step, head.n_turns, head.end_step) == (parent.id, 2, 4, 6)
    assert (head.outcome, head.score, head.success, head.actor) == (Outcome.FAILURE, 0.5, False, Actor.POLICY)
    assert (head.recipe, head.iteration, head.completion_tokens, head.seconds) == ("eef", 2, 7, 2.0)


def test_the_summary_counts_everything_once(store: EpisodeStore) -> None:
    parent = episode(
        outcome=Outcome.SUCCESS, score=1.0, cost={"prompt_tokens": 10, "completion_tokens": 5, "seconds": 1}
    )
    store.add_all([parent, episode(parent.fork(1), cost={"seconds": 2}), episode(task("c", split="test"))])
    store.add(episode(sample=9, outcome=Outcome.ENV_ERROR))
    total = store.summary()
    assert (total.episodes, total.forks, total.faults, total.tasks, total.turns) == (3, 1, 1, 2, 9)
    assert total.outcomes == {Outcome.FAILURE: 2, Outcome.SUCCESS: 1}
    assert total.splits == {"train": 2, "test": 1}
    assert (total.prompt_tokens, total.completion_tokens, total.seconds) == (10, 5, 3.0)
    assert store.summary(split="test").episodes == 1


def test_an_iteration_sees_what_was_there_when_it_began_even_while_more_is_added(store: EpisodeStore) -> None:
    store.add_all(episode(sample=i) for i in range(100))
    for number, each in enumerate(store.episodes()):
        store.add(episode(each.fork(1), sample=number))
    assert (number + 1, store.count()) == (100, 200)


def test_adding_many_is_all_or_nothing(store: EpisodeStore) -> None:
    def broken() -> object:
        yield episode(sample=0)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        store.add_all(broken())  # type: ignore[arg-type]
    orphan = episode(episode(task("z")).fork(1))
    with pytest.raises(BadInput, match="neither stored nor among those added"):
        store.add_all([episode(), orphan])
    assert store.count() == 0
    parent = episode()
    child = episode(parent.fork(2))
    assert store.add_all([episode(child.fork(3)), child, parent]) == 3, "children may come first"


def test_notes_about_the_run_are_kept_and_replaced(store: EpisodeStore) -> None:
    store.set_meta("model", {"name": "tiny", "vocab": [1, 2]})
    store.set_meta("model", {"name": "smollm2-135m"})
    store.set_meta("odd\ud800", "\ud800")
    store.close()
    assert EpisodeStore(store.file, mode="r").meta() == {"model": {"name": "smollm2-135m"}, "odd\ud800": "\ud800"}


def test_closing_leaves_one_file_and_may_be_done_twice(store: EpisodeStore) -> None:
    store.add(episode())
    assert len(os.listdir(store.file.parent)) > 1
    store.close()
    store.close()
    assert os.listdir(store.file.parent) == ["episodes.sqlite"]
    with pytest.raises(BadInput, match="is closed"):
        store.count()


def test_a_checkpoint_moves_everything_into_the_file(store: EpisodeStore) -> None:
    store.add_all(episode(sample=i) for i in range(50))
    store.checkpoint()
    copy = store.file.with_name("copy.sqlite")
    copy.write_bytes(store.file.read_bytes())
    assert EpisodeStore(copy, mode="r").count() == 50


def test_a_reader_follows_a_live_writer(store: EpisodeStore) -> None:
    store.add(episode())
    reader = EpisodeStore(store.file, mode="r")
    assert reader.count() == 1
    store.add(episode(sample=1))
    assert reader.count() == 2
    with pytest.raises(BadInput, match="opened to read only"):
        reader.add(episode(sample=2))


def test_many_threads_add_and_read_at_once(store: EpisodeStore) -> None:
    problems: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for i in range(40):
                assert store.add(episode(task(f"{thread}"), sample=i))
                assert not store.add(episode(task(f"{thread}"), sample=i))
                assert len(list(store.episodes(task=f"{thread}"))) == i + 1
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not problems
    assert store.count() == 240
    store.check()


def _add_from_a_process(path: Path, process: int) -> None:
    with EpisodeStore(path) as store:
        for i in range(40):
            store.add(episode(sample=i))  # the same for all
            store.add(episode(task(str(process)), sample=i))


def test_several_processes_make_and_fill_one_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    path = tmp_path / "s.sqlite"
    processes = [context.Process(target=_add_from_a_process, args=(path, i)) for i in range(4)]
    [process.start() for process in processes]
    [process.join() for process in processes]
    assert [process.exitcode for process in processes] == [0] * 4
    with EpisodeStore(path, mode="r") as store:
        assert store.count() == 40 + 4 * 40
        store.check()


def test_a_forked_process_gets_a_connection_of_its_own(store: EpisodeStore) -> None:
    store.add(episode())
    child = os.fork()
    if not child:
        os._exit(0 if store.add(episode(sample=1)) and store.count() == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.add(episode(sample=2))
    assert store.count() == 3
    store.check()


def test_merging_brings_episodes_forks_and_faults_once(store: EpisodeStore, tmp_path: Path) -> None:
    other = EpisodeStore(tmp_path / "other.sqlite")
    parent = episode()
    fork = episode(parent.fork(2))
    other.add_all(
        [parent, fork, episode(sample=1, outcome=Outcome.TIMEOUT), episode(sample=1, outcome=Outcome.TIMEOUT)]
    )
    store.add(parent)
    assert store.merge(other) == 1
    assert store.merge(other) == 0
    assert list(store.episodes()) == [parent, fork]
    assert store.n_faults == 2


def test_merging_refuses_a_fork_of_an_episode_that_went_otherwise_here(store: EpisodeStore, tmp_path: Path) -> None:
    other = EpisodeStore(tmp_path / "other.sqlite")
    there = episode(says="there")
    other.add_all([there, episode(there.fork(2)), episode(sample=5)])
    store.add(episode(says="here"))
    with pytest.raises(BadInput, match="holds with other turns under the same key"):
        store.merge(other)
    assert store.count() == 1
    with pytest.raises(BadInput, match="cannot be merged with itself"):
        store.merge(EpisodeStore(store.file, mode="r"))


def test_unknown_things_are_named(store: EpisodeStore) -> None:
    with pytest.raises(BadInput, match="has no episode 'nope'"):
        store.get("nope")
    with pytest.raises(BadInput, match="no filter 'spilt'; there are: env, task"):
        store.count(spilt="train")  # type: ignore[call-arg]
    with pytest.raises(BadInput, match="no order 'best'; there are: added, score"):
        list(store.episodes(order="best"))
    with pytest.raises(BadInput, match="must not be negative"):
        list(store.heads(limit=-1))
    with pytest.raises(BadInput, match="mode of an episode store"):
        EpisodeStore(store.file, mode="w")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="belongs to the store itself"):
        store.set_meta("schema", 2)
    with pytest.raises(BadInput, match="must be JSON"):
        store.set_meta("x", object())


def test_a_number_beyond_the_columns_is_refused_and_nothing_of_it_stays(store: EpisodeStore) -> None:
    with pytest.raises(BadInput, match="too large"):
        store.add(episode(iteration=2**70))
    assert store.count() == 0
    assert store.add(episode(Task(env="e/E-v0", name="n", split="train", seed=2**90))), "seeds may be of any size"

"""Forks of episodes whose commands answer otherwise each time: they begin where the parent stood, byte for byte."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from palaestra.agents.collect import CollectReport, collect
from palaestra.agents.episode import Actor, Episode, Outcome, Start
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.agents.search import Search, search
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Task, make

TASK = Task(env="palaestra/CodeTasks-v0", name="double", split="train")
SEEN = "run head -c 8 /dev/urandom | od -An -tx1 | tee -a seen; date +%s.%N"
HIDDEN = "run head -c 8 /dev/urandom > hidden"
SHOW = "run cat seen; od -An -tx1 hidden"
PARENT = (SEEN, HIDDEN, "run od -An -tx1 hidden", SEEN, "run rm seen hidden", "submit")


def acting(actions: Sequence[str], name: str, *, first: int = 0) -> ScriptedPolicy:
    """Takes the actions in order, the first one after `first` turns."""
    return ScriptedPolicy(lambda request: actions[len(request.env.history) - first], name=name, actor=Actor.EXPERT)


@pytest.fixture
def settings(folder: Callable[..., str]) -> dict[str, Any]:
    return {"folder": folder()}


@pytest.fixture
def store(tmp_path: Path, settings: dict[str, Any]) -> Path:
    """A store that holds one episode, `PARENT`, and is closed."""
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        collect([TASK], acting(PARENT, "parent"), store, env_settings=settings, progress="quiet")
        assert store.count() == 1
    return tmp_path / "e.sqlite"


def forked(
    store: EpisodeStore, settings: dict[str, Any], step: int, actions: Sequence[str], **rest: Any
) -> tuple[CollectReport, list[Episode]]:
    """Fork the parent at a step, in new instances."""
    (parent,) = (episode for episode in store.episodes() if episode.provenance.policy == "parent")
    name = f"fork at {step}"
    policy = acting(actions, name, first=step)
    report = collect(
        [parent.fork(step)], policy, store, env_settings=settings, progress="quiet", max_fault_rate=1.0, **rest
    )
    return report, [episode for episode in store.episodes(parent=parent.id) if episode.provenance.policy == name]


def last(output: str) -> str:
    """What of a command's output comes again: all but the clock."""
    return output.split("\n")[0]


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_fork_begins_where_its_parent_stood_though_no_action_would_answer_so_again(
    store: Path, settings: dict[str, Any], step: int
) -> None:
    with EpisodeStore(store) as opened:
        report, (fork,) = forked(opened, settings, step, (SHOW, "submit"))
        assert (report.faults, report.replayed_steps, report.env_steps) == (0, 0, 2)
        (parent,) = opened.episodes(policy="parent")
        said = [turn.observation for turn in parent.turns][1:]
        assert fork.turns[0].observation == said[step - 1]
        assert last(said[0]) != last(said[3])
        expected = [last(said[0]), *([last(said[3])] if step >= 4 else []), *([said[2]] if step >= 2 else [])]
        assert fork.turns[1].observation.split("\n")[: len(expected)] == expected
        path = opened.path(fork.id)
        assert [turn.observation for turn in path.turns][: step + 1] == [turn.observation for turn in parent.turns][
            : step + 1
        ]


def test_without_what_was_kept_the_actions_are_replayed_and_that_diverges_as_a_counted_fault(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        collect([TASK], acting(PARENT, "parent"), store, env_settings=settings, progress="quiet", keep=0)
        with pytest.raises(Exception, match=r"3 of 3 attempts ended in a fault.*diverged at step 1"):
            forked(store, settings, 3, (SHOW, "submit"))
        assert [fault.outcome for fault in store.faults()] == [Outcome.ENV_ERROR] * 3


def test_a_fork_of_a_fork_begins_with_what_the_ancestor_kept_or_the_fork_itself(
    store: Path, settings: dict[str, Any]
) -> None:
    with EpisodeStore(store) as opened:
        _, (fork,) = forked(opened, settings, 2, (SEEN, SHOW, "submit"))
        for step, name in ((2, "at its first step"), (3, "inside")):
            policy = acting((SHOW, "submit"), name, first=step)
            report = collect([fork.fork(step)], policy, opened, env_settings=settings, progress="quiet")
            assert (report.faults, report.replayed_steps, report.episodes) == (0, 0, 1)
            (child,) = opened.episodes(parent=fork.id, policy=name)
            assert child.turns[0].observation == opened.path(fork.id).turns[step].observation
        assert child.turns[1].observation == fork.turns[2].observation  # SHOW after the same random numbers


def test_search_goes_on_from_pieces_of_one_turn(tmp_path: Path, settings: dict[str, Any]) -> None:
    actions = (SEEN, HIDDEN, SEEN)
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        report = search(
            [TASK],
            acting(actions, "search"),
            store,
            Search(strategy="beam", width=2, depth=3, beam=1),
            env_settings=settings,
        )
        assert report.replayed_steps == 0
        assert store.n_faults == 0
        assert len(report.trees[0].ends()) == 1  # equal answers are one child
        whole = store.path(report.trees[0].ends()[0].head.id)  # type: ignore[union-attr]
        assert whole.actions == actions


def test_what_does_not_fit_is_not_kept_and_what_fits_later_is(tmp_path: Path, settings: dict[str, Any]) -> None:
    actions = (SEEN, "run head -c 3000000 /dev/urandom > large", SEEN, "run rm large", SEEN, "submit")
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        collect([TASK], acting(actions, "parent"), store, env_settings=settings, progress="quiet")
        (parent,) = store.episodes()
        assert [store.kept(parent.id, step) is not None for step in range(7)] == [1, 1, 0, 0, 1, 1, 1]
        report, (fork,) = forked(store, settings, 4, (SHOW, "submit"))
        assert report.faults == 0
        assert last(fork.turns[1].observation) == last(parent.turns[1].observation)
    assert (tmp_path / "e.sqlite").stat().st_size < 200_000


def test_what_was_kept_is_small_and_no_pickle(store: Path) -> None:
    with EpisodeStore(store) as opened:
        (parent,) = opened.episodes()
        kept = {step: opened.kept(parent.id, step) for step in range(7)}
        assert [raw is not None for raw in kept.values()] == [True] * 7
        assert len(opened.kept_block(parent.id) or b"") < 2_500  # the start, five steps, the end
        head = rb'{"score": 0\.0, "success": false, "valid": true}\n1 [0-9a-f]{32}\n'  # steps, digest of the files
        assert re.match(head, kept[1] or b"")


@pytest.mark.parametrize("damage", ["raw", "settings", "fingerprint"])
def test_what_was_kept_by_another_environment_or_is_damaged_is_not_used(
    store: Path, settings: dict[str, Any], damage: str
) -> None:
    """It is replayed then, and this parent's second step, which says the same each time, can be."""
    from palaestra.agents.fork import kept_for, parent_of
    from palaestra.agents.instance import Beginning, Instance, Kept

    with EpisodeStore(store.parent / "same.sqlite") as opened:
        same = ("run echo 1 > a", "run cat a", "submit")
        collect([TASK], acting(same, "parent"), opened, env_settings=settings, progress="quiet")
        (parent,) = opened.episodes()
        start = parent.fork(2)
        path = parent_of(start, opened)
        kept = kept_for(start, path, opened)
        assert kept is not None
        wrong = {
            "raw": Kept(kept.raw[:200], kept.settings, kept.fingerprint),
            "settings": Kept(kept.raw, {**settings, "timeout": 1.0}, kept.fingerprint),
            "fingerprint": Kept(kept.raw, kept.settings, "another"),
        }[damage]
        env = make(TASK.env, **settings)

        before = (path.actions[:2], tuple(path.observations()[:3]))
        try:
            for given, replayed in ((kept, 0), (wrong, 2)):
                env.reset(options={"task": TASK})
                seen = Instance(lambda: env).begin(Beginning(start, *before, given, parent.provenance.env_settings))
                assert (seen.observation, seen.replayed) == ("1", replayed)
        finally:
            env.close()


def test_stores_of_before_read_write_and_merge(store: Path, settings: dict[str, Any]) -> None:
    old = store.with_name("old.sqlite")
    with EpisodeStore(old) as opened:
        collect([TASK], acting(PARENT, "old"), opened, env_settings=settings, progress="quiet", keep=0)
    connection = sqlite3.connect(old)
    connection.execute("DROP TABLE kept")
    connection.commit()
    connection.close()
    with EpisodeStore(old, mode="r") as opened:
        (episode,) = opened.episodes()
        assert opened.kept(episode.id, 1) is None
    with EpisodeStore(old) as opened, EpisodeStore(store, mode="r") as other:
        assert opened.merge(other) == 1
        assert opened.merge(other) == 0
        opened.check()
        report, _ = forked(opened, settings, 3, (SHOW, "submit"))
        assert (report.faults, report.replayed_steps) == (0, 0)


# -- in the environment itself -----------------------------------------------------------------------------------------


def test_resume_is_another_instance_at_that_step(settings: dict[str, Any]) -> None:
    env, other = make(TASK.env, **settings), make(TASK.env, **settings)
    try:
        seen = [env.reset(options={"task": TASK})[0]]
        for action in (SEEN, HIDDEN):
            seen.append(env.step(action)[0])
        kept = env.keep()
        assert kept is not None
        other.reset(options={"task": TASK})
        other.step("run touch mine; touch /tmp/mine")
        for instance in (other, env):
            text, info = instance.resume(TASK, [SEEN, HIDDEN], seen, kept)
            assert (text, info["score"], info["success"], info["task"]) == (seen[-1], 0.0, False, TASK)
            assert (instance.history, instance.state.steps) == ((SEEN, HIDDEN), 2)
        show = "run ls -A . /tmp; cat seen; od -An -tx1 hidden"
        assert env.step(show)[0] == other.step(show)[0]
        for raw in (b"", b"{}\n", kept[:100], b'{"score": 2, "success": false, "valid": true}\n1\n', b"\x80\x04N."):
            with pytest.raises(BadInput):
                other.resume(TASK, [SEEN, HIDDEN], seen, raw)
        flipped = bytearray(kept)
        flipped[kept.index(b"seen\0") + 512] ^= 1  # the first byte of the file's contents, behind its header
        with pytest.raises(BadInput, match="damaged"):
            other.resume(TASK, [SEEN, HIDDEN], seen, bytes(flipped))
        first, second, rest = kept.split(b"\n", 2)
        earlier = b"\n".join((first, second.split(b" ")[0], rest))  # as it was kept without a digest
        assert other.resume(TASK, [SEEN, HIDDEN], seen, earlier)[0] == seen[-1]
        with pytest.raises(BadInput, match="needs 3 observations for 2 actions, got 1"):
            other.resume(TASK, [SEEN, HIDDEN], seen[:1], kept)
        with pytest.raises(BadInput, match="the work directory is not kept"):
            env.keep(most=1000)
        assert env.step("run echo still here")[0] == "still here"
    finally:
        env.close()
        other.close()


def test_an_environment_whose_actions_always_lead_to_the_same_keeps_nothing(tmp_path: Path) -> None:
    env = make("bandit")
    env.reset()
    assert env.keep() is None
    task = env.task
    with pytest.raises(BadInput, match="stores no states"):
        env.resume(task, [], [str(env.render())], b'{"score": 0, "success": false, "valid": true}\n')
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        collect([Start(task=task)], acting(["pull 1"] * 100, "parent"), store, progress="quiet", max_turns=5)
        assert store.count() == 1
        assert store._query("SELECT count(*) FROM kept") == [(0,)]
    env.close()

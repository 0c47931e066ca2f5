"""A person plays: any step can be gone back to, and what is stored is an episode, or a fork of an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest

from palaestra.agents.episode import Actor, Outcome
from palaestra.agents.played import Played
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, TextEnv, find, make


@pytest.fixture
def played() -> Played:
    env = make("crafting", max_steps=4)
    return Played(env, env.tasks("train")[0])


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    return EpisodeStore(tmp_path / "episodes.sqlite")


def oracle(env: TextEnv[object]) -> str:
    return find("crafting").oracle()(env)


def test_going_back_gives_the_same_place_and_another_way_on(played: Played) -> None:
    before, listed = played.now, played.admissible()
    first = played.act(oracle(played.env))
    assert played.step == 1
    assert first.valid
    assert not played.act("fly to the moon").valid
    assert played.back(0) == before
    assert (played.actions, played.admissible()) == ([], listed)
    assert played.act(oracle(played.env)).observation == first.observation
    for step in (-1, 2):
        with pytest.raises(BadInput, match="there are 0 to 1"):
            played.back(step)


def test_what_is_stored_replays_and_says_who_acted(played: Played, store: EpisodeStore) -> None:
    while not played.over:
        played.act(oracle(played.env))
    stored = played.save(store)
    assert stored is not None
    assert (stored.outcome, stored.score, stored.provenance.actor) == (Outcome.SUCCESS, 1.0, Actor.HUMAN)
    path = store.path(stored.id)
    again = make("crafting", max_steps=4)
    observation, info = again.replay(played.task, path.actions, path.observations())
    assert (observation, info["success"]) == (stored.final_observation, True)
    assert played.save(store) is None, "nothing new"


def test_after_going_back_the_next_one_is_a_fork_of_it(played: Played, store: EpisodeStore) -> None:
    played.act(oracle(played.env))
    played.act("look")
    first = played.save(store)
    played.back(1)
    assert played.save(store) is None, "a part of what is stored is nothing new"
    while not played.over:
        played.act(oracle(played.env))
    second = played.save(store)
    assert first is not None
    assert second is not None
    assert (first.outcome, first.labels) == (Outcome.TRUNCATED, {"truncated_by": "person"})
    assert (second.start.parent, second.start.fork_step, second.labels) == (first.id, 1, {})
    assert store.path(second.id).actions == tuple(played.actions)
    played.back(0)
    played.act("look")
    third = played.save(store)
    assert third is not None
    assert (third.start.parent, third.sample) == (None, 1), "another beginning of the same task"


def test_a_fork_can_be_forked_where_its_parent_stood(played: Played, store: EpisodeStore) -> None:
    for action in ("look", "look", "look"):
        played.act(action)
    first = played.save(store)
    played.back(2)
    played.act(oracle(played.env))
    second = played.save(store)
    played.back(1)
    played.act(oracle(played.env))
    third = played.save(store)
    assert first is not None
    assert second is not None
    assert third is not None
    assert third.start.fork_step == 1
    assert store.path(third.id).actions == ("look", played.actions[1])

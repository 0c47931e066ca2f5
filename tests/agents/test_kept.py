"""What environments keep of their steps, beside the episodes: exact, small, and nobody's program."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.agents.collect import collect
from palaestra.agents.kept import pack_kept, unpack_kept
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Reply, Task, TextEnv, register
from palaestra.envs.registry import _specs

CLOCK = itertools.count()
TASK = Task(env="kept/Clock-v0", name="0", split="train")


@dataclass
class Times:
    seen: list[int]


class Clock(TextEnv[Times]):
    """`look` says a time that never comes again, `tell` says all times that were said."""

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[Times, str]:
        return Times([]), "A clock."

    def act(self, state: Times, action: str) -> Reply:
        if action == "tell":
            return Reply(str(state.seen))
        if action == "end":
            return Reply("The end.", score=1.0, success=True, over=True)
        state.seen.append(next(CLOCK))
        return Reply(str(state.seen[-1]), score=len(state.seen) / 10)

    def to_bytes(self, state: Times, most: int) -> bytes:
        return json.dumps(state.seen).encode()

    def from_bytes(self, task: Task, raw: bytes) -> Times:
        return Times(json.loads(raw))


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register(TASK.env, Clock, splits={"train": range(1)}, max_steps=10)
    yield
    del _specs[TASK.env]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    """Holds one episode: look, look, look, end."""
    with EpisodeStore(tmp_path / "e.sqlite") as opened:
        collect([TASK], ScriptedPolicy(["look", "look", "look", "end"]), opened, progress="quiet")
        yield opened


def test_a_user_s_environment_is_forked_where_it_stood(store: EpisodeStore) -> None:
    (parent,) = store.episodes()
    for step in range(4):
        script = ScriptedPolicy([*[""] * step, "tell", "end"], name=f"from {step}")
        report = collect([parent.fork(step)], script, store, progress="quiet")
        assert (report.successes, report.faults, report.replayed_steps) == (1, 0, 0)
        (fork,) = store.episodes(policy=f"from {step}")
        assert fork.turns[0].score == step / 10
        assert fork.turns[1].observation == str([int(turn.observation) for turn in parent.turns[1 : step + 1]])


def test_how_much_is_kept_can_be_said(tmp_path: Path) -> None:
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        script = ScriptedPolicy(["look", "look", "look", "end"])
        collect([TASK], script, store, progress="quiet", keep=120)
        (parent,) = store.episodes()
        assert [store.kept(parent.id, step) is not None for step in range(5)] == [True, True, True, False, True]
        with pytest.raises(BadInput, match="keep is a number of bytes, 0 or more, got -1"):
            collect([TASK], script, store, progress="quiet", keep=-1)


def test_what_is_not_there_is_none_and_damage_is_named(store: EpisodeStore) -> None:
    (parent,) = store.episodes()
    assert store.kept(parent.id, 99) is None
    assert store.kept("nobody", 1) is None
    store.close()
    connection = sqlite3.connect(store.file)
    connection.execute("UPDATE kept SET body = substr(body, 1, 20)")
    connection.commit()
    connection.close()
    with EpisodeStore(store.file) as opened, pytest.raises(BadInput, match=r"is damaged .what was kept of episode"):
        opened.kept(parent.id, 1)


@given(st.dictionaries(st.integers(0, 10**6), st.binary(max_size=300), max_size=8))
def test_what_is_packed_is_unpacked(kept: dict[int, bytes]) -> None:
    assert unpack_kept(pack_kept(kept)) == kept

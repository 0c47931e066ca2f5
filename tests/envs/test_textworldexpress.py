"""TextWorldExpress: the original engine's eight games, word for word, replayed exactly, with gold paths that win."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textworld_express import TextWorldExpressEnv

from palaestra.envs import BadInput, EnvFault, find, make
from palaestra.envs.core import TextEnv
from palaestra.envs.textworldexpress.engine import Engine, pool
from palaestra.envs.textworldexpress.env import TextWorldExpress
from palaestra.envs.textworldexpress.games import GAMES, SPLITS, parse
from palaestra.envs.textworldexpress.oracle import gold, gold_path

JUNK = ("xyzzy", "", "take", "move up", "put map in map", "0", 'say "hi"', "open door to \\ north", "take \u00e9clair")


@pytest.fixture(scope="module")
def env() -> Iterator[TextEnv[Any]]:
    made = make("textworldexpress")
    yield made
    made.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    borrowed = pool.borrow()
    yield borrowed
    pool.give_back(borrowed)


def test_the_games_and_seeds_are_the_packages_own(engine: Engine) -> None:
    jvm, server = engine.jvm, engine._server
    assert sorted(jvm.lines(server, "getGameNames")) == sorted(GAMES)
    for split, seeds in SPLITS.items():
        listed = jvm.call(jvm.reference(server, f"getSeeds{split.capitalize()}"), "toString")
        assert listed == str(list(seeds))
        assert len(find("textworldexpress").split(split)) == 8_000


@pytest.mark.parametrize("game", GAMES)
def test_the_gold_path_wins_in_every_split(env: TextEnv[Any], game: str) -> None:
    for seeds in SPLITS.values():
        for seed in (seeds[0], seeds[17]):
            env.reset(options={"task": f"{game}/{seed}"})
            total, over = 0.0, False
            while not over:
                action = gold(env)
                _, reward, over, truncated, info = env.step(action)
                total += float(reward)
                assert not truncated
            assert info["success"]
            assert info["score"] == 1.0 == pytest.approx(total)


def test_everything_is_what_the_package_itself_says(env: TextEnv[Any]) -> None:
    original = TextWorldExpressEnv(envStepLimit=1000)
    try:
        for game in GAMES:
            for split, seeds in SPLITS.items():
                seed = seeds[3]
                path = gold_path(game, seed, split)
                actions = [*JUNK, *path[:4], "help", *path[4:]] if game != "simonsays" else list(path)
                _, told = original.reset(seed=seed, gameFold=split, gameName=game, gameParams="")
                text, info = env.reset(options={"task": f"{game}/{seed}"})
                assert text.split("\n\n", 1) == [" ".join(told["taskDescription"].split()), told["observation"]]
                for action in actions:
                    assert list(info["actions"]) == list(dict.fromkeys(told["validActions"]))
                    text, _, over, _, info = env.step(action)
                    # what Palaestra cleans is cleaned for the original, too; an answer is compared word for word
                    expected, _, done, told = original.step(" ".join(action.split()))
                    assert text == (expected if action != "help" else " ".join(expected.split())), (game, action)
                    assert info["score"] == max(0.0, told["score"])
                    assert info["success"] == told["tasksuccess"]
                    assert over == done
                    if over:
                        break
    finally:
        original.close()


def test_a_wrong_answer_can_lose_the_game(env: TextEnv[Any]) -> None:
    env.reset(options={"task": "simonsays/20000"})
    wrong = next(action for action in env.admissible(env.state) if action != gold(env))
    text, _, over, _, info = env.step(wrong)
    assert (over, info["success"], info["valid"]) == (True, False, True), text


def test_what_is_not_understood_costs_a_step_and_changes_nothing(env: TextEnv[Any]) -> None:
    env.reset(options={"task": "coin/5"})
    before = list(env.admissible(env.state))
    for action in ("xyzzy", "x" * 5000, "\ud800"):
        text, reward, over, _, info = env.step(action)
        assert text.startswith("Unknown action")
        assert (reward, over, info["valid"], list(info["actions"])) == (0.0, False, False, before)


def test_an_episode_replays_in_another_jvm(env: TextEnv[Any]) -> None:
    env.reset(options={"task": "cookingworld/20017"})
    for _ in range(12):
        env.step(gold(env))
    snapshot = env.snapshot()
    other = make("textworldexpress")
    try:
        text, info = other.restore(snapshot)
        assert text == env.render()
        assert other.score == env.score == info["score"]
        assert gold(other) == gold(env)
    finally:
        other.close()


def test_a_killed_jvm_is_a_fault_and_the_next_reset_gets_another() -> None:
    made = make("textworldexpress")
    assert isinstance(made, TextWorldExpress)
    try:
        made.reset(options={"task": "coin/1"})
        assert made._engine is not None
        os.kill(made._engine.jvm.process.pid, signal.SIGKILL)
        with pytest.raises(EnvFault, match=r"TextWorldExpress JVM .*(died|does not answer)"):
            made.step("look around")
        text, _ = made.reset(options={"task": "coin/1"})
        assert "coin" in text
    finally:
        made.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chess/1", "has no game 'chess'"),
        ("coins/1", "did you mean coin"),
        ("coin/1000", "10000 to 10999 (dev)"),
        ("coin/01", "has the seeds"),
        ("coin/-1", "has the seeds"),
        ("coin", "has the seeds"),
    ],
)
def test_a_name_that_is_no_task_is_bad_input(name: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(name)
    assert words in str(caught.value)


_WORDS = st.sampled_from(
    ["take", "put", "open", "coin", "door", "north", "map", "in", "box", "read", "2", "9999999999"]
)
_ACTIONS = st.one_of(
    st.text(max_size=450), st.lists(_WORDS, max_size=6).map(" ".join), st.integers(0, 40), st.sampled_from(JUNK)
)
_tried = {"actions": 0}


@settings(max_examples=260, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.sampled_from(GAMES), st.integers(0, 999), st.lists(_ACTIONS, min_size=40, max_size=60))
def _ten_thousand(game: str, seed: int, actions: list[str | int]) -> None:
    with_env = _SHARED[0]
    with_env.reset(options={"task": f"{game}/{seed}"})
    for action in actions:  # a number picks a listed action, so that the walk goes somewhere
        listed = with_env.admissible(with_env.state)
        text, _, over, truncated, info = with_env.step(
            action if isinstance(action, str) else listed[action % len(listed)] if listed else "look around"
        )
        _tried["actions"] += 1
        assert len(text) < 20_000
        assert 0.0 <= info["score"] <= 1.0
        if over or truncated:
            with_env.reset(options={"task": f"{game}/{seed}"})


_SHARED: list[TextEnv[Any]] = []


def test_ten_thousand_generated_actions_raise_nothing_and_kill_nothing(env: TextEnv[Any]) -> None:
    _SHARED[:] = [env]
    _ten_thousand()
    assert isinstance(env, TextWorldExpress)
    assert env._engine is not None
    assert env._engine.alive
    assert _tried["actions"] >= 10_000

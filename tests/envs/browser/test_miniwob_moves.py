"""What a mouse that is led along points can do on MiniWoB's pages, how long actions take, what is out of reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from palaestra.envs import TextEnv, make
from palaestra.envs.browser.miniwob_oracle import SOLVED, UNREACHED, scripted
from palaestra.envs.browser.miniwob_scene import WAYS


@pytest.fixture(scope="module")
def env() -> Iterator[TextEnv[Any]]:
    made = make("miniwob")
    yield made
    made.close()


@pytest.mark.parametrize("page", ["draw-circle", "drag-cube", "chase-circle", "drag-items-grid"])
def test_a_mouse_that_is_led_along_points_draws_turns_follows_and_goes_around(env: TextEnv[Any], page: str) -> None:
    env.reset(options={"task": f"{page}/2002"})
    over, info = False, {}
    while not over:
        *_, over, truncated, info = env.step(scripted(env))
        assert over or not truncated
    assert info["raw_reward"] == 1.0
    assert any(action.startswith(("drag [", "hover [")) for action in env.history)


def test_a_price_that_shows_between_two_looks_alone_is_waited_for_to_the_tenth_of_a_second(env: TextEnv[Any]) -> None:
    for seed, usual in (("27", False), ("2000", True)):
        env.reset(options={"task": f"stock-market/{seed}"})
        over, info = False, {}
        while not over:
            *_, over, truncated, info = env.step(scripted(env))
            assert over or not truncated
        assert info["raw_reward"] == 1.0
        assert all(action == "wait" for action in env.history[:-1]) is usual


def test_where_a_reward_of_1_is_out_of_reach_the_oracle_takes_the_best_pixel_there_is(env: TextEnv[Any]) -> None:
    assert set(WAYS) == {*SOLVED, *UNREACHED}
    for page in ("bisect-angle", "circle-center"):
        env.reset(options={"task": f"{page}/2000"})
        env.step(scripted(env))
        *_, over, _, info = env.step(scripted(env))
        assert over
        assert 0.97 < info["raw_reward"] < 1.0
        assert not info["success"]


def test_a_page_that_cannot_measure_what_was_drawn_gives_minus_one(env: TextEnv[Any]) -> None:
    env.reset(options={"task": "bisect-angle/0"})
    x, y = env.evaluate("(e => [e.cx, e.cy].map(at => at.baseVal.value))(document.querySelector('.init-blue'))")  # type: ignore[attr-defined]
    env.step(f"click [{x},{y + 50}]")  # on the vertex there is no angle
    *_, over, _, info = env.step(scripted(env))
    assert (over, info["raw_reward"], info["score"]) == (True, -1.0, 0.0)


@pytest.mark.parametrize(
    ("action", "takes"),
    [("wait", 500), ("wait [120]", 120), ("wait [1300]", 1300), ("drag [9,90] [5,0] [0,5]", 500), ("click [9,90]", 500),
     ("hover [9,90] [5,0]", 500), ("drag [9,90] [5,0] [0", 0)],
)  # fmt: skip
def test_a_wait_takes_as_long_as_it_says_every_other_action_half_a_second_and_none_no_time(
    env: TextEnv[Any], action: str, takes: int
) -> None:
    env.reset(options={"task": "drag-box/0"})
    now = env.evaluate("Date.now()")  # type: ignore[attr-defined]
    env.step(action)
    assert env.evaluate("Date.now()") - now == takes  # type: ignore[attr-defined]


def test_what_one_episode_copies_no_other_one_pastes(env: TextEnv[Any]) -> None:
    other = make("miniwob")
    playing = {"copy-paste/2000": env, "copy-paste/2001": other}
    won: dict[str, object] = {}
    for task, each in playing.items():
        each.reset(options={"task": task})
    while len(won) < len(playing):
        for task, each in playing.items():
            if task not in won:
                *_, over, truncated, info = each.step(scripted(each))
                if over or truncated:
                    won[task] = info["raw_reward"]
    other.close()
    assert won == dict.fromkeys(playing, 1.0)


@pytest.mark.parametrize("spelt", ["Control+v", "Control+KeyV", "Control+Control+v", "Control+Shift+V", "Shift+Insert"])
def test_however_the_keys_are_spelt_nobody_pastes_what_another_one_copied(env: TextEnv[Any], spelt: str) -> None:
    other = make("miniwob")
    other.reset(options={"task": "copy-paste/2001"})
    for _ in range(3):  # click, select all, copy
        other.step(scripted(other))
    other.close()
    env.reset(options={"task": "enter-text/2001"})
    field = next(element for element in env.unwrapped.state.elements if element.role == "textbox")
    for action in (f"click [{field.number}]", f"press [{spelt}]"):
        *_, info = env.step(action)
        assert info["valid"]
    assert next(element for element in env.unwrapped.state.elements if element.role == "textbox").value == ""

"""Recorded sessions of the original are played again word for word, on after Buy Now and beyond any step cap."""

from __future__ import annotations

import pytest

from palaestra.envs import BadInput, make
from palaestra.envs.webshop.recorded import replay

from .odd_shop import SETTINGS, odd_shop, recorded
from .reading import digest

SESSIONS = {session["name"]: session for session in recorded()}
GOING_ON = [
    name
    for name, session in SESSIONS.items()
    if any(page["done"] for page in session["pages"][:-1]) or len(session["pages"]) > 16
]


def test_some_recorded_sessions_go_on_where_an_episode_would_be_over() -> None:
    assert any(page["done"] for name in GOING_ON for page in SESSIONS[name]["pages"][:-1])
    assert any(len(SESSIONS[name]["pages"]) > 16 for name in GOING_ON)


@pytest.mark.parametrize("name", GOING_ON)
def test_a_session_that_goes_on_is_replayed_to_its_end(name: str) -> None:
    session = SESSIONS[name]
    shop = odd_shop(session["goals"], session["show_attributes"])
    actions = [page["action"] for page in session["pages"][1:]]
    for mode, key in (("text_rich", "rich"), ("text", "text"), ("html", "html"), ("url", "url")):
        played = list(replay(shop, session["goal"], actions, mode))
        assert len(played) == len(session["pages"])
        for seen, then in zip(played, session["pages"], strict=True):
            assert (digest(seen.observation) if key in ("text", "html") else seen.observation) == then[key]
            assert (seen.reward, seen.done, seen.url) == (then["reward"], then["done"], then["url"])
            assert list(seen.clickables) == then["clickables"]


def test_a_replay_of_an_episode_sees_what_the_environment_shows() -> None:
    env = make("webshop", **SETTINGS, observation_mode="text_rich")
    actions = ["search[mug]", "click[nothing]", "click[oddmug0001]", "click[Buy Now]"]
    shown = [env.reset(options={"task": "odd-synthetic/22"})[0]]
    steps = [env.step(action) for action in actions]
    played = list(replay(odd_shop(), 22, actions))
    assert [seen.observation for seen in played] == shown + [step[0] for step in steps]
    assert [seen.reward for seen in played[1:]] == [step[1] for step in steps]
    assert [seen.problem is None for seen in played[1:]] == [step[4]["valid"] for step in steps]


def test_a_goal_or_mode_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(BadInput, match="no goal 100000; the goals are 0 to"):
        replay(odd_shop(), 100_000, [])
    with pytest.raises(BadInput, match="no observation mode 'poem'"):
        replay(odd_shop(), 0, [], "poem")

"""Actions are read as WebEvolver and WebVoyager write them; what cannot be read is told, never raised."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palaestra.envs import TextEnv, make
from palaestra.envs.browser.actions import VERBS, Action, NotUnderstood, parse


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("click [3]", Action("click", 3)),
        ("Click [3]", Action("click", 3)),
        ("click 3", Action("click", 3)),
        ("click [12,40]", Action("click", point=(12, 40))),
        ("type [3] [two words] [0]", Action("type", 3, "two words", enter=False)),
        ("type [3] [two words]", Action("type", 3, "two words", enter=True)),
        ("type [3] [a [b] c] [1]", Action("type", 3, "a [b] c", enter=True)),
        ("type [3] [0] [press_enter_after=0]", Action("type", 3, "0", enter=False)),
        ("Type [3]; [two words]", Action("type", 3, "two words", enter=True)),
        ("Type [3]; two words", Action("type", 3, "two words", enter=True)),
        ("select [4] [Mill room]", Action("select", 4, "Mill room")),
        ("scroll [down]", Action("scroll", None, "down")),
        ("Scroll [WINDOW]; [up]", Action("scroll", None, "up")),
        ("scroll [7] [up]", Action("scroll", 7, "up")),
        ("goback", Action("back")),
        ("GoBack", Action("back")),
        ("Google", Action("goto", text="https://www.google.com/")),
        ("Thought: I see it.\nAction: Click [3]", Action("click", 3)),
        ("Thought: x Action: ANSWER; [Action: none]", Action("stop", text="Action: none")),
        ("Action: Type [3]; [Action: x]", Action("type", 3, "Action: x", enter=True)),
        ("goto [http://a.test/x?y=[1]]", Action("goto", text="http://a.test/x?y=[1]")),
        ("stop [42 owls]", Action("stop", text="42 owls")),
        ("ANSWER; [42 owls]", Action("stop", text="42 owls")),
        ("stop", Action("stop")),
        ("press [ctrl+a]", Action("press", text="Control+a")),
        ("press [+]", Action("press", text="+")),
        ("drag [3] [5]", Action("drag", 3, onto=5)),
        ("drag [3] [-4,10]", Action("drag", 3, onto=(-4, 10))),
        ("drag [3,9] [5]", Action("drag", onto=5, point=(3, 9))),
        ("drag [3,9] [5,0] [0,-5]", Action("drag", onto=(5, 0), point=(3, 9), then=((0, -5),))),
        ("drag [3] [5] [1,2] [3,4]", Action("drag", 3, onto=5, then=((1, 2), (3, 4)))),
        ("hover [3]", Action("hover", 3)),
        ("hover [3] [1,2]", Action("hover", 3, then=((1, 2),))),
        ("hover [3,9] [1,2] [-1,0]", Action("hover", point=(3, 9), then=((1, 2), (-1, 0)))),
        ("wait", Action("wait")),
        ("wait [200]", Action("wait", milliseconds=200)),
        ("Wait; [ 200 ]", Action("wait", milliseconds=200)),
        ("wait\nIt loads.", Action("wait")),
        ("click [3].\nThat opens it.", Action("click", 3)),
        ("hover [3]\nThat shows it.", Action("hover", 3)),
        ("scroll [down]\nThere is 1 more.", Action("scroll", None, "down")),
        ("scroll down", Action("scroll", None, "down")),
        ("scroll [down] [7]", Action("scroll", 7, "down")),
        ("scroll [direction=down]", Action("scroll", None, "down")),
        ("back\nI go back.", Action("back")),
        ("Google\nI search there.", Action("goto", text="https://www.google.com/")),
    ],
)
def test_an_action_means_what_the_papers_mean(text: str, action: Action) -> None:
    assert parse(text) == action


@pytest.mark.parametrize(
    "text",
    ["", "click", "click [x]", "click []", "select [3]", "scroll", "goto", "press [no such key]", "press []",
     "drag [3]", "drag [3] [4] [5]", "drag [3] [1,1] x [1,1]", "drag [3]" + " [1,1]" * 65, "hover [3] [x]",
     "wait [0]", "wait [5001]", "jump [3]", "click [٣]", "type", "x" * 9000, "[click] [3]",
     "Thought: click [3]", "Action:", "reaction: click [3]"],
)  # fmt: skip
def test_what_is_no_action_is_told(text: str) -> None:
    with pytest.raises(NotUnderstood):
        parse(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        *((f"wait {rest}", r"whole milliseconds: wait, or wait \[1\] to wait \[5000\]")
          for rest in ("[200ms]", "[-5]", "[1.5]", "[1e3]", "[٣]", "[two]", "2 s", "[200] [300]", "[99999999]")),
        *((f"scroll {rest}", "scroll takes a direction")
          for rest in ("[-3] [down]", "[1.5] [down]", "[3] [4] [down]", "[up] [down]", "[3x] [down]", "[down] fast")),
        *((f"click {rest}", "one element or one point")
          for rest in ("[3] [5]", "[3] twice", "[120,80,3]", "[120,80.5]", "[3] [right]")),
        *((f"{verb} {rest}", "needs the number of an element")
          for verb in ("click", "hover", "drag", "type", "select") for rest in ("[3.5] [1]", "[3x] [1]", "[-3] [1]")),
        *((f"hover {rest}", "hover goes on by pixels") for rest in ("[3] slowly", "[120,80.5]", "[3] [1.5,2]")),
        *((f"drag {rest}", "drag needs where to") for rest in ("[3] [1.5,2]", "[3] [5px,2px]", "[3] [5] [6]")),
        *((f"press {rest}", "press needs a key") for rest in ("[Enter] [Enter]", "[3] [Enter]", "[Enter] twice")),
        ("back [2]", "back takes nothing"),
        ("restart now", "restart takes nothing"),
        ("Google [owls]", "Google takes nothing"),
    ],
)  # fmt: skip
def test_an_argument_is_never_passed_over_in_silence(text: str, told: str) -> None:
    with pytest.raises(NotUnderstood, match=told):
        parse(text)


def test_a_family_has_only_its_own_actions() -> None:
    with pytest.raises(NotUnderstood, match="Actions: ") as told:
        parse("goto [http://library.test/]", VERBS - {"goto"})
    assert "goto" not in str(told.value)


@pytest.fixture(scope="module")
def library() -> Iterator[TextEnv[Any]]:
    env = make("webtasks")
    env.reset(options={"task": "Library--4"})
    yield env
    env.close()


VERB = st.sampled_from([*sorted(VERBS - {"stop"}), "Type", "GOBACK", "frobnicate", ""])
PIECE = st.one_of(
    st.integers(-5, 40).map(str),
    st.text(max_size=12),
    st.sampled_from(["down", "up", "Enter", "Control+a", "Author", "http://library.test/rooms.html", "-3,900", "1,1"]),
)
FORM = st.one_of(
    st.text(max_size=60),
    st.builds(
        lambda verb, pieces: " ".join([verb, *(f"[{piece}]" for piece in pieces)]), VERB, st.lists(PIECE, max_size=3)
    ),
)


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(FORM, min_size=1, max_size=4))
def test_generated_actions_neither_raise_nor_end_the_episode(library: TextEnv[Any], actions: list[str]) -> None:
    for action in actions:
        if len(library.history) > 25:
            library.reset(options={"task": "Library--4"})
        observation, reward, over, _, info = library.step(action)
        observation.encode()
        assert (reward, info["score"], info["success"]) == (0.0, 0.0, False)
        assert not over
        assert info["url"].startswith("http://library.test/")


@pytest.fixture(scope="module", params=["miniwob", "webshopsite"])
def page(request: pytest.FixtureRequest) -> Iterator[TextEnv[Any]]:
    env = make(request.param)
    env.reset(seed=1)
    yield env
    env.close()


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(FORM, min_size=1, max_size=4))
def test_generated_actions_on_the_other_families_do_not_raise(page: TextEnv[Any], actions: list[str]) -> None:
    for action in actions:
        observation, reward, over, truncated, info = page.step(action)
        observation.encode()
        assert -1.0 <= reward <= 1.0
        assert 0.0 <= info["score"] <= 1.0
        if over or truncated:
            page.reset(seed=len(actions))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.one_of(FORM, st.binary(max_size=80).map(lambda raw: raw.decode("utf-8", "surrogateescape"))))
def test_reading_an_action_raises_nothing_else(text: str) -> None:
    try:
        verb = parse(text).verb
    except NotUnderstood:
        return
    assert verb in VERBS


def test_ten_thousand_random_texts_are_read_or_told() -> None:
    rng = Random(1)
    verbs = [*sorted(VERBS), "Type", "GOBACK", "Google", "Thought: x\nAction: click", "frobnicate", ""]
    read = 0
    for _ in range(10_000):
        pieces = (
            rng.choice(("3", "-1", "down", "1,1", "x" * 500, "[", "".join(map(chr, rng.choices(range(0x110000), k=9)))))
            for _ in range(rng.randrange(4))
        )
        try:
            assert parse(" ".join([rng.choice(verbs), *(f"[{piece}]" for piece in pieces)])).verb in VERBS
            read += 1
        except NotUnderstood:
            continue
    assert 1_000 < read < 9_000

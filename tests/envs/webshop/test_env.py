"""WebShop keeps the contract of an environment, plays like its engine, and says what it plays on."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palaestra.envs import BadInput, Task, find, make
from palaestra.envs.check import check
from palaestra.envs.webshop import OFFICIAL_GOALS
from palaestra.envs.webshop.env import MODES, WebShop, WebShopSmall, open_shop
from palaestra.envs.webshop.oracle import target
from palaestra.envs.webshop.protocols import PROTOCOLS

from .odd_shop import SETTINGS, recorded
from .reading import digest

MUG = "odd-synthetic/22"


def webshop(**settings: object) -> WebShop:
    env = make("webshop", **settings)
    assert isinstance(env, WebShop)
    return env


def small(**settings: object) -> WebShop:
    env = make("webshopsmall", **settings)
    assert isinstance(env, WebShopSmall)
    return env


@pytest.mark.parametrize("name", ["webshop", "webshopsmall"])
def test_it_passes_the_conformance_check(name: str) -> None:
    report = check(name, fast=True)
    assert report.passed, [result for result in report.results if not result.passed]


@pytest.mark.parametrize("mode", MODES)
def test_each_observation_mode_shows_what_the_original_showed(mode: str) -> None:
    session = recorded()[0]
    env = webshop(observation_mode=mode, **SETTINGS)
    seen, info = env.reset(options={"task": f"odd-synthetic/{session['goal']}"})
    for step, then in enumerate(session["pages"]):
        reward = 0.0
        if step:
            seen, reward, over, truncated, info = env.step(then["action"])
            assert (over, truncated) == (then["done"], False)
        assert reward == then["reward"]
        expected = {"url": then["url"], "text_rich": then["rich"]}
        assert seen == expected[mode] if mode in expected else digest(seen) == then[mode]
        assert info["clickables"] == then["clickables"]
        assert info["has_search_bar"] == then["has_search_bar"]
        assert info["url"] == then["url"]
    parts = session["pages"][-1]["parts"]
    assert {name: info[name] for name in parts} == parts
    assert info["score"] == session["pages"][-1]["reward"]


def test_it_works_without_any_download_on_a_catalogue_that_says_what_it_is() -> None:
    env = small()
    _, info = env.reset(seed=0)
    assert info["task"].name.startswith("small-")
    assert env.registration is not None
    assert "no published score" in env.registration.summary
    assert "catalogue small " in env.fingerprint()
    assert {split: len(env.tasks(split)) for split in env.splits()} == {
        split: len(env.registration.splits[split]) for split in env.splits()
    }
    assert env.shop.goal_count == sum(len(env.tasks(split)) for split in env.splits())


def test_webshop_sells_the_official_thousand_products_and_its_tasks_are_those_goals() -> None:
    env = webshop()
    env.reset(seed=0)
    assert (len(env.shop.catalogue), env.shop.goal_count) == (1000, OFFICIAL_GOALS)
    names = {split: [task.name for task in env.tasks(split)] for split in env.splits()}
    assert names == {split: [task.name for task in webshop(price_seed=0).tasks(split)] for split in env.splits()}
    assert names["test"] == [f"webshop-synthetic/{number}" for number in range(500)]
    assert "catalogue webshop " in env.fingerprint()


def test_without_the_data_webshop_says_how_to_get_it_and_lists_its_tasks_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path))
    monkeypatch.delenv("PALAESTRA_DATA", raising=False)
    open_shop.cache_clear()  # what other tests have opened
    spec = find("webshop")
    assert "palaestra data get webshop" in str(spec.why_not_ready())
    assert sum(len(spec.split(split)) for split in spec.splits) == OFFICIAL_GOALS
    with pytest.raises(BadInput, match="palaestra data get webshop"):
        webshop().reset(seed=0)
    assert find("webshopsmall").why_not_ready() is None
    small().reset(seed=0)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_protocol_is_taken_on_the_small_catalogue(name: str) -> None:
    chosen: dict[str, dict[str, str]] = {"webshopsmall": {}, "webshop": {"catalogue": "small"}}
    for env, also in chosen.items():
        with pytest.raises(BadInput, match="never comparable") as caught:
            make(env, protocol=name, **also)
        assert "\n" not in str(caught.value)
    assert find("webshopsmall").protocols == ()


def test_tasks_and_fingerprint_follow_the_catalogue_and_the_goals() -> None:
    prints = set()
    for env, label in (
        (small(), "small-synthetic"),
        (small(goals="human"), "small-human"),
        (webshop(**SETTINGS), "odd-synthetic"),
        (webshop(**SETTINGS, goals="human"), "odd-human"),
        (small(price_seed=7), "small-synthetic"),
    ):
        names = {task.name for split in env.splits() for task in env.tasks(split)}
        assert {name.rpartition("/")[0] for name in names} == {label}
        assert len(names) == env.shop.goal_count
        prints.add(env.fingerprint())
    assert len(prints) == 5


@pytest.mark.parametrize(
    ("name", "kind", "steps", "test"),
    [("original", "human", 100, 2), ("eto", "human", 10, 2), ("agentgym", "synthetic", 10, 500)],
)
def test_a_protocol_sets_goals_and_step_cap(name: str, kind: str, steps: int, test: int) -> None:
    env = webshop(protocol=name)
    assert env.max_steps == steps
    tasks = [task for split in env.splits() for task in env.tasks(split)]
    assert {task.name.rpartition("/")[0] for task in tasks} == {f"webshop-{kind}"}
    assert [task.name for task in env.tasks("test")] == [f"webshop-{kind}/{number}" for number in range(test)]
    assert webshop(protocol=name, max_steps=3).max_steps == 3


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"observation_mode": "pixels"}, "observation mode 'pixels'"),
        ({"goals": "robot"}, "goals 'robot'"),
        ({"protocol": "mine"}, "'mine'"),
        ({"protocol": "eto", "goals": "synthetic"}, "sets the goals itself"),
        ({"price_seed": -1}, "price_seed"),
        ({"price_seed": 1, "frozen": "somewhere"}, "leave out price_seed"),
        ({"protocol": ["eto"]}, r"no protocol \['eto'\]"),
        ({"observation_mode": ["text"]}, "no observation mode"),
        ({"goals": ["human"]}, "no goals"),
        ({"show_attributes": "no"}, "show_attributes must be true or false, got 'no'"),
        ({"show_attributes": 1}, "show_attributes must be true or false, got 1"),
        ({"catalogue": ""}, "catalogue must be a name or a path, got ''"),
        ({"catalogue": 3}, "catalogue must be a name or a path, got 3"),
        ({"catalogue": None}, "catalogue must be a name or a path, got None"),
        ({"frozen": ""}, "frozen must be a name or a path, got ''"),
        ({"frozen": 3}, "frozen must be a name or a path, got 3"),
    ],
)
def test_settings_that_make_no_sense_are_refused(chosen: dict[str, object], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        webshop(**chosen)


@pytest.mark.parametrize(
    "chosen", [{"catalogue": "/nowhere/at/all"}, {"frozen": "/nowhere/at/all"}, {"catalogue": "nowhere"}]
)
def test_missing_data_is_told_in_one_line_at_reset(chosen: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="nowhere") as caught:
        webshop(**chosen).reset(seed=0)
    assert "\n" not in str(caught.value)
    assert "data get" not in str(caught.value)  # there is nothing to get under such a name


@pytest.mark.parametrize("setting", ["catalogue", "frozen"])
@pytest.mark.parametrize("name", ["a" * 5000, "\0", "~nobody-of-this-name/x", "/" * 5000 + "x"])
def test_odd_names_of_places_are_told_in_one_short_line(setting: str, name: str) -> None:
    with pytest.raises(BadInput, match="there is no") as caught:
        webshop(**{"catalogue": "small", setting: name}).reset(seed=0)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "name", ["odd-synthetic/22", "small-synthetic/999999", "small-synthetic/01", "small-synthetic/x"]
)
def test_a_task_of_another_catalogue_or_number_is_refused(name: str) -> None:
    env = small()
    with pytest.raises(BadInput, match="WebShop task"):
        env.reset(options={"task": Task(env=find("webshopsmall").id, name=name, split="train")})


def test_a_bad_action_leaves_the_text_and_info_says_what_was_wrong() -> None:
    env = webshop(**SETTINGS)
    seen, info = env.reset(options={"task": MUG})
    assert "problem" not in info
    again, reward, over, _, info = env.step("click[nothing of the kind]")
    assert (again, reward, over, info["valid"]) == (seen, 0.0, False, False)
    assert "nothing of the kind" in info["problem"]
    _, _, _, _, info = env.step("search[mug]")
    assert info["valid"]
    assert "problem" not in info


def test_listed_actions_are_clicks_and_at_first_a_search() -> None:
    env = webshop(**SETTINGS)
    _, info = env.reset(options={"task": MUG})
    (search,) = info["actions"]
    assert search.startswith('search[Find me an odd mug that is dishwasher safe & "blue" with color: red')
    env.step("search[mug]")
    _, _, _, _, info = env.step("click[oddmug0001]")
    assert "click[red]" in info["actions"]
    assert "[x] y" in info["clickables"]
    assert not any("[x]" in action for action in info["actions"])


def test_a_fork_goes_on_as_the_original_did() -> None:
    session = next(each for each in recorded() if each["name"] == "option values that are called like buttons")
    env, other = webshop(**SETTINGS), webshop(**SETTINGS)
    env.reset(options={"task": f"odd-synthetic/{session['goal']}"})
    for step, then in enumerate(session["pages"][1:], 1):
        kept = pickle.loads(pickle.dumps(env.snapshot()))
        seen = env.step(then["action"])
        other.restore(kept)
        assert other.step(then["action"]) == seen
        assert digest(seen[0]) == then["text"], step


def test_the_oracle_buys_what_was_wanted_on_the_small_catalogue() -> None:
    env = small(max_steps=40)
    tasks = [task for split in env.splits() for task in env.tasks(split)]
    scores = []
    for task in tasks[:: max(1, len(tasks) // 60)]:
        env.reset(options={"task": task})
        over = truncated = False
        score = 0.0
        while not (over or truncated):
            _, _, over, truncated, info = env.step(target(env))
            score = info["score"]
        scores.append(score)
    assert sum(score == 1.0 for score in scores) / len(scores) >= 0.95


def test_the_oracle_finds_back_from_where_others_have_led() -> None:
    env = webshop(**SETTINGS, max_steps=40)
    env.reset(options={"task": "odd-synthetic/20"})
    for action in ("search[golden lamp]", "click[odddear004]", "click[features]"):
        env.step(action)
    over = truncated = False
    while not (over or truncated):
        _, reward, over, truncated, _ = env.step(target(env))
    assert reward == 1.0


def _texts() -> st.SearchStrategy[str]:
    argument = st.one_of(
        st.text(max_size=40),
        st.sampled_from(
            ["<r>", "<c>", "<a> x", "<q>", "red", "buy now", "next >", "oddmug0001", "mug", "\x00", chr(0xDFFF)]
        ),
    )
    return st.one_of(
        st.text(max_size=60),
        st.builds("{}[{}]".format, st.sampled_from(("search", "click", "Click", " search")), argument),
    )


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_texts(), min_size=80, max_size=120))
def test_ten_thousand_generated_actions_raise_nothing(actions: list[str]) -> None:
    env = webshop(**SETTINGS, observation_mode="html", max_steps=1000)
    env.reset(options={"task": MUG})
    for action in actions:
        seen, reward, over, _, info = env.step(action)
        assert seen.encode()
        assert 0.0 <= reward <= 1.0
        assert info["valid"] or "problem" in info
        if over:
            env.reset(options={"task": MUG})


def test_what_is_kept_of_a_visit_does_not_grow_with_its_length() -> None:
    env = webshop(**SETTINGS, max_steps=100_000)
    env.reset(options={"task": MUG})

    def play(rounds: int) -> int:
        for number in range(rounds):
            for action in (
                f"search[lamp {number % 7}]",
                "click[next >]",
                "click[< prev]",
                "click[oddlamp001]",
                "click[black]",
            ):
                env.step(action)
        return len(pickle.dumps(env.state))

    assert play(7) == play(70)


_SEARCHES = """
import random, resource
from palaestra.envs import make

def grown():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

env = make("webshopsmall", max_steps=10**9)
env.reset(options={"task": "small-synthetic/0"})
draw = random.Random(0)

def search(times, letters):
    for _ in range(times):
        words = ("".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=letters)) for _ in range(4000 // (letters + 1)))
        env.step(f"search[{' '.join(words)[:3990]}]")

search(150, 3), search(50, 60)
before = grown()
search(500, 3), search(300, 60)
print(grown() - before)
"""


def test_long_searches_leave_nothing_behind() -> None:
    told = subprocess.run([sys.executable, "-c", _SEARCHES], capture_output=True, text=True, check=True, timeout=300)
    assert int(told.stdout) < 25_000  # KB; remembering all of them takes 80,000

"""The crafting worlds: graded by depth, shortest plans that win, and commands that do what the recipe book says."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palaestra.envs import find, make
from palaestra.envs.core import Task, TextEnv
from palaestra.envs.crafting.env import Crafting, understand
from palaestra.envs.crafting.oracle import planner
from palaestra.envs.crafting.words import HELD_OUT, THEMES
from palaestra.envs.crafting.worlds import MOST, Recipe, World, parse, world_of
from palaestra.envs.errors import BadInput

ENV = "palaestra/Crafting-v0"


def task(name: str, split: str = "train", seed: int = 0) -> Task:
    return Task(env=ENV, name=name, split=split, seed=seed)


def some(split: str, count: int) -> list[Task]:
    tasks = find("crafting").split(split)
    return [tasks[i] for i in np.random.default_rng(0).permutation(len(tasks))[:count]]


def playing(which: Task) -> TextEnv[Any]:
    env = make("crafting")
    env.reset(options={"task": which})
    return env


def solve(env: TextEnv[Any]) -> list[str]:
    """The commands of the planner from here to the end."""
    done: list[str] = []
    over = False
    while not over:
        done.append(planner(env))
        _, _, over, truncated, info = env.step(done[-1])
        assert not truncated
    assert info["success"]
    assert info["score"] == 1.0
    return done


# -- worlds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", range(1, 7))
def test_a_world_is_as_deep_as_its_name_says_and_small(depth: int) -> None:
    for theme in THEMES:
        for number in range(5):
            world = world_of(task(f"d{depth}/{theme}-{number}"))
            assert world.depth_of(world.target) == depth
            known = {*world.raw, *world.recipes}
            assert all(name in known for recipe in world.recipes.values() for name in recipe.names)
            assert not set(world.raw) & set(world.recipes)
            assert all(count <= MOST for count in world.missing({}).values())
            distractors = [name for name in world.recipes if name not in world.route]
            assert len(distractors) >= 2
            assert len(world.text()) < 2000


def test_no_shorter_plan_than_the_planners_exists() -> None:
    """Without any one of the things that it makes, the target is out of reach: so each takes a command."""
    for which in some("test", 60):
        world = world_of(which)
        plan = world.missing({})
        assert world.commands == len(plan)
        for forbidden in plan:
            reached = set(world.raw) - {forbidden}
            grew = True
            while grew:
                new = {n for n, r in world.recipes.items() if n != forbidden and set(r.names) <= reached} - reached
                reached |= new
                grew = bool(new)
            assert world.target not in reached


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_the_planner_always_wins_in_the_fewest_commands(split: str) -> None:
    for which in some(split, 150):
        env = playing(which)
        assert len(solve(env)) == world_of(which).commands


def test_worlds_of_other_splits_numbers_and_seeds_differ() -> None:
    texts = {
        world_of(each).text()
        for each in (
            task("d3/bakery-1"),
            task("d3/bakery-2"),
            task("d3/bakery-1", "test"),
            task("d3/bakery-1", seed=1),
            task("d3/bakery-123456789012345678"),
        )
    }
    assert len(texts) == 5
    world_of.cache_clear()
    assert world_of(task("d3/bakery-1")).text() in texts, "the same task gives the same world again"


def test_test_worlds_go_deeper_and_use_words_that_no_training_world_uses() -> None:
    spec = find("crafting")
    of = {split: {parse(each.name)[:2] for each in spec.split(split)} for split in ("train", "dev", "test")}
    assert {depth for depth, _ in of["train"]} == {1, 2, 3, 4} == {depth for depth, _ in of["dev"]}
    assert {depth for depth, _ in of["test"]} == {1, 2, 3, 4, 5, 6}
    assert {theme for _, theme in of["train"]}.isdisjoint(HELD_OUT)
    words = {name: {*theme.raw, *theme.stations, *theme.goods} for name, theme in THEMES.items()}
    for name in HELD_OUT:
        assert all(words[name].isdisjoint(words[other]) for other in THEMES if other != name)
    shared = {each.name for each in spec.split("train")} & {each.name for each in spec.split("test")}
    assert all(world_of(task(n)).text() != world_of(task(n, "test")).text() for n in sorted(shared)[:50])


@pytest.mark.parametrize("name", ["", "d0/bakery-1", "d9/bakery-1", "d3/kitchen-1", "d3/bakery-01", "d3/bakery", "d3"])
def test_a_name_that_is_no_task_is_bad_input(name: str) -> None:
    with pytest.raises(BadInput, match="is no crafting task; they look like"):
        make("crafting").reset(options={"task": task(name)})


def test_a_world_pickles_as_its_task() -> None:
    world = world_of(task("d6/harbour-3", "test"))
    data = pickle.dumps(world)
    assert len(data) < 300
    assert pickle.loads(data) is world


# -- commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    """A world whose target needs a station, two goods and raw materials."""
    return next(
        w
        for w in (world_of(task(f"d3/smithy-{n}")) for n in range(500))
        if w.recipes[w.target].station and w.recipes[w.target].amount == 1 and len(w.recipes[w.target].uses) == 2
    )


def test_the_recipe_book_stands_in_the_first_observation(world: World) -> None:
    env = make("crafting")
    text, info = env.reset(options={"task": world.task})
    assert text.startswith(f"Goal: craft 1 {world.target}.\nRecipes:\n")
    assert all(str(recipe) in text.splitlines() for recipe in world.recipes.values())
    assert (info["score"], info["success"], info["valid"]) == (0.0, False, True)


def test_commands_change_what_one_has_and_only_that(world: World) -> None:
    env = playing(world.task)
    raw = world.raw[0]
    assert env.step("inventory")[0] == "You have nothing."
    assert env.step(f"get 3 {raw}")[0] == f"Got 3 {raw}."
    assert env.step(f"  GET  2  {raw.upper()}. ")[0] == f"Got 2 {raw}."
    assert env.step("inventory")[0] == f"You have 5 {raw}."
    before = dict(env.state.have)
    for action, words in (
        (f"get 1 {world.target}", "it has to be crafted"),
        ("get 1 philosophers stone", "no such thing"),
        ("craft 1 philosophers stone using 1 sand", "No recipe makes that"),
        (f"craft 1 {world.target} using 99 {raw}", f"The recipe is: {world.recipes[world.target]}."),
        (world.recipes[world.target].command(), f"You need {world.recipes[world.target].station} for that."),
        (f"get 0 {raw}", "That is no command"),
        (f"get 100 {raw}", "That is no command"),
        (f"get {raw}", "That is no command"),
    ):
        text, reward, over, _, info = env.step(action)
        assert words in text
        assert (reward, over, info["valid"], env.state.have) == (0.0, False, False, before)


def test_crafting_takes_any_order_any_multiple_and_the_line_of_the_book(world: World) -> None:
    recipe = next(r for r in world.recipes.values() if len(r.uses) == 2 and not r.station)
    (one, a), (other, b) = recipe.uses.items()
    for action, times in (
        (str(recipe), 1),
        (f"{recipe.command()} (needs nothing)", 1),
        (f"craft {recipe.amount} {recipe.makes} using {b} {other}, {a} {one}", 1),
        (recipe.command(3), 3),
    ):
        env = playing(world.task)
        env.state.have.update({one: 3 * a, other: 3 * b})
        _, _, _, _, info = env.step(action)
        assert info["valid"], action
        left = {name: n for name, n in ((one, (3 - times) * a), (other, (3 - times) * b)) if n}
        assert env.state.have == {**left, recipe.makes: times * recipe.amount}
    env = playing(world.task)
    env.state.have.update({one: a})
    text, *_ = env.step(recipe.command())
    assert text == f"You have 0 {other}, that takes {b}."


def test_a_station_is_not_used_up(world: World) -> None:
    env = playing(world.task)
    last = solve(env)[-1]
    assert last == world.recipes[world.target].command()
    assert env.state.have[str(world.recipes[world.target].station)] == 1


def test_the_score_is_the_share_of_needed_commands() -> None:
    which = task("d4/weaving-5")
    plan = solve(playing(which))
    env = playing(which)
    rewards = [env.step(action)[1] for action in plan]
    assert rewards == pytest.approx([1 / len(plan)] * len(plan))


def wasteful(world: World) -> tuple[Recipe, str] | None:
    """A recipe that leads nowhere, and a raw material that it takes from the target."""
    plan = world.missing({})
    for name, recipe in world.recipes.items():
        for part, count in recipe.uses.items() if not recipe.station and name not in world.route else ():
            if part in world.raw and plan.get(part, 0) >= count:
                return recipe, part
    return None


def test_the_score_falls_when_what_is_needed_is_used_for_something_else() -> None:
    world = next(w for w in (world_of(task(f"d3/garden-{n}")) for n in range(500)) if wasteful(w))
    recipe, part = wasteful(world) or pytest.fail("none")
    env = playing(world.task)
    for name, count in recipe.uses.items():
        env.step(f"get {count} {name}") if name in world.raw and name != part else env.state.have.update({name: count})
    env.state.have[part] = world.missing({})[part]
    before = env.step("get 1 " + next(name for name in world.raw if name != part))[4]["score"]
    _, reward, _, _, info = env.step(recipe.command())
    assert info["valid"]
    assert reward < 0
    assert info["score"] < before


def test_no_command_saves_more_than_one_command_so_the_planner_is_shortest_from_anywhere() -> None:
    rng = np.random.default_rng(1)
    for which in some("test", 25):
        env = playing(which)
        for _ in range(6):
            state = env.state
            here = len(state.world.missing(state.have))
            snapshot = env.snapshot()
            listed = list(env.admissible(state) or ())
            for action in [listed[i] for i in rng.permutation(len(listed))[:15]]:
                _, _, over, _, info = env.step(action)
                assert info["valid"], action
                left = len(env.state.world.missing(env.state.have))
                assert left >= here - 1
                assert over == (left == 0)
                env.restore(snapshot)
            *_, over, _, _ = env.step(listed[int(rng.integers(len(listed)))])
            if over:
                break
        else:
            left = len(env.state.world.missing(env.state.have))
            assert len(solve(env)) == left


def test_the_planners_command_is_among_the_listed_ones() -> None:
    for which in some("test", 60):
        env = playing(which)
        over = False
        while not over:
            action = planner(env)
            assert action in (env.admissible(env.state) or ())
            over = env.step(action)[2]


# -- what a model may write -------------------------------------------------------------------------------------------

_WORLD = world_of(task("d4/pottery-7"))
_NAMES = st.sampled_from([*_WORLD.raw, *_WORLD.recipes, "pot", "", "using", "(needs kiln)"])
_COUNTS = st.one_of(st.integers(-5, 120), st.integers(), st.sampled_from(["1", "٣", "²", "1e3", "", "one"]))
_PARTS = st.lists(st.tuples(_COUNTS, _NAMES).map(lambda pair: f"{pair[0]} {pair[1]}"), max_size=4).map(", ".join)
_ACTIONS = st.one_of(
    st.text(max_size=600),
    st.tuples(st.sampled_from(["get", "craft", "GET", "put"]), _PARTS).map(" ".join),
    st.tuples(_PARTS, _PARTS).map(lambda pair: f"craft {pair[0]} using {pair[1]}"),
    st.sampled_from([str(recipe) for recipe in _WORLD.recipes.values()]),
    st.sampled_from([f"get {n} {name}" for name in _WORLD.raw for n in (1, 7, 99)]),
)
_HOSTILE = playing(_WORLD.task)
_seen = {"actions": 0, "valid": 0}


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(_ACTIONS, min_size=25, max_size=40))
def _ten_thousand(actions: list[str]) -> None:
    _HOSTILE.reset(options={"task": _WORLD.task})
    for action in actions:
        text, reward, over, truncated, info = _HOSTILE.step(action)
        _seen["actions"] += 1
        _seen["valid"] += info["valid"]
        assert len(text) < 2000
        assert 0.0 <= info["score"] <= 1.0
        assert info["valid"] or reward == 0.0
        if not (over or truncated):
            assert all(count >= 1 for count in _HOSTILE.state.have.values())
            assert set(_HOSTILE.state.have) <= {*_WORLD.raw, *_WORLD.recipes}
        else:
            break


def test_ten_thousand_generated_actions_raise_nothing_and_leave_nothing() -> None:
    _ten_thousand()
    assert _seen["actions"] >= 10_000
    assert _seen["actions"] // 10 < _seen["valid"] < _seen["actions"], "some were understood and some were not"
    junk = [f"craft {n} x using {'1 y, ' * 60}{n} z" for n in range(12_000)]
    for action in junk[:6_000]:
        understand(action)
    tracemalloc.start()
    try:
        for action in junk[6_000:]:
            understand(action)
        assert tracemalloc.get_traced_memory()[0] < 12_000_000, "what was once read is forgotten again"
    finally:
        tracemalloc.stop()


def test_instructions_name_every_command() -> None:
    told = Crafting().instructions(_WORLD.task)
    assert all(word in told for word in ("get N THING", "craft N THING using", "inventory", "station"))

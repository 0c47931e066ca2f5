"""One book a theme: the same recipes in all tasks, and no target with the same things at the start in two splits."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from palaestra.envs import BadInput, find, make
from palaestra.envs.core import Task, TextEnv
from palaestra.envs.crafting.books import GIVEN, GOODS, Variation, book_of, variation_of
from palaestra.envs.crafting.oracle import planner
from palaestra.envs.crafting.words import THEMES
from palaestra.envs.crafting.worlds import DEEPEST, MOST, depths, most_needed

ENV = "palaestra/Crafting-v0"


def task(name: str, split: str = "train", seed: int = 0) -> Task:
    return Task(env=ENV, name=name, split=split, seed=seed)


def content(world: Variation) -> tuple[str, tuple[tuple[str, int], ...]]:
    return world.target, tuple(sorted(world.given.items()))


def begun(which: Task) -> TextEnv[Any]:
    env = make("crafting", recipes="theme")
    env.reset(options={"task": which})
    return env


@pytest.mark.parametrize("theme", list(THEMES))
def test_a_book_has_goods_of_every_depth_and_asks_for_nothing_more_often_than_any_world(theme: str) -> None:
    book, words = book_of(theme), THEMES[theme]
    deep = depths(book)
    assert set(book) == {*words.goods, *words.stations}
    assert tuple(sum(deep[name] == level for name in words.goods) for level in range(1, DEEPEST + 1)) == GOODS
    known = {*book, *words.raw}
    assert all(name in known for recipe in book.values() for name in recipe.names)
    for number in range(3):
        for depth in (1, 4, DEEPEST):
            assert most_needed(variation_of(task(f"d{depth}/{theme}-{number}"))) <= MOST


def test_a_book_stays_what_it_is() -> None:
    """Written down from the first draw: tasks of one version of this package are those of the next one."""
    assert [str(recipe) for recipe in book_of("bakery").values()][5:8] == [
        "craft 1 cake stand using 1 wheat",
        "craft 1 plum cake using 1 market basket",
        "craft 1 dough using 1 nut roll (needs cake stand)",
    ]


def test_tasks_share_their_book_and_differ_in_target_and_what_one_has() -> None:
    worlds = [variation_of(task(f"d3/pottery-{n}")) for n in range(60)]
    assert all(world.recipes == book_of("pottery") for world in worlds)
    assert len({world.target for world in worlds}) == GOODS[2]
    assert len({content(world) for world in worlds}) > 40
    assert all(world.depth_of(world.target) == 3 and world.target not in world.given for world in worlds)
    assert all(len(world.given) <= GIVEN for world in worlds)
    variation_of.cache_clear()
    assert content(variation_of(task("d3/pottery-7"))) == content(worlds[7]), "it follows from the task alone"


def test_no_held_out_task_is_a_training_task() -> None:
    spec = find("crafting")
    of = {split: {content(variation_of(each)) for each in spec.split(split)} for split in spec.splits}
    assert all(len(found) > 200 for found in of.values())
    assert not of["train"] & of["dev"]
    assert not of["train"] & of["test"]
    assert not of["dev"] & of["test"]


def test_the_goal_and_what_one_has_are_told_and_no_recipe_is() -> None:
    which = next(t for t in (task(f"d2/garden-{n}") for n in range(99)) if len(variation_of(t).given) == 2)
    world, env = variation_of(which), make("crafting", recipes="theme")
    text, info = env.reset(options={"task": which})
    had = ", ".join(f"{count} {name}" for name, count in world.given.items())
    assert text == f"Goal: craft 1 {world.target}.\nYou have {had}."
    assert (info["score"], info["success"]) == (0.0, False)
    assert env.step("inventory")[0] == f"You have {had}."
    assert "not listed" in env.instructions(which)
    assert "not listed" not in make("crafting").instructions(which)


def test_a_wrong_crafting_is_told_its_recipe() -> None:
    env = begun(task("d1/smithy-0"))
    target = env.state.world.target
    text, *_, info = env.step(f"craft 1 {target} using 99 coal")
    assert text == f"The recipe is: {book_of('smithy')[target]}."
    assert not info["valid"]


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_the_planner_wins_in_the_fewest_commands_and_each_raises_the_score_alike(split: str) -> None:
    tasks = find("crafting").split(split)
    for which in tasks[:: len(tasks) // 40]:
        env = begun(which)
        least = env.state.world.commands
        for left in range(least, 0, -1):
            action = planner(env)
            assert action in (env.admissible(env.state) or ())
            _, reward, over, _, info = env.step(action)
            assert reward == pytest.approx(1 / least)
            assert over == info["success"] == (left == 1)
        assert info["score"] == 1.0


def test_what_one_is_given_is_not_shared_between_episodes() -> None:
    which = next(t for t in (task(f"d2/weaving-{n}") for n in range(99)) if variation_of(t).given)
    env = begun(which)
    before = dict(env.state.have)
    snapshot = env.snapshot()
    env.step(f"get 5 {THEMES['weaving'].raw[0]}")
    other = begun(which)
    assert other.state.have == before
    other.restore(pickle.loads(pickle.dumps(snapshot)))
    assert other.state.have == before
    assert other.state.world is variation_of(which), "pickled as its task"


@pytest.mark.parametrize("recipes", ["", "Theme", None, ["task"], 1])
def test_recipes_of_nobody_are_refused(recipes: object) -> None:
    with pytest.raises(BadInput, match=r"it is 'task' or 'theme'"):
        make("crafting", recipes=recipes)

"""Made-up ALFWorld games: endless, the same everywhere, each one solvable, the splits apart."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.envs.alfworld.files import GameFile
from palaestra.envs.alfworld.game import compiled
from palaestra.envs.alfworld.generate import (
    BLOCK,
    SEEN_LAYOUTS,
    SPLITS,
    TYPES,
    UNSEEN_LAYOUTS,
    furnish,
    generated,
    layout,
    split_of,
)
from palaestra.envs.alfworld.generate_rooms import BELONGS, FURNITURE, ROOMS, THINGS
from palaestra.envs.alfworld.oracle import View, advise
from palaestra.envs.errors import BadInput


def expert_steps(file: GameFile) -> int:
    """How many steps the expert takes to win; fails where one of its commands is refused or it needs more than 30."""
    game = compiled(file)
    world, steps = game.start, 0
    while not game.won(world):
        command = advise(View(game, world))
        move = game.step(world, command)
        assert move.valid, f"{file.where}: {command!r} is refused"
        world, steps = move.world, steps + 1
        assert steps <= 30, f"{file.where}: not won in 30 steps"
    return steps


@pytest.mark.parametrize("split", list(SPLITS))
def test_every_listed_kind_of_game_is_won_by_the_expert_but_not_at_the_start(split: str) -> None:
    names = [SPLITS[split][number] for number in range(120)]
    assert {name.partition("/")[0] for name in names} == set(TYPES)
    assert min(expert_steps(generated(name)) for name in names) >= 2


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(TYPES), number=st.integers(0, len(SPLITS) * BLOCK - 1))
def test_any_number_is_a_game_that_can_be_won(kind: str, number: int) -> None:
    assert expert_steps(generated(f"{kind}/{number}")) >= 2


def test_a_name_gives_the_same_game_in_every_process() -> None:
    names = [f"{kind}/{number}" for kind in TYPES for number in (0, 17, 3 * BLOCK + 5)]
    code = (
        "from palaestra.envs.alfworld.generate import generated\n"
        f"print(' '.join(generated(name).digest for name in {names!r}))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert said.stdout.split() == [generated(name).digest for name in names]


def test_no_two_of_the_first_training_games_are_alike() -> None:
    names = list(SPLITS["train"])[:600]
    assert len({generated(name).digest for name in names}) == len(names)


def test_the_splits_share_no_task_and_a_name_says_its_split() -> None:
    names = {split: set(numbers) for split, numbers in SPLITS.items()}
    assert sum(map(len, names.values())) == len(set().union(*names.values())) == 6 * (1000 + 50 + 50 + 50)
    for split, listed in names.items():
        assert {split_of(name) for name in listed} == {split}


def test_the_unseen_rooms_are_furnished_as_no_other_room_is() -> None:
    for room in ROOMS:
        seen = {layout(room, number) for number in range(SEEN_LAYOUTS)}
        unseen = {layout(room, number) for number in range(SEEN_LAYOUTS, SEEN_LAYOUTS + UNSEEN_LAYOUTS)}
        assert not seen & unseen


@pytest.mark.parametrize("split", list(SPLITS))
def test_rooms_are_of_their_split(split: str) -> None:
    seen = {(room, layout(room, number)) for room in ROOMS for number in range(SEEN_LAYOUTS)}
    for number in range(60):
        home = furnish(TYPES[number % 6], SPLITS[split].first + number)
        kinds = list(home.places.values())
        plan = tuple((kind, kinds.count(kind)) for kind in dict.fromkeys(kinds))
        assert ((home.room, plan) in seen) is (split != "test_unseen")


def test_everything_is_where_one_would_keep_it() -> None:
    for number in range(120):
        home = furnish(TYPES[number % 6], number)
        for thing, kind in home.things.items():
            assert home.places[home.where[thing]] in THINGS[kind].places
            assert kind in BELONGS[home.room]


def test_the_tables_name_only_furniture_and_rooms_that_there_are() -> None:
    furniture = {kind for room in ROOMS.values() for kind in room}
    assert furniture == set(FURNITURE)
    assert set(BELONGS) == set(ROOMS)
    assert set().union(*BELONGS.values()) == set(THINGS)
    for name, thing in THINGS.items():
        assert set(thing.places) <= set(FURNITURE), name
        assert len(set(thing.places) & furniture) >= 2, name


def test_a_game_says_that_it_is_made_up_and_what_to_do() -> None:
    file = generated("pick_heat_then_place_in_recep/3")
    goal = furnish("pick_heat_then_place_in_recep", 3).goal
    intro = compiled(file).intro()
    assert file.where == "generated pick_heat_then_place_in_recep/3"
    assert intro.startswith("A made-up home.")
    task = intro.partition("Your task is to: ")[2]
    assert goal.thing in task
    assert goal.place in task


@pytest.mark.parametrize(
    "name", ["", "nonsense", "pick_and_place_simple", "pick_and_place_simple/", "pick_and_place_simple/-1",
             "pick_and_place_simple/01", "pick_and_place_simple/4000000", "pick_and_place_simple/1e3",
             "fly_to_the_moon/1", "pick_and_place_simple/²"],
)  # fmt: skip
def test_a_name_that_is_none_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(BadInput, match="no generated ALFWorld task") as caught:
        generated(name)
    assert "\n" not in str(caught.value)

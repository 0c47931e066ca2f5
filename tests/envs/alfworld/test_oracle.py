"""ALFWorld's experts: they win every game, from any state, and the searching one uses only what it has seen."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from palaestra.envs.alfworld.files import GameFile
from palaestra.envs.alfworld.game import Game, World, compiled
from palaestra.envs.alfworld.games import names, release
from palaestra.envs.alfworld.generate import SPLITS, TYPES, generated
from palaestra.envs.alfworld.oracle import View, advise, expert, seen
from palaestra.envs.errors import BadInput
from palaestra.envs.registry import find, make


def play(game: Game, searching: bool = False, history: list[str] | None = None, most: int = 100) -> list[str]:
    """Play on from these commands until the game is won; all commands. Fails where one of the expert's is refused."""
    commands, world = list(history or ()), game.start
    for command in commands:
        world = game.step(world, command).world
    for _ in range(most):
        if game.won(world):
            return commands
        view = View(game, world, *seen(game, commands)) if searching else View(game, world)
        command = advise(view, game.file.where)
        move = game.step(world, command)
        assert move.valid, f"{game.file.where}: {command!r} is refused"
        commands.append(command)
        world = move.world
    raise AssertionError(f"{game.file.where}: not won after {commands[-8:]}")


def some(split: str, every: int) -> list[GameFile]:
    return [release().file(name) for name in names(split)[::every]]


@pytest.mark.parametrize(("split", "games"), [("valid_unseen", 134), ("valid_seen", 140)])
def test_the_expert_wins_every_validation_game_within_the_step_limit(split: str, games: int) -> None:
    files = some(split, 1)
    lengths = [len(play(compiled(file))) for file in files]
    assert len(lengths) == games
    assert max(lengths) <= 20
    assert set(Counter(file.task_type for file in files)) == set(TYPES)


def test_the_expert_wins_training_games_of_every_type() -> None:
    files = some("train", 60)
    assert {file.task_type for file in files} == set(TYPES)
    assert max(len(play(compiled(file))) for file in files) <= 20


def test_the_searching_expert_wins_too_and_takes_longer() -> None:
    files = some("valid_unseen", 3) + some("train", 240)
    knowing = [len(play(compiled(file))) for file in files]
    searching = [len(play(compiled(file), searching=True)) for file in files]
    assert max(searching) <= 60
    assert sum(searching) > sum(knowing)


@pytest.mark.parametrize("searching", [False, True], ids=["expert", "searcher"])
def test_the_experts_find_back_from_any_state(searching: bool) -> None:
    for number, file in enumerate([*some("valid_seen", 10), *(generated(SPLITS["dev"][n]) for n in range(24))]):
        game, draw = compiled(file), random.Random(number)
        world, history = game.start, list[str]()
        for _ in range(20):
            history.append(draw.choice(game.admissible(world)))
            world = game.step(world, history[-1]).world
        play(game, searching, history)


def test_the_searching_expert_takes_only_what_it_was_shown() -> None:
    for file in [*some("valid_unseen", 8), *(generated(SPLITS["test"][n]) for n in range(24))]:
        game = compiled(file)
        shown, world = game.intro(), game.start
        for command in play(game, searching=True):
            if taken := re.fullmatch(r"take (.+) from (.+)", command):
                assert re.search(rf"\b{taken[1]}\b", shown), f"{file.where}: {command!r} before it was seen"
            if used := re.fullmatch(r"use (.+)", command):
                assert re.search(rf"\b{used[1]}\b", shown), f"{file.where}: {command!r} before it was seen"
            move = game.step(world, command)
            shown, world = f"{shown}\n{move.text}", move.world


def test_the_experts_say_the_same_again() -> None:
    for file in some("valid_seen", 20):
        game = compiled(file)
        assert play(game, searching=True) == play(game, searching=True)


def test_after_the_win_they_look_around() -> None:
    game = compiled(generated("pick_and_place_simple/0"))
    world: World = game.start
    for command in play(game):
        world = game.step(world, command).world
    assert advise(View(game, world)) == "look"


@pytest.mark.parametrize("oracle", ["expert", "searcher"])
@pytest.mark.parametrize(
    ("env", "split"), [("alfworld", "valid_unseen"), ("alfworldgenerated", "test_unseen"), ("alfworldgenerated", "dev")]
)
def test_the_oracles_of_the_environments_win(env: str, split: str, oracle: str) -> None:
    act, world = find(env).oracle(oracle), make(env)
    for task in world.tasks(split)[::30]:
        world.reset(options={"task": task})
        over = False
        while not over:
            _, _, terminated, truncated, info = world.step(act(world))
            over = terminated or truncated
        assert (info["score"], info["success"]) == (1.0, True), task.id
    world.close()


def test_they_play_nothing_else() -> None:
    other = make("bandit")
    other.reset(seed=0)
    with pytest.raises(BadInput, match="plays ALFWorld"):
        expert(other)
    other.close()

"""ALFWorld keeps the contract: tasks, texts, scores, protocols, rewind, hostile commands, games without data."""

from __future__ import annotations

import gc
import pickle
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palaestra.envs import BadInput, Task, TextEnv, make
from palaestra.envs.alfworld import game as game_module
from palaestra.envs.alfworld import generate as generate_module
from palaestra.envs.alfworld.env import ALFWorld, GeneratedALFWorld, State
from palaestra.envs.alfworld.files import GameFile
from palaestra.envs.alfworld.game import NOTHING
from palaestra.envs.alfworld.games import SPLITS, TYPES, names, release
from palaestra.envs.alfworld.oracle import expert
from palaestra.envs.alfworld.protocols import PROTOCOLS, protocol
from palaestra.envs.core import Fidelity
from palaestra.envs.errors import EnvFault
from palaestra.envs.registry import find

NAME = "pick_heat_then_place_in_recep/17"


@pytest.fixture
def env() -> Iterator[TextEnv[State]]:
    made = make("alfworld")
    yield made
    made.close()


def won_by_expert(env: TextEnv[State], task: Task | str) -> list[str]:
    """The expert's commands; fails unless the last one wins, with the only reward."""
    env.reset(options={"task": task})
    commands: list[str] = []
    over = False
    while not over:
        commands.append(expert(env))
        _, reward, over, truncated, info = env.step(commands[-1])
        assert not truncated
        assert info["valid"]
        assert (float(reward), info["score"], info["success"]) == ((1.0, 1.0, True) if over else (0.0, 0.0, False))
    return commands


# -- tasks and texts ---------------------------------------------------------------------------------------------------


def test_the_official_splits_are_known_without_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PALAESTRA_DATA", str(tmp_path))
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path))
    env = make("alfworld")
    assert list(env.splits()) == list(SPLITS)
    assert {split: len(env.tasks(split)) for split in SPLITS} == {"train": 3554, "valid_seen": 140, "valid_unseen": 134}
    with pytest.raises(BadInput, match="has no split 'dev'; it has: train, valid_seen, valid_unseen"):
        env.tasks("dev")
    with pytest.raises(BadInput, match="run: palaestra data get alfworld"):
        env.reset(options={"task": NAME})
    assert "palaestra data get alfworld" in str(find("alfworld").why_not_ready())


def test_a_game_begins_with_the_room_and_the_task(env: TextEnv[State]) -> None:
    observation, info = env.reset(options={"task": NAME})
    assert observation.startswith("-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. ")
    assert observation.endswith("\n\nYour task is to: put a hot mug in coffeemachine.")
    assert info["task"].split == "valid_unseen"
    assert (info["score"], info["success"], info["valid"]) == (0.0, False, True)
    assert "go to fridge 1" in info["actions"]
    assert list(info["actions"]) == sorted(info["actions"])


@pytest.mark.parametrize("kind", TYPES)
def test_the_expert_wins_tasks_of_every_type_and_the_score_is_the_originals(kind: str, env: TextEnv[State]) -> None:
    for split in SPLITS:
        task = next(task for task in env.tasks(split) if task.name.startswith(kind))
        assert won_by_expert(env, task) == won_by_expert(env, task)


def test_what_is_not_understood_costs_a_step_and_changes_nothing(env: TextEnv[State]) -> None:
    env.reset(options={"task": NAME})
    world = env.state.world
    observation, reward, over, truncated, info = env.step("fly to the moon")
    assert (observation, reward, over, truncated, info["valid"]) == (NOTHING, 0.0, False, False, False)
    assert env.state.world == world
    assert env.history == ("fly to the moon",)


@pytest.mark.parametrize(
    ("protocol_", "max_steps", "steps"),
    [(None, None, 50), (None, 7, 7), ("original", None, 50), ("eto", None, 40), ("agentgym", None, 30), ("eto", 3, 3)],
)
def test_an_episode_is_truncated_at_its_cap(protocol_: str | None, max_steps: int | None, steps: int) -> None:
    env = make("alfworld", protocol=protocol_, max_steps=max_steps)
    env.reset(options={"task": NAME})
    assert [env.step("look")[3] for _ in range(steps)] == [False] * (steps - 1) + [True]
    assert env.step_cap(env.task) == steps
    assert env.step_cap(env.tasks("train")[0]) == steps


# -- protocols and settings --------------------------------------------------------------------------------------------


def test_protocols_have_the_steps_and_texts_of_their_authors() -> None:
    assert {name: protocol(name).steps for name in PROTOCOLS} == {"original": 50, "eto": 40, "agentgym": 30}
    seen = {}
    for name in (None, *PROTOCOLS):
        env = make("alfworld", protocol=name)
        first, _ = env.reset(options={"task": NAME})
        seen[name] = (first, env.step("go to fridge 1")[0], env.step("look")[0])
        assert [len(env.tasks(split)) for split in SPLITS] == [3554, 140, 134]
    assert seen[None] == seen["original"]
    assert seen["eto"] == seen["agentgym"]
    whole, cut = seen["original"], seen["eto"]
    assert whole[0] == "-= Welcome to TextWorld, ALFRED! =-\n\n" + cut[0].replace("\n", "\n\n")
    assert cut[0].count("\n") == 1
    assert whole[1].startswith("You arrive at loc ")
    assert whole[1].endswith(". " + cut[1])
    assert cut[1] == "The fridge 1 is closed."
    assert whole[2] == cut[2]


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"protocol": "agentboard"}, "ALFWorld has no protocol 'agentboard'; it has: original, eto, agentgym"),
        ({"protocol": ["eto"]}, r"ALFWorld has no protocol \['eto'\]; it has: original, eto, agentgym"),
        ({"engine": ["native"]}, r"ALFWorld has no engine \['native'\]; it has: native, textworld"),
        ({"engine": "thor"}, "ALFWorld has no engine 'thor'; it has: native, textworld"),
        ({"seed": 3}, "has no setting 'seed'; it has: engine, protocol, max_steps"),
    ],
)
def test_a_setting_that_is_none_is_refused(settings_: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make("alfworld", **settings_)


def test_the_original_engine_rewinds_by_replay_and_ours_by_copy() -> None:
    assert ALFWorld.fidelity is Fidelity.EXACT
    original, own = make("alfworld", engine="textworld"), make("alfworld")
    assert (original.fidelity, own.fidelity) == (Fidelity.REPLAY, Fidelity.EXACT)
    assert original.fingerprint() != own.fingerprint()
    original.close()
    original.close()


# -- rewind ------------------------------------------------------------------------------------------------------------


def test_a_snapshot_goes_on_in_another_instance_exactly_where_it_was_made(env: TextEnv[State]) -> None:
    commands = won_by_expert(env, NAME)
    for fork in range(0, len(commands), 3):
        env.reset(options={"task": NAME})
        for command in commands[:fork]:
            env.step(command)
        snapshot = pickle.loads(pickle.dumps(env.snapshot()))
        there = [env.step(command)[:4] for command in commands[fork:]]
        other = make("alfworld")
        _, info = other.restore(snapshot)
        assert other.history == tuple(commands[:fork])
        assert info["actions"] == other.unwrapped.game.admissible(other.state.world)  # type: ignore[attr-defined]
        assert [other.step(command)[:4] for command in commands[fork:]] == there


def test_a_snapshot_is_small(env: TextEnv[State]) -> None:
    env.reset(options={"task": NAME})
    assert len(env.snapshot().payload) < 5000


def test_a_snapshot_of_another_game_of_that_name_is_no_reward(env: TextEnv[State]) -> None:
    env.reset(options={"task": NAME})
    env._going().state = replace(env.state, digest="0" * 16)
    with pytest.raises(EnvFault, match="is another one than that of the snapshot"):
        env.step("look")


def test_many_episodes_of_one_game_go_side_by_side() -> None:
    def play(number: int) -> list[str]:
        env = make("alfworld")
        env.reset(options={"task": names("valid_seen")[number % 3]})
        return [env.step(env.unwrapped.game.admissible(env.state.world)[-1 - number % 5])[0] for _ in range(12)]  # type: ignore[attr-defined]

    alone = [play(number) for number in range(15)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(play, range(15))) == alone


def test_games_that_are_played_at_once_are_made_once_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    read: list[str] = []

    class Counted(game_module.Game):
        def __init__(self, file: GameFile) -> None:
            made.append(file.where)
            super().__init__(file)

    def counted(name: str) -> GameFile:
        read.append(name)
        return generate(name)

    generate = generate_module.generated
    monkeypatch.setattr(game_module, "Game", Counted)
    monkeypatch.setattr(generate_module, "generated", counted)
    tasks = make("alfworldgenerated").tasks("train")[-140:]
    envs = [make("alfworldgenerated") for _ in tasks]
    for env, task in zip(envs, tasks, strict=True):
        env.reset(options={"task": task})
    for _ in range(3):
        for env in envs:
            env.step("look")
            assert env.unwrapped.game.won(env.state.world) is False  # type: ignore[attr-defined]  # as oracles look
    assert len(made) == len(set(made)) == len(read) == len(tasks)
    for env in envs:
        env.close()
    del env, envs
    gc.collect()
    assert len(game_module._live) <= 40  # nobody plays them: only the last ones are kept


# -- hostile commands --------------------------------------------------------------------------------------------------

_NOISE = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=st.characters(codec=None), max_size=20),
    st.sampled_from(
        ["", " ", "\0", "\ud800", "look\n", "LOOK", "go to fridge 1;", "{o}", "#intro#", "[{r.name}]", "%s"]
    ),
    st.builds(lambda unit, times: unit * times, st.text(min_size=1, max_size=3), st.integers(1, 5000)),
    st.tuples(
        st.sampled_from(["go to", "open", "take", "put", "use", "examine", "heat", "slice"]),
        st.sampled_from(["fridge 1", "mug 1", "cabinet 99", "loc 3", "agent1", "mug", "", "mug 1 from cabinet 1"]),
    ).map(" ".join),
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(commands=st.lists(_NOISE, min_size=50, max_size=50))
def test_10_000_hostile_commands_are_answered(commands: list[str], env: TextEnv[State]) -> None:
    env.max_steps = None
    env.reset(options={"task": NAME})
    for command in commands:
        before = env.state.world
        listed = command.strip() in env.unwrapped.game.admissible(before)  # type: ignore[attr-defined]
        observation, _, _, _, info = env.step(command)
        assert info["valid"] is listed
        assert listed or (observation == NOTHING and env.state.world == before)


def test_hostile_commands_leave_nothing_behind(env: TextEnv[State]) -> None:
    env.max_steps = None

    def round_of(number: int) -> None:
        env.reset(options={"task": NAME})
        for each in range(1000):
            env.step(f"command {number} {each} " + "x" * 200)

    round_of(0)
    env.reset(options={"task": NAME})
    tracemalloc.start()
    for number in range(1, 4):
        round_of(number)
    env.reset(options={"task": NAME})
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 200_000  # 3,000 commands of 200 letters would be three times as much


# -- generated games ---------------------------------------------------------------------------------------------------


def test_generated_games_need_no_data_and_say_what_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PALAESTRA_DATA", str(tmp_path))
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path))
    env = make("alfworldgenerated")
    assert isinstance(env, GeneratedALFWorld)
    assert find("alfworldgenerated").why_not_ready() is None
    assert "made-up" in find("alfworldgenerated").summary
    for split in env.splits():
        tasks = env.tasks(split)
        assert won_by_expert(env, tasks[0])
        assert env.task.env == "palaestra/ALFWorldGenerated-v0"
        assert env.task.split == split
    observation, _ = env.reset(options={"task": env.tasks("test")[3]})
    assert "made-up" in observation.lower()
    assert list(tmp_path.iterdir()) == []


def test_snapshots_of_generated_games_do_not_depend_on_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_data = make("alfworldgenerated")
    with_data.reset()
    snapshot = with_data.snapshot()
    monkeypatch.setenv("PALAESTRA_DATA", str(tmp_path))
    make("alfworldgenerated").restore(snapshot)


def test_fingerprints_say_which_games_are_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, env: TextEnv[State]
) -> None:
    here = env.fingerprint()
    assert here == make("alfworld", protocol="eto").fingerprint()
    assert all(split in release().fingerprint for split in SPLITS)
    monkeypatch.setenv("PALAESTRA_DATA", str(tmp_path))
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path))
    assert env.fingerprint() != here

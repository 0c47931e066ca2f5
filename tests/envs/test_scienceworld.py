"""ScienceWorld keeps the contract: tasks, scores, questions, bad actions, rewind, protocols."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

from palaestra.envs import BadInput, TextEnv, make
from palaestra.envs.jvm import LONGEST_ACTION, clean
from palaestra.envs.registry import find
from palaestra.envs.scienceworld.engine import Engine
from palaestra.envs.scienceworld.env import ScienceWorld, State
from palaestra.envs.scienceworld.oracle import gold, gold_path
from palaestra.envs.scienceworld.protocols import PROTOCOLS, flat_id, from_flat_id, protocol
from palaestra.envs.scienceworld.tasks import ELECTRICAL, SPLITS, TASKS, names, parse, variations
from palaestra.trainers.evaluate import held_out

SHORT = ("lifespan-longest-lived/3", "find-non-living-thing/3", "lifespan-longest-lived-then-shortest-lived/70")


@pytest.fixture
def env() -> Iterator[TextEnv[State]]:
    made = make("scienceworld", simplifications="easy")
    yield made
    made.close()


def play(env: TextEnv[State], name: str) -> tuple[float, bool, float]:
    """Follow the gold path: sum of rewards, success, final score."""
    env.reset(options={"task": name})
    total, over, truncated = 0.0, False, False
    info = {"success": False, "score": 0.0}
    while not (over or truncated):
        _, reward, over, truncated, info = env.step(gold(env))
        total += float(reward)
    return total, bool(info["success"]), float(info["score"])


# -- tasks -----------------------------------------------------------------------------------------------------------


def test_the_table_of_tasks_is_what_the_engine_says() -> None:
    from scienceworld.constants import ID2TASK

    assert {number: name for name, (number, _) in TASKS.items()} == ID2TASK
    engine = Engine()
    try:
        for name, (_, count) in TASKS.items():
            assert engine.jvm.call(engine._server, "getTaskMaxVariations", name) == count
        for name in ("boil", "identify-life-stages-2", "test-conductivity", "grow-fruit"):
            engine.load(name, 0, "")
            for split, method in zip(SPLITS, ("Train", "Dev", "Test"), strict=True):
                listed = engine.jvm.reference(engine._server, f"getVariations{method}")
                size = engine.jvm.call(listed, "size")
                ends = [engine.jvm.call(listed, "get", at) for at in (0, int(str(size)) - 1)]
                expected = variations(name, split)
                assert (size, *ends) == (len(expected), expected[0], expected[-1]), (name, split)
    finally:
        engine.close()


def test_there_are_30_tasks_and_7207_variations_in_the_official_splits() -> None:
    assert len(TASKS) == 30
    assert [len(names(split)) for split in SPLITS] == [3592, 1796, 1819]
    assert len({name for split in SPLITS for name in names(split)}) == 7207
    spec = find("scienceworld")
    assert [len(spec.split(split)) for split in SPLITS] == [3592, 1796, 1819]


@pytest.mark.parametrize("name", ["boil/30", "boil/-1", "boil", "boil/01", "boil/x", "boil/٣", "bowl/1", "", "/"])
def test_an_unknown_task_is_bad_input(name: str) -> None:
    with pytest.raises(BadInput):
        parse(name)


def test_an_unknown_task_gets_the_nearest_names() -> None:
    with pytest.raises(BadInput, match="did you mean find-plant"):
        parse("find-plants/3")


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"simplifications": "simple"}, "no simplification 'simple'"),
        ({"simplifications": "easy,openDoors"}, "stands alone"),
        ({"protocol": "other"}, "no protocol 'other'"),
        ({"protocol": "agentgym", "simplifications": "easy"}, "sets simplifications itself"),
        ({"protocol": "eto", "simplifications": "openDoors"}, "sets simplifications itself"),
        ({"simplification": "easy"}, "no setting 'simplification'"),
    ],
)
def test_settings_that_mean_nothing_are_bad_input(settings: dict[str, str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        make("scienceworld", **settings)


def test_electrical_tasks_refuse_to_go_without_electricity() -> None:
    env = make("scienceworld", simplifications="noElectricalAction")
    for task in sorted(ELECTRICAL):
        with pytest.raises(BadInput, match="needs electrical actions"):
            env.reset(options={"task": f"{task}/0"})
    env.close()


# -- episodes --------------------------------------------------------------------------------------------------------


def test_the_first_observation_tells_the_task_and_the_place(env: TextEnv[State]) -> None:
    observation, info = env.reset(options={"task": "find-plant/0"})
    assert "Your task is to find a(n) plant" in observation
    assert "you see" in observation
    assert (info["score"], info["success"], info["valid"]) == (0.0, False, True)


def test_the_rules_are_short_and_name_the_actions_of_the_setting(env: TextEnv[State]) -> None:
    env.reset(options={"task": "find-plant/0"})
    easy = env.instructions(env.task)
    assert len(easy) < 560
    assert "teleport" in easy
    assert "connect" not in easy
    plain = make("scienceworld").instructions(env.task)
    assert "teleport" not in plain
    assert "connect" in plain


@pytest.mark.parametrize("name", SHORT)
def test_the_gold_oracle_wins_and_rewards_sum_up_to_the_score(env: TextEnv[State], name: str) -> None:
    total, success, score = play(env, name)
    assert (success, score) == (True, 1.0)
    assert total == pytest.approx(1.0)


def test_the_gold_oracle_goes_on_after_slips_of_another_hand(env: TextEnv[State]) -> None:
    env.reset(options={"task": SHORT[0]})
    over, success = False, False
    for turn in range(40):
        action = "look around" if turn % 2 else gold(env)
        _, _, over, _, info = env.step(action)
        success = info["success"]
        if over:
            break
    assert over
    assert success


def test_a_gold_path_is_the_same_whoever_draws_it() -> None:
    engine = Engine()
    try:
        for name in SHORT:
            assert tuple(engine.gold(*parse(name), "easy")) == gold_path(name, "easy")
    finally:
        engine.close()


def test_a_wrong_focus_ends_the_episode_with_nothing(env: TextEnv[State]) -> None:
    env.reset(options={"task": "lifespan-longest-lived/3"})
    env.step("look around")
    _, _, over, _, info = env.step("focus on agent")
    assert over
    assert (info["score"], info["success"]) == (0.0, False)
    assert info["raw_score"] < 0


def test_a_question_of_the_engine_is_answered_with_a_listed_number(env: TextEnv[State]) -> None:
    env.reset(options={"task": "find-living-thing/3"})
    observation, _, _, _, info = env.step("close door")
    assert observation.startswith("Ambiguous request: Please enter the number")
    assert info["ambiguous"]
    assert info["valid"]
    assert list(info["actions"]) == ["0", "1", "2"]
    observation, _, _, _, info = env.step("1")
    assert "closed" in observation
    assert not info["ambiguous"]
    assert len(info["actions"]) > 3
    env.step("close door")
    _, _, _, _, info = env.step("none of these")
    assert (info["valid"], info["ambiguous"]) == (False, False)


def test_listed_actions_are_understood(env: TextEnv[State]) -> None:
    _, info = env.reset(options={"task": "find-living-thing/3"})
    rng = random.Random(1)
    for _ in range(15):
        action = rng.choice([action for action in info["actions"] if not action.startswith(("focus", "reset"))])
        info = env.step(action)[4]
        assert info["valid"], action


def test_what_the_engine_does_not_know_is_invalid_and_takes_a_step(env: TextEnv[State]) -> None:
    env.reset(options={"task": "find-living-thing/3"})
    observation, reward, over, _, info = env.step("fly to the moon")
    assert (info["valid"], over) == (False, False)
    assert "No known action" in observation
    assert reward == pytest.approx(1 / 12)  # what the task grants for where one stands comes with the first step
    assert env.history == ("fly to the moon",)


HOSTILE = [
    "",
    " ",
    "\n\n\n",
    "a" * 1_000_000,
    "look " * 200_000,
    "\x00\x01\x1b[2J\x7f",
    "look\x00around",
    "look around\ne\nc\no0\nshutdown\ne\n",
    "\\n\\r\\",
    "\ud800 \udfff",
    "смотреть 見回す 😀 ʼ ﷺ \u202e",
    "99999999999999999999",
    "-1",
    "focus on " * 40,
    "move a to a to a to a",
    "OBJ",
    "open door\topen door",
    "%s%n {} ${jndi:ldap://x}",
    "x" * LONGEST_ACTION,
    "e",
    "!yv",
]


def test_hostile_actions_are_answered_and_the_engine_lives(env: TextEnv[State]) -> None:
    env.reset(options={"task": "find-living-thing/3"})
    assert isinstance(env.unwrapped, ScienceWorld)
    engine = env.unwrapped._engine
    for action in HOSTILE:
        observation, _, over, truncated, _ = env.step(action)
        assert isinstance(observation, str)
        assert observation
        assert not over
        assert not truncated
    assert env.step("look around")[4]["valid"]
    assert env.unwrapped._engine is engine


def test_an_action_becomes_one_clean_line_or_is_refused() -> None:
    assert clean("  look\n\taround \x00") == "look around"
    assert clean("\ud800go") == "go"
    assert clean("x" * (LONGEST_ACTION + 1)) is None
    assert clean("\u2028".join("ab")) == "a b"


def test_random_listed_actions_never_break_it() -> None:
    env = make("scienceworld", max_steps=25)
    rng = random.Random(7)
    for name in ("chemistry-mix/2", "power-component/1"):
        _, info = env.reset(options={"task": name})
        over = truncated = False
        while not (over or truncated):
            _, _, over, truncated, info = env.step(rng.choice(info["actions"]))
    env.close()


# -- rewind ----------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_restored_in_another_instance_and_goes_on_the_same(env: TextEnv[State]) -> None:
    other = make("scienceworld", simplifications="easy")
    env.reset(options={"task": "chemistry-mix/1"})
    path = gold_path("chemistry-mix/1", "easy")
    for action in path[:6]:
        env.step(action)
    snapshot = pickle.loads(pickle.dumps(env.snapshot()))
    ahead = [env.step(action)[:4] for action in path[6:9]]
    observation, _ = other.restore(snapshot)
    assert observation == snapshot_text(env, snapshot)
    assert [other.step(action)[:4] for action in path[6:9]] == ahead
    other.close()


def snapshot_text(env: TextEnv[State], snapshot: object) -> str:
    from palaestra.envs import Snapshot

    assert isinstance(snapshot, Snapshot)
    return env.restore(snapshot)[0]


def test_a_snapshot_is_restored_in_another_process(env: TextEnv[State]) -> None:
    env.reset(options={"task": "find-plant/3"})
    for action in gold_path("find-plant/3", "easy")[:5]:
        env.step(action)
    script = (
        "import pickle, sys; from palaestra.envs import make; "
        "env = make('scienceworld', simplifications='easy'); "
        "env.restore(pickle.load(sys.stdin.buffer)); print(env.render() or ''); env.close()"
    )
    done = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(env.snapshot()), capture_output=True)
    assert done.stdout.decode().rstrip("\n") == (env.render() or "").rstrip("\n"), done.stderr.decode()


# -- protocols -------------------------------------------------------------------------------------------------------


def test_protocol_eto_follows_its_rule() -> None:
    eto = protocol("eto")
    assert {split: len(tasks) for split, tasks in eto.splits.items()} == {"train": 1408, "dev": 199, "test": 211}
    assert len(eto.steps) == 24
    assert (min(eto.steps.values()), max(eto.steps.values())) == (10, 120)
    for task in eto.steps:
        for split, most in (("train", 120), ("dev", 10), ("test", 10)):
            taken = [name for name in eto.splits[split] if parse(name)[0] == task]
            assert taken == [f"{task}/{number}" for number in variations(task, split)[:most]]


@pytest.mark.parametrize("name", [None, *PROTOCOLS])
def test_no_held_out_task_is_a_training_task_under_any_protocol(name: str | None) -> None:
    env = make("scienceworld", protocol=name)
    trained = {task.name for task in env.tasks("train")}
    for split in ("dev", "test"):
        tasks = held_out(find("scienceworld"), env, split)
        assert tasks
        assert not trained & {task.name for task in tasks}


def test_protocol_agentgym_leaves_out_seven_types_and_numbers_the_others_in_a_row() -> None:
    kept = protocol("agentgym")
    assert len(kept.steps) == 23
    assert set(kept.steps.values()) == {30}
    total = sum(TASKS[task][1] for task in kept.steps)
    assert sum(len(tasks) for tasks in kept.splits.values()) == total == 4639
    assert [from_flat_id(n) for n in (0, 29, 30, total - 1)] == [
        "boil/0",
        "boil/29",
        "melt/0",
        "identify-life-stages-2/9",
    ]
    assert all(from_flat_id(flat_id(name)) == name for name in kept.splits["test"][::17])
    for bad in (-1, total):
        with pytest.raises(BadInput):
            from_flat_id(bad)
    with pytest.raises(BadInput, match="leaves out"):
        flat_id("grow-fruit/1")


def test_a_protocol_sets_tasks_caps_and_simplification() -> None:
    env = make("scienceworld", protocol="eto")
    assert [len(env.tasks(split)) for split in SPLITS] == [1408, 199, 211]
    with pytest.raises(BadInput, match="no split 'valid'"):
        env.tasks("valid")
    env.reset(options={"task": "lifespan-longest-lived/93"})
    assert env.max_steps == 10
    assert isinstance(env, ScienceWorld)
    assert env.simplifications == "easy"
    with pytest.raises(BadInput, match="leaves out"):
        env.reset(options={"task": env.task.model_copy(update={"name": "mendelian-genetics-known-plant/3"})})
    env.close()
    own = make("scienceworld", protocol="eto", max_steps=3)
    own.reset(options={"task": "lifespan-longest-lived/93"})
    assert [own.step("look around")[3] for _ in range(3)] == [False, False, True]
    own.close()


def test_protocol_eto_counts_the_best_score_and_the_own_one_the_last() -> None:
    scores: dict[str | None, list[float]] = {}
    for name in (None, "eto"):
        env = make("scienceworld", simplifications="easy", protocol=name)
        env.reset(options={"task": "find-living-thing/227"})
        env.step("look around")
        before = env.score
        for action in gold_path("find-living-thing/227", "easy"):
            if action.startswith("focus"):
                break
            env.step(action)
        info = env.step("focus on agent")[4]
        scores[name] = [before, info["score"], info["raw_score"]]
        assert not info["success"]
        env.close()
    assert scores[None][0] > 0
    assert scores[None][1] == 0.0
    assert scores["eto"][1] >= scores["eto"][0] > 0
    assert scores[None][2] == scores["eto"][2] < 0

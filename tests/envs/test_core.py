"""What the base class of all environments promises: Gymnasium's contract, lazy actions, rewinding."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import OrderEnforcing, RecordEpisodeStatistics, TimeLimit

import palaestra
from palaestra.envs import Actions, BadInput, EnvFault, Fidelity, ReplayDiverged, Reply, Task, Text, TextEnv, register
from palaestra.envs.bandit.env import Bandit

BANDIT = "palaestra/Bandit-v0"
TASK = Task(env=BANDIT, name="bernoulli-k3-gap0.2-h50/7", split="train")
EASY = Task(env=BANDIT, name="bernoulli-k2-gap0.4-h4/0", split="train")


@pytest.fixture
def env() -> TextEnv[Any]:
    return palaestra.make("bandit")


# -- Gymnasium ------------------------------------------------------------------------------------------------------


def test_importing_palaestra_is_all_that_gymnasium_make_needs() -> None:
    code = "import gymnasium, palaestra; print(gymnasium.make('palaestra/Bandit-v0').reset(seed=1)[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "arms" in done.stdout, done.stderr


def test_gymnasiums_checker_finds_nothing_and_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped = gymnasium.make(BANDIT)
        wrapped.reset(seed=3)
        wrapped.step("pull 1")
        check_env(wrapped.unwrapped)


def test_gymnasiums_wrappers_work() -> None:
    wrapped = RecordEpisodeStatistics(TimeLimit(OrderEnforcing(palaestra.make("bandit")), max_episode_steps=3))
    with pytest.raises(gymnasium.error.ResetNeeded):
        wrapped.step("pull 1")
    wrapped.reset(options={"task": TASK})
    ends = [wrapped.step("pull 1")[3] for _ in range(2)]
    _, _, over, truncated, info = wrapped.step("pull 1")
    assert ends == [False, False]
    assert truncated
    assert not over
    assert info["episode"]["l"] == 3


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_vector_environments_work_past_the_end_of_episodes(kind: str, mode: AutoresetMode) -> None:
    makers = [lambda: gymnasium.make(BANDIT, max_steps=4)] * 2
    envs = (
        SyncVectorEnv(makers, autoreset_mode=mode)
        if kind == "sync"
        else AsyncVectorEnv(makers, shared_memory=False, autoreset_mode=mode)
    )
    try:
        texts, info = envs.reset(seed=[5, 6])
        assert all("arms" in text for text in texts)
        assert [len(actions) for actions in info["actions"]] == [int(text.split()[2]) for text in texts]
        ends = 0
        for _ in range(9):
            texts, _, _, truncated, info = envs.step(("pull 1", "hello"))
            ends += int(truncated.sum())
            assert all(texts)
        assert ends == 4  # each environment after actions 4 and 8, or 4 and 9 where a reset takes a step of its own
    finally:
        envs.close()


def test_every_text_is_in_the_space_and_nothing_else_is() -> None:
    space = Text(seed=1)
    assert all(text in space for text in ("", "go north!", "行动", "\ud800", "x" * 100_000))
    assert 3 not in space
    assert b"go" not in space
    assert space.sample() in space
    assert Text(seed=1).sample() == Text(seed=1).sample()


# -- reset and step -------------------------------------------------------------------------------------------------


def test_a_seed_picks_the_task_and_the_task_decides_all_else(env: TextEnv[Any]) -> None:
    (first, info), (again, same) = env.reset(seed=11), palaestra.make("bandit").reset(seed=11)
    assert (first, info["task"]) == (again, same["task"])
    other = palaestra.make("bandit")
    other.reset(seed=999)
    other.reset(options={"task": info["task"]})
    assert [env.step("pull 2")[0] for _ in range(9)] == [other.step("pull 2")[0] for _ in range(9)]
    assert len({env.reset(seed=seed)[1]["task"].name for seed in range(20)}) > 10


def test_without_a_seed_the_tasks_go_on_from_the_last_seed(env: TextEnv[Any]) -> None:
    def names(one: TextEnv[Any]) -> list[str]:
        return [one.reset(seed=4)[1]["task"].name, *(one.reset()[1]["task"].name for _ in range(3))]

    assert names(env) == names(palaestra.make("bandit"))
    assert len(set(names(env))) > 1


def test_tasks_without_choice_are_training_tasks(env: TextEnv[Any]) -> None:
    assert {env.reset(seed=seed)[1]["task"].split for seed in range(30)} == {"train"}


def test_a_task_is_found_by_name_in_any_split(env: TextEnv[Any]) -> None:
    name = "gaussian-k10-gap0.5-h300/3"
    assert env.reset(options={"task": name})[1]["task"] == Task(env=BANDIT, name=name, split="test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tsk": "x"}, "unknown option 'tsk'"),
        ({"task": "no such"}, "no task 'no such'"),
        ({"task": Task(env="mine/Other-v0", name="1", split="train")}, "belongs to mine/Other-v0"),
        ({"task": Task(env=BANDIT, name=TASK.name, split="trian")}, "of no split"),
        ({"task": 5}, "5"),
        (5, "options are .'task': TASK., not 5"),
        ([1], "options are .'task': TASK., not .1."),
    ],
)
def test_a_wrong_option_is_one_line_and_leaves_no_half_begun_episode(
    env: TextEnv[Any], options: Any, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        env.reset(options=options)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("pull 1")


def test_info_is_whole_after_reset_step_and_restore(env: TextEnv[Any]) -> None:
    _, info = env.reset(options={"task": TASK})
    snapshot = env.snapshot()
    for one in (info, env.step("pull 1")[4], env.step("nonsense")[4], env.restore(snapshot)[1]):
        assert {"score", "success", "valid", "actions", "task"} <= set(one)
        assert 0.0 <= one["score"] <= 1.0
        assert one["task"] == TASK


def test_a_bad_action_costs_a_step_and_says_what_was_wrong(env: TextEnv[Any]) -> None:
    env.reset(options={"task": TASK})
    text, _, over, truncated, info = env.step("open the door")
    assert not info["valid"]
    assert "pull 1" in text
    assert (over, truncated, len(env.history)) == (False, False, 1)
    assert env.step("pull 1")[4]["valid"]


def test_stepping_before_the_beginning_or_after_the_end_raises_reset_needed(env: TextEnv[Any]) -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("pull 1")
    env.reset(options={"task": EASY})
    while not env.step("pull 1")[2]:
        pass
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("pull 1")
    assert len(env.history) == 4
    env.reset(options={"task": EASY})
    assert env.step("pull 1")[4]["valid"]


def test_the_step_limit_truncates_and_the_end_of_the_task_does_not() -> None:
    env = palaestra.make("bandit", max_steps=4)
    env.reset(options={"task": TASK})
    assert [env.step("pull 1")[2:4] for _ in range(4)] == [(False, False)] * 3 + [(False, True)]
    env.reset(options={"task": EASY})
    assert [env.step("pull 1")[2:4] for _ in range(4)] == [(False, False)] * 3 + [(True, False)]


def test_closing_twice_is_allowed_and_a_reset_begins_anew(env: TextEnv[Any]) -> None:
    env.close()
    env.reset(options={"task": TASK})
    env.close()
    env.close()
    assert "arms" in env.reset(options={"task": TASK})[0]


@dataclass
class Tally:
    total: int = 0


class Adder(TextEnv[Tally]):
    """Add numbers up to ten."""

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[Tally, str]:
        return Tally(), "0"

    def act(self, state: Tally, action: str) -> Reply:
        if action == "break":
            state.total = 99
            raise EnvFault("it broke")
        state.total += int(action)
        return Reply(str(state.total), score=state.total / 10, success=state.total == 10)


NUMBERS = Task(env="adder", name="0", split="train")


def test_rewards_are_the_change_of_the_score_and_success_stays() -> None:
    env = Adder()
    env.reset(options={"task": NUMBERS})
    steps = [env.step(action) for action in ("4", "6", "-3")]
    assert [float(step[1]) for step in steps] == pytest.approx([0.4, 0.6, -0.3])
    assert [step[4]["success"] for step in steps] == [False, True, True]


def test_an_episode_that_broke_cannot_go_on_half_changed() -> None:
    env = Adder()
    env.reset(options={"task": NUMBERS})
    env.step("3")
    snapshot = env.snapshot()
    with pytest.raises(EnvFault):
        env.step("break")
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("1")
    env.restore(snapshot)
    assert env.step("1")[0] == "4"


def test_instructions_are_the_docstring_and_never_that_of_the_base_class() -> None:
    class Mute(Adder):
        pass

    class Bare(TextEnv[Tally]):
        begin, act = Adder.begin, Adder.act  # type: ignore[assignment]

    assert Adder().instructions(NUMBERS) == Mute().instructions(NUMBERS) == "Add numbers up to ten."
    assert Bare().instructions(NUMBERS) == ""
    assert palaestra.make("bandit").instructions(TASK).startswith("You face several slot machines")


# -- admissible actions ---------------------------------------------------------------------------------------------


class Counted(Bandit):
    """Counts how often its actions are listed."""

    listed = 0

    def admissible(self, state: Any) -> Sequence[str]:
        self.listed += 1
        return super().admissible(state)


def test_actions_are_listed_once_and_only_when_looked_at() -> None:
    env = Counted()
    _, info = env.reset(options={"task": TASK})
    for _ in range(5):
        info = env.step("pull 1")[4]
    assert env.listed == 0
    assert list(info["actions"]) == ["pull 1", "pull 2", "pull 3"]
    assert info["actions"][1] == "pull 2"
    assert "pull 3" in info["actions"]
    assert env.listed == 1


def test_actions_that_nobody_looked_at_in_time_cannot_be_listed(env: TextEnv[Any]) -> None:
    _, info = env.reset(options={"task": TASK})
    looked = env.step("pull 1")[4]["actions"]
    known = list(looked)
    env.step("pull 1")
    assert list(looked) == known
    with pytest.raises(RuntimeError, match="moved on"):
        len(info["actions"])


def test_actions_pickle_and_copy_as_lists(env: TextEnv[Any]) -> None:
    _, info = env.reset(options={"task": TASK})
    for other in (pickle.loads(pickle.dumps(info)), copy.deepcopy(info)):
        assert type(other["actions"]) is list
        assert other["actions"] == ["pull 1", "pull 2", "pull 3"] == info["actions"]


def test_infos_of_one_step_compare_equal_even_after_the_environment_moved_on(env: TextEnv[Any]) -> None:
    def taken(*actions: str) -> dict[str, Any]:
        _, info = env.reset(options={"task": TASK})
        for action in actions:
            info = env.step(action)[4]
        return info

    first = taken("pull 1", "pull 2")
    assert first == taken("pull 1", "pull 2")
    assert first["actions"] != taken("pull 2", "pull 2")["actions"]  # of another step, and no longer known
    assert Actions(lambda: ["a"]) == Actions(lambda: ["a"])
    assert Actions(lambda: ["a"]) != Actions(lambda: ["b"])
    assert Actions(lambda: ["a"]) == ["a"]
    assert Actions(lambda: ["a"]) != "a"


def test_after_the_end_there_are_no_actions(env: TextEnv[Any]) -> None:
    env.reset(options={"task": EASY})
    over, info = False, {}
    while not over:
        _, _, over, _, info = env.step("pull 1")
    assert list(info["actions"]) == []


def test_an_environment_that_lists_none_says_none() -> None:
    assert Adder().reset(options={"task": NUMBERS})[1]["actions"] is None


# -- rewind ---------------------------------------------------------------------------------------------------------


def test_any_step_can_be_gone_back_to_in_this_instance_and_in_others(env: TextEnv[Any]) -> None:
    env.reset(options={"task": TASK})
    snapshots, seen = [env.snapshot()], []
    for number in range(10):
        seen.append(env.step(f"pull {number % 3 + 1}")[:4])
        snapshots.append(env.snapshot())
    for step in (10, 0, 7, 3):
        for instance in (env, palaestra.make("bandit")):
            _, info = instance.restore(pickle.loads(pickle.dumps(snapshots[step])))
            assert info["task"] == TASK
            assert len(instance.history) == step == snapshots[step].step
            assert [instance.step(f"pull {number % 3 + 1}")[:4] for number in range(step, 10)] == seen[step:]


def test_a_snapshot_is_not_changed_by_what_happens_later(env: TextEnv[Any]) -> None:
    env.reset(options={"task": TASK})
    snapshot = env.snapshot()
    texts = []
    for _ in range(3):
        env.restore(snapshot)
        texts.append([env.step("pull 1")[0] for _ in range(5)])
    assert texts[0] == texts[1] == texts[2]


def test_a_snapshot_of_the_end_restores_the_end(env: TextEnv[Any]) -> None:
    env.reset(options={"task": EASY})
    while not env.step("pull 1")[2]:
        pass
    other = palaestra.make("bandit")
    assert other.restore(env.snapshot())[1]["score"] == env.score
    with pytest.raises(gymnasium.error.ResetNeeded):
        other.step("pull 1")


def test_a_snapshot_of_other_settings_or_another_environment_is_refused(env: TextEnv[Any]) -> None:
    env.reset(options={"task": TASK})
    snapshot = env.snapshot()
    with pytest.raises(BadInput, match="settings none, this instance has show='table'"):
        palaestra.make("bandit", show="table").restore(snapshot)
    with pytest.raises(BadInput, match="this instance is"):
        Adder().restore(snapshot)
    odd: Any
    for odd in (5, None, "step 3", {"task": TASK}):
        with pytest.raises(BadInput, match=r"restore takes what snapshot\(\) gave, not "):
            env.restore(odd)
    assert env.restore(snapshot)[1]["task"] == TASK


@pytest.mark.usefixtures("clean_registry")
def test_a_snapshot_is_of_one_registration_even_where_two_share_a_class(env: TextEnv[Any]) -> None:
    register("mine/Bandit-v0", Bandit, splits={"train": [TASK.name]})
    env.reset(options={"task": TASK})
    with pytest.raises(BadInput, match="belongs to palaestra/Bandit-v0"):
        palaestra.make("mine/Bandit-v0").restore(env.snapshot())


class Replayed(Adder):
    """Rewinds by replay; `offset` makes it answer otherwise."""

    fidelity = Fidelity.REPLAY
    offset = 0
    acted = 0

    def act(self, state: Tally, action: str) -> Reply:
        self.acted += 1
        reply = super().act(state, action)
        return Reply(str(state.total + (self.offset if state.total > 5 else 0)), score=reply.score)


def test_replay_goes_on_from_where_the_instance_stands_if_that_is_on_the_way() -> None:
    env = Replayed()
    env.reset(options={"task": NUMBERS})
    for action in ("1", "1", "1", "1"):
        env.step(action)
    snapshot = env.snapshot()
    other = Replayed()
    other.reset(options={"task": NUMBERS})
    other.step("1")
    assert other.distance(NUMBERS, snapshot.actions) == 3
    assert other.restore(snapshot)[0] == "4"
    assert other.acted == 4
    assert other.distance(NUMBERS, ("1", "2")) is None
    other.step("5")
    other.restore(snapshot)  # past it: from the start
    assert other.acted == 4 + 1 + 4


def test_a_replay_that_goes_otherwise_says_at_which_step_and_how() -> None:
    env = Replayed()
    env.reset(options={"task": NUMBERS})
    for action in ("4", "3", "1"):
        env.step(action)
    snapshot = env.snapshot()
    other = Replayed()
    other.offset = 100
    with pytest.raises(ReplayDiverged) as raised:
        other.restore(snapshot)
    assert (raised.value.step, raised.value.actual) == (2, "107")
    with pytest.raises(ReplayDiverged) as raised:
        other.replay(NUMBERS, ["4", "3"], ["0", "4", "7"])
    assert (raised.value.step, raised.value.expected, raised.value.actual) == (2, "7", "107")
    assert pickle.loads(pickle.dumps(raised.value)).step == 2
    with pytest.raises(BadInput, match="replay needs 3 observations"):
        other.replay(NUMBERS, ["4", "3"], ["0"])


def test_exact_environments_can_be_replayed_too(env: TextEnv[Any]) -> None:
    env.reset(options={"task": TASK})
    seen = [env.step(action)[0] for action in ("pull 1", "pull 2")]
    assert palaestra.make("bandit").replay(TASK, ("pull 1", "pull 2"))[0] == seen[-1]


# -- Task -----------------------------------------------------------------------------------------------------------


def test_a_task_is_frozen_has_a_stable_id_and_its_own_randomness() -> None:
    assert TASK.id == "palaestra/Bandit-v0:train:bernoulli-k3-gap0.2-h50/7:0"
    assert Task.model_validate_json(TASK.model_dump_json()) == TASK
    assert TASK.rng().random() == TASK.rng().random()
    assert TASK.rng().random() != TASK.model_copy(update={"seed": 1}).rng().random()
    with pytest.raises(ValueError, match="frozen"):
        TASK.seed = 3  # type: ignore[misc]

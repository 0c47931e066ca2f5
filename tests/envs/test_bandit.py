"""What the bandits promise: tasks by name, scores without luck, exact forks, oracles that explore, metrics by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import palaestra
from palaestra.envs import BadInput, Task, find
from palaestra.envs.bandit.env import found_best, worth
from palaestra.envs.bandit.families import SPLITS, Family
from palaestra.envs.bandit.metrics import (
    Run,
    cumulative_regret,
    exploration,
    greedy_frac,
    k_min_frac,
    suffix_failure,
    suffix_failure_frequency,
)
from palaestra.envs.bandit.oracles import greedy_choice, thompson_choice, ucb_choice

BANDIT = "palaestra/Bandit-v0"
HARD = "bernoulli-k5-gap0.2-h50"


def task(name: str, split: str = "train") -> Task:
    return Task(env=BANDIT, name=name, split=split)


# -- tasks ----------------------------------------------------------------------------------------------------------


def test_test_families_differ_from_training_in_arms_gap_horizon_and_kind() -> None:
    train = [Family.parse(name) for name in SPLITS["train"][0]]
    test = [Family.parse(name) for name in SPLITS["test"][0]]
    assert {family.kind for family in train} == {"bernoulli"}
    assert "gaussian" in {family.kind for family in test}
    assert max(family.horizon for family in test) == 6 * max(family.horizon for family in train)
    assert max(family.arms for family in test) > max(family.arms for family in train)
    assert min(family.gap for family in test) < min(family.gap for family in train)


@given(st.sampled_from(["bernoulli", "gaussian"]), st.integers(2, 20), st.integers(1, 8), st.integers(0, 10**9))
def test_the_gap_lies_between_the_best_arm_and_the_second_best(kind: str, arms: int, tenths: int, seed: int) -> None:
    family = Family.parse(f"{kind}-k{arms}-gap{tenths / 10:g}-h50/3")
    means = family.means(np.random.default_rng(seed))
    best, second = sorted(means)[-1], sorted(means)[-2]
    assert len(means) == arms
    assert best - second == pytest.approx(family.gap)
    if kind == "bernoulli":
        assert all(0 < mean < 1 for mean in means)


def test_the_best_arm_can_be_any_arm() -> None:
    env = palaestra.make("bandit")
    best = set()
    for number in range(60):
        env.reset(options={"task": task(f"{HARD}/{number}")})
        best.add(int(np.argmax(env.state.means)))
    assert best == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("name", ["17", "bernoulli-k5", "poisson-k5-gap0.2-h50/1", f"bernoulli-k1-gap0.2-h50/{1}"])
def test_a_task_that_is_no_bandit_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(BadInput, match="bandit"):
        palaestra.make("bandit").reset(options={"task": task(name)})


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(BadInput, match="strategic, payoff, algorithmic"):
        palaestra.make("bandit", reward="regret")


# -- episodes -------------------------------------------------------------------------------------------------------


def test_an_episode_is_as_long_as_its_name_says_and_scores_one_for_the_best_arm() -> None:
    env = palaestra.make("bandit")
    env.reset(options={"task": task(f"{HARD}/0")})
    best = int(np.argmax(env.state.means)) + 1
    rewards, over, steps, info = 0.0, False, 0, {}
    while not over:
        _, reward, over, truncated, info = env.step(f"pull {best}")
        rewards, steps = rewards + float(reward), steps + 1
        assert not truncated
    assert steps == 50
    assert info["score"] == pytest.approx(1.0)
    assert rewards == pytest.approx(1.0)
    assert info["success"]


def test_the_score_is_one_minus_normalised_regret_whatever_was_paid() -> None:
    env = palaestra.make("bandit", max_steps=300)
    played = task("gaussian-k10-gap0.5-h300/2", "test")
    env.reset(options={"task": played})
    rng = np.random.default_rng(0)
    for _ in range(300):
        _, _, _, _, info = env.step(str(rng.integers(0, 12)))  # 0 and 11 name no arm
    run = Run.of(played, env.history)
    regret = cumulative_regret(run)[-1]
    assert info["score"] == pytest.approx(1 - regret / (300 * (max(run.means) - min(run.means))))


@pytest.mark.parametrize("action", ["3", "arm 3", "pull 3", "Pull arm 3.", "  PULL 3 \n"])
def test_an_arm_can_be_named_in_several_ways(action: str) -> None:
    env = palaestra.make("bandit")
    env.reset(options={"task": task(f"{HARD}/1")})
    text, _, _, _, info = env.step(action)
    assert info["valid"]
    assert text.startswith("Arm 3 paid")


@given(st.text() | st.text(alphabet=st.characters(categories=["Nd", "Cs", "Zs"])))
def test_any_text_is_answered_and_costs_one_pull(action: str) -> None:
    env = palaestra.make("bandit")
    env.reset(options={"task": task(f"{HARD}/1")})
    text, _, over, _, info = env.step(action)
    assert "Pull 1 of 50 is done." in text
    assert not over
    assert info["valid"] == (env.state.pulls != [None])


def test_branches_from_one_step_meet_the_same_luck() -> None:
    env, other = palaestra.make("bandit"), palaestra.make("bandit")
    env.reset(options={"task": task(f"{HARD}/1")})
    env.step("pull 1")
    snapshot = env.snapshot()
    env.step("not an arm")
    other.restore(snapshot)
    other.step("pull 4")
    assert env.step("pull 2")[0] == other.step("pull 2")[0]


def test_rewards_are_shaped_as_the_setting_says() -> None:
    rewards: dict[str, list[float]] = {}
    for name in ("strategic", "payoff", "algorithmic"):
        env = palaestra.make("bandit", reward=name)
        env.reset(options={"task": task("bernoulli-k3-gap0.2-h50/0")})
        rewards[name] = [float(env.step(action)[1]) for action in ("pull 1", "pull 3", "pull 2", "nothing")]
        means, payoffs = env.state.means, env.state.payoffs
    assert rewards["strategic"] == pytest.approx([worth(means, arm) / 50 for arm in (0, 2, 1, None)])
    assert rewards["payoff"] == payoffs
    assert rewards["algorithmic"] == [1.0, 0.0, 1.0, 0.0]  # UCB wants arm 1, then 2, then still 2


def test_the_table_tells_the_visible_history() -> None:
    env = palaestra.make("bandit", show="table")
    env.reset(options={"task": task("bernoulli-k3-gap0.2-h50/0")})
    env.step("pull 1")
    text = env.step("pull 1")[0]
    mean = sum(env.state.payoffs) / 2
    assert text.splitlines()[1:] == [
        f"arm 1: 2 pulls, {mean:.2f} on average",
        "arm 2: 0 pulls, unknown",
        "arm 3: 0 pulls, unknown",
    ]


@pytest.mark.parametrize(
    ("pulls", "found"),
    [
        ([0, 0, 0, 0, 0, 0, 1, 1], True),
        ([1, 1, 1, 1, 1, 1, 0, 0], False),
        ([1, 1, 1, 1, 1, 1, 0, 1], False),  # a tie
        ([0, 0, 0, 0, 0, 0, 1, None, 1], True),  # the last quarter of 9 is 3
        ([0, 0, 0, 0, 0, 0, 0, None, 1], False),  # a tie again
        ([0, 0, 0, 0, 0, 0, None, None], False),
    ],
)
def test_success_is_the_best_arm_pulled_most_in_the_last_quarter(pulls: list[int | None], found: bool) -> None:
    assert found_best((0.2, 0.9), pulls) is found


# -- oracles --------------------------------------------------------------------------------------------------------


def test_ucb_takes_the_largest_mean_plus_bound() -> None:
    family = Family.parse(HARD)
    assert ucb_choice(family, [1, 0, 2, 0, 1], [1, 0, 2, 0, 1]) == 1  # never pulled comes first
    # t = 13: arm 0: 0.5 + 0.5 * sqrt(2.565 / 10) = 0.753; arm 1: 0.333 + 0.5 * sqrt(2.565 / 3) = 0.796
    assert ucb_choice(Family.parse("bernoulli-k2-gap0.2-h50"), [10, 3], [5, 1]) == 1
    assert ucb_choice(Family.parse("bernoulli-k2-gap0.2-h50"), [10, 3], [5, 1], c=0.1) == 0


def test_greedy_takes_the_largest_mean_and_thompson_mostly_does() -> None:
    family = Family.parse("bernoulli-k2-gap0.2-h50")
    assert greedy_choice([10, 3], [5, 1]) == 0
    draws = [thompson_choice(family, [100, 100], [80, 20], np.random.default_rng(seed)) for seed in range(50)]
    assert draws == [0] * 50
    open_question = [thompson_choice(family, [1, 1], [1, 0], np.random.default_rng(seed)) for seed in range(50)]
    assert 0 < sum(open_question) < 25


@pytest.mark.parametrize("name", ["ucb", "thompson", "greedy", "epsilon_greedy"])
def test_oracles_see_the_visible_history_only_and_keep_nothing(name: str) -> None:
    oracle = find("bandit").oracle(name)
    env, twin = palaestra.make("bandit"), palaestra.make("bandit")
    env.reset(options={"task": task(f"{HARD}/5")})
    for _ in range(20):
        env.step(oracle(env))
    twin.restore(env.snapshot())
    twin.state.means = (0.0,) * 5  # hidden means are not looked at
    assert [oracle(env) for _ in range(3)] == [oracle(twin)] * 3


def play(player: str, numbers: Sequence[int]) -> list[Run]:
    env = palaestra.make("bandit")
    act: Callable[..., str]
    if player == "random":
        rng = np.random.default_rng(0)
        act = lambda env: f"pull {rng.integers(5) + 1}"  # noqa: E731
    else:
        act = find("bandit").oracle(player)
    runs = []
    for number in numbers:
        played = task(f"{HARD}/{number}")
        env.reset(options={"task": played})
        over = False
        while not over:
            over = env.step(act(env))[2]
        runs.append(Run.of(played, env.history))
    return runs


def test_ucb_and_thompson_regret_less_than_random_and_fail_less_than_greedy() -> None:
    numbers = range(300)  # fixed before the first run
    runs = {player: play(player, numbers) for player in ("ucb", "thompson", "greedy", "random")}

    def surely_less(lower: list[float], higher: list[float]) -> bool:
        """The paired difference of means is more than four standard errors below zero."""
        difference = np.asarray(lower) - np.asarray(higher)
        return bool(difference.mean() + 4 * difference.std(ddof=1) / np.sqrt(len(difference)) < 0)

    regret = {player: [float(cumulative_regret(run)[-1]) for run in runs[player]] for player in runs}
    failed = {player: [float(suffix_failure(run, 26)) for run in runs[player]] for player in runs}
    for player in ("ucb", "thompson"):
        assert surely_less(regret[player], regret["random"])
        assert surely_less(failed[player], failed["greedy"])
    assert exploration(runs["greedy"]).greedy_frac > exploration(runs["ucb"]).greedy_frac
    assert exploration(runs["random"]).k_min_frac > exploration(runs["ucb"]).k_min_frac


# -- metrics, worked by hand ----------------------------------------------------------------------------------------

RUN = Run(means=(0.2, 0.9, 0.5), pulls=(0, 1, 1, 2, None, 0), payoffs=(1.0, 0.0, 1.0, 0.0, 0.0, 0.0))


def test_cumulative_regret() -> None:
    # 0.9 - 0.2 = 0.7; 0; 0; 0.9 - 0.5 = 0.4; no arm costs as much as the worst: 0.7; 0.7
    assert cumulative_regret(RUN) == pytest.approx([0.7, 0.7, 0.7, 1.1, 1.8, 2.5])


def test_suffix_failure_counts_steps_from_one_to_the_end() -> None:
    assert [suffix_failure(RUN, t) for t in (1, 2, 3, 4, 6)] == [False, False, False, True, True]
    other = Run(means=(0.2, 0.9, 0.5), pulls=(1, 1, 1, 1, 1, 1), payoffs=(0.0,) * 6)
    assert suffix_failure_frequency([RUN, other], 4) == 0.5


def test_k_min_frac() -> None:
    assert k_min_frac(RUN) == pytest.approx(3 * 1 / 6)  # arm 2 once in 6 steps
    assert k_min_frac(Run((0.1, 0.9), (1, 1), (0.0, 0.0))) == 0.0
    assert k_min_frac(Run((0.1, 0.9), (1, 0), (0.0, 0.0))) == 1.0


def test_greedy_frac() -> None:
    # step 2: arm 0 has 1, arm 1 unknown: pulled 1, no. step 3: means 1, 0: pulled 1, no. step 4: 1, 0.5: pulled 2, no.
    # step 5: no arm, no. step 6: means 1, 0.5, 0: pulled 0, yes. The first step has no greedy arm.
    assert greedy_frac(RUN) == pytest.approx(1 / 5)
    tie = Run((0.1, 0.9), (0, 1, 0, 1), (0.0, 0.0, 0.0, 1.0))  # step 3 and 4: both at 0
    assert greedy_frac(tie) == pytest.approx(2 / 3)


def test_exploration_averages_over_runs() -> None:
    best = Run(means=(0.2, 0.9, 0.5), pulls=(1,) * 6, payoffs=(1.0,) * 6)
    found = exploration([RUN, best])
    assert found.runs == 2
    assert found.regret == pytest.approx(1.25)
    assert found.suffix_failures == 0.5
    assert found.greedy_frac == pytest.approx((0.2 + 1.0) / 2)


def test_a_run_is_rebuilt_from_the_task_and_the_actions_alone() -> None:
    env = palaestra.make("bandit", show="table", reward="payoff")
    played = task(f"{HARD}/9")
    env.reset(options={"task": played})
    paid = [float(env.step(f"pull {arm}")[1]) for arm in (1, 2, 3, 2)]
    assert Run.of(played, env.history) == Run(env.state.means, (0, 1, 2, 1), tuple(paid))

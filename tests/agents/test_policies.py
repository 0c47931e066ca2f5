"""Policies without a model: they keep no episode state, and the same request always gets the same answer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

import palaestra
from palaestra.agents.episode import Actor
from palaestra.agents.policies.human import HumanPolicy
from palaestra.agents.policies.oracle import OraclePolicy, flawed
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.agents.policy import Policy, Request
from palaestra.envs import BadInput, TextEnv


def bandit() -> tuple[TextEnv[Any], Request]:
    env = palaestra.make("bandit")
    observation, info = env.reset(options={"task": env.tasks("train")[0]})
    messages = [{"role": "system", "content": "Rules."}, {"role": "user", "content": observation}]
    return env, Request(messages, seed=1, actions=info["actions"], env=env)  # type: ignore[arg-type]


def act(policy: Policy, request: Request) -> str:
    (answer,) = policy.act([request])
    assert answer.action is not None
    return answer.action


def with_seed(request: Request, seed: int) -> Request:
    return Request(request.messages, seed=seed, actions=request.actions, env=request.env)


def test_all_of_them_are_policies() -> None:
    for policy in (OraclePolicy("bandit"), flawed("bandit"), ScriptedPolicy(["a"]), RandomPolicy(), HumanPolicy()):
        assert isinstance(policy, Policy)
        assert policy.template is None


def test_an_oracle_does_what_the_environments_oracle_says() -> None:
    env, request = bandit()
    spec = palaestra.find("bandit")
    for policy in (OraclePolicy("bandit"), OraclePolicy(spec), OraclePolicy(spec.oracle())):
        assert act(policy, request) == spec.oracle()(env)
        assert policy.actor is Actor.EXPERT
    assert OraclePolicy("bandit", "thompson").name == "oracle:thompson"
    assert OraclePolicy("bandit").name == "oracle:ucb"


def test_an_oracle_that_does_not_exist_is_named() -> None:
    with pytest.raises(BadInput, match="no oracle 'psychic'"):
        OraclePolicy("bandit", "psychic")
    with pytest.raises(BadInput, match="was not given one"):
        OraclePolicy("bandit").act([Request(messages=())])


def test_a_flawed_oracle_slips_as_often_as_told_to_other_admissible_actions_and_always_alike() -> None:
    _, request = bandit()
    wanted = act(OraclePolicy("bandit"), request)
    policy = flawed("bandit", slip=0.3)
    taken = [act(policy, with_seed(request, seed)) for seed in range(2000)]
    assert taken == [act(policy, with_seed(request, seed)) for seed in range(2000)]
    counts = Counter(taken)
    assert request.actions is not None
    assert set(counts) == set(request.actions)
    assert 0.65 < counts[wanted] / 2000 < 0.75
    others = [counts[action] for action in request.actions if action != wanted]
    assert max(others) < 1.5 * min(others), "every other action is as likely"


def test_a_flawed_oracle_never_or_always_slips_at_the_ends_of_its_range() -> None:
    _, request = bandit()
    wanted = act(OraclePolicy("bandit"), request)
    for seed in range(50):
        assert act(flawed("bandit", slip=0.0), with_seed(request, seed)) == wanted
        assert act(flawed("bandit", slip=1.0), with_seed(request, seed)) != wanted
    with pytest.raises(BadInput, match="between 0 and 1"):
        flawed("bandit", slip=1.5)


def test_a_flawed_oracle_needs_actions_to_slip_to() -> None:
    _, request = bandit()
    with pytest.raises(BadInput, match="does not list"):
        flawed("bandit", slip=1.0).act([Request(request.messages, env=request.env)])


def test_a_script_is_followed_from_where_the_episode_stands() -> None:
    env, request = bandit()
    task = env.task
    for script in (["pull 1", "pull 2"], {task.id: ["pull 1", "pull 2"]}, {task.name: ["pull 1", "pull 2"]}):
        env.reset(options={"task": task})
        assert act(ScriptedPolicy(script), request) == "pull 1"
        env.step("pull 3")
        assert act(ScriptedPolicy(script), request) == "pull 2"
    assert act(ScriptedPolicy(lambda asked: f"seed {asked.seed}"), request) == "seed 1"


def test_a_script_that_does_not_fit_is_refused() -> None:
    env, request = bandit()
    with pytest.raises(BadInput, match="no script for task"):
        ScriptedPolicy({"other": ["a"]}).act([request])
    env.step("pull 1")
    with pytest.raises(BadInput, match="ends after 1 actions"):
        ScriptedPolicy(["pull 1"]).act([request])
    with pytest.raises(BadInput, match="list of actions"):
        ScriptedPolicy("pull 1")


def test_a_random_policy_takes_every_admissible_action_equally_often_and_always_alike() -> None:
    _, request = bandit()
    taken = [act(RandomPolicy(), with_seed(request, seed)) for seed in range(2000)]
    assert taken == [act(RandomPolicy(), with_seed(request, seed)) for seed in range(2000)]
    assert request.actions is not None
    counts = Counter(taken)
    assert set(counts) == set(request.actions)
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_a_random_policy_can_be_given_words_and_needs_something() -> None:
    policy = RandomPolicy(["up", "down"])
    assert not policy.wants_actions
    assert {act(policy, Request(messages=(), seed=seed)) for seed in range(20)} == {"up", "down"}
    for listed in (None, ()):
        with pytest.raises(BadInput, match="lists none"):
            RandomPolicy().act([Request(messages=(), actions=listed)])
    with pytest.raises(BadInput, match="at least one action"):
        RandomPolicy([])


def test_a_person_sees_the_rules_once_may_ask_for_the_actions_and_answers() -> None:
    env, request = bandit()
    typed = iter(["", "?", "  pull 2 ", "pull 3", "quit"])
    shown: list[str] = []
    policy = HumanPolicy(read=lambda _prompt: next(typed), show=shown.append)
    assert act(policy, request) == "pull 2"
    assert shown[0].startswith("Rules.")
    assert shown[1] == request.messages[-1]["content"]
    assert request.actions is not None
    assert shown[2] == shown[3] == "\n".join(f"  {action}" for action in request.actions)
    env.step("pull 2")
    del shown[:]
    assert act(policy, Request(request.messages, env=env)) == "pull 3"
    assert shown == [request.messages[-1]["content"]]
    with pytest.raises(KeyboardInterrupt):
        policy.act([request])


def test_a_person_leaves_with_the_end_of_the_input() -> None:
    def end(_prompt: str) -> str:
        raise EOFError

    with pytest.raises(KeyboardInterrupt):
        HumanPolicy(read=end, show=lambda text: None).act([bandit()[1]])

"""Looking ahead: what an oracle world model chooses, what a wrong one cannot, what is asked and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rooms
from rooms import ACTIONS, Draws, Writes, page, task, true_page, true_worth

from palaestra.agents.collect import collect
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Actor
from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policy import Completion, PolicyBase, Request, Situation
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput
from palaestra.trainers.evaluate import evaluate
from palaestra.worldmodel.judging import ModelJudge
from palaestra.worldmodel.lookahead import LookAhead, LookAheadPlan
from palaestra.worldmodel.page import PageFormat
from palaestra.worldmodel.world import LearnedWorld, RealWorld, World

FORM = PageFormat(actions=3)
TASKS = [task(pair) for pair in rooms.PAIRS]


def judge() -> ModelJudge:
    return ModelJudge(Writes(true_worth, "judge"))


def oracle() -> LearnedWorld:
    return LearnedWorld(Writes(true_page, "oracle"), FORM, judge=judge())


def play(tmp_path: Path, name: str, policy: LookAhead) -> dict[str, tuple[tuple[str, ...], float]]:
    with EpisodeStore(tmp_path / f"{name}.sqlite") as store:
        collect(TASKS, policy, store, progress="quiet", labels={}, seed=5)
        return {e.start.task.name: (e.actions, e.score) for e in store.episodes()}


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_oracle_world_model_chooses_as_real_look_ahead_does(tmp_path: Path, depth: int) -> None:
    """The one reads and writes text; the other rewinds the real environment. The judge is the same."""
    plan = LookAheadPlan(candidates=3, depth=depth, after=0)

    class Same(LookAhead):  # the same key, so that both are asked with the same seeds
        @property
        def version(self) -> str:
            return "same"

        @version.setter
        def version(self, value: str) -> None: ...

    imagining = Same(Draws(), oracle(), plan=plan)
    rewinding = Same(Draws(), RealWorld("toy/Rooms-v0"), judge(), plan=plan)
    assert play(tmp_path, "imagined", imagining) == (real := play(tmp_path, "real", rewinding))
    counted = ("decisions", "considered", "candidates", "changed", "policy", "world", "judge", "cut")
    assert all(getattr(imagining.spent, name) == getattr(rewinding.spent, name) for name in counted)
    assert imagining.spent.changed > 10
    blind = play(tmp_path, "blind", Same(Draws(), oracle(), plan=LookAheadPlan(candidates=1, depth=1)))
    assert sum(score for _, score in real.values()) > sum(score for _, score in blind.values())


def test_the_true_score_is_the_upper_limit_and_counts_as_evaluation(tmp_path: Path) -> None:
    policy = LookAhead(Draws(), RealWorld("toy/Rooms-v0"), plan=LookAheadPlan(candidates=4, depth=2, after=0))
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        result = evaluate("toy/Rooms-v0", policy, store, progress="quiet")
        plain = evaluate("toy/Rooms-v0", Draws(), store, progress="quiet")
        assert {head.actor for head in store.heads()} == {Actor.POLICY}
    assert result.success.mean > plain.success.mean
    assert result.card.sampling["look_ahead"]["world"] == "toy/Rooms-v0 real"
    assert result.card.sampling["look_ahead"]["judge"] == "true score"


WRONG = {
    "lies": "You are out.\n== over",
    "invents": "Say open sesame.\n== actions\nopen sesame\n== going",
    "babbles": "open sesame",
    "repeats": f"{page(1, 2)}\n== actions\nleft\n== going",
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_world_model_that_is_always_wrong_never_adds_an_action(tmp_path: Path, kind: str) -> None:
    drawn = Draws()
    world = LearnedWorld(Writes(lambda _: WRONG[kind]), FORM, judge=judge())
    policy = LookAhead(drawn, world, plan=LookAheadPlan(candidates=3, depth=2, after=0))
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        collect(TASKS, policy, store, progress="quiet")
        asked: dict[tuple[str, int], set[str]] = {}
        for request, answer in drawn.said:
            at = request.situation
            assert at is not None
            asked.setdefault((at.task.id, len(at.turns)), set()).add(answer)
        for episode in store.episodes():
            for step, action in enumerate(episode.actions):
                assert action in asked[episode.start.task.id, step]
                assert action in ACTIONS
    assert policy.spent.considered > 0
    assert bool(policy.spent.cut) == (kind == "babbles")
    if kind == "babbles":  # all branches are worth nothing: the first candidate stands
        assert policy.spent.changed == 0


class Says(PolicyBase):
    """Says one thing after another, whatever it is asked."""

    def __init__(self, *answers: str, **more: Any) -> None:
        super().__init__(name="says", **more)
        self.answers, self.asked = list(answers), list[list[Request]]()

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked.append(list(requests))
        return [Completion(self.answers.pop(0), ids=(1, 2), logprobs=(-1.0, -1.0)) for _ in requests]


def request(seed: int = 0, turns: int = 2, **more: Any) -> Request:
    said = tuple(rooms.turn(page(1, 2), "fly") for _ in range(turns))
    at = Situation(task("1-2"), "Rules.", said, page(1, 2), Conversation(**more))
    return Request(at.conversation.opening("Rules.", said, page(1, 2)), seed, situation=at)


def act(policy: PolicyBase, *requests: Request, world: World | None = None, **plan: Any) -> tuple[list[str], LookAhead]:
    policy_ahead = LookAhead(policy, world or oracle(), plan=LookAheadPlan.model_validate(plan))
    return [answer.text for answer in policy_ahead.act(requests)], policy_ahead


def test_calls_of_one_decision_are_batched_over_candidates_and_episodes() -> None:
    _, ahead = act(Draws(), *(request(seed) for seed in range(40)), candidates=3, depth=2, after=0)
    spent = ahead.spent
    assert (spent.decisions, spent.policy_batches, spent.world_batches, spent.judge_batches) == (40, 3, 2, 1)
    assert spent.candidates == spent.judge
    assert spent.world <= 2 * spent.candidates
    assert 20 < spent.considered < 40


def test_the_first_steps_are_taken_without_thinking() -> None:
    said, ahead = act(Says("leave", "left"), request(turns=1), depth=1, after=2)
    assert said == ["leave"]
    assert (ahead.spent.policy, ahead.spent.world, ahead.spent.judge) == (1, 0, 0)


def test_equal_candidates_count_once_and_a_single_one_is_taken() -> None:
    said, ahead = act(Says("leave", "leave ", " leave"), request(), depth=1)
    assert said == ["leave"]
    assert ahead.spent.world == 0
    typed = ('type "Bob"', 'type "bob"', 'type "B  ob"')  # three different things to write into a page
    assert act(Says(*typed), request(), depth=1)[1].spent.candidates == 3
    said, ahead = act(Says("left", "right", "left"), request(), depth=1)
    assert said == ["right"]
    assert (ahead.spent.considered, ahead.spent.candidates, ahead.spent.world) == (1, 2, 2)


def test_what_cannot_be_read_is_no_candidate() -> None:
    said, ahead = act(Says("hm", "Thought: so\nAction: left", "hm again"), request(style="react"), depth=1)
    assert said == ["Thought: so\nAction: left"]
    assert ahead.spent.world == 0
    assert act(Says("hm", "hm", "hm"), request(style="react"), depth=1)[0] == ["hm"]


def test_further_candidates_can_be_asked_to_differ() -> None:
    policy = Says("left", "left", "right")
    said, _ = act(policy, request(), depth=1, propose="asked")
    assert said == ["right"]
    last = [batch[0].messages[-1]["content"] for batch in policy.asked]
    assert last[0] == page(1, 2)
    assert last[1].endswith("\nAnswer otherwise than: left")
    assert last[2].endswith("\nAnswer otherwise than: left")


def test_a_choice_among_several_has_no_log_probs_and_all_its_cost() -> None:
    ahead = LookAhead(Says("left", "right", "left"), oracle(), plan=LookAheadPlan(depth=1))
    (answer,) = ahead.act([request()])
    assert (answer.text, tuple(answer.ids), tuple(answer.logprobs), answer.completion_tokens) == (
        "right",
        (1, 2),
        (),
        6,
    )


def test_the_trusted_horizon_is_the_default_depth() -> None:
    world = LearnedWorld(Writes(true_page), FORM, horizon=2)
    assert LookAhead(Draws(), world).depth == 2
    assert LookAhead(Draws(), world, plan=LookAheadPlan(depth=3)).depth == 3
    for horizon, why in ((0, "cannot be trusted for a single step"), (None, "has no measured horizon")):
        with pytest.raises(BadInput, match=why):
            LookAhead(Draws(), LearnedWorld(Writes(true_page), FORM, horizon=horizon))


def test_a_depth_that_would_not_be_reached_is_refused() -> None:
    """A policy that answers among listed actions has nothing to say where the world model lists none."""
    silent = LearnedWorld(Writes(lambda _: f"{page(1, 2)}\n== going"), judge=judge())
    listed = RandomPolicy()
    assert listed.wants_actions
    with pytest.raises(BadInput, match="cannot go on to depth 2; train the world model"):
        LookAhead(listed, silent, plan=LookAheadPlan(depth=2))
    assert LookAhead(listed, silent, plan=LookAheadPlan(depth=1)).depth == 1
    assert LookAhead(listed, oracle(), plan=LookAheadPlan(depth=2)).depth == 2
    ahead = LookAhead(listed, silent, plan=LookAheadPlan(depth=2, after=0), roller=Draws())
    ahead.act([replace(request(seed), actions=ACTIONS) for seed in range(8)])
    assert ahead.spent.world == 2 * ahead.spent.candidates > 0


def test_who_cannot_look_ahead_is_told_so() -> None:
    with pytest.raises(BadInput, match="cannot act in imagination"):
        LookAhead(OraclePolicy("toy/Rooms-v0"), oracle(), plan=LookAheadPlan(depth=1))
    with pytest.raises(BadInput, match="give the request its situation"):
        act(Says("left", "right", "left"), replace(request(), situation=None), depth=1)

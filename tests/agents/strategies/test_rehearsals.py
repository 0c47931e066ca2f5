"""Strategies that try in a rewound instance first, each against a case that is worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from safe import Says, request, task

from palaestra.agents.collect import collect
from palaestra.agents.episode import Episode, Outcome
from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.policy import Completion, PolicyBase, Request
from palaestra.agents.store import EpisodeStore
from palaestra.agents.strategies.reflection import Reflection, ReflectionPlan
from palaestra.agents.strategies.rehearsal import Rehearsing, Stage, TriesPlan
from palaestra.agents.strategies.tries import Tries
from palaestra.envs import BadInput, find


def tries(policy: PolicyBase, calls: int) -> Tries:
    return Tries(policy, TriesPlan(calls=calls), stage=Stage("toy/Safe-v0"))


def played(tmp_path: Path, strategy: Rehearsing[TriesPlan] | Reflection, code: str = "12") -> Episode:
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        collect([task(code)], strategy, store, progress="quiet")
        (episode,) = store.episodes()
    strategy.close()
    return episode


def test_the_first_try_that_succeeds_is_done(tmp_path: Path) -> None:
    """The code is 12. Try 1 says 9: it locks, score 0 (one call). Try 2 says 1, 9: it locks at 1/2 (two calls). Try 3
    says 1, 2: it opens (two calls). Five of the eight calls, all at the first turn; then "1", "2" are done without
    another."""
    policy = Says("9", "1", "9", "1", "2")
    strategy = tries(policy, 8)
    episode = played(tmp_path, strategy)
    assert episode.actions == ("1", "2")
    assert episode.outcome is Outcome.SUCCESS
    assert episode.provenance.cost.model_calls == len(policy.asked) == 5
    assert episode.provenance.cost.env_steps == 2
    assert (strategy.spent.decisions, strategy.spent.calls, strategy.spent.most) == (2, 5, 5)
    assert episode.provenance.policy == "says+best-of-n-rewind"
    assert episode.provenance.sampling["strategy"]["calls"] == 8
    assert "rewound" in episode.provenance.sampling["strategy"]["verifier"]


def test_the_best_try_is_done_where_none_succeeds(tmp_path: Path) -> None:
    """Four calls: 9 (score 0), then 1, 9 (1/2), then 8 (0), cut by the budget. The second try is done: 1, 9."""
    policy = Says("9", "1", "9", "8")
    episode = played(tmp_path, tries(policy, 4))
    assert episode.actions == ("1", "9")
    assert (episode.score, episode.outcome) == (0.5, Outcome.FAILURE)
    assert episode.provenance.cost.model_calls == 4


def test_a_try_that_the_budget_cuts_is_done_as_far_as_it_went(tmp_path: Path) -> None:
    """Two calls: "x" is no digit (a step), then 1. The try is cut there at 1/2, and done. Then a new decision has two
    calls of its own: 2 opens it with the first."""
    policy = Says("x", "1", "2")
    episode = played(tmp_path, tries(policy, 2))
    assert episode.actions == ("x", "1", "2")
    assert episode.success
    assert episode.provenance.cost.model_calls == 3


def test_the_real_episode_is_never_touched_by_a_try(tmp_path: Path) -> None:
    """What the real environment was asked is what the episode holds; the tries were elsewhere."""
    episode = played(tmp_path, tries(Says("9", "1", "2"), 8))
    assert [turn.observation for turn in episode.turns] == ["The safe is shut.", "Click 1."]
    assert episode.final_observation == "It opens."
    assert episode.provenance.cost.replayed_steps == 0


class Digits(PolicyBase):
    """Says 1, 2 or 3, as its seed draws."""

    def __init__(self) -> None:
        super().__init__(name="digits")
        self.calls = 0

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        self.calls += len(requests)
        return [Completion(str(1 + request.seed % 3)) for request in requests]


def test_samples_of_one_task_are_tried_each_by_itself(tmp_path: Path) -> None:
    """Eight episodes of one task, four at once: each has its own tries and its own 40 calls, and all calls are
    accounted for in the episodes."""
    policy = Digits()
    strategy = tries(policy, 40)
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        collect([task("12")], strategy, store, samples=8, concurrency=4, progress="quiet")
        episodes = list(store.episodes())
    strategy.close()
    assert sum(episode.provenance.cost.model_calls for episode in episodes) == policy.calls
    assert strategy.spent.most <= 40
    assert len({episode.provenance.cost.model_calls for episode in episodes}) > 1
    assert sum(episode.success for episode in episodes) > 4
    assert not strategy._plans  # each was forgotten when it had been done


def test_a_plan_is_left_where_the_episode_goes_another_way() -> None:
    """The try says 1, 2. Asked at "Click 2." instead of "Click 1." it does not go on with 2 but tries anew."""
    policy = Says("1", "2", "7", "7")
    strategy = tries(policy, 2)
    first = replace(request(), situation=replace(_at(), key="an episode"))
    assert strategy.act([first])[0].text == "1"
    lost = replace(_at(), key="an episode", turns=[_turn("3")], observation="It locks.")
    assert strategy._rehearsed(replace(request(), situation=lost)) is None
    followed = replace(_at(), key="an episode", turns=[_turn("1")], observation="Click 1.")
    (answer,) = strategy.act([replace(request(), situation=followed)])
    assert (answer.text, answer.calls) == ("2", 0)
    strategy.close()


def test_reflection_learns_from_what_failed(tmp_path: Path) -> None:
    """The code is 12. Try 1 says 9 (score 0): one call. Then what went wrong is asked: one call. Try 2, with that
    lesson in view, says 1, 3 (score 1/2): two calls; the second lesson: one call; try 3, with both lessons, says 1, 2
    and succeeds: two calls. Seven calls of nine."""
    policy = Says("9", "It begins with 1.", "1", "3", "Then comes 2.", "1", "2")
    strategy = Reflection(policy, ReflectionPlan(calls=9), stage=Stage("toy/Safe-v0"))
    episode = played(tmp_path, strategy)
    assert episode.actions == ("1", "2")
    assert episode.provenance.cost.model_calls == 7
    assert "Lesson" not in policy.told(0)
    lesson = policy.told(1)
    assert "Saw: The safe is shut.\nDid: 9\nSaw: It locks.\n" in lesson
    assert "score of 0.00 of 1" in lesson
    assert policy.told(2).endswith("Lesson of an earlier attempt: It begins with 1.")
    whole = "\n".join(message["content"] for message in policy.asked[3].messages)
    assert "It begins with 1." in whole  # the lesson stays in view over the whole try
    both = policy.told(5)
    assert both.index("It begins with 1.") < both.index("Then comes 2.")
    assert all(turn.note == "" for turn in episode.turns)  # what is done in the end is done without a word


def test_only_the_newest_lessons_are_told(tmp_path: Path) -> None:
    policy = Says("9", "One.", "9", "Two.", "9", "Three.", "1", "2")
    strategy = Reflection(policy, ReflectionPlan(calls=8, lessons=2), stage=Stage("toy/Safe-v0"))
    assert played(tmp_path, strategy).success
    assert "One." not in policy.told(6)
    assert "Two.\n" in policy.told(6)
    assert policy.told(6).endswith("Three.")


def test_no_lesson_is_drawn_that_nobody_can_mind(tmp_path: Path) -> None:
    """Two calls: a try that fails at once leaves one, which is no lesson and a try, so it is a try."""
    policy = Says("9", "8")
    episode = played(tmp_path, Reflection(policy, ReflectionPlan(calls=2), stage=Stage("toy/Safe-v0")))
    assert episode.actions == ("9",)
    assert len(policy.asked) == 2


def test_another_judge_reflects(tmp_path: Path) -> None:
    policy, judge = Says("9", "1", "2"), Says("It begins with 1.")
    strategy = Reflection(policy, ReflectionPlan(calls=9), stage=Stage("toy/Safe-v0"), judge=judge)
    assert played(tmp_path, strategy).success
    assert (len(policy.asked), len(judge.asked)) == (3, 1)
    assert strategy.spent.calls == 4


def test_what_cannot_be_tried_is_refused() -> None:
    with pytest.raises(BadInput, match="looks into the environment"):
        tries(OraclePolicy(find("bandit")), 4)
    elsewhere = Tries(Says("1"), TriesPlan(calls=4), stage=Stage("bandit"))
    with pytest.raises(BadInput, match="tries in palaestra/Bandit-v0"):
        elsewhere.act([request()])
    with pytest.raises(BadInput, match="situation"):
        tries(Says("1"), 4).act([Request([])])


def _at():  # type: ignore[no-untyped-def]
    at = request().situation
    assert at is not None
    return at


def _turn(action: str):  # type: ignore[no-untyped-def]
    from palaestra.agents.episode import Turn

    return Turn(observation="The safe is shut.", completion=action, action=action)

"""Every strategy around a real model, by its name, in an environment: budgets, provenance, evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
from safe import INSTRUCTIONS, Counted, Says

from palaestra.agents.conversation import Conversation
from palaestra.agents.models import LoadedModel, load_model
from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policy import Request, Sampling
from palaestra.agents.store import EpisodeStore
from palaestra.agents.strategies.named import STRATEGIES, strategy_by_name
from palaestra.agents.tiny import make_tiny
from palaestra.envs import BadInput
from palaestra.trainers.evaluate import evaluate

BUDGETS = {"best-of-n": 4, "best-of-n-rewind": 5, "self-consistency": 4, "self-certainty": 4, "deepening": 3, "iad": 4}
BUDGETS |= {"p-true": 4, "reflection": 6}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    words = [INSTRUCTIONS, "The safe is shut. It locks. Click 1.", "Answer with one action and nothing else.", "0 1 2"]
    folder = tmp_path_factory.mktemp("tiny")
    return load_model(make_tiny(words * 5, folder, vocab=400, hidden=32, layers=2, heads=2, context=1024))


def test_every_strategy_has_a_budget_here() -> None:
    assert set(BUDGETS) == set(STRATEGIES)


@pytest.mark.parametrize("name", BUDGETS)
def test_a_strategy_keeps_to_its_calls_and_says_what_it_was(name: str, model: LoadedModel, tmp_path: Path) -> None:
    """All calls of the model are those that the episodes say they cost, and no decision takes more than its budget."""
    inner = Counted(HFPolicy(model, sampling=Sampling(max_tokens=6), batch_size=16))
    strategy = strategy_by_name(name, inner, calls=BUDGETS[name], env="toy/Safe-v0")
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        result = evaluate("toy/Safe-v0", strategy, store, tasks=2, progress="quiet", concurrency=2)
        episodes = list(store.episodes())
    assert len(episodes) == result.episodes == 2
    assert inner.calls == sum(episode.provenance.cost.model_calls for episode in episodes) == strategy.spent.calls
    turns = sum(len(episode.turns) for episode in episodes)
    shared = 2 if name == "self-consistency" else 1  # decisions that wait together share theirs
    assert 0 < strategy.spent.most <= BUDGETS[name] * shared
    assert strategy.spent.calls <= BUDGETS[name] * turns
    assert strategy.spent.decisions == turns
    assert result.card.policy == f"{inner.name}+{name}"
    assert result.card.sampling["strategy"]["name"] == name
    assert result.card.sampling["strategy"]["calls"] == BUDGETS[name]
    assert result.card.model_version == strategy.version != inner.version
    if name in ("best-of-n", "self-certainty"):  # these spend it all
        assert strategy.spent.calls == BUDGETS[name] * turns
    for episode in episodes:
        for turn in episode.turns:
            assert turn.tokens is not None
            assert len(turn.tokens.completion) <= 6


def test_episodes_of_a_strategy_and_of_another_budget_do_not_mix(model: LoadedModel, tmp_path: Path) -> None:
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        for calls in (None, 2, 3, 3):
            inner = HFPolicy(model, sampling=Sampling(max_tokens=4), batch_size=16)
            policy = inner if calls is None else strategy_by_name("best-of-n", inner, calls=calls)
            evaluate("toy/Safe-v0", policy, store, tasks=2, progress="quiet")
        assert len(store) == 3 * 2


def test_an_answer_may_be_shorter_than_the_sampling_allows(model: LoadedModel) -> None:
    policy = HFPolicy(model, sampling=Sampling(max_tokens=12), certainty=True)
    messages = Conversation().opening(INSTRUCTIONS, (), "The safe is shut.")
    short, long = policy.act([Request(messages, 1, max_tokens=2), Request(messages, 1)])
    assert len(short.ids) == 2
    assert short.ids == long.ids[:2]
    assert len(long.ids) > 2
    assert not short.finished
    assert short.certainty is not None
    assert short.certainty > 0


def test_a_greedy_policy_has_nothing_to_choose_from(model: LoadedModel) -> None:
    greedy = HFPolicy(model, sampling=Sampling(temperature=0.0))
    for name in ("best-of-n", "best-of-n-rewind", "self-consistency", "self-certainty", "p-true"):
        with pytest.raises(BadInput, match="temperature above 0"):
            strategy_by_name(name, greedy, env="toy/Safe-v0")
    for name in ("deepening", "iad", "reflection"):
        strategy_by_name(name, greedy, env="toy/Safe-v0")


def test_a_policy_of_admissible_actions_does_not_judge(model: LoadedModel) -> None:
    constrained = HFPolicy(model, constrain=True)
    for name in ("p-true", "best-of-n:verifier=p-true", "iad:verifier=p-true", "reflection"):
        with pytest.raises(BadInput, match="admissible actions only"):
            strategy_by_name(name, constrained, env="toy/Safe-v0")
        assert strategy_by_name(name, constrained, env="toy/Safe-v0", judge=HFPolicy(model)).constrain


@pytest.mark.parametrize(
    ("text", "more", "told"),
    [
        ("best-of", {}, "did you mean best-of-n"),
        ("best-of-n:width=3", {}, "no option 'width'; it has: calls, verifier"),
        ("self-certainty:power=-1", {}, "power: Input should be greater than or equal to 0"),
        ("best-of-n:calls=3", {"calls": 4}, "given twice"),
        ("best-of-n:calls", {}, "not of the form key=value"),
        ("best-of-n", {"calls": 0}, "calls: Input should be greater"),
        ("reflection", {}, "environment of its own"),
        ("p-true:verifier=likelihood", {}, "verifier: Input should be 'p-true'"),
    ],
)
def test_what_cannot_be_understood_is_one_line(text: str, more: dict[str, int], told: str) -> None:
    with pytest.raises(BadInput) as error:
        strategy_by_name(text, Says(), **more)  # type: ignore[arg-type]
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_options_stand_behind_the_name() -> None:
    strategy = strategy_by_name("self-certainty:power=1.2,measure=likelihood", Says(), calls=64)
    assert strategy.extra["strategy"] == {"name": "self-certainty", "calls": 64, "power": 1.2, "measure": "likelihood"}

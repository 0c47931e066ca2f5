"""Collecting with a real (tiny) model: the ids that are stored are the ids that were sampled, and nothing overflows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from odd_env import World, many

import palaestra
from palaestra.agents.collect import collect
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Outcome
from palaestra.agents.policy import Completion, Request, Sampling
from palaestra.agents.store import EpisodeStore
from palaestra.agents.transcript import tokenise
from palaestra.envs import BadInput


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from palaestra.agents.tiny import make_tiny

    texts = ["Answer with one action and nothing else. Count. good 1 2 Done. You wait. Say count. Actions: count; wait"]
    folder = tmp_path_factory.mktemp("model")
    return make_tiny(texts, folder, vocab=300, hidden=16, layers=1, heads=2, context=700)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    with EpisodeStore(tmp_path / "episodes.sqlite") as opened:
        yield opened


def spying(model: Path, **rest: Any) -> Any:
    """The policy, and what passed through it: (prompt ids, completion) pairs."""
    from palaestra.agents.policies.hf import HFPolicy

    class Spy(HFPolicy):
        passed: list[tuple[list[int], Completion]]

        def act(self, requests: Sequence[Request]) -> list[Completion]:
            answers = super().act(requests)
            self.passed += [(list(r.prompt_ids), answer) for r, answer in zip(requests, answers, strict=True)]
            return answers

    policy = Spy(model, **rest)
    policy.passed = []
    return policy


@pytest.mark.parametrize(
    "conversation",
    [Conversation(), Conversation(window=1), Conversation(window=0, actions=2), Conversation(style="react")],
)
def test_the_ids_that_are_stored_are_the_ids_that_were_sampled(
    model: Path, store: EpisodeStore, conversation: Conversation
) -> None:
    policy = spying(model, sampling=Sampling(max_tokens=5), batch_size=4)
    plan = many("good", 6)

    def make(_env: str) -> Any:
        env = World().make()
        env.max_steps = 4
        return env

    report = collect(plan, policy, store, conversation=conversation, env_factory=make, progress="quiet")
    assert report.episodes == 6
    sampled = {(tuple(prompt), tuple(answer.ids), tuple(answer.logprobs)) for prompt, answer in policy.passed}
    seen = 0
    for episode in store.episodes():
        prompt: list[int] = []
        for turn in episode.turns:
            assert turn.tokens is not None
            prompt = [*([] if turn.tokens.fresh else prompt), *turn.tokens.context]
            assert (tuple(prompt), turn.tokens.completion, turn.tokens.logprobs) in sampled
            assert turn.completion == policy.template.decode(turn.tokens.completion)
            prompt += turn.tokens.completion
            seen += 1
        instructions = make("").instructions(episode.start.task)
        listed = [["count", "wait"]] * len(episode.turns) if conversation.actions else None
        records = tokenise(episode.turns, conversation, policy.template, instructions, actions=listed)
        assert records == [turn.tokens for turn in episode.turns], "what is trained is what was sampled"
    assert seen == len(policy.passed) == report.model_calls
    assert report.completion_tokens == sum(len(answer.ids) for _, answer in policy.passed)


def test_a_fork_goes_on_from_the_parents_very_ids(model: Path, store: EpisodeStore) -> None:
    policy = spying(model, sampling=Sampling(max_tokens=5))
    collect(many("good", 1), policy, store, env_factory=World().make, progress="quiet")
    (parent,) = store.episodes()
    before = [turn.tokens for turn in parent.turns]
    policy.passed.clear()
    collect([parent.fork(3)], policy, store, env_factory=World().make, progress="quiet")
    start = [id for record in before[:3] if record is not None for id in (*record.context, *record.completion)]
    assert before[3] is not None
    assert policy.passed[0][0] == [*start, *before[3].context]
    (child,) = (store.get(head.id) for head in store.children(parent.id))
    assert child.turns[0].tokens is not None
    assert not child.turns[0].tokens.fresh
    assert child.turns[0].tokens.context == before[3].context


def test_an_agent_that_runs_out_of_context_is_truncated_and_that_is_no_fault(model: Path, store: EpisodeStore) -> None:
    """Ten turns do not fit beside instructions of some 200 ids into a context of 500."""

    def make(_env: str) -> Any:
        env = World().make()
        env.instructions = lambda task: "x " * 100  # type: ignore[method-assign]
        return env

    policy = spying(model, sampling=Sampling(max_tokens=60))
    report = collect(many("good", 2), policy, store, env_factory=make, progress="quiet", max_context=500)
    assert (report.episodes, report.faults, report.out_of_context) == (2, 0, 2)
    for episode in store.episodes():
        assert episode.outcome is Outcome.TRUNCATED
        assert episode.labels == {"truncated_by": "context"}
        assert 0 < len(episode.turns) < 10
    assert max(len(prompt) + len(answer.ids) for prompt, answer in policy.passed) <= 500


def test_a_context_that_does_not_hold_the_first_prompt_is_told_and_makes_no_empty_episodes(
    model: Path, store: EpisodeStore
) -> None:
    policy = spying(model, sampling=Sampling(max_tokens=60))
    with pytest.raises(BadInput, match=r"good/0.* first prompt has \d+ tokens .* 60 .* the context holds 64"):
        collect(many("good", 1), policy, store, env_factory=World().make, progress="quiet", max_context=64)
    assert (len(store), store.n_faults) == (0, 0)


def test_a_model_collects_on_the_bandit_with_its_sampling_in_the_provenance(model: Path, store: EpisodeStore) -> None:
    policy = spying(model, sampling=Sampling(max_tokens=4, temperature=0.7, seed=5), constrain=True)
    tasks = palaestra.find("bandit").split("train")[:3]
    report = collect(
        tasks,
        policy,
        store,
        env_settings={"max_steps": 3},
        conversation=Conversation(window=1),
        progress="quiet",
        seed=9,
    )
    assert report.episodes == 3
    for episode in store.episodes():
        sampling = episode.provenance.sampling
        assert (sampling["temperature"], sampling["seed"], sampling["run_seed"]) == (0.7, 5, 9)
        assert sampling["constrain"] is True
        assert episode.provenance.policy_version == policy.version

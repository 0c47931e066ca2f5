"""Samples: weights on what the agent wrote, never on what it read; nothing of held-out tasks, nothing of faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamps import tiny

from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Episode, Outcome, Path, Provenance, Start, TokenRecord, Turn
from palaestra.envs import BadInput, Task
from palaestra.trainers.sample import sample_of, trainable

if TYPE_CHECKING:
    from palaestra.agents.template import ChatTemplate

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    from palaestra.agents.models import load_model
    from palaestra.agents.template import ChatTemplate

    return ChatTemplate(load_model(tiny(tmp_path_factory.mktemp("model") / "tiny")).tokenizer)


def path_of(turns: list[Turn], own: int = 0, split: str = "train", outcome: Outcome = Outcome.SUCCESS) -> Path:
    task = Task(env="toy/Lamps-v0", name="two/1", split=split)
    start = Start(task=task, parent="parent" if own else None, fork_step=own)
    episode = Episode(
        id="child", start=start, turns=tuple(turns[own:]), outcome=outcome, provenance=Provenance(policy="p")
    )
    origins = tuple("parent" if step < own else "child" for step in range(len(turns)))
    return Path(episode=episode, turns=tuple(turns), origins=origins)


def turn(observation: str, completion: str) -> Turn:
    return Turn(observation=observation, completion=completion, action=completion)


@given(
    said=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5),
    window=st.none() | st.integers(0, 3),
    chosen=st.sets(st.integers(0, 4)),
)
def test_only_the_chosen_completions_have_a_weight(
    template: ChatTemplate, said: list[tuple[str, str]], window: int | None, chosen: set[int]
) -> None:
    turns = [turn(observation, completion) for observation, completion in said]
    train = {step for step in chosen if step < len(turns)}
    samples = sample_of(path_of(turns), Conversation(window=window), template, "Rules.", train)
    weighted = [id for sample in samples for id, weight in zip(sample.ids, sample.weights, strict=True) if weight]
    assert weighted == [id for step in sorted(train) for id in template.encode_completion(turns[step].completion)]
    for sample in samples:
        assert set(sample.weights) <= {0.0, 1.0}
        assert sample.weights[-1] == 1.0  # nothing is kept behind the last weight


def test_a_model_is_taught_the_ids_it_sampled_and_not_a_new_tokenisation(template: ChatTemplate) -> None:
    prompt = template.opening(
        [
            {"role": "system", "content": "Rules.\nAnswer with one action and nothing else."},
            {"role": "user", "content": "The lamp is red."},
        ]
    )
    spelled = [id for letter in "press red" for id in template.encode_completion(letter)[:-1]]
    whole = template.encode_completion("press red")
    assert spelled != whole[:-1]
    for sampled in ([*spelled, whole[-1]], spelled):  # with the end-of-turn token, and cut off before it
        record = TokenRecord(context=tuple(prompt), completion=tuple(sampled), fresh=True)
        own = turn("The lamp is red.", "press red").model_copy(update={"tokens": record})
        (sample,) = sample_of(path_of([own]), Conversation(), template, "Rules.")
        assert list(sample.ids) == [*prompt, *sampled]
        assert sample.trained_tokens == len(sampled)


def test_before_a_fork_there_is_only_context_unless_asked(template: ChatTemplate) -> None:
    turns = [turn("one", "a"), turn("two", "b"), turn("three", "c")]
    count = [len(template.encode_completion(text)) for text in "abc"]
    (own,) = sample_of(path_of(turns, own=2), Conversation(), template, "Rules.", kind="recovery")
    assert own.trained_tokens == count[2]
    assert own.episodes == ("parent", "child")
    assert own.kind == "recovery"
    (whole,) = sample_of(path_of(turns, own=2), Conversation(), template, "Rules.", range(3))
    assert whole.trained_tokens == sum(count)


def test_half_an_answer_of_a_server_is_not_taught(template: ChatTemplate) -> None:
    path = path_of([turn("one", "a"), turn("two", "b"), turn("three", "c")], own=1)
    episode = path.episode.model_copy(update={"labels": {"unfinished_turns": [0]}})  # the second turn of the path
    (sample,) = sample_of(Path(episode=episode, turns=path.turns, origins=path.origins), Conversation(), template, "R.")
    assert sample.trained_tokens == len(template.encode_completion("c"))


def test_turns_can_have_weights_of_their_own(template: ChatTemplate) -> None:
    turns = [turn("one", "a"), turn("two", "b")]
    (sample,) = sample_of(path_of(turns), Conversation(), template, "Rules.", {0: 0.5, 1: 2.0}, weight=0.5)
    assert sorted(set(sample.weights)) == [0.0, 0.25, 1.0]
    assert sample_of(path_of(turns), Conversation(), template, "Rules.", {0: 0.0}) == []
    with pytest.raises(BadInput, match=r"turns 0\.\.1, so turn 2 cannot"):
        sample_of(path_of(turns), Conversation(), template, "Rules.", [2])


@pytest.mark.parametrize("split", ["test", "dev", "held-out"])
def test_an_episode_of_another_split_never_becomes_a_sample(template: ChatTemplate, split: str) -> None:
    for own in (0, 1):  # a fork of a test task is of the test split too
        path = path_of([turn("one", "a"), turn("two", "b")], own=own, split=split)
        with pytest.raises(BadInput, match=f"of split '{split}' and may not be trained on"):
            sample_of(path, Conversation(), template, "Rules.")


@pytest.mark.parametrize("outcome", [Outcome.ENV_ERROR, Outcome.POLICY_ERROR, Outcome.TIMEOUT])
def test_a_fault_never_becomes_a_sample(template: ChatTemplate, outcome: Outcome) -> None:
    path = path_of([turn("one", "a")], outcome=outcome)
    with pytest.raises(BadInput, match=f"ended in a fault \\({outcome}\\)"):
        sample_of(path, Conversation(), template, "Rules.")
    assert trainable(path_of([turn("one", "a")], outcome=Outcome.FAILURE).episode).id == "child"

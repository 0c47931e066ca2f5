"""Episodes keep what they are given, and two different ones never share a key."""

from __future__ import annotations

import enum
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from store_cases import calm, episode, odd_episodes, task, texts

from palaestra.agents.episode import Episode, Outcome, Provenance, Start, TokenRecord, episode_key
from palaestra.agents.packing import from_column, pack, pack_whole, to_column, unpack, unpack_whole


@calm
@given(odd_episodes())
def test_an_episode_survives_packing_whatever_its_texts_and_numbers_are(odd: Episode) -> None:
    assert unpack(*pack(odd)) == odd
    assert unpack_whole(pack_whole(odd)) == odd


@calm
@given(texts)
def test_a_text_survives_a_column(text: str) -> None:
    assert from_column(to_column(text)) == text


parts = st.tuples(st.text("a|\\#-", max_size=4), st.text("a|\\#-", max_size=4), st.integers(0, 3))


@calm
@given(parts, parts)
def test_different_policies_and_versions_never_share_a_key(
    one: tuple[str, str, int], two: tuple[str, str, int]
) -> None:
    start = Start(task=task())
    keys = [episode_key(start, Provenance(policy=p, policy_version=v), sample) for p, v, sample in (one, two)]
    assert (keys[0] == keys[1]) == (one == two)


def test_a_key_tells_apart_start_actor_policy_version_recipe_iteration_and_sample() -> None:
    base = episode()
    others = [
        episode(task("boil/2")),
        episode(task(split="test")),
        episode(base.fork(0)),
        episode(base.fork(1)),
        episode(sample=1),
        episode(actor="expert"),
        episode(policy="q"),
        episode(policy_version="1"),
        episode(recipe="rft"),
        episode(recipe="rft", iteration=0),
        episode(recipe="rft", iteration=1),
    ]
    assert len({each.key for each in [base, *others]}) == len({each.id for each in [base, *others]}) == 12


def test_labels_and_settings_become_plain_and_can_no_longer_be_changed_from_outside() -> None:
    class Kind(enum.StrEnum):
        GOOD = "good"

    given_labels = {
        "pair": (1, 2),
        "kind": Kind.GOOD,
        "at": PurePosixPath("a/b"),
        "q": np.float64(0.5),
        "in": {"x": []},
    }
    made = Episode.model_validate({**episode().model_dump(), "labels": given_labels})
    given_labels["in"]["x"].append(1)  # type: ignore[index, call-overload]
    assert made.labels == {"pair": [1, 2], "kind": "good", "at": "a/b", "q": 0.5, "in": {"x": []}}
    assert unpack(*pack(made)) == made


@pytest.mark.parametrize("bad", [{"a": object()}, {"a": {1: 2}}, {"a": {1, 2}}, {"a": b"x"}])
def test_labels_that_could_not_be_read_back_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="JSON can hold"):
        Episode.model_validate({**episode().model_dump(), "labels": bad})


def test_a_fork_inherits_task_and_split_and_lies_within_the_episode() -> None:
    parent = episode(task(split="test"), n=3)
    fork = episode(parent.fork(2), n=4)
    assert (fork.start.task.split, fork.end_step, fork.fork(6).fork_step) == ("test", 6, 6)
    for step in (1, 7):
        with pytest.raises(ValueError, match=r"spans steps 2\.\.6"):
            fork.fork(step)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValidationError, match="fork_step without a parent"):
        Start(task=task(), fork_step=1)
    with pytest.raises(ValidationError, match="1 logprobs for 2 completion ids"):
        TokenRecord(context=(), completion=(1, 2), logprobs=(0.0,))
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        episode(score=1.5)
    with pytest.raises(ValidationError, match="frozen"):
        episode().score = 1.0  # type: ignore[misc]


def test_only_faults_are_faults() -> None:
    assert [outcome for outcome in Outcome if outcome.is_fault] == ["env_error", "policy_error", "timeout"]


def test_token_ids_are_packed_small() -> None:
    ids = tuple(range(5, 49_000, 50))
    turn = (
        episode(n=1)
        .turns[0]
        .model_copy(
            update={
                "tokens": TokenRecord(context=ids, completion=ids, logprobs=tuple(np.float32(-0.1 * i) for i in ids))
            }
        )
    )
    made = episode().model_copy(update={"turns": (turn,)})
    _, body = pack(made)
    assert len(body) < (2 + 2 + 4) * len(ids)
    assert unpack(*pack(made)) == made

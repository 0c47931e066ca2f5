"""Preferences: the loss worked out by hand, and that only compared ids matter. Some seconds."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from palaestra.envs import BadInput
from palaestra.trainers.objective import Preference, objective_of
from palaestra.trainers.sample import Pair, Sample

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


def side(ids: tuple[int, ...], weights: tuple[float, ...], task: str = "t") -> Sample:
    return Sample(ids=ids, weights=weights, episodes=("e",), task=task, split="train")


PAIRS = [
    Pair(chosen=side((1, 2, 3, 4, 5), (0, 0, 1, 0, 1)), rejected=side((1, 2, 6, 7), (0, 0, 1, 1))),
    Pair(chosen=side((1, 9, 8), (0, 0, 1)), rejected=side((1, 9, 7, 7, 7, 7), (0, 0, 1, 1, 1, 1))),
]
"""The second id of the first one's chosen side that has a weight stands behind one that has none: a later turn."""


def said(model: Any, sample: Sample) -> float:
    """Sum of the log-probabilities of the ids that have a weight."""
    import torch

    with torch.no_grad():
        logs = torch.log_softmax(model(torch.tensor([sample.ids])).logits[0].float(), -1)
    return sum(float(logs[place - 1, sample.ids[place]]) for place, w in enumerate(sample.weights) if w)


def loss(model: Any, reference: Any, pair: Pair, beta: float) -> float:
    gains = [said(model, each) - said(reference, each) for each in pair.sides]
    return math.log1p(math.exp(-beta * (gains[0] - gains[1])))


def fitted(
    llama: Callable[..., LlamaForCausalLM], tokenizer: PreTrainedTokenizerFast, scratch: Path, **more: Any
) -> tuple[Any, Any]:
    from palaestra.trainers.preference import train_loaded

    settings = {"beta": 0.3, "epochs": 5, "learning_rate": 1e-2, "batch": 2, "warmup": 0, "schedule": "constant"}
    return train_loaded(llama(), tokenizer, PAIRS, Preference.model_validate(settings | more), scratch=scratch)


def test_the_loss_of_each_step_is_dpo_of_the_ids_with_a_weight(
    llama: Callable[..., LlamaForCausalLM], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """The first step's loss is ln 2, as the model is its own reference. After n steps the loss of step n + 1 is that of
    the formula, computed here from the log-probabilities of both models."""
    reference = llama()
    for n in (1, 2, 4):
        model, _ = fitted(llama, tokenizer, tmp_path / str(n), epochs=n)
        _, more = fitted(llama, tokenizer, tmp_path / f"{n}+", epochs=n + 1)
        expected = sum(loss(model, reference, pair, 0.3) for pair in PAIRS) / 2
        assert more.losses[0] == pytest.approx(math.log(2), abs=1e-5)
        assert more.losses[n] == pytest.approx(expected, abs=1e-4)
    assert more.losses[-1] < 0.3
    assert (more.tokens_seen, more.tokens_trained) == (5 * 18, 5 * 9)


def test_the_result_does_not_depend_on_what_goes_through_the_model_at_once(
    llama: Callable[..., LlamaForCausalLM], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    _, together = fitted(llama, tokenizer, tmp_path / "a")
    _, alone = fitted(llama, tokenizer, tmp_path / "b", micro_tokens=4)
    assert alone.losses == pytest.approx(together.losses, abs=1e-5)


def test_tokens_end_the_fit(
    llama: Callable[..., LlamaForCausalLM], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    _, report = fitted(llama, tokenizer, tmp_path, tokens=40)  # an epoch is one step of two pairs, 9 ids each
    assert (report.tokens_seen, len(report.losses)) == (45, 3)  # the third one ends with its first pair


def test_the_chosen_side_gains_on_the_rejected_one(
    llama: Callable[..., LlamaForCausalLM], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    reference = copy.deepcopy(llama())
    model, _ = fitted(llama, tokenizer, tmp_path)
    for pair in PAIRS:
        better, worse = (said(model, each) - said(reference, each) for each in pair.sides)
        assert better > worse + 1


def test_what_cannot_be_compared_is_refused(
    llama: Callable[..., LlamaForCausalLM], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    good = PAIRS[0].chosen
    with pytest.raises(ValidationError, match="t and other are two tasks"):
        Pair(chosen=good, rejected=side((1, 2), (0, 1), task="other"))
    with pytest.raises(ValidationError, match="weights of a pair's sequences are 0 or 1"):
        Pair(chosen=good, rejected=side((1, 2), (0, 0.5)))
    with pytest.raises(BadInput, match="none of the 2 pairs fits into max_length=3"):
        fitted(llama, tokenizer, tmp_path, max_length=3)
    with pytest.raises(BadInput, match="objective preference, key 'beta'"):
        objective_of({"kind": "preference", "beta": 0})

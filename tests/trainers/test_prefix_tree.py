"""Shared beginnings go through the model once, and the loss, its gradient and the trained weights are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from palaestra.envs import BadInput
from palaestra.trainers.cross_entropy import Collate, train_loaded, weighted_loss
from palaestra.trainers.objective import CrossEntropy, Lora, objective_of
from palaestra.trainers.prefix_tree import common, grow, rows
from palaestra.trainers.sample import Sample

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Make = Callable[..., "LlamaForCausalLM"]


def sample(ids: Sequence[int], weights: Sequence[float]) -> Sample:
    return Sample(ids=tuple(ids), weights=tuple(weights), episodes=("e",), task="t", split="train")


@pytest.fixture(scope="module")
def branches() -> list[Sample]:
    """Sixteen samples that fork from one another at random places; two are alike, one is the beginning of another."""
    rng = np.random.default_rng(3)
    made = [sample([5, *(int(i) for i in rng.integers(1, 60, 24))], [0.0] * 10 + [1.0] * 15)]
    for _ in range(13):
        parent = made[int(rng.integers(len(made)))]
        fork = int(rng.integers(1, len(parent.ids)))
        new = int(rng.integers(2, 12))
        weights = [0.0] * fork + [float(w) for w in rng.choice([0.0, 0.5, 1.0], new)]
        made.append(sample([*parent.ids[:fork], *(int(i) for i in rng.integers(1, 60, new))], [*weights[:-1], 1.0]))
    return [*made, made[3], sample(made[0].ids[:20], [0.0] * 15 + [2.0] * 5)]


def test_a_tree_worked_out_by_hand() -> None:
    """Samples 1 2 3 4, 1 2 5 and 1 2 3 6 7, in any order: depth first they are

        node     0  1  2  3  4  5  6
        id       1  2  3  4  6  7  5
        parent  -1  0  1  2  2  4  1
        depth    0  1  2  3  3  4  2
        end      7  7  6  4  6  6  7

    seven nodes in place of twelve ids. Node 1 has the weights of all three samples (0 + 1 + 0.5), node 2 those of two;
    node 4 sees 0, 1, 2 and itself."""
    samples = [
        sample([1, 2, 5], [0, 1, 2]),
        sample([1, 2, 3, 6, 7], [0, 0.5, 1, 1, 1]),
        sample([1, 2, 3, 4], [0, 0, 0.25, 1]),
    ]
    tree = grow(samples)
    assert tree.ids == [1, 2, 3, 4, 6, 7, 5]
    assert tree.parents == [-1, 0, 1, 2, 2, 4, 1]
    assert tree.depths == [0, 1, 2, 3, 3, 4, 2]
    assert tree.ends == [7, 7, 6, 4, 6, 6, 7]
    assert tree.weights == [0, 1.5, 1.25, 1, 1, 1, 2]
    sees = tree.tensors()["attention_mask"][0, 0]
    assert sees[4].tolist() == [True, True, True, False, True, False, False]
    assert sees[6].tolist() == [True, True, False, False, False, False, True]
    assert grow(samples[::-1]) == tree


def test_rows_hold_neighbours_and_no_more_than_their_nodes(branches: list[Sample]) -> None:
    made = rows(range(len(branches)), branches, 60)
    assert sorted(index for row in made for index in row) == list(range(len(branches)))
    assert len(made) > 1
    for row in made:
        assert len(grow([branches[index] for index in row]).ids) <= 60
    assert rows([0, 1], branches, 5) == [[index] for row in rows([0, 1], branches, 5) for index in row]  # each alone
    assert common((1, 2, 3), (1, 2)) == 2


@pytest.mark.parametrize("tied", [True, False])
def test_loss_and_gradient_are_those_of_the_samples_one_by_one(llama: Make, branches: list[Sample], tied: bool) -> None:
    found = []
    for sharing, micros in ((False, [[[i]] for i in range(16)]), (True, [[list(range(16))]])):
        model = llama(tie_word_embeddings=tied)
        collate = Collate(branches, [micros], sharing)
        head = model.get_output_embeddings()
        parts = [weighted_loss(model, head, collate.tensors(micro)) for micro in micros]
        loss = sum(part[0] for part in parts) / sum(part[1] for part in parts)
        loss.backward()
        found.append((loss.detach(), [p.grad for p in model.parameters() if p.grad is not None]))
    (one, by_one), (tree, shared) = found
    assert torch.allclose(one, tree, atol=1e-6)
    assert all(torch.allclose(a, b, atol=2e-6, rtol=2e-4) for a, b in zip(by_one, shared, strict=True))
    assert len(grow(branches).ids) < sum(len(each.ids) for each in branches) / 2


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
def test_training_with_and_without_sharing_ends_in_the_same_weights(
    llama: Make, tokenizer: PreTrainedTokenizerFast, branches: list[Sample], tmp_path: Path, lora: Lora | None
) -> None:
    losses, weights = [], []
    for sharing in (False, True):
        config = CrossEntropy(epochs=2, batch=8, learning_rate=1e-3, micro_tokens=128, sharing=sharing, lora=lora)
        torch.manual_seed(0)
        model, report = train_loaded(llama(), tokenizer, branches, config, scratch=tmp_path, seed=4)
        losses.append(report.losses)
        weights.append({name: p.detach() for name, p in model.named_parameters()})
        assert report.tokens_seen == 2 * sum(len(each.ids) for each in branches)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[0])


def test_what_cannot_be_shared_is_refused(
    llama: Make, tokenizer: PreTrainedTokenizerFast, branches: list[Sample], tmp_path: Path
) -> None:
    model = llama()
    model.set_attn_implementation("eager")
    with pytest.raises(BadInput, match=r"objective.sharing is for models .* \(eager\)"):
        train_loaded(model, tokenizer, branches, CrossEntropy(sharing=True), scratch=tmp_path)
    with pytest.raises(BadInput, match="choose one"):
        objective_of({"kind": "cross_entropy", "packing": True, "sharing": True})

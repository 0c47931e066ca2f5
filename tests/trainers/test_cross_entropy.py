"""Weighted cross-entropy: the loss is as defined, however a batch is cut, and so are the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from palaestra.envs import BadInput
from palaestra.trainers.batches import MicroBatch
from palaestra.trainers.cross_entropy import Collate, train_loaded, weighted_loss
from palaestra.trainers.objective import CrossEntropy, Lora, fit, objective_of
from palaestra.trainers.sample import Sample

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Make = Callable[..., "LlamaForCausalLM"]


def by_hand(model: LlamaForCausalLM, samples: Sequence[Sample]) -> torch.Tensor:
    """sum(w * -log p) / sum(w), one sample at a time, one token at a time, from full logits."""
    total, weight = torch.zeros(()), 0.0
    for sample in samples:
        logs = model(input_ids=torch.tensor([sample.ids])).logits[0].log_softmax(-1)
        for place in range(1, len(sample.ids)):
            total = total - sample.weights[place] * logs[place - 1, sample.ids[place]]
            weight += sample.weights[place]
    return total / weight


def gradients(model: LlamaForCausalLM) -> list[torch.Tensor]:
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


def in_parts(model: LlamaForCausalLM, samples: Sequence[Sample], micros: Sequence[MicroBatch]) -> torch.Tensor:
    collate = Collate(samples, [micros])
    parts = [weighted_loss(model, model.get_output_embeddings(), collate.tensors(micro)) for micro in micros]
    return sum((part[0] for part in parts), torch.zeros(())) / sum(part[1] for part in parts)


def alike(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return all(torch.allclose(a, b, atol=2e-6, rtol=2e-4) for a, b in zip(one, other, strict=True))


CUTS: dict[str, list[MicroBatch]] = {
    "one by one": [[[0]], [[1]], [[2]], [[3]], [[4]]],
    "padded together": [[[0], [1], [2], [3], [4]]],
    "two micro-batches": [[[3], [1]], [[0], [2], [4]]],
    "packed in one row": [[[0, 1, 2, 3, 4]]],
    "packed in two rows": [[[4, 1]], [[0, 3, 2]]],
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("tied", [True, False])
def test_loss_and_gradient_are_the_definitions_however_a_batch_is_cut(
    llama: Make, samples: list[Sample], cut: str, tied: bool
) -> None:
    model = llama(tie_word_embeddings=tied)
    expected = by_hand(model, samples[:5])
    expected.backward()
    wanted = gradients(model)
    loss = in_parts(model, samples, CUTS[cut])
    loss.backward()
    assert torch.allclose(loss, expected, atol=1e-6)
    assert alike(gradients(model), wanted)


def test_packing_without_fresh_positions_would_give_another_loss(llama: Make, samples: list[Sample]) -> None:
    model = llama()
    tensors = Collate(samples, [[[[0, 1, 2]]]]).tensors([[0, 1, 2]])
    head = model.get_output_embeddings()
    kept_apart, weight = weighted_loss(model, head, tensors)
    del tensors["position_ids"]
    contaminated, _ = weighted_loss(model, head, tensors)
    assert abs(float((contaminated - kept_apart).detach() / weight)) > 1e-4
    assert torch.allclose(kept_apart / weight, by_hand(model, samples[:3]), atol=1e-6)


def test_the_head_is_computed_only_where_a_token_has_a_weight(llama: Make, samples: list[Sample]) -> None:
    model = llama()
    seen: list[tuple[int, ...]] = []
    handle = model.lm_head.register_forward_hook(lambda module, args, out: seen.append(tuple(args[0].shape)))
    weighted_loss(model, model.lm_head, Collate(samples, []).tensors([[0], [1]]))
    handle.remove()
    assert seen == [(samples[0].trained_tokens + samples[1].trained_tokens, 32)]


def trained(
    llama: Make,
    tokenizer: PreTrainedTokenizerFast,
    samples: Sequence[Sample],
    scratch: Path,
    seed: int = 0,
    **config: object,
) -> tuple[dict[str, torch.Tensor], tuple[float, ...]]:
    settings = {"learning_rate": 1e-2, "batch": 7, "epochs": 2, **config}
    model, report = train_loaded(
        llama(), tokenizer, samples, CrossEntropy.model_validate(settings), scratch=scratch, seed=seed
    )
    return {name: value.clone() for name, value in model.state_dict().items()}, report.losses


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_training_takes_the_same_steps_whatever_goes_through_the_model_at_once(
    llama: Make, tokenizer: PreTrainedTokenizerFast, samples: list[Sample], tmp_path: Path
) -> None:
    # Adam divides by square roots, which blows rounding errors up step by step: few steps are compared
    whole, losses = trained(llama, tokenizer, samples, tmp_path, epochs=1)
    for other in ({"micro_tokens": 30}, {"micro_tokens": 60, "packing": True}, {"gradient_checkpointing": True}):
        again, same = trained(llama, tokenizer, samples, tmp_path, epochs=1, **other)
        assert same == pytest.approx(losses, abs=1e-4)
        assert distance(whole, again) < 1e-3
    assert len(losses) == 3


def test_the_reported_loss_of_the_first_step_is_that_of_its_batch(
    llama: Make, tokenizer: PreTrainedTokenizerFast, samples: list[Sample], tmp_path: Path
) -> None:
    _, losses = trained(llama, tokenizer, samples, tmp_path, batch=len(samples), epochs=1, micro_tokens=50)
    assert losses[0] == pytest.approx(float(by_hand(llama(), samples).detach()), abs=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    llama: Make, tokenizer: PreTrainedTokenizerFast, samples: list[Sample], tmp_path: Path
) -> None:
    for lora in (None, Lora(rank=4, dropout=0.1)):
        first, _ = trained(llama, tokenizer, samples, tmp_path, seed=3, lora=lora)
        again, _ = trained(llama, tokenizer, samples, tmp_path, seed=3, lora=lora)
        other, _ = trained(llama, tokenizer, samples, tmp_path, seed=4, lora=lora)
        assert distance(first, again) == 0
        assert distance(first, other) > 0


def test_lora_is_merged_and_trains_no_embedding(
    llama: Make, tokenizer: PreTrainedTokenizerFast, samples: list[Sample], tmp_path: Path
) -> None:
    before = llama().state_dict()
    after, losses = trained(llama, tokenizer, samples, tmp_path, lora=Lora(rank=4), epochs=5)
    assert set(after) == set(before)
    assert torch.equal(after["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert not torch.equal(after["model.layers.0.mlp.up_proj.weight"], before["model.layers.0.mlp.up_proj.weight"])
    assert losses[-1] < losses[0]


def test_tokens_without_weight_are_context_only(
    llama: Make, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """After training on 'given 5, say 7', the model says 7 after 5, and has not learnt to say 5."""
    sample = Sample(ids=(3, 5, 7), weights=(0.0, 0.0, 1.0), episodes=("e",), task="t", split="train")
    state, _ = trained(llama, tokenizer, [sample] * 4, tmp_path, epochs=40, batch=4, schedule="constant")
    model = llama()
    model.load_state_dict(state)
    chances = model(input_ids=torch.tensor([[3, 5]])).logits[0].softmax(-1)
    assert float(chances[1, 7]) > 0.9
    assert float(chances[0, 5]) < 0.1


def test_too_long_samples_are_left_out_whole_and_counted(
    llama: Make, tokenizer: PreTrainedTokenizerFast, samples: list[Sample], tmp_path: Path
) -> None:
    config = CrossEntropy(epochs=1, max_length=15)
    short = [sample for sample in samples if len(sample.ids) <= 15]
    _, report = train_loaded(llama(), tokenizer, samples, config, scratch=tmp_path)
    assert 0 < len(short) < len(samples)
    assert (report.samples, report.dropped) == (len(short), len(samples) - len(short))
    assert report.tokens_seen == sum(len(sample.ids) for sample in short)
    assert report.tokens_trained == sum(sample.trained_tokens for sample in short)
    with pytest.raises(BadInput, match="max_length=3"):
        train_loaded(llama(), tokenizer, samples, CrossEntropy(max_length=3), scratch=tmp_path)


def test_a_negative_weight_is_refused(llama: Make, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    sample = Sample(ids=(1, 2), weights=(0.0, -1.0), episodes=("e",), task="t", split="train")
    with pytest.raises(BadInput, match="negative weight"):
        train_loaded(llama(), tokenizer, [sample], CrossEntropy(), scratch=tmp_path)


def test_a_fit_makes_a_model_folder_that_appears_whole(
    llama: Make, tokenizer: PreTrainedTokenizerFast, samples: list[Sample], tmp_path: Path
) -> None:
    from palaestra.agents.models import load_model, read_card, save_model

    save_model(llama(), tokenizer, tmp_path / "base", name="small")
    seen: list[tuple[int, int]] = []
    config = CrossEntropy(epochs=1, batch=10)

    class Killed(Exception):
        pass

    def kill(step: int, steps: int, loss: float) -> None:
        raise Killed

    with pytest.raises(Killed):
        fit(tmp_path / "base", samples, config, tmp_path / "new", progress=kill)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    report = fit(
        tmp_path / "base",
        samples,
        config,
        tmp_path / "new",
        progress=lambda step, steps, loss: seen.append((step, steps)),
    )
    assert seen == [(1, 2), (2, 2)]
    again = fit(tmp_path / "base", samples, config, tmp_path / "again", name="called")
    assert [read_card(tmp_path / out)["name"] for out in ("new", "again")] == ["small-trained", "called"]
    assert report.version == again.version == load_model(tmp_path / "new").version
    assert report.version != load_model(tmp_path / "base").version
    assert report.model_copy(update={"seconds": 0}) == again.model_copy(update={"seconds": 0})


def test_samples_of_other_splits_are_never_fitted(samples: list[Sample], tmp_path: Path) -> None:
    held_out = samples[0].model_copy(update={"split": "test"})
    with pytest.raises(BadInput, match="'test' may not be trained on"):
        fit("nowhere", [samples[1], held_out], CrossEntropy(), tmp_path / "out")
    with pytest.raises(BadInput, match="nothing to learn from"):
        fit("nowhere", [], CrossEntropy(), tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kind": "hinge"}, "unknown objective 'hinge'"),
        ({"learn_rate": 1}, "'learn_rate'"),
        ({"epochs": 0}, "'epochs'"),
        ({"lora": {"rank": 0}}, "'lora.rank'"),
    ],
)
def test_a_wrong_objective_is_told_by_its_key(settings: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        objective_of(settings)

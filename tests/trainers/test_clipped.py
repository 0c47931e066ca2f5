"""The clipped policy gradient: its loss against the formula, what counts as pi_old, what goes on from fit to fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from palaestra.agents.models import load_model, save_model
from palaestra.envs import BadInput
from palaestra.trainers.clipped import OPTIMIZER, mix, sampled_with, scored, train_loaded
from palaestra.trainers.objective import fit
from palaestra.trainers.policy_gradient import Graded, PolicyGradient
from palaestra.trainers.sample import Sample

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

Make = Callable[..., "LlamaForCausalLM"]


def graded(ids: Sequence[int], trained: Sequence[int], advantage: float, logprobs: Sequence[float] = ()) -> Graded:
    weights = tuple(float(place in trained) for place in range(len(ids)))
    return Graded(
        ids=tuple(ids),
        weights=weights,
        episodes=("e",),
        task="t",
        split="train",
        advantage=advantage,
        group="1/0",
        logprobs=tuple(logprobs),
    )


THREE = [
    graded([5, 6, 7, 8, 9], [2, 4], 1.5),
    graded([5, 6, 11, 12, 13, 14, 15], [3, 4, 6], -0.5),
    graded([5, 20], [1], -1.0),
]


def logprobs_of(model: PreTrainedModel, sample: Sample, temperature: float = 1.0) -> list[float]:
    """Of every id given those before it, by the plain model; 0 for the first."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([sample.ids])).logits[0] / temperature
    table = logits.log_softmax(-1)
    return [0.0, *(float(table[place - 1, sample.ids[place]]) for place in range(1, len(sample.ids)))]


def run(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, data: Sequence[Graded], tmp: Path, **more: Any):  # type: ignore[no-untyped-def]
    return train_loaded(model, tokenizer, data, PolicyGradient(**{"horizon": 10, **more}), scratch=tmp)


@pytest.mark.parametrize(("loss", "temperature"), [("dr_grpo", 1.0), ("dapo", 1.0), ("grpo", 0.7)])
def test_the_loss_is_the_formula(
    loss: str, temperature: float, llama: Make, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """pi_old is off by 0.5 at one id of each sample: pi is e^0.5 = 1.65 or e^-0.5 = 0.61 times as likely there, so of

    ids with A > 0 the ratio 1.65 is clipped to 1.2, of those with A < 0 the ratio 0.61 to 0.8, and those that would
    be pushed back are not clipped. The reference is the start model: no KL.
    """
    model = llama()
    offs = [{4: -0.5, 2: 0.5}, {3: 0.5, 6: -0.5}, {1: 0.5}]
    data, terms = [], []
    for sample, off in zip(THREE, offs, strict=True):
        own = logprobs_of(model, sample, temperature)
        told = [p + off.get(n, 0.0) if w else 0.0 for n, (p, w) in enumerate(zip(own, sample.weights, strict=True))]
        data.append(sample.model_copy(update={"logprobs": tuple(told)}))
        ratios = [torch.e ** -off.get(n, 0.0) for n, w in enumerate(sample.weights) if w]
        clipped = [min(max(ratio, 0.8), 1.2) for ratio in ratios]
        a = sample.advantage
        terms.append([-min(r * a, c * a) for r, c in zip(ratios, clipped, strict=True)])
    whole = [term for row in terms for term in row]
    expected = {
        "dr_grpo": sum(whole) / (3 * 10),
        "dapo": sum(whole) / 6,
        "grpo": sum(sum(row) / len(row) for row in terms) / 3,
    }[loss]
    _, report = run(model, tokenizer, data, tmp_path, loss=loss, beta=0.5, temperature=temperature)
    assert report.losses == pytest.approx([expected], abs=1e-5)
    assert report.figures["off_policy"] == pytest.approx(5 / 6)
    assert report.figures["kl"] == pytest.approx(0, abs=1e-6)
    assert report.figures["clip_ratio/region_mean"] == pytest.approx(3 / 6)  # both of the third, one of each other


@pytest.mark.parametrize("loss", ["dr_grpo", "dapo", "grpo"])
def test_cutting_a_step_into_micro_batches_changes_nothing(
    loss: str, llama: Make, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    ends = []
    for micro in (1, 12, 1000):
        model, report = run(
            llama(), tokenizer, THREE, tmp_path, loss=loss, beta=0.1, epochs=3, learning_rate=1e-3, micro_tokens=micro
        )
        ends.append((report.losses, torch.cat([p.detach().flatten() for p in model.parameters()])))
    for losses, weights in ends[1:]:
        assert losses == pytest.approx(ends[0][0], abs=1e-5)
        assert torch.allclose(weights, ends[0][1], atol=2e-4)


def test_what_won_becomes_likelier_and_what_lost_less(
    llama: Make, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = llama()
    before = [logprobs_of(model, sample) for sample in THREE]
    model, _ = run(model, tokenizer, THREE, tmp_path, beta=0.0, learning_rate=1e-3)
    after = [logprobs_of(model.eval(), sample) for sample in THREE]
    for sample, old, new in zip(THREE, before, after, strict=True):
        changes = [n - o for n, o, w in zip(new, old, sample.weights, strict=True) if w]
        assert sum(changes) * sample.advantage > 0


def test_only_ids_with_a_weight_are_scored_and_pushed(llama: Make) -> None:
    """Their log-probs are the model's own, all others are 0, whatever shares the batch."""
    model = llama()
    rows = scored(model, THREE, PolicyGradient(micro_tokens=30))
    for sample, row in zip(THREE, rows, strict=True):
        own = logprobs_of(model, sample)
        assert row == pytest.approx([p if w else 0.0 for p, w in zip(own, sample.weights, strict=True)], abs=1e-5)


def test_the_collectors_log_probs_count_where_they_differ_by_more_than_rounding() -> None:
    sample = graded([1, 2, 3, 4], [1, 2, 3], 1.0, [0.0, -1.0, -2.0, -3.0])
    unknown = graded([1, 2], [1], 1.0)
    start = [[0.0, -1.0004, -2.5, -3.0], [0.0, -0.7]]
    assert sampled_with([sample, unknown], start) == [[0.0, -1.0004, -2.0, -3.0], [0.0, -0.7]]


@pytest.fixture(scope="module")
def folders(
    llama: Make, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Two models that differ."""
    where = tmp_path_factory.mktemp("models")
    for name, shift in (("one", 0.0), ("two", 0.5)):
        model = llama()
        with torch.no_grad():
            for weights in model.parameters():
                wave = torch.sin(torch.arange(weights.numel()).float()).reshape(weights.shape)
                weights.add_(wave, alpha=0.1 * shift)
        save_model(model, tokenizer, where / name, name=name)
    return where / "one", where / "two"


def test_the_kl_is_measured_to_the_reference(folders: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = folders
    near = fit(one, THREE, PolicyGradient(beta=0.1, reference=str(one)), tmp_path / "near")
    far = fit(one, THREE, PolicyGradient(beta=0.1, reference=str(two)), tmp_path / "far")
    assert near.figures["kl"] == pytest.approx(0, abs=1e-6)
    reference, own = (load_model(folder).model for folder in (two, one))
    kls = []
    for sample in THREE:
        p, q = logprobs_of(own, sample), logprobs_of(reference, sample)
        gaps = [b - a for a, b, w in zip(p, q, sample.weights, strict=True) if w]
        kls += [torch.e**gap - gap - 1 for gap in gaps]
    assert far.figures["kl"] == pytest.approx(sum(kls) / 6, abs=1e-4)
    assert far.losses[0] - near.losses[0] == pytest.approx(0.1 * sum(kls) / (3 * 256), abs=1e-5)


def test_the_optimisers_state_goes_on_from_fit_to_fit(folders: tuple[Path, Path], tmp_path: Path) -> None:
    start, _ = folders
    for number, objective in ((1, PolicyGradient()), (2, PolicyGradient()), (3, PolicyGradient(carry=False))):
        fit(start if number == 1 else tmp_path / str(number - 1), THREE, objective, tmp_path / str(number))
    steps = [torch.load(tmp_path / n / OPTIMIZER, weights_only=True)["state"][0]["step"] for n in ("1", "2")]
    assert [int(step) for step in steps] == [1, 2]
    assert not (tmp_path / "3" / OPTIMIZER).exists()


def test_a_reference_follows_by_its_rate(folders: tuple[Path, Path], tmp_path: Path) -> None:
    mixed = load_model(mix(*folders, 0.25, tmp_path / "mixed")).model
    pairs = zip(mixed.parameters(), *(load_model(folder).model.parameters() for folder in folders), strict=True)
    for weights, new, old in pairs:
        assert torch.allclose(weights, 0.25 * new + 0.75 * old, atol=1e-6)


def test_what_cannot_be_learnt_from_is_told(folders: tuple[Path, Path], tmp_path: Path) -> None:
    start, _ = folders
    with pytest.raises(BadInput, match="policy_gradient learns from Graded, not Sample"):
        fit(
            start,
            [Sample(ids=(1, 2), weights=(0, 1), episodes=("e",), task="t", split="train")],
            PolicyGradient(),
            tmp_path,
        )
    with pytest.raises(BadInput, match="may not be trained on"):
        fit(start, [THREE[0].model_copy(update={"split": "test"})], PolicyGradient(), tmp_path)
    with pytest.raises(BadInput, match="all are longer than max_length=2"):
        fit(start, THREE[:2], PolicyGradient(max_length=2), tmp_path / "none")

"""Weighted cross-entropy on TRL's SFTTrainer.

TRL brings the loop, the optimiser, devices, adapters and checkpointing of activations. What is our own is that every
token has a weight, that the loss is normalised by the total weight of the *whole* optimiser step, and that the head
(by far the largest layer of a small model) is computed only where a token has a weight. One row of the dataset is one
process's share of one step; `training_step` sends its micro-batches through the trainer's own step.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from palaestra.agents.policies.hf import attends_fully
from palaestra.envs import BadInput
from palaestra.trainers import prefix_tree
from palaestra.trainers.batches import MicroBatch, micro_batches, shares, steps
from palaestra.trainers.fitting import (
    SCHEDULES,
    PlannedTrainer,
    adapters,
    longest,
    rows,
    run_trainer,
    train_folder,
    trainable,
    usual,
)
from palaestra.trainers.objective import CrossEntropy, FitReport, Progress
from palaestra.trainers.sample import Sample


@dataclass
class Collate:
    """From the number of a dataset row to the tensors of its micro-batches.

    Each micro-batch holds `input_ids` and `weights` of shape [rows, length] and, where there is padding,
    `attention_mask` of the same shape; where samples share a row, `position_ids` that begin anew with each sample,
    from which transformers makes the block-diagonal attention mask. With `sharing` the samples of a row are laid into a
    tree (`PrefixTree.tensors`).
    """

    samples: Sequence[Sample]
    plan: Sequence[Sequence[MicroBatch]]
    sharing: bool = False

    def __call__(self, rows: list[dict[str, int]]) -> dict[str, list[dict[str, Tensor]]]:
        return {"micro_batches": [self.tensors(micro) for row in rows for micro in self.plan[row["row"]]]}

    def tensors(self, micro: MicroBatch) -> dict[str, Tensor]:
        """One micro-batch. A process without a share of a step gets a row without weight."""
        if self.sharing and len(micro[0]) > 1:
            return prefix_tree.grow([self.samples[i] for i in micro[0]]).tensors()
        lengths = [sum(len(self.samples[i].ids) for i in row) for row in micro]
        width = max(lengths)
        ids = torch.zeros(len(micro), width, dtype=torch.long)
        weights = torch.zeros(len(micro), width)
        for number, row in enumerate(micro):
            ids[number, : lengths[number]] = torch.tensor([id for i in row for id in self.samples[i].ids])
            weights[number, : lengths[number]] = torch.tensor([w for i in row for w in self.samples[i].weights])
        tensors = {"input_ids": ids, "weights": weights}
        if min(lengths) < width:
            tensors["attention_mask"] = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
        elif any(len(row) > 1 for row in micro):
            tensors["position_ids"] = torch.stack(
                [torch.cat([torch.arange(len(self.samples[i].ids)) for i in row]) for row in micro]
            )
        return tensors


@contextlib.contextmanager
def head_at(head: nn.Module, picked: Tensor, places: Tensor | None = None) -> Iterator[None]:
    """Within this block the output embeddings see only the picked positions.

    Args:
        head: the model's output embeddings.
        picked: bool [rows, length - 1]: is the *next* id to be predicted here.
        places: [predictions], where each is made, in place of `picked`, of a single row.
    """

    def pick(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][:, :-1][picked] if places is None else args[0][0, places], *args[1:])

    hook = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        hook.remove()


def weighted_loss(model: nn.Module, head: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Sum of weight * -log p over a micro-batch, and the sum of the weights.

    Args:
        model: a causal language model, wrapped or not.
        head: its output embeddings.
        inputs: `input_ids`, `weights` [rows, length]; `attention_mask` or `position_ids` where needed; `parents` of a
            tree, where an id is predicted from another place than the one before it.
    """
    context = {key: value for key, value in inputs.items() if key not in ("weights", "parents")}
    weights = inputs["weights"][:, 1:]
    picked = weights != 0
    places = inputs["parents"][:, 1:][picked] if "parents" in inputs else None
    with head_at(head, picked, places):
        logits = model(**context, use_cache=False).logits
    targets = inputs["input_ids"][:, 1:][picked]
    losses = nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    chosen = weights[picked]
    # without any weight the empty sum still hangs on the model, so that every process has a backward pass
    return (losses * chosen).sum() + 0.0 * logits.float().sum(), chosen.sum()


class WeightedTrainer(PlannedTrainer, SFTTrainer):
    """SFTTrainer whose steps are planned beforehand and whose tokens have weights."""

    def step_total(self, micros: Sequence[dict[str, Tensor]], given: Any) -> Tensor:
        local = torch.stack([micro["weights"][:, 1:].sum() for micro in micros]).sum().to(self.args.device)
        total: Tensor = self.accelerator.gather(local.reshape(1)).sum()
        return total

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        summed, _ = weighted_loss(model, head, inputs)
        # DDP averages gradients over processes, while `num_items_in_batch` is the weight of all of them
        loss: Tensor = summed * self.counts * self.accelerator.num_processes / num_items_in_batch
        return loss


def plan_rows(samples: Sequence[Sample], config: CrossEntropy, seed: int, ranks: int) -> list[list[MicroBatch]]:
    """The micro-batches of every dataset row: row `step * ranks + rank` is that process's share of that step."""
    lengths = [len(sample.ids) for sample in samples]
    rows: list[list[MicroBatch]] = []
    for step in steps(
        lengths,
        batch=config.batch,
        batch_tokens=config.batch_tokens,
        epochs=config.epochs,
        seed=seed,
        ranks=ranks,
        tokens=config.tokens,
    ):
        for share in shares(step, lengths, ranks):
            if config.sharing:
                rows.append([[row] for row in prefix_tree.rows(share, samples, config.micro_tokens)])
            else:
                rows.append(micro_batches(share, lengths, config.micro_tokens, config.packing))
    return rows


def train_loaded(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[Sample],
    config: CrossEntropy,
    *,
    scratch: Path,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[PreTrainedModel, FitReport]:
    """Train a model that is in memory. Full training changes it in place.

    Args:
        scratch: a folder that the trainer may use and nothing is kept in.

    Returns:
        The trained model (adapters merged) and the report, whose `version` is empty.

    Raises:
        BadInput: a weight is negative, no sample fits into `max_length`, or the model cannot be trained with `sharing`.
    """
    if config.sharing:
        _must_share(model)
    limit = longest(model, config.max_length)
    kept = [sample for sample in samples if limit is None or len(sample.ids) <= limit]
    kept = [sample for sample in kept if sample.trained_tokens]
    if any(weight < 0 for sample in kept for weight in sample.weights):
        raise BadInput("cross_entropy: a sample has a negative weight; pushing tokens away needs another objective")
    if not kept:
        raise BadInput(
            f"none of the {len(samples)} samples can be trained on: all are longer than max_length={limit} or have no "
            "weight; raise objective.max_length or show fewer turns (conversation.window)"
        )
    arguments = _arguments(config, scratch, seed)
    plan = plan_rows(kept, config, seed, max(1, arguments.world_size))
    seen = [kept[index] for micros in plan for micro in micros for row in micro for index in row]
    # an empty share becomes the step's smallest sample without its weights
    shortest = min(range(len(kept)), key=lambda i: len(kept[i].ids))
    blank = kept[shortest].model_copy(update={"weights": (0.0,) * len(kept[shortest].ids)})
    plan = [row or [[[len(kept)]]] for row in plan]
    total = len(plan) // max(1, arguments.world_size)
    arguments.max_steps, arguments.warmup_steps = total, math.floor(config.warmup * total)
    trainer = WeightedTrainer(
        model=trainable(model, config.lora),
        args=arguments,
        train_dataset=rows(plan),
        data_collator=Collate([*kept, blank], plan, config.sharing),
        processing_class=tokenizer,
        peft_config=adapters(config.lora),
    )
    return run_trainer(
        trainer,
        config,
        samples=len(kept),
        dropped=sum(limit is not None and len(sample.ids) > limit for sample in samples),
        seen=[(len(sample.ids), sample.trained_tokens) for sample in seen],
        max_length=limit,
        seed=seed,
        progress=progress,
    )


def _must_share(model: PreTrainedModel) -> None:
    """Refuse a model to which a mask of our own does not say all: another attention, or state besides attention."""
    how = model.config.get_text_config()._attn_implementation
    if not attends_fully(model) or how != "sdpa":
        raise BadInput(
            f"objective.sharing is for models whose layers all attend to everything before, by SDPA; this "
            f"{type(model).__name__} does otherwise ({how}); train it without sharing"
        )


def _arguments(config: CrossEntropy, scratch: Path, seed: int) -> SFTConfig:
    return SFTConfig(
        **usual(config, scratch, seed),
        lr_scheduler_type=SCHEDULES[config.schedule],
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
    )


def train(
    model: str | Path,
    samples: Sequence[Sample],
    config: CrossEntropy,
    out: Path,
    *,
    seed: int = 0,
    name: str | None = None,
    progress: Progress | None = None,
) -> FitReport:
    """Load, train, save. See `palaestra.trainers.objective.fit`."""

    def loaded(
        model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, scratch: Path
    ) -> tuple[PreTrainedModel, FitReport]:
        return train_loaded(model, tokenizer, samples, config, scratch=scratch, seed=seed, progress=progress)

    return train_folder(model, loaded, out, seed=seed, name=name, objective=config.kind)

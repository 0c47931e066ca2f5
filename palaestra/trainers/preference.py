"""Preferences between token-exact pairs on TRL's DPOTrainer.

TRL brings the loss, the reference, the loop and the optimiser. What is our own is that the ids and the compared
positions are those of the samples (TRL's trainer would render texts anew, with one prompt and one completion, and an
episode has many), and that steps are planned beforehand, as in `cross_entropy`. One row of the dataset is one process's
share of one step; `training_step` sends its micro-batches through the trainer's own step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from palaestra.envs import BadInput
from palaestra.trainers.batches import micro_batches, shares, steps
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
from palaestra.trainers.objective import FitReport, Preference, Progress
from palaestra.trainers.sample import Pair

Group = list[int]
"""Pairs that go through the model at once, by number."""


@dataclass
class Collate:
    """From the number of a dataset row to the tensors of its micro-batches.

    A micro-batch of n pairs has `input_ids`, `attention_mask` and `completion_mask` of shape [2 n, length], chosen
    sides first, and, once the reference was asked, `ref_chosen_logps` and `ref_rejected_logps` of shape [n].
    """

    pairs: Sequence[Pair]
    plan: Sequence[Sequence[Group]]
    reference: dict[int, tuple[float, float]] = field(default_factory=dict)

    def __call__(self, rows: list[dict[str, int]]) -> dict[str, list[dict[str, Tensor]]]:
        return {"micro_batches": [self.tensors(group) for row in rows for group in self.plan[row["row"]]]}

    def tensors(self, group: Group) -> dict[str, Tensor]:
        """One micro-batch."""
        sides = [self.pairs[i].chosen for i in group] + [self.pairs[i].rejected for i in group]
        width = max(len(side.ids) for side in sides)
        ids = torch.zeros(len(sides), width, dtype=torch.long)
        attention, compared = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, side in enumerate(sides):
            length = len(side.ids)
            ids[row, :length] = torch.tensor(side.ids)
            attention[row, :length] = 1
            compared[row, :length] = (torch.tensor(side.weights) != 0).long()
        tensors = {"input_ids": ids, "attention_mask": attention, "completion_mask": compared}
        if all(i in self.reference for i in group):
            known = torch.tensor([self.reference[i] for i in group])
            tensors |= {"ref_chosen_logps": known[:, 0], "ref_rejected_logps": known[:, 1]}
        return tensors


class PairTrainer(PlannedTrainer, DPOTrainer):
    """DPOTrainer whose pairs are exact ids and whose steps are planned beforehand."""

    data_collator: Collate

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # rows are numbers; the ids are the samples'

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """What the model says before its first step: of each pair once, and in memory instead of a file."""
        collate, device = self.data_collator, self.args.device
        assert isinstance(self.model, nn.Module)
        model = nn.Module.to(self.model, device)
        for group in dict.fromkeys(tuple(group) for row in collate.plan for group in row):
            batch = {key: value.to(device) for key, value in collate.tensors(list(group)).items()}
            chosen, rejected = self.compute_ref_log_probs(model, batch)  # type: ignore[no-untyped-call]
            collate.reference |= dict(zip(group, zip(chosen.tolist(), rejected.tolist(), strict=True), strict=True))
        return dataset

    def step_total(self, micros: Sequence[dict[str, Tensor]], given: Any) -> Tensor:
        local = torch.tensor([sum(len(micro["input_ids"]) for micro in micros) / 2], device=self.args.device)
        total: Tensor = self.accelerator.gather(local).sum()
        return total

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        mean: Tensor = self._compute_loss(model, inputs, return_outputs=False)  # type: ignore[no-untyped-call]
        # DDP averages gradients over processes, while `num_items_in_batch` is the pairs of all of them
        scale = len(inputs["input_ids"]) / 2 * self.accelerator.num_processes / num_items_in_batch
        return torch.mul(mean, scale * self.counts)


def plan_rows(pairs: Sequence[Pair], config: Preference, seed: int, ranks: int) -> list[list[Group]]:
    """The micro-batches of every dataset row: row `step * ranks + rank` is that process's share of that step."""
    lengths = [pair.length for pair in pairs]
    padded = [2 * max(len(side.ids) for side in pair.sides) for pair in pairs]
    plan = steps(
        lengths,
        batch=config.batch,
        batch_tokens=None,
        epochs=config.epochs,
        seed=seed,
        ranks=ranks,
        tokens=config.tokens,
        whole=False,
    )
    rows: list[list[Group]] = []
    for step in plan:
        # a process without a share of a step takes the step's first pair too, which then counts twice
        for share in shares(step, lengths, ranks):
            cut = micro_batches(share or step[:1], padded, config.micro_tokens, packing=False)
            rows.append([[i for row in micro for i in row] for micro in cut])
    return rows


def train_loaded(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: Preference,
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
        BadInput: no pair fits into `max_length`.
    """
    limit = longest(model, config.max_length)
    kept = [pair for pair in pairs if limit is None or max(len(side.ids) for side in pair.sides) <= limit]
    if not kept:
        raise BadInput(f"none of the {len(pairs)} pairs fits into max_length={limit}; raise objective.max_length")
    arguments = _arguments(config, scratch, seed)
    plan = plan_rows(kept, config, seed, max(1, arguments.world_size))
    seen = [kept[index] for groups in plan for group in groups for index in group]
    total = len(plan) // max(1, arguments.world_size)
    arguments.max_steps, arguments.warmup_steps = total, math.floor(config.warmup * total)
    trainer = PairTrainer(
        model=trainable(model, config.lora),
        args=arguments,
        train_dataset=rows(plan),
        data_collator=Collate(kept, plan),
        processing_class=tokenizer,
        peft_config=adapters(config.lora),
    )
    return run_trainer(
        trainer,
        config,
        samples=len(kept),
        dropped=len(pairs) - len(kept),
        seen=[(pair.length, sum(side.trained_tokens for side in pair.sides)) for pair in seen],
        max_length=limit,
        seed=seed,
        progress=progress,
    )


def _arguments(config: Preference, scratch: Path, seed: int) -> DPOConfig:
    return DPOConfig(
        **usual(config, scratch, seed),
        lr_scheduler_type=SCHEDULES[config.schedule],
        beta=config.beta,
        precompute_ref_log_probs=True,
        max_length=None,
    )


def train(
    model: str | Path,
    pairs: Sequence[Pair],
    config: Preference,
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
        return train_loaded(model, tokenizer, pairs, config, scratch=scratch, seed=seed, progress=progress)

    return train_folder(model, loaded, out, seed=seed, name=name, objective=config.kind)

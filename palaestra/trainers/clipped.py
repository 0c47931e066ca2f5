"""Clipped policy gradient on TRL's GRPOTrainer.

TRL brings the loss (clipping, KL, normalisation), the optimiser, devices and adapters. Its `rollout_func` could hand
over exact ids and a mask, but it wants one completion for each prompt of a dataset, scores them with reward functions
and generates again at every step; our rollouts are made, scored and stored by the collector long before, may lack one
that broke, and give several transcripts where a conversation forgets. So what is overridden is the hook below it:
`_prepare_inputs`, which hands the stored ids, masks, log-probs and advantages to TRL's `_compute_loss`, untouched.
Nothing is generated or tokenised here. As in `cross_entropy`, a step is planned beforehand, and the head is computed
only where an id has a weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from palaestra.envs import BadInput
from palaestra.trainers.batches import MicroBatch, micro_batches, shares, steps
from palaestra.trainers.cross_entropy import head_at
from palaestra.trainers.fitting import (
    PlannedTrainer,
    adapters,
    longest,
    rows,
    run_trainer,
    train_folder,
    trainable,
    usual,
)
from palaestra.trainers.objective import FitReport, Progress
from palaestra.trainers.policy_gradient import Graded, PolicyGradient

SAME = 1e-3  # log-probs that differ by no more are the same up to rounding
OPTIMIZER = "optimizer.pt"
Batch = dict[str, Tensor]


@dataclass
class Collate:
    """From the number of a dataset row to the tensors of its micro-batches, and how much each counts in its step.

    Each holds `input_ids`, `attention_mask`, `weights`, `old`, `reference` of shape [rows, length] and `advantages`
    [rows]. Transcripts are padded on the right, so that every id stands where it stood when it was sampled.
    """

    samples: Sequence[Graded]
    plan: Sequence[tuple[Sequence[MicroBatch], float, float]]
    old: Sequence[Sequence[float]]
    reference: Sequence[Sequence[float]] | None

    def __call__(self, rows: list[dict[str, int]]) -> dict[str, Any]:
        ((micros, transcripts, weight),) = [self.plan[row["row"]] for row in rows]
        return {"micro_batches": [self.tensors([i for row in m for i in row], transcripts, weight) for m in micros]}

    def tensors(self, indexes: Sequence[int], transcripts: float, weight: float) -> Batch:
        """One micro-batch. `transcripts`, `weight`: of the whole step, over all processes."""
        chosen = [self.samples[i] for i in indexes]
        width = max(len(sample.ids) for sample in chosen)
        tensors = {
            "input_ids": padded([sample.ids for sample in chosen], width, torch.long),
            "attention_mask": padded([[1] * len(sample.ids) for sample in chosen], width, torch.long),
            "weights": padded([sample.weights for sample in chosen], width),
            "old": padded([self.old[i] for i in indexes], width),
            "advantages": torch.tensor([sample.advantage for sample in chosen]),
            "share": torch.tensor(len(chosen) / transcripts),
            "num_items_in_batch": torch.tensor(weight),
        }
        if self.reference is not None:
            tensors["reference"] = padded([self.reference[i] for i in indexes], width)
        return tensors


def padded(rows: Sequence[Sequence[float]], width: int, kind: torch.dtype = torch.float32) -> Tensor:
    """Rows of numbers as one tensor [rows, width], zeros on the right."""
    whole = torch.zeros(len(rows), width, dtype=kind)
    for number, row in enumerate(rows):
        whole[number, : len(row)] = torch.tensor(row, dtype=kind)
    return whole


def logprobs_at(model: nn.Module, head: nn.Module, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability of every id that has a weight, and the entropy there; 0 elsewhere. Both [rows, length - 1]."""
    picked = batch["weights"][:, 1:] != 0
    with head_at(head, picked):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    whole = (logits.float() / temperature).log_softmax(-1)
    own = whole.gather(-1, batch["input_ids"][:, 1:][picked][:, None])[:, 0]
    empty = torch.zeros(picked.shape, device=own.device)
    with torch.no_grad():
        entropy = empty.masked_scatter(picked, -(whole.exp() * whole).sum(-1))
    return empty.masked_scatter(picked, own) + 0.0 * whole.sum(), entropy


def _graded_before(**_: Any) -> list[float | None]:
    """TRL wants a reward function; ours were graded when they were collected."""
    raise AssertionError("nothing is generated here, so nothing is scored")


class ClippedTrainer(PlannedTrainer, GRPOTrainer):
    """GRPOTrainer that is handed what was collected."""

    def __init__(self, *args: Any, beta: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.beta = beta  # not given to TRL, which would load a second copy of the model
        kwargs["args"].steps_per_generation = 1
        self._batch: Batch = {}

    def get_train_dataloader(self) -> DataLoader[Any]:
        return super(GRPOTrainer, self).get_train_dataloader()  # one planned row after the other

    def _prepare_inputs(self, generation_batch: Batch) -> Batch:
        """What TRL's loss reads: the first id of a transcript is the prompt, all others the completion; the mask says
        which of them the agent sampled."""
        batch = {name: tensor.to(self.args.device) for name, tensor in generation_batch.items()}
        self._batch = batch
        ids, mask = batch["input_ids"], batch["attention_mask"]
        inputs = {
            "prompt_ids": ids[:, :1],
            "prompt_mask": mask[:, :1],
            "completion_ids": ids[:, 1:],
            "completion_mask": mask[:, 1:],
            "tool_mask": batch["weights"][:, 1:],
            "advantages": batch["advantages"],
            "old_per_token_logps": batch["old"][:, 1:],
            "num_items_in_batch": batch["num_items_in_batch"],
        }
        if "reference" in batch:
            inputs["ref_per_token_logps"] = batch["reference"][:, 1:]
        return inputs

    def _get_per_token_logps_and_entropies(
        self, model: nn.Module, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor, None]:
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        with self.accelerator.autocast():
            return (*logprobs_at(model, head, self._batch, self.temperature), None)

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        loss: Tensor = self._compute_loss(model, inputs)  # type: ignore[no-untyped-call]
        if self.loss_type != "dapo":  # which TRL divides by the weight of the whole step itself
            # a mean over the transcripts of a micro-batch becomes its part of the mean over the step's
            loss = loss * self._batch["share"] * self.accelerator.num_processes
        return loss * self.counts


def plan_rows(
    samples: Sequence[Graded], config: PolicyGradient, seed: int, ranks: int
) -> list[tuple[list[MicroBatch], float, float]]:
    """The micro-batches of every dataset row, and the transcripts and weights of its whole step.

    Row `step * ranks + rank` is that process's share of that step. An empty share is one transcript with number
    len(samples), which has no weight.
    """
    lengths = [len(sample.ids) for sample in samples]
    rows: list[tuple[list[MicroBatch], float, float]] = []
    batch = config.batch or len(samples)
    told: dict[str, Any] = {"epochs": config.epochs, "tokens": config.tokens, "whole": False}
    for step in steps(lengths, batch=batch, batch_tokens=None, seed=seed, ranks=ranks, **told):
        weight = sum(w for i in step for w in samples[i].weights)
        for share in shares(step, lengths, ranks):
            micros = micro_batches(share, lengths, config.micro_tokens, packing=False) or [[[len(samples)]]]
            rows.append((micros, float(len(step)), weight))
    return rows


@torch.no_grad()
def scored(model: PreTrainedModel, samples: Sequence[Graded], config: PolicyGradient) -> list[list[float]]:
    """Log-probability of every id under a model, [length] a sample; 0 where there is no weight."""
    blank = [[0.0]] * len(samples)
    collate = Collate(samples, [], blank, None)
    found: list[list[float]] = [[] for _ in samples]
    lengths = [len(sample.ids) for sample in samples]
    head: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    for micro in micro_batches(range(len(samples)), lengths, config.micro_tokens, packing=False):
        indexes = [i for row in micro for i in row]
        batch = {k: v.to(model.device) for k, v in collate.tensors(indexes, 1.0, 1.0).items()}
        rows, _ = logprobs_at(model, head, batch, config.temperature)
        for i, row in zip(indexes, rows.tolist(), strict=True):
            found[i] = [0.0, *row[: lengths[i] - 1]]
    return found


def sampled_with(samples: Sequence[Graded], start: Sequence[Sequence[float]]) -> list[list[float]]:
    """The log-probs that count as pi_old: the collector's, where they are known and differ by more than rounding."""
    return [
        [k if abs(k - s) > SAME else s for k, s in zip(sample.logprobs, own, strict=True)]
        if sample.logprobs
        else list(own)
        for sample, own in zip(samples, start, strict=True)
    ]


def train_loaded(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[Graded],
    config: PolicyGradient,
    *,
    scratch: Path,
    state: Path | None = None,
    keep: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[PreTrainedModel, FitReport]:
    """Train a model that is in memory. Full training changes it in place.

    Args:
        scratch: a folder that the trainer may use and nothing is kept in.
        state: file of the optimiser's state to begin with. keep: where the state is left.

    Returns:
        The trained model (adapters merged) and the report, whose `version` is empty. Its `figures` are TRL's: `kl`,
        `entropy`, `clip_ratio/region_mean`; and `off_policy`: the share of ids whose log-prob when they were sampled
        was not that of the start weights.

    Raises:
        BadInput: no sample fits into `max_length`.
    """
    limit = longest(model, config.max_length)
    kept = [s for s in samples if s.trained_tokens and (limit is None or len(s.ids) <= limit)]
    if not kept:
        raise BadInput(
            f"none of the {len(samples)} samples can be trained on: all are longer than max_length={limit} or have no "
            "weight; raise max_length or show fewer turns (conversation.window)"
        )
    arguments = _arguments(config, scratch, seed)
    ranks = max(1, arguments.world_size)
    plan = plan_rows(kept, config, seed, ranks)
    start = scored(model, kept, config)
    old = sampled_with(kept, start)
    reference = None
    if config.beta:
        reference = start if config.reference is None else scored(_reference(config.reference), kept, config)
    shortest = min(range(len(kept)), key=lambda i: len(kept[i].ids))
    blank = kept[shortest].model_copy(update={"weights": (0.0,) * len(kept[shortest].ids)})
    arguments.max_steps = len(plan) // ranks
    trainer = ClippedTrainer(
        model=trainable(model, config.lora),
        reward_funcs=_graded_before,
        args=arguments,
        train_dataset=rows(plan),
        processing_class=tokenizer,
        peft_config=adapters(config.lora),
        beta=config.beta,
    )
    trainer.data_collator = Collate([*kept, blank], plan, [*old, [0.0]], reference and [*reference, [0.0]])
    if state is not None:
        trainer.create_optimizer().load_state_dict(torch.load(state, weights_only=True))
    seen = [kept[i] for micros, _, _ in plan for micro in micros for row in micro for i in row if i < len(kept)]
    trained, report = run_trainer(
        trainer,
        config,
        samples=len(kept),
        dropped=sum(limit is not None and len(sample.ids) > limit for sample in samples),
        seen=[(len(sample.ids), sample.trained_tokens) for sample in seen],
        max_length=limit,
        seed=seed,
        progress=progress,
    )
    if keep is not None and trainer.optimizer is not None and arguments.process_index == 0:
        torch.save(trainer.optimizer.state_dict(), keep)
    told = {k: v for k, v in trainer.state.log_history[-1].items() if k in ("kl", "entropy", "clip_ratio/region_mean")}
    off = sum(a != b for one, two in zip(old, start, strict=True) for a, b in zip(one, two, strict=True))
    told["off_policy"] = off / sum(sample.trained_tokens for sample in kept)
    return trained, report.model_copy(update={"figures": told})


def _reference(name: str) -> PreTrainedModel:
    from palaestra.agents.models import load_model

    return load_model(name, dtype="float32").model


def _arguments(config: PolicyGradient, scratch: Path, seed: int) -> GRPOConfig:
    return GRPOConfig(
        **usual(config, scratch, seed),
        lr_scheduler_type="constant",
        steps_per_generation=2,  # nothing is generated, but TRL refuses groups of fewer than 2
        num_generations=2,
        loss_type=config.loss,
        epsilon=config.epsilon,
        beta=0.0,
        temperature=config.temperature,
        max_completion_length=config.horizon,
        disable_dropout=True,
    )


def train(
    model: str | Path,
    samples: Sequence[Graded],
    config: PolicyGradient,
    out: Path,
    *,
    seed: int = 0,
    name: str | None = None,
    progress: Progress | None = None,
) -> FitReport:
    """Load, train, save. See `palaestra.trainers.objective.fit`."""
    state = Path(model) / OPTIMIZER
    carried = config.carry and config.lora is None  # adapters are merged, and their states with them are gone

    def run(
        loaded: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, scratch: Path
    ) -> tuple[PreTrainedModel, FitReport]:
        return train_loaded(
            loaded,
            tokenizer,
            samples,
            config,
            scratch=scratch,
            state=state if carried and state.is_file() else None,
            keep=out.parent / f".{OPTIMIZER}" if carried else None,
            seed=seed,
            progress=progress,
        )

    report = train_folder(model, run, out, seed=seed, name=name, objective=config.kind)
    if carried:
        (out.parent / f".{OPTIMIZER}").replace(out / OPTIMIZER)
    return report


def mix(new: str | Path, old: str | Path, rate: float, out: Path) -> Path:
    """Weights `rate` * new + (1 - rate) * old as a model folder: how a reference follows the policy."""
    from palaestra.agents.models import load_model, save_model

    one, two = load_model(new, dtype="float32"), load_model(old, dtype="float32")
    with torch.no_grad():
        for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
            a.lerp_(b, 1.0 - rate)
    save_model(one.model, one.tokenizer, out, name=f"{one.name}-reference", parent=one.version)
    return out

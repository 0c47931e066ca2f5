"""What the trainers of all objectives share: planned steps, limits, adapters, precision, reports, loading and saving.

One row of a trainer's dataset is one process's share of one optimiser step, planned before training begins.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback

from palaestra.envs import BadInput
from palaestra.trainers.objective import CrossEntropy, FitReport, Lora, Preference, Progress
from palaestra.trainers.policy_gradient import PolicyGradient

Loaded = Callable[[PreTrainedModel, PreTrainedTokenizerBase, Path], tuple[PreTrainedModel, FitReport]]
"""Trains a loaded model in a scratch folder that nothing is kept in."""

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
"""Our names of learning rate schedules, and the trainers'."""


SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED)
"""Ways in which every process holds a part of the model."""


class PlannedTrainer(Trainer):
    """To be put before one of TRL's trainers: a step is one row of the dataset, sent on in micro-batches.

    Attributes:
        step_losses: loss of each step so far, over all processes.
        counts: what the loss of a micro-batch is multiplied by: 1, or 0 where it only keeps other processes company.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.step_losses: list[float] = []
        self.counts = 1.0
        super().__init__(*args, **kwargs)

    def step_total(self, micros: Sequence[dict[str, Tensor]], given: Any) -> Any:
        """What the loss of a step is divided by, over all processes; `given` is what the loop counted."""
        return given

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        rows: Dataset = train_dataset if train_dataset is not None else self.train_dataset
        return SequentialSampler(rows)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # the trainer's estimate reads `input_ids`, of which a step here has several

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        micros: list[dict[str, Tensor]] = inputs["micro_batches"]
        total = self.step_total(micros, num_items_in_batch)
        loss = torch.zeros((), device=self.args.device)
        passes = self._passes(len(micros))
        for number in range(passes):
            self.counts = float(number < len(micros))
            micro = micros[min(number, len(micros) - 1)]
            last = number == passes - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                loss += super().training_step(model, dict(micro), num_items_in_batch=total)
        # every process has scaled its part by the number of processes: the mean over processes is the step's loss
        self.step_losses.append(float(self.accelerator.gather(loss.reshape(1)).mean()))
        return loss

    def _passes(self, own: int) -> int:
        """Passes through the model in a step: where processes hold parts of it, all take part in each one's passes."""
        if self.accelerator.distributed_type not in SHARDED:
            return own
        return int(self.accelerator.gather(torch.tensor([own], device=self.args.device)).max())


class StepReport(TrainerCallback):
    """Tells `progress` after every optimiser step."""

    def __init__(self, progress: Progress, trainer: PlannedTrainer) -> None:
        self.progress, self.trainer = progress, trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.progress(state.global_step, state.max_steps, self.trainer.step_losses[-1])


def usual(config: CrossEntropy | Preference | PolicyGradient, scratch: Path, seed: int) -> dict[str, Any]:
    """The arguments that TRL's trainers are given whatever the objective."""
    cuda, bf16 = precision(config.bf16)
    return {
        "output_dir": str(scratch),
        "max_steps": 1,  # set when the plan is known
        "per_device_train_batch_size": 1,  # one row of the plan
        "gradient_accumulation_steps": 1,  # the trainer accumulates inside a row
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "gradient_checkpointing": config.gradient_checkpointing,
        "bf16": bf16,
        "use_cpu": not cuda,
        "seed": seed,
        "data_seed": seed,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def rows(plan: Sequence[object]) -> Dataset:
    """The dataset of a plan: the numbers of its rows."""
    return Dataset.from_dict({"row": list(range(len(plan)))})


def trainable(model: PreTrainedModel, lora: Lora | None) -> PreTrainedModel:
    """The model, ready to be trained: all of it, unless adapters are to come."""
    model.train()
    if lora is None:
        model.requires_grad_(True)
    return model


def run_trainer(
    trainer: PlannedTrainer,
    config: CrossEntropy | Preference | PolicyGradient,
    *,
    samples: int,
    dropped: int,
    seen: Sequence[tuple[int, int]],
    max_length: int | None,
    seed: int,
    progress: Progress | None,
) -> tuple[PreTrainedModel, FitReport]:
    """Train, and say what was done.

    Args:
        samples, dropped, max_length: as in `FitReport`.
        seen: ids and trained ids of every sample of the plan, as often as it stands there.

    Returns:
        The trained model (adapters merged) and the report, whose `version` is empty.
    """
    trainer.remove_callback(PrinterCallback)  # what it prints is in the report
    if progress is not None:
        trainer.add_callback(StepReport(progress, trainer))
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    trained = _gathered(trainer, config.lora)
    parameters = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    return _whole(trained, config.lora), FitReport(
        objective=config.kind,
        losses=tuple(trainer.step_losses),
        epochs=-(-len(seen) // samples),
        samples=samples,
        dropped=dropped,
        tokens_seen=sum(ids for ids, _ in seen),
        tokens_trained=sum(ids for _, ids in seen),
        seconds=seconds,
        version="",
        seed=seed,
        precision="bf16" if trainer.args.bf16 else "float32",
        device="cpu" if trainer.args.use_cpu else "cuda",
        trainable_parameters=parameters,
        max_length=max_length,
    )


def _gathered(trainer: PlannedTrainer, lora: Lora | None) -> Any:
    """The trained model as one piece; where processes hold parts of it, the first process gets all of it."""
    accelerator = trainer.accelerator
    trained = accelerator.unwrap_model(trainer.model)
    if accelerator.distributed_type not in SHARDED:
        return trained
    if lora is not None:
        raise BadInput("adapters (lora) are small: train them with a configuration that does not shard the model")
    weights = accelerator.get_state_dict(trainer.model_wrapped)
    if not accelerator.is_main_process:
        return trained
    whole = type(trained)(trained.config)
    whole.load_state_dict(weights)
    return whole


def longest(model: PreTrainedModel, max_length: int | None) -> int | None:
    """The longest sequence in ids: what is configured and what the model takes, whichever is less; None: no limit."""
    own = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limits = [limit for limit in (max_length, own) if isinstance(limit, int)]
    return min(limits) if limits else None


def precision(bf16: bool | None) -> tuple[bool, bool]:
    """Is CUDA there, and is autocast to bfloat16 on; None does so on CUDA only."""
    cuda = torch.cuda.is_available()
    return cuda, bf16 if bf16 is not None else cuda and torch.cuda.is_bf16_supported()


def adapters(lora: Lora | None) -> Any:
    """The configuration of peft, or None for full training."""
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",  # peft leaves the head out of it
        task_type="CAUSAL_LM",
    )


def _whole(model: Any, lora: Lora | None) -> PreTrainedModel:
    """A trained model as it was before the trainer wrapped it, adapters merged."""
    trained: PreTrainedModel = model.merge_and_unload() if lora is not None else model
    trained.__dict__.pop("forward", None)  # TRL's patched forward; the class's own is what others expect
    trained.eval()  # type: ignore[no-untyped-call]
    return trained


def train_folder(
    model: str | Path, train: Loaded, out: Path, *, seed: int, name: str | None, objective: str
) -> FitReport:
    """Load a model, train it, save it as `out`, and give the memory back. See `palaestra.trainers.objective.fit`."""
    from palaestra.agents.models import load_model, save_model

    out.parent.mkdir(parents=True, exist_ok=True)
    loaded = load_model(model, dtype="float32")  # bf16 is autocast: the weights themselves stay in float32
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        trained, report = train(loaded.model, loaded.tokenizer, Path(scratch))
    notes: dict[str, str | int | float] = {"objective": objective, "seed": seed, "samples": report.samples}
    called = name or f"{loaded.name.removesuffix('-trained')}-trained"
    state = PartialState()
    version = ""
    if state.is_main_process:  # one of several processes, perhaps; see `palaestra.trainers.launched`
        version = save_model(trained, loaded.tokenizer, out, name=called, parent=loaded.version, notes=notes)
    state.wait_for_everyone()
    del trained, loaded
    _give_back()
    return report.model_copy(update={"version": version})


def _give_back() -> None:
    """Give the optimiser's and the activations' memory back to the system.

    The trainer and its callbacks refer to one another, so only the collector frees them; and glibc keeps what was freed
    unless it is asked, some gigabytes for a 135M model, while the run goes on to collect.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(0)

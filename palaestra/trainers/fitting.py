"""What the trainers of all objectives share: limits, adapters, precision, the report of steps, loading and saving."""

from __future__ import annotations

import ctypes
import gc
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from palaestra.trainers.objective import FitReport, Lora, Progress

Loaded = Callable[[PreTrainedModel, PreTrainedTokenizerBase, Path], tuple[PreTrainedModel, FitReport]]
"""Trains a loaded model in a scratch folder that nothing is kept in."""

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
"""Our names of learning rate schedules, and the trainers'."""


class Stepping(Protocol):
    """A trainer that keeps the loss of each step."""

    step_losses: list[float]


class StepReport(TrainerCallback):
    """Tells `progress` after every optimiser step. Set `trainer` before training begins."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.trainer: Stepping | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer is not None and state.is_world_process_zero:
            self.progress(state.global_step, state.max_steps, self.trainer.step_losses[-1])


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


def whole_model(model: Any, lora: Lora | None) -> PreTrainedModel:
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
    version = save_model(trained, loaded.tokenizer, out, name=called, parent=loaded.version, notes=notes)
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

"""Objectives: what is minimised, on what kind of data. They know no method; methods know no loss.

An objective is a frozen configuration with a `kind`. Its trainer (always one of TRL's) lives in a module of its own
that is imported when something is fitted, so that this module needs neither torch nor TRL. Weighted cross-entropy
learns from samples, a preference from pairs of them: each objective is one subclass of `Objective` with its own
`learns_from`, and one trainer module.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from palaestra.envs import BadInput, MissingExtra
from palaestra.trainers.sample import Pair, Sample

LAUNCH = "PALAESTRA_LAUNCH"
"""The environment variable that names a configuration file of accelerate; see `palaestra.trainers.launched`."""

Progress = Callable[[int, int, float], None]
"""Called after every optimiser step with (steps done, steps in all, loss of this step)."""


class FitReport(BaseModel):
    """What a fit did.

    Attributes:
        objective: kind of the objective.
        losses: loss of every optimiser step, before that step's update.
        epochs: passes over the data, begun ones included.
        samples: samples that were learnt from.
        dropped: samples longer than `max_length`, left out whole: a cut sample would teach what was never said.
        tokens_seen: ids that went through the model, padding not counted, over all epochs.
        tokens_trained: ids with a weight, over all epochs.
        seconds: wall time, without loading and saving.
        version: identifies the new weights (hash of the files).
        seed, precision, device, trainable_parameters, max_length: how it was done.
        figures: what else an objective measures, by name: means over the fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: str
    losses: tuple[float, ...]
    epochs: int
    samples: int
    dropped: int
    tokens_seen: int
    tokens_trained: int
    seconds: float
    version: str
    seed: int
    precision: str
    device: str
    trainable_parameters: int
    max_length: int | None
    figures: dict[str, float] = Field(default_factory=dict)

    @property
    def tokens_per_second(self) -> float:
        """Ids through the model a second of training."""
        return self.tokens_seen / self.seconds if self.seconds > 0 else 0.0


class Objective(BaseModel):
    """Base of all objectives: a frozen configuration that says what it learns from and who trains it.

    Attributes:
        kind: name in configuration files.
        learns_from: type of one datum (`Sample` here; a pair for preferences).
        trainer: "module:function" called as `function(model, data, objective, out, seed=, name=, progress=)`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    learns_from: ClassVar[type[BaseModel]]
    trainer: ClassVar[str]
    kind: str

    def splits_of(self, datum: BaseModel) -> Collection[str]:
        """The splits of the root tasks that a datum was made of."""
        raise NotImplementedError


class Lora(BaseModel):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) on all linear layers but the head; merged when saved.

    Attributes:
        rank: of the two factors of an adapter.
        alpha: what an adapter adds is multiplied by alpha / rank.
        dropout: of what goes into an adapter, while it is trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class CrossEntropy(Objective):
    """Weighted cross-entropy: minimise sum(w * -log p) / sum(w) over each batch, accumulated parts included.

    Attributes:
        epochs: passes over the samples.
        tokens: ids that go through the model in all, in place of `epochs`: as many passes as that takes, the last one
            cut at the first step that reaches it. Comparisons at equal training tokens set it.
        learning_rate: peak of the schedule (AdamW).
        schedule: how the learning rate goes on after warming up.
        warmup: share of the steps in which the learning rate rises from 0.
        batch: samples an optimiser step. Every epoch is cut into steps of as equal size as can be.
        batch_tokens: ids an optimiser step instead, where samples differ much in length.
        micro_tokens: ids (padding included) that go through the model at once; a longer sample goes alone. The result
            does not depend on it, memory and speed do.
        packing: put samples behind one another in rows of `micro_tokens`, each seeing only itself, in place of padding.
            Saves what padding wastes where lengths differ much; attention over a row costs its length squared.
        sharing: what the samples of a step have in common at their beginning goes through the model once
            (`prefix_tree`), in rows of `micro_tokens`. The result is the same; it pays where branches of one episode
            are learnt from together.
        max_length: longer samples are dropped whole and counted; None is the model's own limit.
        weight_decay, max_grad_norm: of AdamW and of gradient clipping.
        lora: train low-rank adapters in place of all weights.
        gradient_checkpointing: compute activations twice to save memory.
        bf16: autocast to bfloat16; None does so on CUDA only, since CPUs without native support are slower with it.
    """

    learns_from: ClassVar[type[BaseModel]] = Sample
    trainer: ClassVar[str] = "palaestra.trainers.cross_entropy:train"

    kind: Literal["cross_entropy"] = "cross_entropy"
    epochs: int = Field(default=3, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=2e-5, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: float = Field(default=0.03, ge=0, le=1)
    batch: int = Field(default=16, ge=1)
    batch_tokens: int | None = Field(default=None, ge=1)
    micro_tokens: int = Field(default=2048, ge=1)
    packing: bool = False
    sharing: bool = False
    max_length: int | None = Field(default=None, ge=2)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    bf16: bool | None = None

    @model_validator(mode="after")
    def _one_way(self) -> CrossEntropy:
        if self.packing and self.sharing:
            raise ValueError("packing and sharing are two ways to fill a row; choose one")
        return self

    def splits_of(self, datum: BaseModel) -> Collection[str]:
        assert isinstance(datum, Sample)
        return (datum.split,)


class Preference(Objective):
    """Direct preference optimisation (Rafailov et al., arXiv 2305.18290) on token-exact pairs.

    Minimises -log sigmoid(beta * (log p/p_ref (chosen) - log p/p_ref (rejected))), where log-probabilities are sums
    over the ids with a weight and p_ref is the model that the fit begins with.

    The defaults are those of ETO's first round (Song et al., arXiv 2403.02502).

    Attributes:
        beta: how far the model may leave p_ref: the larger, the less.
        tokens: ids of both sides that go through the model in all, in place of `epochs`.
        batch: pairs an optimiser step.
        micro_tokens: ids (padding included) that go through the model at once; a longer pair goes alone.
        max_length: pairs with a longer side are dropped whole and counted; None is the model's own limit.
        epochs, learning_rate, schedule, warmup, weight_decay, max_grad_norm, lora, gradient_checkpointing, bf16: as
            those of `CrossEntropy`.
    """

    learns_from: ClassVar[type[BaseModel]] = Pair
    trainer: ClassVar[str] = "palaestra.trainers.preference:train"

    kind: Literal["preference"] = "preference"
    beta: float = Field(default=0.1, gt=0)
    epochs: int = Field(default=3, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=1e-6, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: float = Field(default=0.03, ge=0, le=1)
    batch: int = Field(default=32, ge=1)
    micro_tokens: int = Field(default=4096, ge=1)
    max_length: int | None = Field(default=None, ge=2)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    bf16: bool | None = None

    def splits_of(self, datum: BaseModel) -> Collection[str]:
        assert isinstance(datum, Pair)
        return tuple(side.split for side in datum.sides)


OBJECTIVES: dict[str, type[Objective]] = {"cross_entropy": CrossEntropy, "preference": Preference}
"""All objectives by kind."""


def objective_of(settings: Mapping[str, Any]) -> Objective:
    """An objective from a configuration file's table, by its `kind` (default: cross_entropy).

    Raises:
        BadInput: unknown kind, unknown key or a value out of range.
    """
    kind = str(settings.get("kind", "cross_entropy"))
    if kind not in OBJECTIVES:
        raise BadInput(f"unknown objective {kind!r}; there is: {', '.join(OBJECTIVES)}")
    try:
        return OBJECTIVES[kind].model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"objective {kind}, key {where!r}: {first['msg'].lower()}") from error


def fit(
    model: str | Path,
    data: Sequence[BaseModel],
    objective: Objective,
    out: str | Path,
    *,
    seed: int = 0,
    splits: Collection[str] = ("train",),
    name: str | None = None,
    progress: Progress | None = None,
) -> FitReport:
    """Train `model` on `data` and save the result as a plain model folder `out`.

    The folder appears when it is complete. A fit that was killed begins anew and, on the same machine with the same
    number of threads, ends with the same weights.

    Args:
        model: a short name, a hub id or a folder; see `palaestra.agents.models`.
        data: what the objective learns from, such as samples.
        out: folder of the new model; what is there is replaced.
        splits: the splits that may be learnt from.
        name: what people will call the new model; by default the old name and `-trained`.

    Raises:
        BadInput: nothing to learn from, data of another kind, or data of a task that is not for training.
        MissingExtra: torch, transformers or TRL is missing.
    """
    if not data:
        raise BadInput("there is nothing to learn from: no samples were mined (no episode succeeded?)")
    for datum in data:
        if not isinstance(datum, objective.learns_from):
            raise BadInput(f"{objective.kind} learns from {objective.learns_from.__name__}, not {type(datum).__name__}")
        for split in objective.splits_of(datum):
            if split not in splits:
                raise BadInput(
                    f"a sample of split {split!r} may not be trained on; training splits: {', '.join(splits)}"
                )
    train = trainer_of(objective)
    if launch := os.environ.get(LAUNCH):
        from palaestra.trainers.launched import Job, fit_launched

        return fit_launched(launch, Job(model, data, objective, Path(out), seed, name), progress)
    return train(model, data, objective, Path(out), seed=seed, name=name, progress=progress)


def trainer_of(objective: Objective) -> Callable[..., FitReport]:
    """The function that trains it. Raises MissingExtra."""
    module, _, function = objective.trainer.partition(":")
    try:
        train: Callable[..., FitReport] = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise MissingExtra(f"training needs the Python module {error.name!r}, which", "train") from error
    return train

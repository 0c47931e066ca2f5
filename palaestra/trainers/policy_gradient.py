"""The policy-gradient objective: push what a rollout said up or down by how much better it was than its group.

Its loss is TRL's GRPO loss (`palaestra.trainers.clipped` trains it): clipped ratios (Schulman et al. 2017,
arXiv 1707.06347), a KL term to a reference (Shao et al. 2024, arXiv 2402.03300), and without length normalisation
(Dr. GRPO, Liu et al. 2025, arXiv 2503.20783) unless asked otherwise.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from palaestra.trainers.objective import Lora, Objective
from palaestra.trainers.sample import Sample


class Graded(Sample):
    """A transcript of a rollout, with how much better than its group the rollout was.

    Attributes:
        advantage: of all its ids that have a weight; negative pushes them away.
        group: the rollouts that it was compared with, for reports.
    """

    advantage: float
    group: str


class PolicyGradient(Objective):
    """Clipped policy gradient over the ids that the agent itself sampled.

    With r = pi / pi_old of an id, A the advantage of its rollout and w its weight, a step maximises the sum over ids of
    w * (min(r A, clip(r, 1 - eps, 1 + eps) A) - beta KL(pi || reference)), divided by
    "dr_grpo": transcripts * `horizon`;  "dapo": the number of ids with a weight;  "grpo": as "dapo", but for each
    transcript, and then the mean over transcripts. A transcript is an episode, unless the conversation forgets.

    pi_old are the collector's log-probs. Where they differ from those of the weights that the fit begins with by no
    more than rounding (0.001), and where the collector does not know them, the latter are taken, so that a fit does not
    depend on what shared a batch with what when it was collected.

    Attributes:
        loss: how it is normalised, see above.
        epsilon: the clipping range.
        beta: weight of the KL term; 0 needs no reference.
        reference: model that the KL is measured to; None: the one that the fit begins with.
        temperature: that the ids were sampled with.
        horizon: ids of an episode at the most, by which "dr_grpo" divides.
        epochs: passes over the samples; only the first step of the first one is strictly on-policy.
        tokens: ids that go through the model in all, in place of `epochs`; the last transcript may go beyond.
        batch: transcripts an optimiser step; None: all that were collected, one step a pass.
        learning_rate: constant (AdamW). Its state goes on from fit to fit where `carry` says so.
        carry: begin with the optimiser's state that lies beside the start weights, and leave one beside the new ones.
        micro_tokens, max_length, weight_decay, max_grad_norm, lora, gradient_checkpointing, bf16: see `CrossEntropy`.
    """

    learns_from: ClassVar[type[BaseModel]] = Graded
    trainer: ClassVar[str] = "palaestra.trainers.clipped:train"

    kind: Literal["policy_gradient"] = "policy_gradient"
    loss: Literal["dr_grpo", "dapo", "grpo"] = "dr_grpo"
    epsilon: float = Field(default=0.2, gt=0, lt=1)
    beta: float = Field(default=0.001, ge=0)
    reference: str | None = None
    temperature: float = Field(default=1.0, gt=0)
    horizon: int = Field(default=256, ge=1)
    epochs: int = Field(default=1, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    batch: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=1e-6, gt=0)
    carry: bool = True
    micro_tokens: int = Field(default=2048, ge=1)
    max_length: int | None = Field(default=None, ge=2)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    bf16: bool | None = None

    def splits_of(self, datum: BaseModel) -> Collection[str]:
        assert isinstance(datum, Graded)
        return (datum.split,)

"""What is learnt from: token ids with a weight per token.

A method only ever maps episodes to samples; the trainer is blind to which method it serves.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Sample(BaseModel):
    """One sequence to learn from.

    Attributes:
        ids: token ids, [length].
        weights: weight of predicting each id from those before it, [length]; 0 is context. The first id has no
            predecessor, so its weight is 0.
        episodes: ids of the episodes it was made of.
        task: id of the root task.
        split: split of the root task: only samples of training splits are ever fitted.
        kind: what it is to the method ("positive", "recovery", "revision", "good", ...), for reports.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    episodes: tuple[str, ...] = Field(min_length=1)
    task: str
    split: str
    kind: str = "positive"

    @model_validator(mode="after")
    def _aligned(self) -> Sample:
        if len(self.ids) != len(self.weights):
            raise ValueError(f"{len(self.weights)} weights for {len(self.ids)} ids")
        if self.weights and self.weights[0] != 0:
            raise ValueError("the first id cannot be predicted, so its weight must be 0")
        return self

    @property
    def trained_tokens(self) -> int:
        """Number of ids with a weight."""
        return sum(weight != 0 for weight in self.weights)

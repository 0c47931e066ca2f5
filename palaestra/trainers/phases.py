"""What the phases of an iteration leave in the run directory, for the phases after them and for the report."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from palaestra.trainers.objective import FitReport


class Record(BaseModel):
    """Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Plan(Record):
    """How many rollouts an iteration makes. Written first, so that a larger budget never changes what was done."""

    rollouts: int
    before: int


class Collected(Record):
    """What an iteration's collecting gave: ids in an order that depends on the plan alone."""

    episodes: tuple[str, ...]
    successes: int
    faults: int


class Fitted(Record):
    """What an iteration's fit did. `report` is None when there was nothing to learn and the weights stay."""

    base: str
    model: str
    samples: int
    report: FitReport | None

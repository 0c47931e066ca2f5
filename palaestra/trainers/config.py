"""What a method is told: environment, model, budget, objective, evaluation. Unknown keys are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from palaestra.agents.conversation import Conversation
from palaestra.agents.policies.vllm_serving import must_serve
from palaestra.agents.policy import Sampling
from palaestra.envs import BadInput
from palaestra.trainers.evaluate import Cluster
from palaestra.trainers.experts import Experts
from palaestra.trainers.objective import CrossEntropy, Objective, objective_of
from palaestra.trainers.self_iteration import RECALLED


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HeldOut(_Config):
    """How the weights of every iteration are measured.

    Attributes:
        split, tasks, samples: see `evaluate`; `tasks` are spread over the types.
        temperature: 0 is greedy.
        cluster: what the intervals draw.
        between: measure the weights between those of the cloned experts and the last ones too.
        recovery: measure the last weights too where the start model failed, from the middle of its episodes.
        improve: ask so often to improve on each episode (K-step self-improvement).
        recall: turns of the latest attempt that are shown there at the most.
    """

    split: str | None = None
    tasks: int | tuple[str, ...] | None = None
    samples: int = Field(default=1, ge=1)
    temperature: float = Field(default=0.0, ge=0.0)
    cluster: Cluster = "task"
    between: bool = True
    recovery: bool = False
    improve: int = Field(default=0, ge=0)
    recall: int = Field(default=RECALLED, ge=1)


class RecipeConfig(_Config):
    """What every method needs to know.

    Attributes:
        env, env_settings, protocol: where the agent acts.
        model: short name, hub id or folder of the start model (pi_0).
        conversation, sampling: how episodes are shown and answers drawn while collecting.
        constrain: write admissible actions only, in collecting and in evaluation.
        engine: what the model acts through, in collecting and in evaluation: None for this process, `vllm` for a vLLM
            server that the run starts, or URLs of servers, separated by commas, which see the run's files under the
            same paths. Trained weights flow into it without a restart.
        iterations: rounds of collect -> mine -> fit -> evaluate after the experts' round (three in ETO, EEF, its
            RFT, and Agent-R).
        samples: rollouts a start and iteration.
        budget: rollouts of the policy in all iterations together. Without `samples` it is shared out evenly among the
            iterations; with `samples` it is a limit. One of the two is needed. 0 only clones the experts.
        tasks: training tasks: a number (spread over the types), names or types, or None for all of the split.
        experts: expert episodes to begin with; None begins with the start model alone.
        objective: what is minimised, by its `kind` (see `objective_of`).
        evaluation: how every iteration is measured.
        seed: all randomness follows from it.
    """

    env: str
    env_settings: dict[str, Any] = Field(default_factory=dict)
    protocol: str | None = None
    model: str = "smollm2-135m"
    conversation: Conversation = Conversation()
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=32)
    constrain: bool = False
    engine: str | None = None
    iterations: int = Field(default=3, ge=1)
    samples: int | None = Field(default=None, ge=1)
    budget: int | None = Field(default=None, ge=0)
    tasks: int | tuple[str, ...] | None = None
    experts: Experts | None = None
    objective: SerializeAsAny[Objective] = CrossEntropy()
    evaluation: HeldOut = HeldOut()
    seed: int = Field(default=0, ge=0)

    @field_validator("objective", mode="before")
    @classmethod
    def _by_kind(cls, value: object) -> object:
        return objective_of(value) if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _bounded(self) -> RecipeConfig:
        if self.samples is None and self.budget is None:
            raise ValueError("give 'budget' (rollouts in all) or 'samples' (rollouts a task and iteration)")
        if self.budget == 0 and self.experts is None:
            raise ValueError("a 'budget' of 0 only clones experts: give 'experts', or a budget above 0")
        if self.constrain and self.conversation.style != "action":
            raise ValueError(
                f"'constrain' writes admissible actions and nothing else, so it needs conversation.style 'action', "
                f"not {self.conversation.style!r}"
            )
        if self.engine is not None:
            must_serve(self.engine)
        return self


C = TypeVar("C", bound=RecipeConfig)
M = TypeVar("M", bound=BaseModel)


def config_of(kind: type[M], settings: Mapping[str, Any]) -> M:
    """A configuration from a file or the command line. Raises BadInput that names the key."""
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise BadInput(f"unknown configuration key {where!r}; there are: {', '.join(kind.model_fields)}") from error
        raise BadInput(
            f"configuration{f' key {where!r}' if where else ''}: {first['msg'].removeprefix('Value error, ')}"
        ) from error

"""The policies that a run's weights act as: one model in memory at a time, or the run's servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from palaestra.agents.freed import give_back
from palaestra.agents.policies.vllm_serving import Serving
from palaestra.agents.policy import Policy, Sampling
from palaestra.envs import MissingExtra


class Acting:
    """Makes policies of models.

    Args:
        model: the start model, whose chat template all of a run's weights speak.
        engine: vLLM servers to act through (see `Serving`); in this process without one.
        constrain: are answers drawn among the admissible actions.
        concurrency: episodes at once that servers answer.

    Raises:
        BadInput: `engine` is not one.
    """

    def __init__(self, model: str, *, engine: str | None, constrain: bool, concurrency: int) -> None:
        self._start, self._constrain = model, constrain
        self._serving = Serving(engine, concurrency) if engine is not None else None
        self._loaded: tuple[str, Any] | None = None
        self._template: Any = None

    def policy(self, model: str | Path, sampling: Sampling, *, constrain: bool | None = None) -> Policy:
        """A model as a policy; an earlier one's weights may leave memory, or the servers, for it.

        Args:
            constrain: in place of the run's, where it is given.

        Raises:
            BadInput, EngineFault, MissingExtra: the model, the servers or a part of the installation cannot be used.
        """
        constrained = self._constrain if constrain is None else constrain
        if self._serving is not None:
            return self._serving.policy(model, sampling, constrain=constrained)
        try:
            from palaestra.agents.policies.hf import HFPolicy
        except ImportError as error:
            raise MissingExtra(f"a model needs the Python module {error.name!r}, which", "train") from error
        policy = HFPolicy(self._in_memory(str(model)), sampling=sampling, constrain=constrained)
        return cast(Policy, policy)  # its attributes are narrower than the protocol's, which are mutable

    @property
    def template(self) -> Any:
        """The start model's `ChatTemplate`, read once. Raises BadInput where it cannot be made token-exact."""
        if self._template is None and self._serving is not None:
            from palaestra.agents.policies.vllm import template_of

            self._template = template_of(self._start)
        if self._template is None:
            self._template = cast(Any, self.policy(self._start, Sampling())).template
        return self._template

    def release(self) -> None:
        """Let the model in memory go: something else needs the room."""
        self._loaded = None
        give_back()

    def close(self) -> None:
        """Let the model go, and end the servers that are ours."""
        self.release()
        if self._serving is not None:
            self._serving.close()

    def _in_memory(self, model: str) -> Any:
        from palaestra.agents.models import load_model

        if self._loaded is None or self._loaded[0] != model:
            self._loaded = None
            self._loaded = (model, load_model(model))
        return self._loaded[1]

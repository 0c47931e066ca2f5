"""The vLLM servers of a run: started or found once, and given whichever weights are to act."""

from __future__ import annotations

from pathlib import Path

from palaestra.agents.engine import Engine
from palaestra.agents.models import resolve, version_of
from palaestra.agents.policies.vllm import VLLMPolicy
from palaestra.agents.policy import Sampling
from palaestra.envs import BadInput


class Serving:
    """What the models of a run act through.

    Args:
        engine: `vllm` for a server of our own, which starts with the first model that is asked for; or URLs of servers,
            separated by commas, that take new weights and see the run's files under the same paths.

    Raises:
        BadInput: it is neither.
    """

    def __init__(self, engine: str) -> None:
        self._urls = must_serve(engine)
        self._policy: VLLMPolicy | None = None

    def policy(self, model: str | Path, sampling: Sampling, *, constrain: bool = False) -> VLLMPolicy:
        """The policy of a model: the servers have its weights from now on, for policies handed out before as well.

        Raises:
            BadInput, EngineFault, MissingExtra: see `VLLMPolicy`.
        """
        folder = resolve(model)
        if self._policy is None:
            places: list[Engine | str] = [*self._urls] or [Engine(folder)]
            tokenizer = folder if self._urls else None
            self._policy = VLLMPolicy(*places, tokenizer=tokenizer, sampling=sampling, constrain=constrain)
        if self._policy.version != version_of(folder):
            self._policy.update(folder)
        return self._policy.sampled(sampling)

    def close(self) -> None:
        """End the server, if it is ours."""
        if self._policy is not None:
            self._policy.close()
            self._policy = None


def must_serve(engine: str) -> list[str]:
    """The URLs that an engine's name stands for; none for `vllm`. Raises BadInput."""
    if engine == "vllm":
        return []
    urls = [url.strip() for url in engine.split(",")]
    if not all(url.startswith(("http://", "https://")) for url in urls):
        raise BadInput(f"engine {engine!r} is neither 'vllm' nor URLs of vLLM servers, such as http://localhost:8000")
    return urls

"""The vLLM servers of a run: started or found once, and given whichever weights are to act."""

from __future__ import annotations

from pathlib import Path

from palaestra.agents.engine import Engine
from palaestra.agents.models import resolve, version_of
from palaestra.agents.policies.vllm import VLLMPolicy
from palaestra.agents.policy import Sampling
from palaestra.envs import BadInput

_AT_LEAST = 64
"""Few episodes ask for as many where one of them asks for several answers (forks, strategies)."""
_AT_MOST = 1024
"""Sequences of an engine of ours: what it sets up for more takes memory, and more than fit into one pass keep it from
starting."""


def at_once(episodes: int, places: int = 1) -> int:
    """How many requests one of so many servers is asked at once, where so many episodes are played at once."""
    return max(_AT_LEAST, -(-episodes // places))


def engine_for(model: str | Path, episodes: int) -> Engine:
    """An engine with the usual settings that works on so many episodes at once. Raises as `Engine`."""
    return Engine(model, concurrency=min(at_once(episodes), _AT_MOST))


class Serving:
    """What the models of a run act through.

    Args:
        engine: `vllm` for a server of our own, which starts with the first model that is asked for; or URLs of servers,
            separated by commas, that take new weights and see the run's files under the same paths.
        concurrency: episodes at once that they answer.

    Raises:
        BadInput: it is neither.
    """

    def __init__(self, engine: str, concurrency: int = 16) -> None:
        self._urls, self._concurrency = must_serve(engine), concurrency
        self._policy: VLLMPolicy | None = None

    def policy(self, model: str | Path, sampling: Sampling, *, constrain: bool = False) -> VLLMPolicy:
        """The policy of a model: the servers have its weights from now on, for policies handed out before as well.

        Raises:
            BadInput, EngineFault, MissingExtra: see `VLLMPolicy`.
        """
        folder = resolve(model)
        if self._policy is None:
            if self._urls:
                each = at_once(self._concurrency, len(self._urls))
                self._policy = VLLMPolicy(*self._urls, tokenizer=folder, concurrency=each)
            else:
                self._policy = VLLMPolicy(engine_for(folder, self._concurrency))
        if self._policy.version != version_of(folder):
            self._policy.update(folder)
        return self._policy.sampled(sampling, constrain=constrain)

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

"""Experts that look into the environment, and experts that slip: they make expert episodes without any API.

A flawed expert makes the failed expert episodes that EEF (arXiv 2504.13145) explores from.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from palaestra.agents.episode import Actor
from palaestra.agents.policy import Completion, PolicyBase, Request
from palaestra.envs import BadInput, EnvSpec, Oracle, find
from palaestra.envs.errors import NoWay


class OraclePolicy(PolicyBase):
    """Acts as an environment's oracle does.

    Args:
        source: an oracle, or the environment (its spec, id or short name) whose oracle to take.
        oracle: which of the environment's oracles; None takes its default one.
        name: shown to people and part of the episode key; by default `oracle:` and the oracle's name.

    Raises:
        BadInput: the environment is unknown, or has no such oracle.
    """

    def __init__(self, source: Oracle | EnvSpec | str, oracle: str | None = None, *, name: str | None = None) -> None:
        spec = find(source) if isinstance(source, str) else source
        if isinstance(spec, EnvSpec):
            self.oracle = spec.oracle(oracle)
            called = oracle or next(iter(spec.oracles))
        else:
            self.oracle = spec
            called = getattr(spec, "__name__", type(spec).__name__)
        super().__init__(name=name or f"oracle:{called}", actor=Actor.EXPERT, looks_inside=True)

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer with the oracle's action, or with the reason why it knows no way on from there.

        Raises BadInput when a request comes without its environment.
        """
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        try:
            action = self.choose(request)
        except NoWay as error:
            return Completion("", error=str(error))
        return Completion(action, action=action)

    def choose(self, request: Request) -> str:
        """The action of one request."""
        if request.env is None:
            raise BadInput(f"{self.name} looks into the environment, but was not given one")
        return self.oracle(request.env)


class FlawedOracle(OraclePolicy):
    """An expert that slips: with some probability it takes another admissible action instead.

    When it slips and to what follows from `Request.seed`, so the same request always gives the same action.

    Args:
        oracle: the expert.
        slip: probability of a slip at each turn, in [0, 1].

    Raises:
        BadInput: `slip` is not a probability. When acting: the environment does not list its admissible actions.
    """

    def __init__(self, oracle: OraclePolicy, slip: float = 0.3) -> None:
        if not 0.0 <= slip <= 1.0:
            raise BadInput(f"slip is a probability between 0 and 1, got {slip}")
        super().__init__(oracle.oracle, name=f"{oracle.name}:slip={slip:g}")
        self.wants_actions = True
        self.slip = slip

    def choose(self, request: Request) -> str:
        wanted = super().choose(request)
        random = Random(request.seed)
        if random.random() >= self.slip:
            return wanted
        if request.actions is None:
            raise BadInput(f"{self.name} slips to other admissible actions, but this environment does not list them")
        others = [action for action in request.actions if action != wanted]
        return random.choice(others) if others else wanted


def flawed(oracle: OraclePolicy | Oracle | EnvSpec | str, slip: float = 0.3) -> FlawedOracle:
    """An oracle with noise. See `FlawedOracle`; what is not yet an `OraclePolicy` becomes one."""
    return FlawedOracle(oracle if isinstance(oracle, OraclePolicy) else OraclePolicy(oracle), slip)

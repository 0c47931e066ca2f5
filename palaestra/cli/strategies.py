"""`--strategy` and `--calls`: an inference-time strategy around the policy of a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from palaestra.agents.policy import Policy
from palaestra.envs import EnvSpec
from palaestra.envs.errors import BadInput

StrategyName = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="Several model calls an answer: best-of-n, best-of-n-rewind, self-consistency, self-certainty, deepening, "
        "iad, p-true or reflection, with options as NAME:key=value,key=value.",
    ),
]
Calls = Annotated[int | None, typer.Option(help="Model calls that the strategy may take for one decision.")]


def usual_temperature(strategy: str | None) -> float:
    """The temperature where nobody says: greedy, but for strategies, most of which need answers that differ."""
    return 0.0 if strategy is None else 1.0


def with_strategy(
    policy: Policy, strategy: str | None, calls: int | None, spec: EnvSpec, env_settings: Mapping[str, Any]
) -> Policy:
    """The policy with the strategy around it, if there is one. Raises BadInput."""
    if strategy is None:
        if calls is not None:
            raise BadInput("--calls is the budget of a strategy; give --strategy as well")
        return policy
    from palaestra.agents.strategies.named import strategy_by_name

    return strategy_by_name(strategy, policy, calls=calls, env=spec.id, env_settings=env_settings)

"""Strategies by name, as `--strategy` takes them: `NAME`, or `NAME:key=value,key=value` with options of its plan.

best-of-n          several answers, a verifier's best            verifier=likelihood|p-true
best-of-n-rewind   whole tries in a rewound instance
self-consistency   the action that most samples agree on         allocation=blend-asc|even, share
self-certainty     votes that weigh by the model's certainty     power, measure=certainty|likelihood
deepening          goes on where an answer was cut               first, gamma, trigger
iad                review, refine, repeat                        verifier
p-true             the answer that the model believes right      shown
reflection         tries again with what it learnt from failure  lessons, shown
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from palaestra.agents.policy import Policy
from palaestra.agents.strategies.best_of_n import BestOfN, PTrueJudging
from palaestra.agents.strategies.deepening import Deepening
from palaestra.agents.strategies.iad import IAD
from palaestra.agents.strategies.reflection import Reflection
from palaestra.agents.strategies.rehearsal import Rehearsing, Stage
from palaestra.agents.strategies.self_certainty import SelfCertainty
from palaestra.agents.strategies.self_consistency import SelfConsistency
from palaestra.agents.strategies.strategy import Strategy
from palaestra.agents.strategies.tries import Tries
from palaestra.envs import BadInput

STRATEGIES: dict[str, type[Strategy[Any]]] = {
    kind.kind: kind
    for kind in (BestOfN, Tries, SelfConsistency, SelfCertainty, Deepening, IAD, PTrueJudging, Reflection)
}


def strategy_by_name(
    text: str,
    policy: Policy,
    *,
    calls: int | None = None,
    env: str | None = None,
    env_settings: Mapping[str, Any] | None = None,
    judge: Policy | None = None,
) -> Strategy[Any]:
    """Put a strategy around a policy.

    Args:
        text: see above.
        policy: who is asked; judge: who judges or reflects in its place.
        calls: model calls a decision at the most; the strategy's own number without it.
        env, env_settings: where it will act, for those that try in an instance of their own.

    Raises:
        BadInput: an unknown name or option, a value that does not fit, or a policy that the strategy cannot use.
    """
    name, _, rest = text.partition(":")
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name, STRATEGIES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise BadInput(f"there is no strategy {name!r}; {hint}there are: {', '.join(STRATEGIES)}")
    kind = STRATEGIES[name]
    options = _options(rest, text)
    if calls is not None:
        if "calls" in options:
            raise BadInput(f"strategy {text!r}: calls are given twice")
        options["calls"] = calls
    try:
        plan = kind.plan_type.model_validate(options)
    except ValidationError as error:
        raise BadInput(f"strategy {text!r}: {_told(error, kind)}") from error
    if issubclass(kind, Rehearsing):
        if env is None:
            raise BadInput(f"strategy {name} tries in an environment of its own: say which")
        return kind(policy, plan, stage=Stage(env, env_settings), judge=judge)
    return kind(policy, plan, judge=judge)


def _options(text: str, whole: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or not key or key in options:
            raise BadInput(f"strategy {whole!r}: {pair!r} is not of the form key=value, or is given twice")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    return options


def _told(error: ValidationError, kind: type[Strategy[Any]]) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"it has no option {key!r}; it has: {', '.join(kind.plan_type.model_fields)}"
    return f"{key}: {first['msg']}"

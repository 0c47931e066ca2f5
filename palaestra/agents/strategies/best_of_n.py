"""Best of n: several answers, of which a verifier's best is taken (Stiennon et al. 2020, arXiv 2009.01325; Cobbe et al.
2021, arXiv 2110.14168).

    y_1 .. y_n ~ pi(. | x)        y = argmax_i R(x, y_i)

Equal actions count once, the first of equally good ones is taken. With a verifier that asks a judge an answer takes two
calls, so n is half the budget. See `tries` for the best of n whole tries in a rewound environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from palaestra.agents.policy import Completion, Policy, Request
from palaestra.agents.strategies.strategy import Bill
from palaestra.agents.strategies.verified import V, Verified, VerifiedPlan
from palaestra.agents.strategies.verifier import PTrue


class BestOfN(Verified[V]):
    """Takes the best of n answers by a verifier."""

    kind = "best-of-n"

    def decide(self, requests: Sequence[Request], bills: Sequence[Bill]) -> list[Completion]:
        return self.best(requests, self.samples(requests, self.plan.calls // self.each, bills), bills)


class PTruePlan(VerifiedPlan):
    """How P(True) judging spends.

    Attributes:
        verifier: `p-true`.
        shown: how many other answers the judge reads beside the one that it judges.
    """

    verifier: Literal["p-true"] = "p-true"
    shown: int = Field(default=4, ge=0)


class PTrueJudging(BestOfN[PTruePlan]):
    """Takes the answer that the model itself most believes to be right, the others before its eyes (Kadavath et al.
    2022, arXiv 2207.05221): best of n with `PTrue`."""

    kind = "p-true"
    plan_type = PTruePlan

    def __init__(self, policy: Policy, plan: PTruePlan | None = None, *, judge: Policy | None = None) -> None:
        plan = plan or PTruePlan()
        super().__init__(policy, plan, judge=judge, verifier=PTrue(plan.shown))

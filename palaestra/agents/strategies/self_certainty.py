"""Self-certainty with Borda voting (Kang et al. 2025, arXiv 2502.18581).

How far the model's own distributions were from knowing nothing, on the mean over an answer's n ids:

    SC = -1/(n |V|) sum_i sum_j log(|V| p(j | x, y_<i))        (KL(uniform || p))

The N answers are ranked by it, r = 1 being the most certain, and each votes for its action with (N - r + 1)^p. With
p = 0 this is plain voting, with a large p the most certain answer wins. The paper finds p about 0.3 to 0.5 best for
N = 8 and about 1.2 for N = 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from palaestra.agents.policy import Completion, Policy, Request
from palaestra.agents.strategies.strategy import Bill, Plan, Strategy, action_of, same
from palaestra.envs import BadInput


class SelfCertaintyPlan(Plan):
    """How votes weigh.

    Attributes:
        power: p.
        measure: `certainty`, or `likelihood` (the mean log-prob of the ids), for policies that tell no distribution.
    """

    power: float = Field(default=0.5, ge=0.0)
    measure: Literal["certainty", "likelihood"] = "certainty"


class SelfCertainty(Strategy[SelfCertaintyPlan]):
    """Takes the action with the most votes, which weigh by the rank of the answer's certainty.

    A policy with a switch `certainty` (`HFPolicy`) is switched to tell it.

    Raises:
        BadInput: a policy that cannot tell its certainty, with `measure` `certainty`.
    """

    kind = "self-certainty"
    plan_type = SelfCertaintyPlan

    def __init__(self, policy: Policy, plan: SelfCertaintyPlan | None = None, *, judge: Policy | None = None) -> None:
        super().__init__(policy, plan, judge=judge)
        if self.plan.measure == "certainty":
            if not hasattr(policy, "certainty"):
                raise BadInput(f"{policy.name} does not tell its whole distribution; use measure=likelihood")
            policy.certainty = True

    def decide(self, requests: Sequence[Request], bills: Sequence[Bill]) -> list[Completion]:
        found = self.samples(requests, self.plan.calls, bills)
        return [self._winner(request, answers) for request, answers in zip(requests, found, strict=True)]

    def _winner(self, request: Request, answers: Sequence[Completion]) -> Completion:
        read = [answer for answer in answers if same(action_of(request, answer))]
        if not read or len(answers) == 1:
            return answers[0]
        votes: dict[str, float] = {}
        for answer, weight in zip(
            read, borda([self._measured(answer) for answer in read], self.plan.power), strict=True
        ):
            action = same(action_of(request, answer))
            votes[action] = votes.get(action, 0.0) + weight
        winner = max(votes, key=lambda action: votes[action])
        return self.chosen(next(a for a in read if same(action_of(request, a)) == winner), answers[0])

    def _measured(self, answer: Completion) -> float:
        if self.plan.measure == "certainty" and answer.certainty is not None:
            return answer.certainty
        if self.plan.measure == "likelihood" and answer.logprobs:
            return sum(answer.logprobs) / len(answer.logprobs)
        raise BadInput(f"{self.policy.name} tells no {self.plan.measure} of its answers; use self-consistency")


def borda(values: Sequence[float], power: float) -> list[float]:
    """The weight of every vote: (N - rank + 1)^power, rank 1 being the highest value, the first of equal ones."""
    order = sorted(range(len(values)), key=lambda place: (-values[place], place))
    weights = [0.0] * len(values)
    for rank, place in enumerate(order):
        weights[place] = float(len(values) - rank) ** power
    return weights

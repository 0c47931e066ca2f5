"""Self-consistency (Wang et al. 2022, arXiv 2203.11171) with Blend-ASC's allocation (arXiv 2511.12309).

The action that most samples agree on is taken. How far one can be sure of the leader, with v1 votes against v2 of the
runner-up and n = v1 + v2, two statistics say, both from the posterior Beta(v1 + 1, v2 + 1) of the leader's share:

    adaptive self-consistency:  c_asc = P(share > 1/2)
    PPR-1v1 martingale:         c_ppr = 1 - min(1, f(1/2)),  f(1/2) = (n + 1)! / (v1! v2!) 2^-n the posterior's density

1 / f(1/2) is a prior-posterior ratio, so by Ville's inequality f(1/2) bounds how likely an even race ever looks so
decided. The next samples go to the decisions with the lowest blend, w being the share of the budget that is spent:

    c = (1 - w) c_asc + w c_ppr

All decisions that wait together share one budget: `calls` times their number, spent to the last call. A decision alone
gets `calls`. (The paper's way to blend is known to us from its abstract and notes; turning the martingale into 1 -
min(1, f) so that both lie in [0, 1] is ours.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from palaestra.agents.policy import Completion, Request
from palaestra.agents.strategies.strategy import Bill, Plan, Strategy, action_of, again, same


class SelfConsistencyPlan(Plan):
    """How votes are spent.

    Attributes:
        calls: samples a decision on the average.
        allocation: `blend-asc`, or `even` (the same number for every decision).
        share: of the waiting decisions, the least certain ones that get their next sample together; the smaller, the
            closer to the paper's one at a time, and the smaller the model's batches.
    """

    allocation: Literal["blend-asc", "even"] = "blend-asc"
    share: float = Field(default=0.25, gt=0.0, le=1.0)


class SelfConsistency(Strategy[SelfConsistencyPlan]):
    """Takes the action that most samples agree on; of equally many the one that was said first."""

    kind = "self-consistency"
    plan_type = SelfConsistencyPlan

    def decide(self, requests: Sequence[Request], bills: Sequence[Bill]) -> list[Completion]:
        even = self.plan.allocation == "even"
        found = self.samples(requests, self.plan.calls if even else 1, bills)
        budget = self.plan.calls * len(requests)
        spent = sum(map(len, found))
        going = [place for place, answers in enumerate(found) if answers[0].error is None]
        width = max(1, round(self.plan.share * len(going)))
        while going and spent < budget:
            sure = {place: blend(*_race(requests[place], found[place]), spent / budget) for place in going}
            order = sorted(going, key=lambda place: (sure[place], len(found[place]), place))
            places = order[: min(width, budget - spent)]
            asked = [again(requests[place], len(found[place])) for place in places]
            for place, answer in zip(places, self.ask(asked, places, bills), strict=True):
                found[place].append(answer)
            spent += len(places)
        return [self._winner(request, answers) for request, answers in zip(requests, found, strict=True)]

    def _winner(self, request: Request, answers: Sequence[Completion]) -> Completion:
        votes = _votes(request, answers)
        if not votes or len(answers) == 1:
            return answers[0]
        winner = votes.most_common(1)[0][0]
        return self.chosen(next(a for a in answers if same(action_of(request, a)) == winner), answers[0])


def blend(first: int, second: int, spent: float) -> float:
    """How sure one can be of the leader, in [0, 1].

    Args:
        first, second: votes of the leader and of the runner-up.
        spent: share of the budget that is spent, in [0, 1].
    """
    votes = first + second
    # I_1/2(a, b) is a binomial tail: P(share > 1/2) = P(Bin(n + 1, 1/2) <= v1)
    asc: float = sum(math.comb(votes + 1, k) for k in range(first + 1)) / 2 ** (votes + 1)
    density: float = (votes + 1) * math.comb(votes, first) / 2**votes
    return (1 - spent) * asc + spent * (1 - min(1.0, density))


def _votes(request: Request, answers: Sequence[Completion]) -> Counter[str]:
    """Votes by action, in the order they were first said; what cannot be read does not vote."""
    return Counter(action for answer in answers if (action := same(action_of(request, answer))))


def _race(request: Request, answers: Sequence[Completion]) -> tuple[int, int]:
    counts = [count for _, count in _votes(request, answers).most_common(2)]
    return (*counts, 0, 0)[:2]  # type: ignore[return-value]  # always two

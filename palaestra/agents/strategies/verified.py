"""Strategies that have answers rated by a verifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from pydantic import Field

from palaestra.agents.policy import Completion, Policy, Request
from palaestra.agents.strategies.strategy import Bill, Plan, Strategy, again, distinct
from palaestra.agents.strategies.verifier import Case, Verifier, verifier_by_name
from palaestra.envs import BadInput

_JUDGEMENT = 4
"""Ids that a judge may write: a letter, and what a model puts around it."""


class VerifiedPlan(Plan):
    """How a strategy with a verifier spends.

    Attributes:
        verifier: `likelihood`, or `p-true` (one call of the judge for every different answer).
    """

    verifier: str = Field(default="likelihood", min_length=1)


V = TypeVar("V", bound=VerifiedPlan)


class Verified(Strategy[V]):
    """Base of strategies with a verifier.

    Args:
        policy, plan, judge: see `Strategy`.
        verifier: one of your own, in place of the plan's.

    Raises:
        BadInput: an unknown verifier, fewer calls than two rated answers take, or nobody who can judge.
    """

    plan_type: ClassVar[type[Plan]] = VerifiedPlan

    def __init__(
        self, policy: Policy, plan: V | None = None, *, judge: Policy | None = None, verifier: Verifier | None = None
    ) -> None:
        super().__init__(policy, plan, judge=judge)
        self.verifier = verifier or verifier_by_name(self.plan.verifier)
        self.each = 2 if self.verifier.asks else 1
        if self.plan.calls < 2 * self.each:
            raise BadInput(
                f"{self.kind} compares at least two answers, and with the verifier {self.verifier.name} each takes "
                f"{self.each} calls; give it at least {2 * self.each} calls, not {self.plan.calls}"
            )
        if self.verifier.asks and getattr(self.judge, "constrain", False):
            raise BadInput(f"{self.judge.name} writes admissible actions only, so it cannot judge; give another judge")

    def how(self) -> dict[str, str]:
        return {**super().how(), "verifier": self.verifier.name}

    def rate(self, cases: Sequence[Case], places: Sequence[int], bills: Sequence[Bill]) -> list[float]:
        """What each answer is worth; `places` says for which decision each of them is."""
        template = self.judge.template
        if not self.verifier.asks:
            return [self.verifier.worth(case, None, template) for case in cases]
        asked = []
        for number, case in enumerate(cases):
            said = self.verifier.question(case)
            prompt = template.opening(said) if template is not None else ()
            seed = again(case.request, number + 1, "verifier").seed
            asked.append(Request(said, seed, prompt, max_tokens=_JUDGEMENT))
        answers = self.ask(asked, places, bills, judge=True)
        return [self.verifier.worth(case, said, template) for case, said in zip(cases, answers, strict=True)]

    def best(
        self, requests: Sequence[Request], found: Sequence[Sequence[Completion]], bills: Sequence[Bill]
    ) -> list[Completion]:
        """Of each request's answers the one that is worth most, the first of equal ones. Equal actions are rated once,
        and what is alone is not rated."""
        several = [distinct(request, answers) for request, answers in zip(requests, found, strict=True)]
        cases, places = [], []
        for place, answers in enumerate(several):
            for answer in answers if len(answers) > 1 else ():
                cases.append(Case(requests[place], answer, [other for other in answers if other is not answer]))
                places.append(place)
        worth = self.rate(cases, places, bills)
        chosen: list[Completion] = []
        for place, all_of_it in enumerate(found):
            rated = [
                (-value, number, case.answer)
                for number, (value, case, where) in enumerate(zip(worth, cases, places, strict=True))
                if where == place
            ]
            left = several[place] or list(all_of_it)  # nothing can be read: the policy's own answer stands
            chosen.append(self.chosen(min(rated)[2] if rated else left[0], all_of_it[0]))
        return chosen

"""Iterative deepening sampling (Chen et al. 2025, arXiv 2502.05449).

An answer is written up to a first limit of ids. If it is not finished there, a sentence is put in that makes the model
look at what it wrote, and it writes on to the next limit, and so on:

    b_k = b_0 gamma^k, k = 0 .. calls - 1;  the last one is `max_tokens`

It pays where answers hold a thought (style `react` or `text`). What is put in counts as ids of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pydantic import Field

from palaestra.agents.policy import Completion, Policy, Request
from palaestra.agents.strategies.strategy import Bill, Plan, Strategy
from palaestra.agents.template import ChatTemplate
from palaestra.envs import BadInput


class DeepeningPlan(Plan):
    """How far and how often.

    Attributes:
        calls: limits, and so calls of an answer that is never finished.
        first: b_0 in ids; None is where b_0 gamma^(calls - 1) is `max_tokens`.
        gamma: how much further each limit lies.
        trigger: the sentence.
    """

    calls: int = Field(default=3, ge=1)
    first: int | None = Field(default=None, ge=1)
    gamma: float = Field(default=2.0, gt=1.0)
    trigger: str = Field(default=" Wait, let me check what I have so far.", min_length=1)


class Deepening(Strategy[DeepeningPlan]):
    """Goes on where an answer was cut, after a word that makes the model check it.

    Raises:
        BadInput: a policy without token ids: it cannot go on in the middle of an answer.
    """

    kind = "deepening"
    plan_type = DeepeningPlan
    varies = False

    def __init__(self, policy: Policy, plan: DeepeningPlan | None = None, *, judge: Policy | None = None) -> None:
        super().__init__(policy, plan, judge=judge)
        if policy.template is None or policy.sampling is None:
            raise BadInput(f"deepening goes on in the middle of an answer, and {policy.name} tells no token ids")
        self._template: ChatTemplate = policy.template
        self._trigger = self._template.encode_inside(self.plan.trigger)
        self.limits = limits(self.plan, policy.sampling.max_tokens)

    def decide(self, requests: Sequence[Request], bills: Sequence[Bill]) -> list[Completion]:
        drafts = [_Draft(list(request.prompt_ids) or self._template.opening(request.messages)) for request in requests]
        for number, limit in enumerate(self.limits):
            put_in = self._trigger if number else []
            going = [n for n, d in enumerate(drafts) if not d.over and (not number or len(d.ids) + len(put_in) < limit)]
            asked = []
            for place in going:
                prompt = [*drafts[place].prompt, *drafts[place].ids, *put_in]
                room = limit - len(drafts[place].ids) - len(put_in)
                asked.append(replace(requests[place], prompt_ids=prompt, max_tokens=room))
            for place, answer in zip(going, self.ask(asked, going, bills), strict=True):
                drafts[place].take(put_in, answer)
        return [self._whole(draft) for draft in drafts]

    def _whole(self, draft: _Draft) -> Completion:
        if draft.pieces < 2:
            return draft.last
        self.spent.changed += 1
        text = self._template.decode(draft.ids)
        return replace(draft.last, text=text, ids=tuple(draft.ids), logprobs=(), certainty=None)


@dataclass
class _Draft:
    """One answer as far as it is written."""

    prompt: list[int]
    ids: list[int] = field(default_factory=list)
    last: Completion = field(default_factory=lambda: Completion(""))
    pieces: int = 0
    over: bool = False

    def take(self, put_in: Sequence[int], answer: Completion) -> None:
        """Append what was put in and what was written after it."""
        self.over = answer.finished or answer.error is not None
        if answer.error is not None and self.pieces:  # no room to go on: what is there stands
            return
        self.ids += [*put_in, *answer.ids]
        self.last, self.pieces = answer, self.pieces + 1


def limits(plan: DeepeningPlan, most: int) -> list[int]:
    """The limits in ids, each beyond the one before, the last one `most`."""
    first = plan.first if plan.first is not None else most / plan.gamma ** (plan.calls - 1)
    steps = [min(most, max(1, round(first * plan.gamma**k))) for k in range(plan.calls - 1)]
    return sorted({*steps, most})

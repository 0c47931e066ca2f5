"""What all strategies share: a policy around a policy that asks it several times for one answer, and counts.

A strategy is a policy like any other, so it collects, evaluates and nests. Its name, version and `extra` say what it
does, so that no evaluation mixes its episodes with those of the policy inside or of another budget. Answers that were
chosen among several carry no log-probs: they were not drawn with the probability that the model gave them.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from palaestra.agents.episode import Actor
from palaestra.agents.message import Message
from palaestra.agents.policy import Completion, Policy, Request, Sampling, Situation, ask
from palaestra.agents.template import ChatTemplate
from palaestra.envs import BadInput


class Plan(BaseModel):
    """How a strategy spends.

    Attributes:
        calls: model calls that one decision may take at the most, those of a judge among them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: int = Field(default=8, ge=1)


P = TypeVar("P", bound=Plan)


@dataclass
class Bill:
    """What one decision took so far."""

    calls: int = 0
    prompt: int = 0
    completion: int = 0


@dataclass
class Spent:
    """What a strategy took so far.

    Attributes:
        decisions: answers given; changed: of these, other ones than the policy's first.
        calls: model calls; batches: how often a model was asked.
        most: calls of the decision that took the most.
    """

    decisions: int = 0
    changed: int = 0
    calls: int = 0
    batches: int = 0
    most: int = 0

    def text(self) -> str:
        """One line for people."""
        each = self.calls / max(1, self.decisions)
        return f"{self.decisions} decisions, {self.changed} changed; {each:.1f} calls a decision, {self.most} at most"


class Strategy(Generic[P]):
    """Base of all strategies. See `Policy` for the common attributes.

    Args:
        policy: who is asked.
        plan: how much; see the strategy's own plan.
        judge: who is asked about answers, where the strategy asks; the policy itself without one.

    Attributes:
        kind: the strategy's name; plan_type: what its plan is; varies: does it live on answers that differ.
        spent: what it took.

    Raises:
        BadInput: a policy that looks inside the environment, or a greedy one where answers must differ.
    """

    kind: ClassVar[str]
    plan_type: ClassVar[type[Plan]] = Plan
    varies: ClassVar[bool] = True
    looks_inside = False

    def __init__(self, policy: Policy, plan: P | None = None, *, judge: Policy | None = None) -> None:
        if policy.looks_inside:
            raise BadInput(f"{policy.name} looks into the environment and needs no strategy; give a model")
        self.plan: P = plan if plan is not None else self.plan_type()  # type: ignore[assignment]  # P's own plan_type
        if not isinstance(self.plan, self.plan_type):
            raise BadInput(f"{self.kind} takes a {self.plan_type.__name__}, not a {type(self.plan).__name__}")
        if self.varies and policy.sampling is not None and policy.sampling.temperature == 0:
            raise BadInput(f"{self.kind} chooses among answers that differ; sample at a temperature above 0")
        self.policy, self.judge = policy, judge or policy
        self.spent = Spent()

    # -- as a policy ---------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return f"{self.policy.name}+{self.kind}"

    @property
    def version(self) -> str:
        return self._versioned(self.policy.version)

    def _versioned(self, inner: str) -> str:
        """A version of the policy inside, and what is done with it."""
        parts = [self.plan.model_dump_json(), *map(str, self.how().values())]
        return f"{inner}+{hashlib.blake2b('|'.join(parts).encode(), digest_size=6).hexdigest()}"

    @property
    def extra(self) -> dict[str, Any]:
        """For the provenance and the evaluation card: what the strategy does, and what the policy inside says."""
        inner: dict[str, Any] = dict(getattr(self.policy, "extra", {}))
        within = {"around": inner.pop("strategy")} if "strategy" in inner else {}
        return {**inner, "strategy": {"name": self.kind, **self.plan.model_dump(mode="json"), **self.how(), **within}}

    @property
    def actor(self) -> Actor:
        return self.policy.actor

    @property
    def sampling(self) -> Sampling | None:
        return self.policy.sampling

    @property
    def template(self) -> ChatTemplate | None:
        return self.policy.template

    @property
    def batch_size(self) -> int:
        return self.policy.batch_size

    @property
    def wants_actions(self) -> bool:
        return self.policy.wants_actions

    @property
    def constrain(self) -> bool:
        """Does the policy inside write admissible actions only."""
        return bool(getattr(self.policy, "constrain", False))

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer every request, in order. Raises BadInput for a request without a situation."""
        bills = [Bill() for _ in requests]
        answers = self.decide(requests, bills)
        self.spent.decisions += len(answers)
        self.spent.most = max([self.spent.most, *(bill.calls for bill in bills)])
        return [
            replace(
                answer,
                calls=bill.calls,
                prompt_tokens=bill.prompt,
                completion_tokens=bill.completion,
                version=self._versioned(answer.version) if answer.version else "",
            )
            for answer, bill in zip(answers, bills, strict=True)
        ]

    def close(self) -> None:
        """Close the policies inside, where they can be closed."""
        for inner in (self.policy, self.judge):
            close = getattr(inner, "close", None)
            if close is not None:
                close()

    # -- for the strategies --------------------------------------------------------------------------------------------

    @abstractmethod
    def decide(self, requests: Sequence[Request], bills: Sequence[Bill]) -> list[Completion]:
        """The strategy itself: an answer to every request. All models are asked through `ask`."""

    def how(self) -> dict[str, str]:
        """What besides the plan the answers depend on."""
        return {} if self.judge is self.policy else {"judge": f"{self.judge.name} {self.judge.version}"}

    def ask(
        self, requests: Sequence[Request], places: Sequence[int], bills: Sequence[Bill], *, judge: bool = False
    ) -> list[Completion]:
        """Ask the policy (or the judge), all at once, and count.

        Args:
            requests: what is asked; places: for which decision each of them is.
            bills: of the decisions.

        Raises:
            PolicyFault: the judge failed: see `palaestra.agents.policy.ask`.
        """
        if not requests:
            return []
        answers = ask(self.judge, requests) if judge else list(self.policy.act(requests))
        self.spent.batches += 1
        self.spent.calls += sum(answer.calls for answer in answers)
        for place, request, answer in zip(places, requests, answers, strict=True):
            bills[place].calls += answer.calls
            bills[place].prompt += answer.prompt_tokens or len(request.prompt_ids)
            bills[place].completion += answer.completion_tokens or len(answer.ids)
        return answers

    def samples(
        self, requests: Sequence[Request], count: int, bills: Sequence[Bill], first: int = 0
    ) -> list[list[Completion]]:
        """`count` answers to every request, all at once; numbered from `first` on. Answer 0 is the policy's own."""
        asked = [
            (place, again(one, number)) for place, one in enumerate(requests) for number in range(first, first + count)
        ]
        answers = self.ask([one for _, one in asked], [place for place, _ in asked], bills)
        return [answers[place * count : (place + 1) * count] for place in range(len(requests))]

    def told(self, request: Request, words: str) -> Request:
        """The request with words below its newest observation."""
        last = request.messages[-1]
        messages = [*request.messages[:-1], Message(role=last["role"], content=f"{last['content']}\n{words}")]
        template = self.policy.template
        return replace(request, messages=messages, prompt_ids=template.opening(messages) if template else ())

    def chosen(self, answer: Completion, first: Completion) -> Completion:
        """An answer that was chosen among several, the first of which is what the policy alone would have said."""
        self.spent.changed += answer is not first
        return replace(answer, logprobs=(), certainty=None)


def situation(request: Request) -> Situation:
    """Where a request stands. Raises BadInput where it says nothing of it."""
    if request.situation is None:
        raise BadInput("a strategy needs to know where an episode stands; give the request its situation")
    return request.situation


def action_of(request: Request, answer: Completion) -> str:
    """The action that an answer would take; empty where none can be read, or where it is an error."""
    if answer.error is not None:
        return ""
    return answer.action if answer.action is not None else situation(request).conversation.read(answer.text).action


def same(action: str) -> str:
    """What is equal for equal actions, in any case and spacing."""
    return " ".join(action.lower().split())


def distinct(request: Request, answers: Sequence[Completion]) -> list[Completion]:
    """The answers that can be read; of those with the same action the first."""
    found: dict[str, Completion] = {}
    for answer in answers:
        if action := same(action_of(request, answer)):
            found.setdefault(action, answer)
    return list(found.values())


def again(request: Request, number: int, what: str = "sample") -> Request:
    """The request with another seed; number 0 is the request itself."""
    if number == 0:
        return request
    raw = hashlib.blake2b(f"{request.seed}|{what}|{number}".encode(), digest_size=8).digest()
    return replace(request, seed=int.from_bytes(raw, "little") >> 1)

"""Look-ahead: a policy that imagines what its next actions would lead to before it takes one (WMLA, arXiv 2504.21024).

    from the third step on: k candidates, the first as the policy would answer, the others at a higher temperature
    equal ones (letter for letter) count once; if one is left it is taken
    each: d steps of world model and policy, none past the episode's step limit
    a judge rates where they end; what was cut is worth nothing
    the best candidate is taken, the first of equal ones

With `RealWorld` for a world it looks ahead in the real environment, by rewinding an instance of its own: the upper
limit of any world model. Whatever the world says, only a candidate is ever taken. Candidates of all waiting episodes go
to the policy, the world and the judge together.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Turn
from palaestra.agents.message import Message
from palaestra.agents.policy import Completion, Policy, Request, Situation
from palaestra.envs import BadInput
from palaestra.worldmodel.branch import Branch
from palaestra.worldmodel.judging import Judge
from palaestra.worldmodel.loading import trusted
from palaestra.worldmodel.world import World

_OTHERWISE = "Answer otherwise than: "


class LookAheadPlan(BaseModel):
    """How far and how wide to look.

    Attributes:
        candidates: k, answers to choose from; depth: d, imagined steps of each, the candidate's own one included. None
            is as far as the world model can be trusted.
        after: steps of an episode that are taken without thinking.
        propose: the further candidates are sampled all at once ("sampled"), or asked for one after the other with the
            words to differ from those before ("asked", the paper's way: k calls in a row).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int = Field(default=3, ge=1)
    depth: int | None = Field(default=None, ge=1)
    after: int = Field(default=2, ge=0)
    propose: Literal["sampled", "asked"] = "sampled"


@dataclass
class Spent:
    """What looking ahead cost so far.

    Attributes:
        decisions: answers given. considered: those with more than one candidate; candidates: of these, in all.
        policy, world, judge: single calls; policy_batches, world_batches, judge_batches: how often each was asked.
        changed: decisions in which another candidate than the first was taken.
        cut: imagined branches without a page, by what was wrong.
    """

    decisions: int = 0
    considered: int = 0
    candidates: int = 0
    policy: int = 0
    world: int = 0
    judge: int = 0
    policy_batches: int = 0
    world_batches: int = 0
    judge_batches: int = 0
    changed: int = 0
    cut: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, object]:
        """All of it, as JSON has it."""
        return {**vars(self), "cut": dict(self.cut)}

    def text(self) -> str:
        """The calls of one decision, in words."""
        each = max(1, self.decisions)
        cut = ", ".join(f"{count} {why}" for why, count in sorted(self.cut.items())) or "none"
        return (
            f"{self.decisions} decisions, {self.considered} among several candidates, {self.changed} changed; calls a "
            f"decision: policy {self.policy / each:.1f}, world {self.world / each:.1f}, judge {self.judge / each:.1f}; "
            f"imagined pages that were cut: {cut}"
        )


@dataclass
class _Option:
    """One candidate of one request, and where it leads: `said` and `action` are what is done next there, and `left`
    how many steps the episode may still have."""

    place: int
    number: int
    answer: Completion
    said: str
    action: str
    branch: Branch
    turns: list[Turn]
    left: float = math.inf
    worth: float = 0.0


class LookAhead:
    """A policy that looks ahead. See `Policy` for the common attributes; its episodes are real ones.

    Args:
        policy: who answers, and who goes on in imagination.
        world: who imagines: `LearnedWorld`, or `RealWorld` for the control.
        judge: who rates; by default the world's own judge (a learned world's is its model, the real one's the score).
        plan: see `LookAheadPlan`.
        explorer: who proposes the further candidates; roller: who goes on in imagination; by default the policy itself.
            The paper samples the one at temperature 1 and the other at 0.7.

    Attributes:
        depth: d, as planned or as far as the world can be trusted. spent: what it cost.

    Raises:
        BadInput: a policy that looks inside the environment, a depth that nobody can say, or one that would not be
            reached: a `roller` that answers with listed actions, in a world that lists none.
    """

    looks_inside = False

    def __init__(
        self,
        policy: Policy,
        world: World,
        judge: Judge | None = None,
        *,
        plan: LookAheadPlan | None = None,
        explorer: Policy | None = None,
        roller: Policy | None = None,
    ) -> None:
        if policy.looks_inside:
            raise BadInput(f"{policy.name} acts by looking into the environment, so it cannot act in imagination")
        self.plan = plan or LookAheadPlan()
        self.depth = trusted(world, self.plan.depth)
        self.policy, self.world, self.judge = policy, world, judge or world.judge
        self.explorer, self.roller = explorer or policy, roller or policy
        if self.depth > 1 and self.roller.wants_actions and not world.lists:  # every branch would end after one step
            raise BadInput(
                f"{self.roller.name} answers with admissible actions and world model {world.name} lists none, so it "
                f"cannot go on to depth {self.depth}; train the world model with page.actions, look 1 step ahead, or "
                "give a roller that writes freely"
            )
        self.name = f"{policy.name}+lookahead"
        how: dict[str, Any] = {"depth": self.depth, "world": f"{world.name} {world.version}", "judge": self.judge.name}
        for role, who in (("explorer", self.explorer), ("roller", self.roller)):
            how[role] = f"{who.version} {who.sampling.model_dump_json() if who.sampling else ''}"
        self.extra: dict[str, Any] = {
            **getattr(policy, "extra", {}),
            "look_ahead": {**self.plan.model_dump(mode="json"), **how},
        }
        self.version = f"{policy.version}+{_digest(self.plan.model_dump_json(), *how.values())}"
        self.actor, self.sampling, self.template = policy.actor, policy.sampling, policy.template
        self.batch_size, self.wants_actions = policy.batch_size, policy.wants_actions
        self.constrain = bool(getattr(policy, "constrain", False))
        self.spent = Spent()

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer every request with one of its candidates. Raises BadInput for a request without a situation."""
        bill: Counter[tuple[int, str]] = Counter()
        everywhere = list(range(len(requests)))
        answers = self._ask(self.policy, requests, everywhere, bill)
        self.spent.decisions += len(answers)
        options: list[_Option] = []
        for place, found in self._candidates(requests, answers, bill).items():
            several = _distinct(_situation(requests[place]), found)
            if len(several) > 1:
                options += [_option(place, number, each, requests[place]) for number, each in enumerate(several)]
                self.spent.considered += 1
                self.spent.candidates += len(several)
            elif several and several[0] is not answers[place]:  # the first one could not be read
                answers[place] = replace(several[0], logprobs=())
        self._imagine(options, requests, bill)
        self._rate(options, bill)
        for place in {option.place for option in options}:
            best = max((o for o in options if o.place == place), key=lambda o: (o.worth, -o.number))
            self.spent.changed += best.number > 0
            # drawn by a choice among several, so not with the probability that the model gave it
            answers[place] = replace(best.answer, logprobs=())
        return [
            # no version: the engine's is that of the policy inside alone, and an episode compares it with this policy's
            replace(
                answer, prompt_tokens=bill[place, "prompt"], completion_tokens=bill[place, "completion"], version=""
            )
            for place, answer in enumerate(answers)
        ]

    # -- candidates --------------------------------------------------------------------------------------------------

    def _candidates(
        self, requests: Sequence[Request], answers: Sequence[Completion], bill: Counter[tuple[int, str]]
    ) -> dict[int, list[Completion]]:
        """By request that is worth thinking about, its answer and the further ones."""
        found = {
            place: [answers[place]]
            for place, request in enumerate(requests)
            if answers[place].error is None and len(_situation(request).turns) >= self.plan.after
        }
        places, more = list(found), self.plan.candidates - 1
        if self.plan.propose == "sampled":
            asked = [(place, _again(requests[place], n)) for place in places for n in range(1, more + 1)]
            drawn = self._ask(self.explorer, [one for _, one in asked], [place for place, _ in asked], bill)
            for (place, _), answer in zip(asked, drawn, strict=True):
                found[place].append(answer)
            return found
        for n in range(1, more + 1):
            others = [self._otherwise(_again(requests[place], n), found[place]) for place in places]
            for place, answer in zip(places, self._ask(self.explorer, others, places, bill), strict=True):
                found[place].append(answer)
        return found

    def _otherwise(self, request: Request, before: Sequence[Completion]) -> Request:
        """The request with the words to answer differently."""
        conversation = _situation(request).conversation
        said = "; ".join(dict.fromkeys(_action(conversation, answer) for answer in before))
        last = request.messages[-1]
        newest = Message(role=last["role"], content=f"{last['content']}\n{_OTHERWISE}{said}")
        messages = [*request.messages[:-1], newest]
        template = self.explorer.template
        return replace(request, messages=messages, prompt_ids=template.opening(messages) if template else ())

    # -- imagination -------------------------------------------------------------------------------------------------

    def _imagine(self, options: Sequence[_Option], requests: Sequence[Request], bill: Counter[tuple[int, str]]) -> None:
        """Take every option `depth` steps on, all together; none past the episode's step limit."""
        going = list(options)
        for ahead in range(self.depth):
            going = [option for option in going if not option.branch.over and option.left > ahead]
            if ahead:
                going = self._go_on(going, requests, ahead, bill)
            if not going:
                return
            seeds = [_seed(requests[option.place].seed, option.number, ahead, "world") for option in going]
            steps = [o.branch.asked(o.action, seed) for o, seed in zip(going, seeds, strict=True)]
            self.spent.world += len(steps)
            self.spent.world_batches += 1
            for option, found in zip(going, self.world.predict(steps), strict=True):
                option.turns.append(Turn(observation=option.branch.page, completion=option.said, action=option.action))
                option.branch.take(option.action, found)
                bill[option.place, "prompt"] += found.prompt_tokens
                bill[option.place, "completion"] += found.completion_tokens
                if found.problem is not None:
                    self.spent.cut[found.problem.value] += 1

    def _go_on(
        self, options: Sequence[_Option], requests: Sequence[Request], ahead: int, bill: Counter[tuple[int, str]]
    ) -> list[_Option]:
        """What the policy does next on each imagined page; without those where it does not know on."""
        able = [o for o in options if o.branch.actions is not None or not self.roller.wants_actions]
        asked = [self._request(option, requests[option.place], ahead) for option in able]
        found = []
        answers = self._ask(self.roller, asked, [option.place for option in able], bill)
        for option, request, answer in zip(able, asked, answers, strict=True):
            if answer.error is None:
                option.action = _action(_situation(request).conversation, answer)
                option.said = answer.text or option.action
                found.append(option)
        return found

    def _request(self, option: _Option, request: Request, ahead: int) -> Request:
        at, branch = _situation(request), option.branch
        now = replace(at, turns=option.turns, observation=branch.page, actions=branch.actions)
        messages = at.conversation.opening(at.instructions, now.turns, now.observation, now.actions)
        template = self.roller.template
        return Request(
            messages,
            _seed(request.seed, option.number, ahead, "policy"),
            template.opening(messages) if template is not None else (),
            now.actions if self.roller.wants_actions else None,
            situation=now,
        )

    def _rate(self, options: Sequence[_Option], bill: Counter[tuple[int, str]]) -> None:
        """Ask the judge where the options lead; what was cut is worth nothing."""
        whole = [option for option in options if option.branch.problem is None]
        if not whole:
            return
        before = [getattr(self.judge, name, 0) for name in ("prompt_tokens", "completion_tokens")]
        self.spent.judge += len(whole)
        self.spent.judge_batches += 1
        for option, worth in zip(whole, self.judge.rate([option.branch.case() for option in whole]), strict=True):
            option.worth = worth
            for name, was in zip(("prompt", "completion"), before, strict=True):
                bill[option.place, name] += (getattr(self.judge, f"{name}_tokens", 0) - was) // len(whole)

    def _ask(
        self, policy: Policy, requests: Sequence[Request], places: Sequence[int], bill: Counter[tuple[int, str]]
    ) -> list[Completion]:
        if not requests:
            return []
        answers = list(policy.act(requests))
        self.spent.policy += len(answers)
        self.spent.policy_batches += 1
        for place, request, answer in zip(places, requests, answers, strict=True):
            bill[place, "prompt"] += answer.prompt_tokens or len(request.prompt_ids)
            bill[place, "completion"] += answer.completion_tokens or len(answer.ids)
        return answers


def _situation(request: Request) -> Situation:
    if request.situation is None:
        raise BadInput("looking ahead needs to know where an episode stands; give the request its situation")
    return request.situation


def _option(place: int, number: int, answer: Completion, request: Request) -> _Option:
    at = _situation(request)
    first = at.turns[0].observation if at.turns else at.observation
    done = tuple(turn.action for turn in at.turns)
    action = _action(at.conversation, answer)
    branch = Branch(at.task, at.instructions, first, done, at.observation)
    left = math.inf if at.cap is None else at.cap - len(at.turns)
    return _Option(place, number, answer, answer.text or action, action, branch, list(at.turns), left)


def _distinct(at: Situation, found: Sequence[Completion]) -> list[Completion]:
    """The answers that can be read, of those with the same action the first. Case and spacing count: they do in what
    is typed into a page, and an environment that takes no note of them says so with the same page."""
    several: dict[str, Completion] = {}
    for answer in found:
        action = _action(at.conversation, answer) if answer.error is None else ""
        if action.strip():
            several.setdefault(action, answer)
    return list(several.values())


def _action(conversation: Conversation, answer: Completion) -> str:
    return answer.action if answer.action is not None else conversation.read(answer.text).action


def _again(request: Request, number: int) -> Request:
    return replace(request, seed=_seed(request.seed, number, 0, "candidate"))


def _seed(*parts: object) -> int:
    raw = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(raw, "little") >> 1


def _digest(*parts: object) -> str:
    return hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=6).hexdigest()

"""Strategies that try in an instance of their own before they act: whole tries from where the episode stands.

An instance is rewound to the episode's step (`TextEnv.replay`), the policy goes on there to the end, and what came of
it is known before anything is done in the real episode. The best try is then done there, turn by turn, without another
call, as long as the environment says what it said in the try. Tries go on until one succeeds or the calls are used up;
a try that the budget cuts counts with the score it has.

Whoever can rewind the very world that is acted in knows more than an agent there: what this gives is an upper limit,
and evaluation cards say so (`verifier`: the environment's own score).
"""

from __future__ import annotations

import itertools
import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from palaestra.agents.episode import Turn
from palaestra.agents.policy import Completion, Policy, Request, Situation
from palaestra.agents.strategies.strategy import Bill, P, Plan, Strategy, action_of, again, situation
from palaestra.envs import BadInput, Snapshot, TextEnv, find, make

_KEPT = 65_536
"""Episodes whose best try is remembered; each is forgotten when it has been done."""


class Stage:
    """Instances of an environment to try in. One that a thread has used is used by no other: some are bound to theirs.

    Args:
        env: id or short name; settings: what the agent's own instances are made with.
        factory: makes one in place of `palaestra.make`.
        instances: tries at once.
    """

    def __init__(
        self,
        env: str,
        settings: Mapping[str, Any] | None = None,
        *,
        factory: Callable[[str], TextEnv[Any]] | None = None,
        instances: int = 8,
    ) -> None:
        self.env, self.settings, self.instances = find(env).id, dict(settings or {}), max(1, instances)
        self._factory = factory
        self._free: dict[int, list[TextEnv[Any]]] = {}
        self._lock = threading.Lock()

    def take(self) -> TextEnv[Any]:
        """An instance that nobody else uses until it is given back."""
        with self._lock:
            if free := self._free.get(threading.get_ident()):
                return free.pop()
        return self._factory(self.env) if self._factory else make(self.env, **self.settings)

    def give_back(self, env: TextEnv[Any]) -> None:
        """It may be used by the next one."""
        with self._lock:
            self._free.setdefault(threading.get_ident(), []).append(env)

    def close(self) -> None:
        """Close the instances that are free."""
        with self._lock:
            free, self._free = self._free, {}
        for env in itertools.chain.from_iterable(free.values()):
            env.close()


@dataclass
class Try:
    """One try from where the episode stands.

    Attributes:
        note: what the agent was told at its first turn.
        turns, answers: what it did there; `seen`: what the environment said last.
        score, success, over: how it stands.
    """

    note: str
    seen: str
    score: float = 0.0
    success: bool = False
    over: bool = False
    actions: Sequence[str] | None = None
    turns: list[Turn] = field(default_factory=list)
    answers: list[Completion] = field(default_factory=list)


@dataclass
class Course:
    """One decision that is tried out."""

    place: int
    request: Request
    at: Situation
    env: TextEnv[Any]
    snapshot: Snapshot | None = None
    tries: list[Try] = field(default_factory=list)
    lessons: list[str] = field(default_factory=list)
    current: Try | None = None
    done: bool = False


class Rehearsing(Strategy[P]):
    """Base of strategies that try first.

    Args:
        policy, plan, judge: see `Strategy`.
        stage: where they try.

    Raises:
        BadInput: as `Strategy`. When acting: an episode of another environment than the stage's.
    """

    def __init__(self, policy: Policy, plan: P | None = None, *, stage: Stage, judge: Policy | None = None) -> None:
        super().__init__(policy, plan, judge=judge)
        self.stage = stage
        self._plans: OrderedDict[str, tuple[int, list[str], list[str], list[Completion]]] = OrderedDict()

    def how(self) -> dict[str, str]:
        return {**super().how(), "verifier": f"the score of {self.stage.env}, rewound"}

    def close(self) -> None:
        """Close the instances that were tried in, and the policies inside."""
        self.stage.close()
        super().close()

    def decide(self, requests: Sequence[Request], bills: Sequence[Bill]) -> list[Completion]:
        answers = [self._rehearsed(request) for request in requests]
        new = [place for place, answer in enumerate(answers) if answer is None]
        for first in range(0, len(new), self.stage.instances):
            group = new[first : first + self.stage.instances]
            for place, answer in zip(group, self._rehearse(requests, group, bills), strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    # -- what a try is and when there is another one -------------------------------------------------------------------

    @abstractmethod
    def prepare(self, courses: Sequence[Course], bills: Sequence[Bill]) -> None:
        """Called before another try of these courses begins, which have calls left: learn from the ones before."""

    def note(self, course: Course) -> str:
        """What the agent is told at the first turn of the next try."""
        return ""

    def left(self, course: Course, bills: Sequence[Bill]) -> int:
        """Calls that a decision may still take."""
        return self.plan.calls - bills[course.place].calls

    # -- tries ---------------------------------------------------------------------------------------------------------

    def _rehearse(self, requests: Sequence[Request], group: Sequence[int], bills: Sequence[Bill]) -> list[Completion]:
        with ExitStack() as used:
            courses = []
            for place in group:
                at = situation(requests[place])
                if at.task.env != self.stage.env:
                    raise BadInput(f"{self.name} tries in {self.stage.env}, and this episode is of {at.task.env}")
                env = self.stage.take()
                used.callback(self.stage.give_back, env)
                courses.append(Course(place, requests[place], at, env))
            while going := [course for course in courses if not course.done]:
                self._begin([course for course in going if course.current is None], bills)
                self._turn([course for course in going if course.current is not None], bills)
        return [self._best(course) for course in courses]

    def _begin(self, courses: Sequence[Course], bills: Sequence[Bill]) -> None:
        again_ = [course for course in courses if course.tries and self.left(course, bills) > 0]
        if again_:
            self.prepare(again_, bills)
        for course in courses:
            if self.left(course, bills) < 1:
                course.done = True
                continue
            if course.snapshot is None:
                actions = [turn.action for turn in course.at.turns]
                seen = [*(turn.observation for turn in course.at.turns), course.at.observation]
                observation, info = course.env.replay(course.at.task, actions, seen)
                course.snapshot = course.env.snapshot()
            else:
                observation, info = course.env.restore(course.snapshot)
            course.current = Try(self.note(course), observation, info["score"], info["success"])
            course.current.actions = self._listed(course, info)

    def _turn(self, courses: Sequence[Course], bills: Sequence[Bill]) -> None:
        """One turn of every try that is under way, and the end of those that end with it."""
        requests = [self._request(course) for course in courses]
        answers = self.ask(requests, [course.place for course in courses], bills)
        for course, request, answer in zip(courses, requests, answers, strict=True):
            now = course.current
            assert now is not None
            if answer.error is None:
                self._step(course, now, request, answer)
            else:  # it cannot go on there: the try ends where it stands
                now.over = True
                if not now.turns:
                    now.answers.append(answer)
            if now.over or self.left(course, bills) < 1:
                course.tries.append(now)
                course.current = None
                course.done = now.success or answer.error is not None or self.left(course, bills) < 1

    def _step(self, course: Course, now: Try, request: Request, answer: Completion) -> None:
        action = action_of(request, answer)
        observation, reward, over, cut, info = course.env.step(action)
        said = answer.text or action
        note = now.note if not now.turns else ""
        now.turns.append(
            Turn(
                observation=now.seen,
                completion=said,
                action=action,
                reward=float(reward),
                score=info["score"],
                note=note,
            )
        )
        now.answers.append(answer)
        now.seen, now.score, now.success, now.over = observation, info["score"], info["success"], over or cut
        now.actions = None if now.over else self._listed(course, info)

    def _listed(self, course: Course, info: Mapping[str, Any]) -> Sequence[str] | None:
        listed = info["actions"] if self.wants_actions or course.at.conversation.actions else None
        return None if listed is None else list(listed)

    def _request(self, course: Course) -> Request:
        now, at = course.current, course.at
        assert now is not None
        number = len(course.tries) * 4096 + len(now.turns)
        if not now.turns and not now.note:
            return again(course.request, number, "try")
        turns = [*at.turns, *now.turns]
        note = now.note if not now.turns else ""
        messages = at.conversation.opening(at.instructions, turns, now.seen, now.actions, note)
        template = self.template
        return Request(
            messages,
            again(course.request, number, "try").seed,
            template.opening(messages) if template is not None else (),
            now.actions if self.wants_actions else None,
            situation=replace(at, turns=turns, observation=now.seen, actions=now.actions),
        )

    # -- doing what was tried ------------------------------------------------------------------------------------------

    def _best(self, course: Course) -> Completion:
        """The first answer of the best try, the first of equally good ones; the others are remembered."""
        best = max(course.tries, key=lambda each: (bool(each.turns), each.success, each.score))
        key, before = course.at.key, len(course.at.turns)
        if key and len(best.turns) > 1:
            seen = [turn.observation for turn in best.turns]
            self._plans[key] = (before, [turn.action for turn in best.turns], seen, best.answers)
            self._plans.move_to_end(key)
            while len(self._plans) > _KEPT:
                self._plans.popitem(last=False)
        return self.chosen(best.answers[0], course.tries[0].answers[0])

    def _rehearsed(self, request: Request) -> Completion | None:
        """What the best try does here; None where there is none, or where the episode went another way."""
        at = situation(request)
        before, actions, seen, answers = self._plans.get(at.key, (0, [], [], []))
        here = len(at.turns) - before
        done = [turn.action for turn in at.turns[before:]]
        if not 0 <= here < len(actions) or done != actions[:here] or seen[here] != at.observation:
            return None
        if here == len(actions) - 1:
            del self._plans[at.key]
        return replace(answers[here], logprobs=(), certainty=None)


class TriesPlan(Plan):
    """How many calls the tries of a decision may take."""

    calls: int = 32

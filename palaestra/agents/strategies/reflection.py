"""Reflection after failure (Reflexion, Shinn et al. 2023, arXiv 2303.11366).

    try tau_1; while it failed: sr_t ~ M_sr(tau_t, r_t) says in words what went wrong; try tau_{t+1} with sr_1 .. sr_t

The tries are in a rewound instance (`rehearsal`); of the lessons the newest few are told, as in the paper. A lesson is
one call. The words are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from palaestra.agents.message import Message
from palaestra.agents.policy import Policy, Request
from palaestra.agents.strategies.rehearsal import Course, Rehearsing, Stage, TriesPlan
from palaestra.agents.strategies.strategy import Bill, again
from palaestra.envs import BadInput

_RULES = (
    "You look back on an attempt of an agent that did not do its task. Say in one to three sentences what went wrong "
    "and what to do otherwise next time."
)


class ReflectionPlan(TriesPlan):
    """How much is learnt.

    Attributes:
        calls: of tries and lessons together.
        lessons: how many of the newest lessons the agent is told.
        shown: how many of the failed try's last turns the lesson is drawn from.
    """

    lessons: int = Field(default=3, ge=1)
    shown: int = Field(default=12, ge=1)


class Reflection(Rehearsing[ReflectionPlan]):
    """Tries, says what went wrong, and tries again with that in view; does the best try.

    Raises:
        BadInput: a policy that writes admissible actions only and no judge to reflect in its place.
    """

    kind = "reflection"
    plan_type = ReflectionPlan
    varies = False

    def __init__(
        self, policy: Policy, plan: ReflectionPlan | None = None, *, stage: Stage, judge: Policy | None = None
    ) -> None:
        super().__init__(policy, plan, stage=stage, judge=judge)
        if getattr(self.judge, "constrain", False):
            raise BadInput(
                f"{self.judge.name} writes admissible actions only, so it cannot reflect; give another judge"
            )

    def prepare(self, courses: Sequence[Course], bills: Sequence[Bill]) -> None:
        able = [course for course in courses if self.left(course, bills) > 1]  # a lesson, and a turn that minds it
        asked = [self._question(course) for course in able]
        answers = self.ask(asked, [course.place for course in able], bills, judge=True)
        for course, answer in zip(able, answers, strict=True):
            if answer.error is None and answer.text.strip():
                course.lessons.append(" ".join(answer.text.split()))

    def note(self, course: Course) -> str:
        lessons = course.lessons[-self.plan.lessons :]
        return "\n".join(f"Lesson of an earlier attempt: {lesson}" for lesson in lessons)

    def _question(self, course: Course) -> Request:
        last, at = course.tries[-1], course.at
        lines = [
            f"Task: {at.instructions}",
            f"At the start: {(at.turns[0].observation if at.turns else at.observation)}",
        ]
        for turn in last.turns[-self.plan.shown :]:
            lines += [f"Saw: {turn.observation}", f"Did: {turn.action}"]
        lines += [f"Saw: {last.seen}", f"The attempt ended with a score of {last.score:.2f} of 1. What went wrong?"]
        said = [Message(role="system", content=_RULES), Message(role="user", content="\n".join(lines))]
        template = self.judge.template
        seed = again(course.request, len(course.tries), "lesson").seed
        return Request(said, seed, template.opening(said) if template is not None else ())

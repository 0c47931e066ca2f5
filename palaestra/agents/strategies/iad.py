"""Iterative agent decoding: review, refine, repeat (Chakraborty et al. 2025, arXiv 2504.01931).

    y_1 ~ pi(. | x);   y_{t+1} ~ pi(. | x, y_best, y_worst);   y_best <- y_{t+1} where R(y_{t+1}) > R(y_best)

The model reads its best and its worst answer so far with what the verifier R gave them, and answers anew. An answer
that was given before is not rated again. The words are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from palaestra.agents.policy import Completion, Request
from palaestra.agents.strategies.strategy import Bill, action_of, again, same
from palaestra.agents.strategies.verified import Verified, VerifiedPlan
from palaestra.agents.strategies.verifier import Case

_REVIEW = (
    "Your best answer so far (rated {best:.2f}):\n{good}\nYour worst answer so far (rated {worst:.2f}):\n{bad}\n"
    "Keep what is good in the first, avoid what is bad in the second, and answer better."
)
_REVIEW_ONE = "Your answer so far (rated {best:.2f}):\n{good}\nFind what could be better in it, and answer better."


@dataclass
class _Course:
    """One decision: its rated answers by action, in the order they came."""

    first: Completion | None = None
    best: Completion | None = None
    rated: dict[str, tuple[float, Completion]] = field(default_factory=dict)


class IAD(Verified[VerifiedPlan]):
    """Answers again and again with its best and worst answer in view; the best one by the verifier is taken."""

    kind = "iad"
    varies = False

    def decide(self, requests: Sequence[Request], bills: Sequence[Bill]) -> list[Completion]:
        courses = [_Course() for _ in requests]
        for number in range(self.plan.calls // self.each):
            asked = [again(self._reviewing(one, at), number) for one, at in zip(requests, courses, strict=True)]
            answers = self.ask(asked, range(len(requests)), bills)
            self._take(requests, courses, answers, bills)
        chosen = []
        for course in courses:
            assert course.first is not None
            chosen.append(self.chosen(course.best or course.first, course.first))
        return chosen

    def _reviewing(self, request: Request, course: _Course) -> Request:
        if course.best is None:
            return request
        best, good = max(course.rated.values(), key=lambda pair: pair[0])
        worst, bad = min(course.rated.values(), key=lambda pair: pair[0])
        words = {"best": best, "good": _words(good), "worst": worst, "bad": _words(bad)}
        return self.told(request, (_REVIEW if bad is not good else _REVIEW_ONE).format(**words))

    def _take(
        self,
        requests: Sequence[Request],
        courses: Sequence[_Course],
        answers: Sequence[Completion],
        bills: Sequence[Bill],
    ) -> None:
        """Rate the new answers and keep the better ones."""
        places, cases = [], []
        for place, (request, course, answer) in enumerate(zip(requests, courses, answers, strict=True)):
            course.first = course.first or answer
            action = same(action_of(request, answer))
            if action and action not in course.rated:
                places.append(place)
                cases.append(Case(request, answer, [before for _, before in course.rated.values()]))
        for place, case, worth in zip(places, cases, self.rate(cases, places, bills), strict=True):
            course = courses[place]
            if course.best is None or worth > max(value for value, _ in course.rated.values()):
                course.best = case.answer
            course.rated[same(action_of(case.request, case.answer))] = (worth, case.answer)


def _words(answer: Completion) -> str:
    return answer.text or answer.action or ""

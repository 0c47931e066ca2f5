"""A policy as the judge of answers to web tasks (the automatic evaluation of WebVoyager, arXiv 2401.13919, section 4.2,
on the page's text instead of its pictures; the words are ours)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from palaestra.agents.message import Message
from palaestra.agents.policy import Policy, Request
from palaestra.envs.browser.judging import Case

_RULES = (
    "You judge whether a task on the web was done. You are told the task, what the agent did, the last page that it "
    "saw and its answer. First say in one or two sentences whether the answer does the task and the page bears it "
    "out. Then write a last line: 'Verdict: SUCCESS' or 'Verdict: NOT SUCCESS'."
)
_VERDICT = re.compile(r"verdict\s*:\s*\W*(not\s+success|success)", re.IGNORECASE)


@dataclass(frozen=True)
class AnswerJudge:
    """Asks a policy; for the setting `judge` of `WebTasks`.

    Args:
        policy: the judge; its `sampling.max_tokens` must leave room for a reason and a verdict.
        shown: characters of the last page that it reads.
    """

    policy: Policy
    shown: int = 12_000

    def __call__(self, case: Case) -> float:
        """1 for a success. Raises RuntimeError where the policy does not answer or gives no verdict."""
        lines = [f"Task: {case.question}"]
        lines += [f"A right answer: {reference}" for reference in case.references]
        lines += [f"Did: {action}" for action in case.actions]
        lines += [f"Saw: {case.page[: self.shown]}", f"Answer: {case.answer}"]
        messages = [Message(role="system", content=_RULES), Message(role="user", content="\n".join(lines))]
        prompt = self.policy.template.opening(messages) if self.policy.template is not None else ()
        answer = self.policy.act([Request(messages, 0, prompt)])[0]
        marks = _VERDICT.findall(answer.text)
        if answer.error or not marks:
            raise RuntimeError(f"{self.policy.name}: {answer.error or f'no verdict in {answer.text[:200]!r}'}")
        return float(marks[-1].lower() == "success")

    def __repr__(self) -> str:
        """Stable, since it stands in snapshots and provenance."""
        return f"AnswerJudge({self.policy.name} {self.policy.version}, shown={self.shown})"

"""Who says what an imagined page is worth: a model by anchors, or the real environment's own score.

The anchors are those of arXiv 2504.21024, section 3.4 (the words are ours): 1 the task is done, 0.5 on the way, 0 lost.
What cannot be read is 0 and counted.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from palaestra.agents.message import Message
from palaestra.agents.policy import Completion, Policy, Request, ask
from palaestra.envs import BadInput, Task
from palaestra.worldmodel.page import PageFormat
from palaestra.worldmodel.together import Together

_RULES = (
    "You judge how far an agent has come. You are told the task, what the agent did, and the page that it sees now. "
    "First say in one or two sentences how near the task is to being done. Then write a last line 'Score: ' and a "
    "number: 1.0 if the task is done, 0.5 if the agent is on the way, 0.0 if it went wrong."
)
_BRIEF = "Judge the page."
_SAID = re.compile(r"score\s*:\s*(?=\W{0,4}[0-9])", re.IGNORECASE)
_NUMBER = re.compile(
    r"""[*_`"'(\[\s]{0,4}
    ([01](?:\.[0-9]+)?|\.[0-9]+)
    [*_`"')\]]{0,4}\.?[*_`"')\]]{0,4}  # marks around it, and a full stop
    [^\S\n]*$  # it ends its line: "1 to 10", "1 (out of 10)" and "1.0 if it is done" mean something else
    (?!\s*[/%])""",
    re.VERBOSE | re.MULTILINE,
)


@dataclass(frozen=True)
class Case:
    """Where an agent stands, or is imagined to stand.

    Attributes:
        task, instructions: the real task, and what every agent is told in it.
        first: the first page, which says what is to be done.
        done: all actions. page: what is seen now.
        over: has the episode ended there.
        score: the score there, where the real environment said it.
    """

    task: Task
    instructions: str
    first: str
    done: tuple[str, ...]
    page: str
    over: bool
    score: float | None = None


class Judge(Protocol):
    """Rates cases in [0, 1], 1 being a task that is done."""

    @property
    def name(self) -> str: ...
    @property
    def true(self) -> bool:
        """Is what it says the real environment's own score, and nobody's word."""
        ...

    def rate(self, cases: Sequence[Case], seed: int = 0) -> list[float]:
        """One number in [0, 1] a case, in order."""
        ...


class ModelJudge:
    """A policy judges: what it says is a word, never the true score.

    Shown the actions alone (`page.judged`), it is told all of them: what solved the task may lie at the beginning. A
    question that is too long for the policy's window is then asked again with the latest half of them, down to none.

    Args:
        policy: who is asked; its `sampling.max_tokens` must leave room for a reason and a number.
        page: how pages are cut.
        max_tokens: of an answer, where that is less than the policy's; None for that.

    Attributes:
        calls: cases that were rated. unreadable: those whose answer held no number, or that were not answered.
        batches, prompt_tokens, completion_tokens: what it cost.
    """

    true = False

    def __init__(self, policy: Policy, page: PageFormat | None = None, *, max_tokens: int | None = None) -> None:
        self.policy, self.page, self.max_tokens = policy, page or PageFormat(), max_tokens
        self.name = f"{policy.name} {policy.version}"
        self.calls = self.unreadable = self.batches = self.prompt_tokens = self.completion_tokens = 0
        self._together, self._lock = Together(), threading.Lock()

    def limited(self, max_tokens: int) -> ModelJudge:
        """The same judge with shorter answers, which counts anew."""
        return ModelJudge(self.policy, self.page, max_tokens=max_tokens)

    def rate(self, cases: Sequence[Case], seed: int = 0) -> list[float]:
        """Ask about all cases. What several threads ask at the same time goes to the policy together.

        Raises:
            PolicyFault: the policy failed: see `palaestra.agents.policy.ask`.
        """
        found: dict[int, Completion] = {}
        shown: dict[int, int | None] = dict.fromkeys(range(len(cases)))
        while shown:
            requests = [self._request(cases[number], many, seed + number) for number, many in shown.items()]
            found |= zip(shown, self._together.ask(requests, self._act), strict=True)
            failed = {number: many for number, many in shown.items() if found[number].error is not None}
            failed = failed if self.page.judged == "actions" else {}
            longest = {number: len(cases[number].done) if many is None else many for number, many in failed.items()}
            shown = {number: many // 2 for number, many in longest.items() if many}
        answers = [found[number] for number in range(len(cases))]
        with self._lock:
            self.calls += len(answers)
            self.unreadable += sum(_said(answer) is None for answer in answers)
        return [_said(answer) or 0.0 for answer in answers]

    def _request(self, case: Case, shown: int | None, seed: int) -> Request:
        said = question(case, self.page, shown)
        prompt = self.policy.template.opening(said) if self.policy.template is not None else ()
        return Request(said, seed, prompt, max_tokens=self.max_tokens)

    def _act(self, requests: Sequence[Request]) -> list[Completion]:
        answers = ask(self.policy, requests)
        self.batches += -(-len(requests) // self.policy.batch_size)
        self.prompt_tokens += sum(answer.prompt_tokens for answer in answers)
        self.completion_tokens += sum(answer.completion_tokens for answer in answers)
        return answers


class TrueScore:
    """The real environment's own score: what no agent outside this gym can look ahead with."""

    name = "true score"
    true = True

    def rate(self, cases: Sequence[Case], seed: int = 0) -> list[float]:
        """Raises BadInput for a case that no real environment has seen."""
        if any(case.score is None for case in cases):
            raise BadInput("a learned world model knows no true score; give a judge that is a model")
        return [case.score or 0.0 for case in cases]


def question(case: Case, page: PageFormat, shown: int | None = None) -> list[Message]:
    """The conversation that asks for one number.

    Args:
        shown: how many of the latest actions; None: `page.history`, or all where nothing else is shown.
    """
    if shown is None:
        shown = page.history if page.judged == "page" else len(case.done)
    lines = [f"Task: {page.cut(case.first)}"]
    lines += [f"Done: {' '.join(action.splitlines())}" for action in case.done[-shown:] if shown]
    lines += [f"Page: {page.cut(case.page)}"] if page.judged == "page" else []
    lines += ["The episode is over."] if case.over else []
    return [
        Message(role="system", content=f"{_RULES}\n{case.instructions}".strip() if page.rules else _BRIEF),
        Message(role="user", content="\n".join(lines)),
    ]


def verdict(value: float, solved: bool) -> str:
    """What a judge answers that gives this number. 1.0 is said of what is solved alone: else 0.9 is the most."""
    return f"Score: {value if solved else min(value, 0.9):.1f}"


def _said(answer: Completion) -> float | None:
    """What an answer gives. Of one that was cut the last line does not count: its "1" may be half of "1/10"."""
    if answer.error is not None:
        return None
    return reading(answer.text if answer.finished else answer.text.rpartition("\n")[0])


def reading(text: str) -> float | None:
    """The last number that an answer gives; None where there is none, or where it is not one in [0, 1].

    Only a number that ends its line is one, as it was asked for: 10, -1, 50 %, 1/10, 0,5, "1 (out of 10)" and the rules
    said back say nothing on this scale. Whatever was meant, it is not read as a success.
    """
    ends = [said.end() for said in _SAID.finditer(text)]
    number = _NUMBER.match(text, ends[-1]) if ends else None
    return float(number[1]) if number is not None and float(number[1]) <= 1 else None

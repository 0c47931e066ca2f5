"""Who says which of several answers is the best: the model's own likelihood, or its own judgement (P(True)).

A verifier of your own (a unit test, a checker) needs the four members of `Verifier` and nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from palaestra.agents.message import Message
from palaestra.agents.policy import Completion, Request
from palaestra.agents.strategies.strategy import situation
from palaestra.agents.template import ChatTemplate
from palaestra.envs import BadInput

_RULES = (
    "You check an agent's answer. You are told the task, what the agent sees, and a proposed answer. Say whether the "
    "proposed answer is the right next step. Write one letter and nothing else: A if it is right, B if it is wrong."
)
_LETTER = re.compile(r"(?<![A-Za-z])([AB])(?![A-Za-z])")


@dataclass(frozen=True)
class Case:
    """One answer to rate.

    Attributes:
        request: what was asked.
        answer: what is rated; others: what else was answered.
    """

    request: Request
    answer: Completion
    others: Sequence[Completion] = ()


class Verifier(Protocol):
    """Rates answers: the higher the better.

    Attributes:
        name: for the provenance.
        asks: does rating an answer take a model call.
    """

    @property
    def name(self) -> str: ...
    @property
    def asks(self) -> bool: ...

    def question(self, case: Case) -> list[Message]:
        """What the judge is asked, where `asks`."""
        ...

    def worth(self, case: Case, said: Completion | None, template: ChatTemplate | None) -> float:
        """What an answer is worth, from what the judge said (None without `asks`); `template` is the judge's."""
        ...


class Likelihood:
    """The mean log-probability of an answer's ids, in nats."""

    name = "likelihood"
    asks = False

    def question(self, case: Case) -> list[Message]:
        return []

    def worth(self, case: Case, said: Completion | None, template: ChatTemplate | None) -> float:
        """Raises BadInput where the policy tells no log-probs."""
        if not case.answer.logprobs:
            raise BadInput("these answers come without log-probs, so none is likelier; use verifier=p-true")
        return sum(case.answer.logprobs) / len(case.answer.logprobs)


class PTrue:
    """P(True) (Kadavath et al. 2022, arXiv 2207.05221, section 3; the words are ours).

    The judge reads the task and the proposed answer and says whether it is (A) right or (B) wrong:

        P(True) = p(A), or 1 - p(B) where it wrote B; p at the id with the letter, given what stands before it

    Without log-probs it is 1 for A and 0 for B. What cannot be read says nothing: 0.5.

    Args:
        shown: how many of the other answers the judge reads as well (the paper's "brainstormed samples").
    """

    asks = True

    def __init__(self, shown: int = 0) -> None:
        self.shown = shown
        self.name = f"p-true shown={shown}" if shown else "p-true"

    def question(self, case: Case) -> list[Message]:
        at = situation(case.request)
        seen = [message["content"] for message in case.request.messages if message["role"] != "system"]
        lines = [f"Task: {at.instructions}", "What the agent saw and did:", *seen]
        lines += [f"Another answer: {_words(other)}" for other in case.others[: self.shown]]
        lines += [f"Proposed answer: {_words(case.answer)}", "Is the proposed answer (A) right or (B) wrong?"]
        return [Message(role="system", content=_RULES), Message(role="user", content="\n".join(lines))]

    def worth(self, case: Case, said: Completion | None, template: ChatTemplate | None) -> float:
        found = _LETTER.search(said.text) if said is not None and said.error is None else None
        if said is None or found is None:
            return 0.5
        p = 1.0
        if said.logprobs and template is not None:
            p = math.exp(said.logprobs[_place(said, found.start(1), template)])
        return p if found[1] == "A" else 1.0 - p


def _words(answer: Completion) -> str:
    return answer.text or answer.action or ""


def _place(said: Completion, character: int, template: ChatTemplate) -> int:
    """Index of the id that holds a character of the text."""
    lengths = (len(template.decode(said.ids[: count + 1])) for count in range(len(said.ids)))
    return next((place for place, length in enumerate(lengths) if length > character), len(said.ids) - 1)


VERIFIERS: dict[str, type[Likelihood] | type[PTrue]] = {"likelihood": Likelihood, "p-true": PTrue}


def verifier_by_name(name: str) -> Verifier:
    """Raises BadInput for an unknown one."""
    if name not in VERIFIERS:
        raise BadInput(f"there is no verifier {name!r}; there are: {', '.join(VERIFIERS)}")
    return VERIFIERS[name]()

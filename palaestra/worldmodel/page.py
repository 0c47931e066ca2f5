"""How a world model is asked and how its answer is read.

It is told the task (the first page of the episode), what was done, the page seen last and the action, and writes

    the next page
    == actions
    one admissible action a line
    == going

The last line says whether the episode goes on (`going`), goes on with the action refused (`refused`), or ends (`over`).
The two markers come last and actions hold no line breaks, so every page can be written, even one with markers in it.
The roles are those of arXiv 2504.21024, section 3: one earlier page is shown, of the steps before only the actions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from palaestra.agents.conversation import Conversation
from palaestra.agents.message import Message
from palaestra.envs import Task

_RULES = (
    "You are the environment that an agent acts in. You are told the task, what the agent did, the page that it saw "
    "last and its action. Write the page that comes next, word for word"
)
_LISTING = ", then a line '== actions' and one action that is possible there on each line"
_ENDING = (
    ", then '== going' if the agent can go on, '== refused' if it can but its action was not understood, or '== over' "
    "if the episode ends there."
)
_THINKING = " Begin with 'Thought: ', why the action leads there, and a line '== page'."
_BRIEF = "Write the page that comes next."
_LAST = "This is the last step: the page that comes next must show how the task ends."

_ACTIONS, _PAGE, _THOUGHT = "\n== actions", "\n== page\n", "Thought: "


class Status(StrEnum):
    """How an episode stands after a step."""

    GOING = "going"
    REFUSED = "refused"
    OVER = "over"


class Problem(StrEnum):
    """Why what a world model wrote is no page. Such a branch is cut, scored zero and counted."""

    MALFORMED = "malformed"
    """The answer cannot be read: no page in it, no word on how the episode stands, or no way on where there is one."""
    ENDLESS = "endless"
    """It did not stop within its tokens."""
    STUCK = "stuck"
    """It repeats the page over and over, or two in turn, or one phrase inside a page."""
    UNANSWERED = "unanswered"
    """There was no answer: the prompt did not fit into the model's context."""


@dataclass(frozen=True)
class Asked:
    """One step to predict.

    Attributes:
        task: the real one. instructions: what every agent is told in it.
        first: the first page of the episode, which says what is to be done.
        done: the actions so far, oldest first.
        page: the page that was seen last; `first` again where nothing was done yet.
        action: what is done now.
        lately: digests of the pages before, as far as they were imagined; the latest last.
        last: the episode ends after this step in any case.
        seed: all sampling of this step follows from it.
    """

    task: Task
    instructions: str
    first: str
    done: tuple[str, ...]
    page: str
    action: str
    lately: tuple[str, ...] = ()
    last: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Prediction:
    """What comes of an action.

    Attributes:
        page: what is seen next; empty with a `problem`, which few real pages are without one.
        status: how the episode stands.
        actions: the admissible actions there; None where they were not predicted.
        lately: digests of the pages before this one, as they are shown to a model.
        score: the score there, in [0, 1], where the real environment said it; a model only imagines, so None.
        success: did the real environment say that the task is solved.
        problem: why there is no page.
        text: what was written, word for word.
        prompt_tokens, completion_tokens: what it cost.
    """

    page: str
    status: Status = Status.GOING
    actions: tuple[str, ...] | None = None
    lately: tuple[str, ...] = ()
    score: float | None = None
    success: bool = False
    problem: Problem | None = None
    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def over(self) -> bool:
        """Does nothing come after it."""
        return self.status is Status.OVER or self.problem is not None


class PageFormat(BaseModel):
    """What is shown to a world model and what it writes. Part of the model: it is asked as it was trained.

    Attributes:
        max_page: characters of a page; the middle of a longer one is cut and the cut is marked, by the rule of
            `Conversation.max_observation`, in what is shown and in what is learnt. 0 cuts nothing.
        history: how many of the latest actions are shown.
        actions: how many admissible actions are written, the first ones of the environment's listing; 0 writes none.
        rationale: a thought stands before the page.
        rules: before every step it is told its part and the environment's instructions, and likewise the judge. A small
            model that learns a single environment from nothing does without, and reads half as much.
        judged: what a judge is shown beside the task: the latest actions and the page that they led to, or all actions
            alone, as an imagined page may say that all went well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_page: int = Field(default=2000, ge=0)
    history: int = Field(default=8, ge=0)
    actions: int = Field(default=0, ge=0)
    rationale: bool = False
    rules: bool = True
    judged: Literal["page", "actions"] = "page"

    def cut(self, page: str) -> str:
        """A page as it is shown and learnt."""
        return Conversation(max_observation=self.max_page).observation(page)

    def messages(self, asked: Asked) -> list[Message]:
        """The conversation that asks for one step."""
        system = _RULES + (_LISTING if self.actions else "") + _ENDING + (_THINKING if self.rationale else "")
        lines = [f"Task: {self.cut(asked.first)}"]
        if asked.done:
            lines += [f"Done: {_line(action)}" for action in (asked.done[-self.history :] if self.history else ())]
            lines.append(f"Page: {self.cut(asked.page)}")
        lines.append(f"Action: {_line(asked.action)}")
        lines += [_LAST] if asked.last else []
        return [
            Message(role="system", content=f"{system}\n{asked.instructions}".strip() if self.rules else _BRIEF),
            Message(role="user", content="\n".join(lines)),
        ]

    def listed(self, actions: Sequence[str] | None) -> tuple[str, ...] | None:
        """The admissible actions that are written: the first ones, without those that no line can hold."""
        if not self.actions or actions is None:
            return None
        return tuple(action for action in actions if _line(action) == action and not action.startswith("== "))[
            : self.actions
        ]

    def write(self, page: str, status: Status, actions: Sequence[str] | None, thought: str = "") -> str:
        """The answer that a perfect world model gives: the inverse of `read`."""
        text = f"{_THOUGHT}{_line(thought)}{_PAGE}" if self.rationale else ""
        text += self.cut(page)
        listed = self.listed(actions)
        if listed is not None:
            text += "\n".join([_ACTIONS, *listed])
        return f"{text}\n== {status}"

    def read(self, text: str) -> Prediction:
        """Read an answer. Never raises: what cannot be read is `malformed`. A page may be empty, an answer may not."""
        body, mark, status = text.rstrip().rpartition("\n== ")
        if not mark or status not in tuple(Status):
            return Prediction("", problem=Problem.MALFORMED, text=text)
        actions: tuple[str, ...] | None = None
        if self.actions:
            before, mark, after = body.rpartition(_ACTIONS)
            if mark and (not after or after.startswith("\n")):
                body, actions = before, tuple(dict.fromkeys(line for line in after.split("\n") if line))
        if self.rationale:
            thought, mark, page = body.partition(_PAGE)
            body = page if mark and thought.startswith(_THOUGHT) else body
        return Prediction(body, Status(status), actions, text=text)


def digest(page: str) -> str:
    """What stands for a page where it is only compared."""
    return hashlib.blake2b(page.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _line(action: str) -> str:
    """An action or thought in one line."""
    return " ".join(action.splitlines())

"""How an episode is shown to a model, and how its answer is read.

A conversation shows the environment's instructions, then all turns or only the last `window` of them, then the newest
observation. It is pure: the same task and turns always give the same messages, so that a fork can be shown again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from palaestra.agents.episode import Turn
from palaestra.agents.message import Message

_CUT = re.compile(r" \[\.\.\. [0-9]+ characters \.\.\.\] ")
_ACTION = re.compile(r"^\s*action\s*:[ \t]*", re.IGNORECASE | re.MULTILINE)
_THOUGHT = re.compile(r"^\s*thought\s*:[ \t]*", re.IGNORECASE)

_STYLES = {
    "action": "Answer with one action and nothing else.",
    "react": "Answer in two lines: 'Thought: ' and your reasoning, then 'Action: ' and one action.",
    "text": "Answer with one action.",
}


@dataclass(frozen=True)
class Answer:
    """What was read out of a completion.

    Attributes:
        action: what is handed to the environment; empty when there was none.
        thought: the reasoning before the action, if the style has one.
        problem: what to tell the agent when the completion could not be read; None when it could.
    """

    action: str
    thought: str | None = None
    problem: str | None = None


class Conversation(BaseModel):
    """The format of a conversation. Frozen; its settings go into every episode's provenance.

    Attributes:
        window: how many earlier turns are shown; None shows all. Where a turn drops out of the window the conversation
            forgets, and a new transcript starts.
        style: `action` (the first line of the completion is the action), `react` ("Thought: ... Action: ...", Yao et
            al. 2022, arXiv 2210.03629) or `text` (all of the completion, however many lines: where actions hold files).
        actions: how many admissible actions are listed under the newest observation; 0 lists none. They are not shown
            again with earlier turns, so a conversation that lists them starts a new transcript at every step.
        max_observation: characters of an observation shown; the middle of a longer one is cut. 0 cuts nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: int | None = Field(default=None, ge=0)
    style: Literal["action", "react", "text"] = "action"
    actions: int = Field(default=0, ge=0)
    max_observation: int = Field(default=0, ge=0)

    def forgets(self, step: int) -> bool:
        """Does the transcript start anew at this step (counted from the root's reset)."""
        return step == 0 or self.actions > 0 or (self.window is not None and step > self.window)

    def shown(self, step: int) -> int:
        """Index of the first turn that is shown at this step."""
        return 0 if self.window is None else max(0, step - self.window)

    def opening(
        self,
        instructions: str,
        turns: Sequence[Turn],
        observation: str,
        actions: Sequence[str] | None = None,
        note: str = "",
    ) -> list[Message]:
        """The whole conversation at the step after `turns`: what a transcript that starts here begins with.

        Args:
            instructions: what the environment tells every agent first.
            turns: all turns from the root on.
            observation: the newest one.
            actions: the admissible actions, if `self.actions` asks for them.
            note: what a method says below the newest observation; earlier turns bring their own.
        """
        messages: list[Message] = [Message(role="system", content=f"{instructions}\n{_STYLES[self.style]}".strip())]
        for step in range(self.shown(len(turns)), len(turns)):
            messages.append(self.newest(turns[:step], turns[step].observation, note=turns[step].note))
            messages.append(Message(role="assistant", content=self.shown_completion(turns[step])))
        messages.append(self.newest(turns, observation, actions, note))
        return messages

    def newest(
        self, turns: Sequence[Turn], observation: str, actions: Sequence[str] | None = None, note: str = ""
    ) -> Message:
        """The message of the newest observation: what a transcript that goes on is extended by.

        Args:
            turns: all turns before it (only the last one matters), from the root on.
            observation: as the environment said it.
            actions: the admissible actions, if `self.actions` asks for them.
            note: what a method says below the observation.
        """
        text = self.shown_observation(turns, observation) + (f"\n{note}" if note else "")
        if self.actions and actions is not None:
            listed = [str(action) for action in actions[: self.actions]]
            more = len(actions) - len(listed)
            text += "\nActions: " + "; ".join(listed) + (f"; and {more} more" if more else "")
        return Message(role="user", content=text)

    def shown_observation(self, turns: Sequence[Turn], observation: str) -> str:
        """What the agent reads at the step after `turns`: the observation, below what was wrong with its last answer.

        Turns hold the observations as the environment said them, so that replays can be compared; the problem follows
        from the turn before and is put in front only here.
        """
        problem = self.problem(turns[-1]) if turns else None
        return f"{problem}\n{self.observation(observation)}" if problem else self.observation(observation)

    def shown_completion(self, turn: Turn) -> str:
        """What stands as the agent's answer of an earlier turn: its own words, word for word.

        A turn that was written in another style (by an expert, before a fork) is shown in this one.
        """
        if not turn.action or self.read(turn.completion).action == turn.action:
            return turn.completion
        return self.write(turn.action, turn.thought)

    def problem(self, turn: Turn) -> str | None:
        """What the agent is told when its answer of this turn could not be read; None when it could."""
        return self.read(turn.completion).problem if not turn.action else None

    def observation(self, text: str) -> str:
        """An observation as it is shown: the middle of a too long one is cut and the cut is marked.

        What was cut by the same rule stays as it is: a world model writes its pages cut, and is shown them again.
        """
        if not self.max_observation or len(text) <= self.max_observation:
            return text
        head = self.max_observation * 2 // 3
        tail = self.max_observation - head
        if _CUT.fullmatch(text, head, len(text) - tail):
            return text
        return f"{text[:head]} [... {len(text) - head - tail} characters ...] {text[len(text) - tail :]}"

    def read(self, completion: str) -> Answer:
        """Take thought and action out of a completion. Never raises: what cannot be read has a `problem`."""
        text = completion.strip()
        if self.style == "text":
            return Answer(text) if text else Answer("", None, "Your answer was empty. Answer with one action.")
        if self.style == "action":
            line = text.splitlines()[0].strip() if text else ""
            return Answer(line) if line else Answer("", None, "Your answer was empty. Answer with one action.")
        marks = list(_ACTION.finditer(text))
        if not marks:
            return Answer("", text or None, "No 'Action:' line was found. " + _STYLES["react"])
        mark = marks[-1]
        thought = _THOUGHT.sub("", text[: mark.start()].strip()).strip()
        rest = text[mark.end() :].strip()
        action = rest.splitlines()[0].strip() if rest else ""
        if not action:
            return Answer("", thought or None, "The 'Action:' line was empty. " + _STYLES["react"])
        return Answer(action, thought or None)

    def write(self, action: str, thought: str | None = None) -> str:
        """The completion that an agent would have written for this action: the inverse of `read`."""
        return action if self.style != "react" else f"Thought: {thought or 'I take the next step.'}\nAction: {action}"

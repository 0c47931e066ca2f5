"""A toy environment and policies that say what they are told to, for hand-worked cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from palaestra.agents.conversation import Conversation
from palaestra.agents.message import Message
from palaestra.agents.policy import Completion, PolicyBase, Request, Sampling, Situation
from palaestra.agents.template import ChatTemplate
from palaestra.envs import Reply, Task, TextEnv, register

INSTRUCTIONS = "Open the safe: one digit at a time. A wrong digit ends it."


@dataclass
class State:
    """How many digits are dialled."""

    dialled: int = 0


class Safe(TextEnv[State]):
    """Open the safe: one digit at a time. A wrong digit ends it."""

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        return State(), "The safe is shut."

    def act(self, state: State, action: str) -> Reply:
        code = self.task.name.split("/")[0]
        if action not in "0123456789" or len(action) != 1:
            return Reply("That is no digit.", valid=False)
        right = action == code[state.dialled]
        state.dialled += right
        open_ = state.dialled == len(code)
        seen = "It opens." if open_ else f"Click {state.dialled}." if right else "It locks."
        return Reply(seen, state.dialled / len(code), success=open_, over=open_ or not right)

    def admissible(self, state: State) -> Sequence[str]:
        return "0123456789"


CODES = ["12", "34", "56", "78"]
register(
    "toy/Safe-v0",
    Safe,
    splits={"train": [f"{code}/train" for code in CODES], "test": [f"{code}/test" for code in CODES]},
    max_steps=6,
)


def task(code: str = "12", split: str = "train") -> Task:
    return Task(env="toy/Safe-v0", name=f"{code}/{split}", split=split)


def request(seed: int = 0, style: str = "action", code: str = "12") -> Request:
    """The first turn of an episode."""
    conversation = Conversation.model_validate({"style": style})
    messages = conversation.opening(INSTRUCTIONS, (), "The safe is shut.")
    at = Situation(task(code), INSTRUCTIONS, (), "The safe is shut.", conversation)
    return Request(messages, seed, situation=at)


def said(text: str, logprob: float | None = None, certainty: float | None = None) -> Completion:
    """An answer of one id."""
    logprobs = () if logprob is None else (logprob,)
    return Completion(text, ids=(1,) if logprobs else (), logprobs=logprobs, certainty=certainty)


class Says(PolicyBase):
    """Says one thing after the other, whatever it is asked; keeps all that it was asked."""

    def __init__(self, *answers: Completion | str, template: ChatTemplate | None = None, **more: Any) -> None:
        super().__init__(name="says", sampling=Sampling(max_tokens=16), template=template, **more)
        self.left = [answer if isinstance(answer, Completion) else said(answer) for answer in answers]
        self.asked: list[Request] = []
        self.certainty = False

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += requests
        return [self.left.pop(0) for _ in requests]

    def told(self, number: int) -> str:
        """What stood in the newest message of one request."""
        newest: Message = self.asked[number].messages[-1]
        return newest["content"]


class Counted(PolicyBase):
    """A policy around another that counts the requests by the episode they belong to."""

    def __init__(self, policy: Any) -> None:
        super().__init__(
            name=policy.name,
            version=policy.version,
            sampling=policy.sampling,
            template=policy.template,
            wants_actions=policy.wants_actions,
        )
        self.policy, self.calls = policy, 0

    @property
    def certainty(self) -> bool:
        return bool(self.policy.certainty)

    @certainty.setter
    def certainty(self, value: bool) -> None:
        self.policy.certainty = value

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        self.calls += len(requests)
        return [replace(answer) for answer in self.policy.act(requests)]

"""Who plays the user: a policy that is told what to want, or a script that says the instruction.

The rest of the package never sees a policy: it sees a `User`, who is asked what to say next. Policies live in another
room (`palaestra.agents`), which this one may not import; its part is loaded by name when a policy is to play.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from palaestra.envs.errors import BadInput, EnvFault

STOP = "###STOP###"
"""What the user says at the end, alone or after other words."""

SCRIPTED = "scripted"
VARIABLE = "PALAESTRA_USER"
LONGEST = 8_000
"""Characters of what a user says at once; more is a fault of who plays the user."""

MOST = 12
"""Answers after which the script takes its leave."""

_LOADER = ("palaestra.agents.policies.speaker", "speaker")

_RULES = """\
You play a customer who talks to a service agent. This is who you are and what you want:

{instruction}

- Write only what the customer says, a short message at a time, in your own words. Do not repeat the text above.
- Do not say everything at once: say what this step of the conversation needs.
- Do not make up what the text above does not say; if you are asked for it, say that you do not know or remember.
- Keep to the character and the wishes above, also where the agent suggests something else.
- When what you want is done, or when it is clear that it cannot be done, write {stop} and nothing else."""


@dataclass(frozen=True)
class Line:
    """Something that was said: `text`, by the user or by the agent."""

    by_user: bool
    text: str


@runtime_checkable
class User(Protocol):
    """Who plays the user. Keeps nothing between calls: a rewound conversation goes on from its lines.

    Attributes:
        name: shown to people, part of the environment's fingerprint.
    """

    @property
    def name(self) -> str: ...

    def say(self, instruction: str, lines: Sequence[Line], seed: int) -> str:
        """What the user says next.

        Args:
            instruction: of the task.
            lines: all that was said so far; empty at the beginning, else the agent's words are last.
            seed: of this one answer.

        Raises:
            EnvFault: there is no answer. Whatever else is raised becomes one.
        """
        ...


class ScriptedUser:
    """Says the instruction as its own, agrees to what it is asked, and leaves when the agent twice asks nothing.

    For tests, oracles and machines without a model. It gives no information a second time and corrects nobody, so
    scores with it are not comparable with those of a user played by a model.
    """

    name = SCRIPTED

    def say(self, instruction: str, lines: Sequence[Line], seed: int) -> str:
        if not lines:
            return f"Hello. {in_first_person(instruction)}"
        heard = ["?" in line.text for line in lines if not line.by_user]
        if len(heard) > MOST or heard[-2:] == [False, False]:
            return f"Thank you, that is all. {STOP}"
        if heard[-1]:
            return "Yes, please go ahead. I have told you all that I know."
        return "Is everything done now that I asked for?"


_PERSONS = {
    "you are": "I am",
    "you were": "I was",
    "you're": "I'm",
    "you've": "I've",
    "you'd": "I'd",
    "you'll": "I'll",
    "yourself": "myself",
    "yours": "mine",
    "your": "my",
    "you": "I",
}
_PERSON = re.compile(rf"\b({'|'.join(_PERSONS)})\b", re.IGNORECASE)


def in_first_person(instruction: str) -> str:
    """An instruction as the one who is instructed would say it: "You want" is "I want"."""

    def turned(found: re.Match[str]) -> str:
        word = _PERSONS[found[1].lower()]
        return word[0].upper() + word[1:] if found[1][0].isupper() else word

    return _PERSON.sub(turned, instruction).strip()


Speaker = Callable[[Sequence[dict[str, str]], int], str]
"""Chat messages and a seed in, the answer's text out. Raises EnvFault."""


class PlayedUser:
    """A policy plays the user. What it is told stands in `_RULES`; the agent's words are its user messages.

    Args:
        speaker: asks the policy.
        name: of the policy.
    """

    def __init__(self, speaker: Speaker, name: str) -> None:
        self.speaker = speaker
        self.name = name

    def say(self, instruction: str, lines: Sequence[Line], seed: int) -> str:
        messages = [{"role": "system", "content": _RULES.format(instruction=instruction, stop=STOP)}]
        messages.append({"role": "user", "content": "Hello, how can I help you today?"})
        for line in lines:
            messages.append({"role": "assistant" if line.by_user else "user", "content": line.text})
        return self.speaker(messages, seed)


def named(wanted: object) -> object:
    """Who is to play the user: `wanted`, or who $PALAESTRA_USER names where it is None, or else the script.

    Raises:
        BadInput: `wanted` is neither a user, nor a policy, nor a name.
    """
    if wanted is None:
        return os.environ.get(VARIABLE) or SCRIPTED
    if not (isinstance(wanted, str | User) or hasattr(wanted, "act")):
        raise BadInput(f"tau-bench's user is a policy, the name of one, or {SCRIPTED!r}, not {wanted!r:.60}")
    return wanted


def played_by(wanted: object, env_id: str) -> User:
    """Who plays the user.

    Args:
        wanted: a `User`; any policy; the name of a policy as `--policy` takes them (`openai:MODEL@URL`, a model in this
            process); `scripted`.
        env_id: of the environment.

    Raises:
        BadInput: no such policy, or one that cannot speak. MissingExtra: what it needs is not installed.
    """
    if wanted == SCRIPTED:
        return ScriptedUser()
    if isinstance(wanted, User):
        return wanted
    module, name = _LOADER
    speaker, called = getattr(importlib.import_module(module), name)(wanted, env_id)
    return PlayedUser(speaker, called)


def ask(user: User, instruction: str, lines: Sequence[Line], seed: int) -> str:
    """What the user says next, as it can be stored. Raises EnvFault: the agent is not to blame for its user."""
    try:
        text = user.say(instruction, lines, seed)
    except EnvFault:
        raise
    except Exception as error:
        raise EnvFault(f"the user, played by {user.name}, raised {type(error).__name__}: {error}") from error
    if not isinstance(text, str) or not text.strip():
        raise EnvFault(f"the user, played by {user.name}, said nothing")
    if len(text) > LONGEST:
        raise EnvFault(f"the user, played by {user.name}, said {len(text)} characters at once, more than {LONGEST}")
    return plain(text.strip())


def plain(text: str) -> str:
    """Without what no text file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")

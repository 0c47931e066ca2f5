"""What the answers to a client's messages must hold: whatever a server sends instead is one line, never an error later.

Newer servers of a version may say more, and so may OpenEnv's: what is not named here is passed on unread.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from palaestra.envs.serving.wire import PAGE

MOST_TASKS = 1_000_000
"""Tasks in a split of a server. Without a limit, pages of ever new names would be asked for without end."""


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


def _base64(text: str) -> str:
    base64.b64decode(text, validate=True)  # raises a ValueError, also for signs that decoding passes over otherwise
    return text


_Base64 = Annotated[str, AfterValidator(_base64)]


class Names(_Answer):
    """A page of a split's task names, and how many there are in all."""

    names: list[str] = Field(max_length=PAGE)
    total: int = Field(ge=0, le=MOST_TASKS)


class About(_Answer):
    """What is known of a task before it begins."""

    instructions: str
    max_steps: int | None = Field(ge=1)


class Seen(_Answer):
    """An observation."""

    text: str
    score: float = Field(ge=0, le=1)
    success: bool
    valid: bool
    terminated: bool
    details: dict[str, Any]


class First(Seen, About):
    """The observation with which an episode begins or goes on."""


class Begun(_Answer):
    """The answer to `reset`, `restore` and `resume`."""

    observation: First


class Stepped(_Answer):
    """The answer to `step`."""

    observation: Seen
    reward: float


class Listed(_Answer):
    """The admissible actions, where they are known."""

    actions: list[str] | None


class Advice(_Answer):
    """What the oracle would do."""

    action: str


class Sealed(_Answer):
    """A snapshot in base64."""

    snapshot: _Base64


class Kept(_Answer):
    """What the environment keeps of a step in base64, if anything."""

    kept: _Base64 | None


class Foreign(_Answer):
    """The answer of an OpenEnv server to `reset` and `step`."""

    observation: dict[str, Any]
    reward: float | bool | None = None
    done: bool = False


@dataclass(frozen=True)
class Form:
    """What answers a message: the kind of that message, and what its data holds (None: looked at elsewhere)."""

    kind: str
    data: type[_Answer] | None


OURS: Mapping[str, Form] = {
    "hello": Form("hello", None),  # see `wire.About`: a server of another version is told apart from nonsense
    "tasks": Form("tasks", Names),
    "task": Form("task", About),
    "reset": Form("observation", Begun),
    "step": Form("observation", Stepped),
    "restore": Form("observation", Begun),
    "resume": Form("observation", Begun),
    "actions": Form("actions", Listed),
    "oracle": Form("oracle", Advice),
    "snapshot": Form("snapshot", Sealed),
    "keep": Form("keep", Kept),
}
"""Type of a message -> what answers it."""

OPENENV: Mapping[str, Form] = {"reset": Form("observation", Foreign), "step": Form("observation", Foreign)}


def problem(form: Form, kind: str, data: Mapping[str, Any]) -> str | None:
    """What is wrong with an answer, in a few words; None for nothing."""
    if kind != form.kind:
        return f"it is of the type {kind[:40]!r}, not {form.kind!r}"
    try:
        if form.data is not None:
            form.data.model_validate(data)
    except ValidationError as error:
        return first_of(error)
    return None


def first_of(error: ValidationError) -> str:
    """The first thing that is wrong: where, and what."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"wrong at {'.'.join(str(part)[:40] for part in first['loc'])!r}: {first['msg']}"

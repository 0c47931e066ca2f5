"""What is spoken between a server and its clients: messages, error codes, limits, and the seal on snapshots.

The format is OpenEnv's (version 0.10 of the package `openenv`): one WebSocket at `/ws` is one session, a message is
`{"type": ..., "data": {...}}`, an answer `{"type": "observation", "data": {"observation", "reward", "done"}}` or
`{"type": "error", "data": {"message", "code"}}`. OpenEnv's types are `reset`, `step`, `state` and `close`; ours beside
them are `hello`, `tasks`, `task`, `actions`, `oracle`, `snapshot`, `restore`, `keep` and `resume`. An OpenEnv server
answers those with the code UNKNOWN_TYPE, which is how a client learns whom it talks to.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import secrets
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

WIRE = 1
"""Version of our own messages. Raised when an older client or server would misunderstand a newer one."""
MEGABYTE = 1024 * 1024
PAGE = 10_000
"""Tasks in one answer at the most."""
TOKEN_VARIABLE = "PALAESTRA_TOKEN"
"""The environment variable that holds the token, on both sides. A setting would be stored with every episode."""


class Code(StrEnum):
    """Why a message was refused: OpenEnv's codes."""

    INVALID_JSON = "INVALID_JSON"
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    EXECUTION_ERROR = "EXECUTION_ERROR"
    CAPACITY_REACHED = "CAPACITY_REACHED"
    SESSION_ERROR = "SESSION_ERROR"


class Kind(StrEnum):
    """What a refusal is to a client of ours: finer than the code."""

    BAD_INPUT = "bad_input"
    RESET_NEEDED = "reset_needed"
    FAULT = "fault"
    DEADLINE = "deadline"
    FULL = "full"
    IDLE = "idle"
    FOREIGN_SNAPSHOT = "foreign_snapshot"
    NO_ORACLE = "no_oracle"


class Refusal(Exception):
    """A message that is not answered as its sender hoped. `message` is one line; `status` is what HTTP says."""

    def __init__(self, code: Code, kind: Kind, message: str, status: int) -> None:
        super().__init__(message)
        self.code, self.kind, self.message, self.status = code, kind, one_line(message), status

    def frame(self) -> str:
        """As a message of the WebSocket."""
        return frame("error", {"message": self.message, "code": self.code, "kind": self.kind})


def bad(message: str, status: int = 422, kind: Kind = Kind.BAD_INPUT) -> Refusal:
    """What the sender can mend."""
    return Refusal(Code.VALIDATION_ERROR, kind, message, status)


def fault(message: str, status: int = 500, kind: Kind = Kind.FAULT) -> Refusal:
    """What the environment or the server did."""
    return Refusal(Code.EXECUTION_ERROR, kind, message, status)


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Hello(_Data):
    """Who speaks: the version of our own messages."""

    wire: int


class About(BaseModel):
    """What a server says of itself: the answer to `Hello`. Newer servers of this version may say more."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    wire: int
    env: str
    settings: dict[str, Any]
    splits: list[str] = Field(min_length=1)
    fingerprint: str
    fidelity: Literal["exact", "replay"]
    loose_listing: float
    lists_actions: bool
    oracle: bool
    keeps: bool = False
    longest: int = Field(ge=10_000)


class Reset(_Data):
    """Begin an episode: of a task by name (in any split, or in `split`), or of one that `seed` picks.

    `actions` asks for the list of admissible actions with every answer of the episode.
    """

    seed: int | None = Field(default=None, ge=0, lt=2**63)
    episode_id: str | None = Field(default=None, max_length=255)
    task: str | None = None
    split: str | None = None
    task_seed: int = Field(default=0, ge=0, lt=2**63)
    actions: bool = False


class Step(_Data):
    """An action; `metadata` is allowed since OpenEnv's actions have it, and not looked at."""

    message: str
    metadata: dict[str, Any] = Field(default_factory=dict)


class Nothing(_Data):
    """A message without data."""


class Restore(_Data):
    """Go back to a snapshot, in base64."""

    snapshot: str


class Keep(_Data):
    """What the environment keeps of this step for later forks, `most` bytes of it at the most."""

    most: int = Field(default=MEGABYTE, ge=1)


class Resume(_Data):
    """Stand where `keep` was asked after these actions; `kept` in base64. It is no pickle: see `TextEnv.to_bytes`."""

    task: str
    split: str
    task_seed: int = Field(default=0, ge=0, lt=2**63)
    actions: list[str]
    observations: list[str]
    kept: str


class Tasks(_Data):
    """The tasks of a split from `start` up to `stop`, `PAGE` of them at the most."""

    split: str
    start: int = Field(default=0, ge=0)
    stop: int | None = Field(default=None, ge=0)


class OneTask(_Data):
    """What is known of a task before it begins."""

    task: str
    split: str
    task_seed: int = Field(default=0, ge=0, lt=2**63)


MESSAGES: Mapping[str, type[_Data]] = {
    "hello": Hello,
    "tasks": Tasks,
    "task": OneTask,
    "reset": Reset,
    "step": Step,
    "state": Nothing,
    "actions": Nothing,
    "oracle": Nothing,
    "snapshot": Nothing,
    "restore": Restore,
    "keep": Keep,
    "resume": Resume,
    "close": Nothing,
}


def read(text: str | bytes) -> dict[str, Any]:
    """A JSON object out of what a stranger sent. Raises Refusal."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Refusal(Code.INVALID_JSON, Kind.BAD_INPUT, "this is not JSON", 400) from None
    if not isinstance(value, dict):
        raise bad(f"a message is a JSON object, not {_named(value)}")
    return value


def parse(text: str | bytes) -> tuple[str, _Data]:
    """Type and data of a WebSocket message. Raises Refusal."""
    message = read(text)
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in MESSAGES:
        told = kind[:40] if isinstance(kind, str) else _named(kind)
        raise Refusal(Code.UNKNOWN_TYPE, Kind.BAD_INPUT, f"unknown type {told!r}; known: {', '.join(MESSAGES)}", 404)
    return kind, checked(kind, message.get("data", {}))


def checked(kind: str, data: object) -> _Data:
    """The data of a message of one type. Raises Refusal with the first thing that is wrong."""
    if not isinstance(data, dict):
        raise bad(f"{kind}: the data is a JSON object, not {_named(data)}")
    try:
        return MESSAGES[kind].model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"])
        raise bad(f"{kind}: {where}: {first['msg']}") from None


def frame(kind: str, data: object) -> str:
    """A message as text. Only ASCII, so that half a surrogate pair, which UTF-8 cannot write, survives."""
    return json.dumps({"type": kind, "data": data}, separators=(",", ":"))


def plain(value: object, depth: int = 8) -> Any:
    """What JSON can hold of a value; the rest as text."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a number of numpy's
        value = value.item()
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if depth and isinstance(value, Mapping):
        return {str(key): plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth - 1) for item in value]
    return str(value)


def one_line(text: str, limit: int = 400) -> str:
    """A text as one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _named(value: object) -> str:
    names = {type(None): "null", bool: "a truth value", int: "a number", float: "a number", str: "a text"}
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")


SCHEMA: Mapping[str, Any] = {
    "action": {
        "title": "TextAction",
        "type": "object",
        "properties": {
            "message": {"type": "string", "description": "what the agent does, as the instructions say"},
            "metadata": {"type": "object"},
        },
        "required": ["message"],
        "additionalProperties": False,
    },
    "observation": {
        "title": "TextObservation",
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "what the agent sees"},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
            "success": {"type": "boolean"},
            "valid": {"type": "boolean", "description": "was the last action understood"},
            "terminated": {"type": "boolean"},
            "truncated": {"type": "boolean"},
            "actions": {"type": ["array", "null"], "items": {"type": "string"}},
            "task": {"type": "object"},
            "details": {"type": "object"},
            "instructions": {"type": "string", "description": "with the first observation: what an agent is told"},
            "max_steps": {"type": ["integer", "null"]},
        },
    },
    "state": {
        "title": "TextState",
        "type": "object",
        "properties": {"episode_id": {"type": ["string", "null"]}, "step_count": {"type": "integer"}},
    },
}


class Seal:
    """Signs what a server hands out, so that it can trust what comes back.

    A snapshot is a pickle, and unpickling runs whatever its maker wrote into it. A server therefore never unpickles
    what a client sends unless it made those bytes itself: each carries an HMAC under a key that is drawn when the
    server starts and never leaves it. The token of the clients would not do as a key, for those who know it are the
    ones who could forge. The server keeps no snapshots, so clients cannot fill its memory by making them.
    """

    _SIZE = 32

    def __init__(self) -> None:
        self._key = secrets.token_bytes(self._SIZE)

    def close(self, content: bytes) -> bytes:
        """The content with its signature in front."""
        return self._sign(content) + content

    def open(self, sealed: bytes) -> bytes:
        """The content, if this very server sealed it. Raises Refusal otherwise."""
        signature, content = sealed[: self._SIZE], sealed[self._SIZE :]
        if not hmac.compare_digest(signature, self._sign(content)):
            raise bad("this snapshot was not made by this server since it started", 409, Kind.FOREIGN_SNAPSHOT)
        return content

    def _sign(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, hashlib.sha256)

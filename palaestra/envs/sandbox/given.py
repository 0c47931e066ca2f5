"""What callers hand to a sandbox, checked before anything of it is sent: one clear line for each thing that is wrong.

A wrong argument found only in the middle of a conversation would end the sandbox.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Real

from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox.errors import NotAFile
from palaestra.envs.sandbox.interface import WorkCopy

LONGEST = 10 * 86_400  # seconds that a command may be given
PATH_MAX = 4095  # bytes that the kernel takes as one path


def kind(value: object) -> str:
    """A value in a message: its type, and what it is."""
    return "None" if value is None else f"{type(value).__name__} {value!r:.60}"


def raw(text: object, what: str) -> bytes:
    """A text as the kernel takes it; a path object is one too. Raises BadInput."""
    if isinstance(text, os.PathLike):
        text = os.fspath(text)
    if not isinstance(text, str):
        raise BadInput(f"{what} is a text, not {kind(text)}")
    try:
        made = os.fsencode(text)
    except UnicodeEncodeError as error:
        wrong = error.object[error.start]
        raise BadInput(f"{what} holds a character that UTF-8 cannot: {wrong!r} in {text[:80]!r}") from None
    if b"\0" in made:
        raise BadInput(f"{what} holds a NUL byte: {text[:80]!r}")
    return made


def _path(path: object, what: str) -> bytes:
    """A path that the kernel takes, or a user's name. Raises BadInput."""
    made = raw(path, what)
    if len(made) > PATH_MAX:
        raise BadInput(f"{what} has {len(made)} bytes; at most {PATH_MAX} are taken: {os.fsdecode(made[:60])!r}...")
    return made


def folder(path: object, what: str = "the path") -> bytes:
    """The path of a folder. Raises BadInput."""
    made = _path(path, what)
    if not made:
        raise BadInput(f"{what} is empty; '.' is the work directory")
    return made


def file(path: object) -> bytes:
    """The path of a file. Raises BadInput, NotAFile (it ends as only a folder's does)."""
    made = _path(path, "the path")
    if not made:
        raise BadInput("the path is empty; name a file, relative to the work directory")
    if not made.startswith(b"/") and made.rpartition(b"/")[2] in (b"", b"."):
        raise NotAFile(f"{os.fspath(path)!r} names a folder, not a file")  # type: ignore[call-overload]
    return made


def content(given: object, what: str) -> bytes:
    """What a file or a command is given. Raises BadInput."""
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    if not isinstance(given, str):
        raise BadInput(f"{what} is given a text or bytes, not {kind(given)}")
    try:
        return given.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"{what} holds a character that UTF-8 cannot: {error.object[error.start]!r}; use bytes"
        ) from None


def seconds(timeout: object) -> float:
    """How long a command may take. Raises BadInput."""
    if isinstance(timeout, bool) or not isinstance(timeout, Real):
        raise BadInput(f"timeout is a number of seconds or None, not {kind(timeout)}")
    try:
        given = float(timeout)
    except OverflowError:
        given = float("inf")
    if not 0 < given <= LONGEST:
        raise BadInput(f"timeout must be above 0 seconds and at most {LONGEST}, not {given}")
    return given


def argv(command: object) -> list[bytes]:
    """What is started. Raises BadInput."""
    if isinstance(command, str):
        if not command.strip():
            raise BadInput("the command is empty")
        return [b"/bin/sh", b"-c", raw(command, "the command")]
    if not isinstance(command, Sequence) or isinstance(command, bytes | bytearray | memoryview):
        raise BadInput(f"a command is a list of texts, or a text for /bin/sh, not {kind(command)}")
    texts = [raw(text, "each argument of a command") for text in command]
    if not texts or not texts[0]:
        raise BadInput("the command is empty")
    return texts


def variables(env: object) -> dict[str, str]:
    """Environment variables by name. Raises BadInput."""
    if env is None:
        return {}
    if not isinstance(env, Mapping):
        raise BadInput(f"env is a mapping of names to texts, not {kind(env)}")
    for name, value in env.items():
        if not isinstance(name, str) or not name or "=" in name:
            raise BadInput(f"{name!r} cannot be the name of an environment variable")
        if not isinstance(value, str):
            raise BadInput(f"the environment variable {name} is a text, not {kind(value)}")
    return dict(env)


def user(name: object) -> bytes:
    """Who runs a command; nothing for the ordinary user. Raises BadInput."""
    if name is None:
        return b""
    made = _path(name, "user")
    if not made:
        raise BadInput("user is empty; None is the sandbox's ordinary user")
    return made


def flag(value: object, what: str) -> bool:
    """Yes or no. Raises BadInput: "no" is a text, and true."""
    if not isinstance(value, bool):
        raise BadInput(f"{what} is True or False, not {kind(value)}")
    return value


def count(value: object, what: str) -> int:
    """A number of bytes. Raises BadInput."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadInput(f"{what} is a number of bytes, 0 or more, not {kind(value)}")
    return value


def archive(copy: object) -> bytes:
    """That of a snapshot. Raises BadInput."""
    if not isinstance(copy, WorkCopy):
        raise BadInput(f"restore takes what snapshot gave, a WorkCopy, not {kind(copy)}")
    if not isinstance(copy.archive, bytes | bytearray | memoryview):
        raise BadInput(f"the archive of a WorkCopy is bytes, not {kind(copy.archive)}")
    return bytes(copy.archive)

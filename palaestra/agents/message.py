"""One message of a conversation, in the form every chat API uses."""

from __future__ import annotations

from typing import Literal, TypedDict


class Message(TypedDict):
    """Who says what."""

    role: Literal["system", "user", "assistant"]
    content: str

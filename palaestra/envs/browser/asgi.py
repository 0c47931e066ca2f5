"""An ASGI application as a site of the gate: no port, no server, no second process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from palaestra.envs.browser.gate import Answered, Asked, Site

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


def asgi(application: Application, host: str) -> Site:
    """Answers with what the application says, in a thread: an application that computes holds up no other page.

    A form that was posted to a page other than the first is answered by a redirection to the same address, so that
    going back never asks for sending it again.
    """

    async def site(asked: Asked) -> Answered:
        if asked.method == "POST" and not asked.body:
            return Answered(303, (("Location", asked.target),))
        return await asyncio.to_thread(lambda: asyncio.run(_answer(application, asked, host)))

    return site


async def _answer(application: Application, asked: Asked, host: str) -> Answered:
    path, _, query = asked.target.partition("?")
    scope: Message = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": asked.method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in asked.headers.items()],
        "server": (host, 80),
        "client": ("127.0.0.1", 0),
    }
    sent: list[Message] = []
    bodies = [{"type": "http.request", "body": asked.body, "more_body": False}]

    async def receive() -> Message:
        return bodies.pop() if bodies else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await application(scope, receive, send)
    head = sent[0]
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.get("headers", ()))
    return Answered(int(head["status"]), headers, b"".join(message.get("body", b"") for message in sent[1:]))

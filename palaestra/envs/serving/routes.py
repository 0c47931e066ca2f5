"""What a server answers, route by route: OpenEnv's WebSocket and requests, over the sessions.

`/ws` is what clients should use: one connection is one session, and closing it closes the session. The same messages
go as single requests for those who have no WebSocket: `POST /reset` begins a session and names it in `metadata`,
`POST /step` with `{"session_id", "action"}` goes on. (In OpenEnv these two make an environment for one request and
throw it away.)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palaestra import __version__
from palaestra.envs.errors import BadInput
from palaestra.envs.serving.player import EpisodePlayer, Front, Served
from palaestra.envs.serving.session import Session, Sessions
from palaestra.envs.serving.wire import MEGABYTE, SCHEMA, Kind, Refusal, bad, checked, fault, frame, parse, read

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

_STARTING_S = 600.0
"""How long it may take to make the first environment and to list its tasks: some read a data set for that."""
_MOST_WAITING = 2
"""Messages of one connection that may wait while an earlier one is answered; what comes beyond that stays unread."""


@dataclass(frozen=True)
class Bounds:
    """What a server puts up with.

    Attributes:
        sessions: at once.
        idle_s: seconds that a session may be left alone.
        deadline_s: seconds that one call of an environment may take.
        message_mb: megabytes that a message or body may have.
        closing_s: seconds that environments have to close when the server ends.
    """

    sessions: int = 64
    idle_s: float = 1800.0
    deadline_s: float = 120.0
    message_mb: float = 8.0
    closing_s: float = 10.0

    def __post_init__(self) -> None:
        for name, option, least, most in (
            ("sessions", "sessions", 1, 100_000),
            ("idle_s", "idle", 0.1, 1e7),
            ("deadline_s", "deadline", 0.1, 1e7),
            ("message_mb", "max-message", 0.1, 1024),
        ):
            if not least <= getattr(self, name) <= most:
                got = getattr(self, name)
                raise BadInput(f"--{option} must be at least {least:g} and at most {most:,.0f}, got {got:g}")

    @property
    def longest(self) -> int:
        """Bytes that a message may have."""
        return int(self.message_mb * MEGABYTE)


class EnvServer:
    """What is served and its sessions, behind routes.

    Args:
        served: the environment.
        bounds: see `Bounds`.
    """

    def __init__(self, served: Served, bounds: Bounds) -> None:
        self.served, self.bounds = served, bounds
        self.about: dict[str, Any] = {}
        self.sessions: Sessions[EpisodePlayer]
        self._front: Session[Front]

    @contextlib.asynccontextmanager
    async def running(self, _app: object = None) -> AsyncIterator[None]:
        """The sessions' time: what is still open at its end is closed."""
        bounds = self.bounds
        self._front = Session(lambda: Front(self.served), _STARTING_S, shared=True)
        self.about = read(await self._front.call(lambda front: json.dumps(front.about)))
        self.sessions = Sessions(lambda: EpisodePlayer(self.served), bounds.sessions, bounds.deadline_s, bounds.idle_s)
        reaper = asyncio.ensure_future(self.sessions.reap())
        try:
            yield
        finally:
            reaper.cancel()
            self._front.leave()
            await self.sessions.close(bounds.closing_s)

    # -- the WebSocket ------------------------------------------------------------------------------------------------

    async def live(self, websocket: WebSocket) -> None:
        """One connection, one session at the most: it begins with the first message that is about an episode."""
        from starlette.websockets import WebSocketDisconnect

        await websocket.accept()
        held: list[Session[EpisodePlayer]] = []
        try:
            await self._serve(websocket, held)
        except WebSocketDisconnect:  # the client broke off while it was being answered
            pass
        except Refusal as refusal:  # this connection is over; other refusals are answered inside
            with contextlib.suppress(Exception):
                await websocket.send_text(refusal.frame())
                await websocket.close(1013 if refusal.kind is Kind.FULL else 1000)
        finally:
            for session in held:
                self.sessions.end(session)

    async def _serve(self, websocket: WebSocket, held: list[Session[EpisodePlayer]]) -> None:
        waiting: deque[str | bytes | None] = deque()

        async def gone() -> None:
            while len(waiting) < _MOST_WAITING:
                waiting.append(await _message(websocket))
                if waiting[-1] is None:
                    return
            await asyncio.Event().wait()

        while True:
            try:
                async with asyncio.timeout(self.bounds.idle_s):
                    text = waiting.popleft() if waiting else await _message(websocket)
            except TimeoutError:
                text = f"nothing was asked for {self.bounds.idle_s:g} s, so the session is over"
                raise fault(text, 408, Kind.IDLE) from None
            if text is None:
                return
            try:
                kind, data = parse(text)
                if kind == "close":
                    await websocket.close()
                    return
                answer = await self._answer_front(kind, data)
                if answer is None:
                    answer = await self._answer(self._begun(held), kind, data, gone)
            except Refusal as refusal:
                if refusal.kind is Kind.FULL or any(session.over for session in held):
                    raise
                answer = refusal.frame()
            except asyncio.CancelledError:
                if waiting and waiting[-1] is None:
                    return
                raise
            await websocket.send_text(answer)

    def _begun(self, held: list[Session[EpisodePlayer]]) -> Session[EpisodePlayer]:
        """A connection's session. One that only asks what there is takes none away from those who play."""
        if not held:
            held.append(self.sessions.begin())
            held[0].attached = True
        return held[0]

    async def _answer_front(self, kind: str, data: Any) -> str | None:
        """What is no session's business; None for what is."""
        if kind == "hello":
            return frame("hello", self.about)
        if kind == "tasks":
            return await self._page(data)
        if kind == "task":
            return await self._front.call(lambda front: front.task(data))
        return None

    async def _page(self, data: Any) -> str:
        return await self._front.call(lambda front: front.tasks(data))

    async def _answer(
        self, session: Session[EpisodePlayer], kind: str, data: Any, gone: Callable[[], Any] | None = None
    ) -> str:
        return await session.call(lambda player: player.answer(kind, data), gone)

    # -- single requests ----------------------------------------------------------------------------------------------

    async def post(self, request: Request) -> Response:
        """`POST /reset`, `/step`, `/keep`, `/resume` and all others that are about one session."""
        kind = request.path_params["kind"]
        body = await self._body(request)
        id = body.pop("session_id", None)
        session = self.sessions.begin() if kind == "reset" and id is None else self.sessions.find(id)
        if kind == "close":
            self.sessions.end(session)
            return _json({"session_id": session.id, "closed": True})
        if kind == "step":
            body = body.get("action", {}) if set(body) <= {"action", "timeout_s", "request_id"} else body
        try:
            told = json.loads(await self._answer(session, kind, checked(kind, body)))["data"]
        except BaseException:
            if id is None or session.over:  # what nobody knows the name of is not kept
                self.sessions.end(session)
            raise
        if kind == "reset":
            told["metadata"] = {"session_id": session.id}
        return _json(told)

    async def state(self, request: Request) -> Response:
        """`GET /state?session_id=...`."""
        session = self.sessions.find(request.query_params.get("session_id"))
        return _json(json.loads(await self._answer(session, "state", None))["data"])

    async def _body(self, request: Request) -> dict[str, Any]:
        content = bytearray()
        try:
            async with asyncio.timeout(self.bounds.deadline_s):
                async for chunk in request.stream():
                    content += chunk
                    if len(content) > self.bounds.longest:
                        raise bad(f"a body may have {self.bounds.longest:,} bytes", 413)
        except TimeoutError:
            raise bad("the body did not come in time", 408) from None
        return read(bytes(content)) if content else {}

    # -- what is served -----------------------------------------------------------------------------------------------

    async def health(self, _request: Request) -> Response:
        """`GET /health`: is the server up."""
        return _json({"status": "healthy"})

    async def metadata(self, _request: Request) -> Response:
        """`GET /metadata`: what is served."""
        told = {
            "name": self.about["env"],
            "description": self.served.spec.summary or self.about["env"],
            "version": __version__,
            "palaestra": self.about,
            "sessions": {"open": len(self.sessions), "limit": self.sessions.limit},
        }
        return _json(told)

    async def schema(self, _request: Request) -> Response:
        """`GET /schema`: JSON schemas of action, observation and state."""
        return _json(SCHEMA)

    async def environments(self, _request: Request) -> Response:
        """`GET /list_environments`: the one name."""
        return _json([self.about["name"]])

    async def splits(self, request: Request) -> Response:
        """`GET /{env}/splits`, with OpenEnv's three types of a split."""
        self._named(request)
        types = {"train": "train", "test": "test"}
        return _json([{"name": name, "type": types.get(name, "validation")} for name in self.about["splits"]])

    async def tasks(self, request: Request) -> Response:
        """`POST /{env}/tasks`, `num_tasks`, `task`, `task_range`: OpenEnv's routes to the tasks."""
        self._named(request)
        body, what = await self._body(request), request.path_params["what"]
        split = body.get("split")
        if not isinstance(split, str):
            raise bad("split: name one; GET /{env}/splits lists them")
        bounds = [body.get(key) for key in ("index", "start", "stop")]
        if any(value is not None and (type(value) is not int or value < 0) for value in bounds):
            raise bad("index, start and stop are whole numbers from 0")
        index, start, stop = bounds
        if what == "task":
            start, stop = index or 0, (index or 0) + 1
        told: list[dict[str, str]] = []
        total = stop = stop if stop is not None else 2**62
        while (at := (start or 0) + len(told)) < min(total, stop):
            asked = checked("tasks", {"split": split, "start": at, "stop": stop})
            page = json.loads(await self._page(asked))["data"]
            total = page["total"] if what != "num_tasks" else 0
            told += [{"name": name, "split": split} for name in page["names"]] if total else []
            if what == "num_tasks":
                return _json({"num_tasks": page["total"]})
            if not page["names"]:
                break
        if what != "task":
            return _json({"tasks": told, "env_name": self.about["name"]})
        if not told:
            raise bad(f"split {split!r} has no task {start}", 404)
        return _json({"task": told[0]})

    def _named(self, request: Request) -> None:
        if request.path_params["env"].lower() != self.about["name"]:
            raise bad(f"this server serves {self.about['name']}", 404)


async def _message(websocket: WebSocket) -> str | bytes | None:
    """The next message; None when the client has gone."""
    event: Mapping[str, Any] = await websocket.receive()
    if event["type"] != "websocket.receive":
        return None
    text: str | bytes | None = event.get("text")
    return text if text is not None else event.get("bytes") or b""


def _json(told: object) -> Response:
    from starlette.responses import Response

    return Response(json.dumps(told), media_type="application/json")

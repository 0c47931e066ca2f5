"""The viewer's server: pages that ship with the package, the API behind the token, loopback unless told otherwise.

The pages hold nothing of a run, so they are given to everybody who may speak to the server at all; whatever is asked of
`/api` needs the token where there is one. Rules of who may speak are those of `palaestra serve`.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from palaestra.envs.errors import BadInput, MissingExtra
from palaestra.envs.serving.guard import App, Guard, Receive, Scope, Send, check_token
from palaestra.viewer.api import Api
from palaestra.viewer.runs import Runs

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

PAGES = Path(__file__).parent / "pages"
PORT = 8170
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def application(runs: Runs, host: str = "127.0.0.1", token: str | None = None) -> App:
    """The ASGI application. Raises MissingExtra without Starlette."""
    try:
        from starlette.applications import Starlette
        from starlette.routing import Route
    except ModuleNotFoundError:
        raise MissingExtra("Starlette (the viewer)", "serve") from None
    from starlette.responses import Response

    api = Api(runs)
    files = {file.name: file for file in PAGES.iterdir() if file.suffix in _KINDS}

    def page(request: Request) -> Response:
        file = files.get(request.path_params.get("name") or "index.html")
        if file is None:
            return Response(b"there is no such page\n", 404, media_type="text/plain")
        return Response(file.read_bytes(), media_type=_KINDS[file.suffix])

    inner = Starlette(
        routes=[
            Route("/", page, methods=["GET"]),
            Route("/api/picture", api.picture, methods=["GET"]),
            Route("/api/{what}", api.respond, methods=["GET"]),
            Route("/{name}", page, methods=["GET"]),
        ]
    )
    return _Headers(_Doors(inner, host, token))


class _Doors:
    """The token is asked for before the API alone: a browser cannot show one for a page and its scripts."""

    def __init__(self, app: App, host: str, token: str | None) -> None:
        self._pages, self._api = Guard(app, host, None), Guard(app, host, token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = self._api if str(scope.get("path", "")).startswith("/api") else self._pages
        await door(scope, receive, send)


class _Headers:
    """Puts the security headers on every answer, refusals too."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers")
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*(given if isinstance(given, list) else []), *own]}
            await send(message)

        await self._app(scope, receive, with_headers)  # type: ignore[arg-type]


def view(
    place: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    token: str | None = None,
    told: Callable[[str], None] = print,
) -> None:
    """Show runs until Ctrl-C.

    Args:
        place: a run, a folder of runs, a store: see `Runs`.
        host, port: where to listen; port 0 takes a free one.
        token: what a browser must show; needed for any host but loopback.
        told: is given one line once connections are accepted.

    Raises:
        BadInput: nothing to show there, or the token, host or port cannot be used. MissingExtra: no uvicorn.
    """
    check_token(host, token, "these runs")
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise MissingExtra("uvicorn (the viewer)", "serve") from None
    runs = Runs(Path(place))
    served = application(runs, host, token)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), backlog=64, family=family)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            taken = f"port {port} of {host} is in use, perhaps by another viewer"
            raise BadInput(f"{taken}; choose another --port, or --port 0 for a free one") from None
        raise BadInput(f"cannot listen on {host}:{port} ({error}); choose another --host or --port") from None
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        served, lifespan="off", ws="none", log_level="error", server_header=False, timeout_graceful_shutdown=2
    )
    with listening:
        at = f"[{host}]" if ":" in host else host
        hint = "" if token is None else " (add #token=TOKEN to the address)"
        told(f"{place} at http://{at}:{listening.getsockname()[1]}/{hint}; Ctrl-C stops")
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            runs.close()

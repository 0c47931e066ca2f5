"""The server: starts to listen, refuses strangers, serves until Ctrl-C, and closes all environments at the end."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from palaestra.envs.errors import BadInput, MissingExtra
from palaestra.envs.serving.guard import App, Guard, check_token
from palaestra.envs.serving.player import Front, Served
from palaestra.envs.serving.routes import Bounds, EnvServer
from palaestra.envs.serving.wire import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


def application(server: EnvServer, host: str, token: str | None) -> App:
    """The ASGI application. Raises MissingExtra without Starlette."""
    try:
        from starlette.applications import Starlette
        from starlette.routing import Route, WebSocketRoute
    except ModuleNotFoundError:
        raise MissingExtra("Starlette (serving)", "serve") from None
    from starlette.responses import JSONResponse

    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return JSONResponse({"detail": error.message}, error.status)

    get, post = ["GET"], ["POST"]
    routes = [
        WebSocketRoute("/ws", server.live),
        Route("/health", server.health, methods=get),
        Route("/metadata", server.metadata, methods=get),
        Route("/schema", server.schema, methods=get),
        Route("/state", server.state, methods=get),
        Route("/list_environments", server.environments, methods=get),
        Route("/{env}/splits", server.splits, methods=get),
        *(
            Route(f"/{kind}", _with(server.post, kind), methods=post)
            for kind in ("reset", "step", "snapshot", "restore", "keep", "resume", "actions", "oracle", "close")
        ),
        *(
            Route(f"/{{env}}/{what}", _with(server.tasks, what), methods=post)
            for what in ("tasks", "num_tasks", "task", "task_range")
        ),
    ]
    app = Starlette(routes=routes, lifespan=server.running, exception_handlers={Refusal: refused})
    return Guard(app, host, token)


def _with(endpoint: Callable[[Request], Any], value: str) -> Callable[[Request], Any]:
    async def routed(request: Request) -> Response:
        request.path_params.update(kind=value, what=value)
        response: Response = await endpoint(request)
        return response

    return routed


def serve(
    env: str,
    settings: Mapping[str, Any] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    bounds: Bounds | None = None,
    oracle: bool = True,
    told: Callable[[str], None] = print,
) -> None:
    """Serve an environment until Ctrl-C or SIGTERM; then all sessions' environments are closed.

    Args:
        env, settings: which environment, and how its instances are made.
        host, port: where to listen; port 0 takes a free one.
        token: what clients must show; needed for any host but loopback.
        oracle: tell clients what the environment's oracle would do when they ask.
        told: is given one line once connections are accepted.

    Raises:
        BadInput: the environment, a setting, the token, host or port cannot be used. MissingExtra: no uvicorn.
    """
    bounds = bounds or Bounds()
    check_token(host, token)
    try:
        import uvicorn
        import websockets  # noqa: F401  # uvicorn speaks WebSocket with it
    except ModuleNotFoundError:
        raise MissingExtra("uvicorn or websockets (serving)", "serve") from None
    served = Served.of(env, settings or {}, oracle=oracle, longest=bounds.longest)
    front = Front(served)  # what cannot be made or lacks its data is told now, as what it is
    front.names(front.about["splits"][0])
    front.close()
    server = EnvServer(served, bounds)
    config = uvicorn.Config(
        application(server, host, token),
        http="h11",
        ws="websockets-sansio",
        ws_max_size=bounds.longest,
        # A client may think for minutes between two steps with its event loop held up; the idle deadline is enough.
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        limit_concurrency=2 * bounds.sessions + 64,
        timeout_graceful_shutdown=int(max(1, bounds.closing_s)),
        log_level="error",
        server_header=False,
        date_header=False,
    )
    # uvicorn takes a WebSocket that was refused with a status for one that was forgotten, and says so each time.
    logging.getLogger("uvicorn.error").addFilter(lambda record: "completing handshake" not in record.getMessage())
    try:
        listening = socket.create_server(
            (host, port), backlog=256, family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except (OSError, OverflowError, ValueError) as error:  # the last: a name that no host has
        raise BadInput(f"cannot listen on {host}:{port} ({error}); choose another --host or --port") from None
    with listening:
        at = f"[{host}]" if ":" in host else host
        told(f"{served.spec.id} at http://{at}:{listening.getsockname()[1]}; Ctrl-C stops")
        if threading.current_thread() is threading.main_thread():
            # The server ends itself cleanly and then raises the signal again; without a handler that would end the
            # process on the spot, and what environments close at exit (a pool of JVMs) would stay behind.
            signal.signal(signal.SIGTERM, _leave)
        uvicorn.Server(config).run(sockets=[listening])


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)

"""`palaestra serve`: an environment for others to use, over HTTP and WebSocket; WebShop also as pages for a browser."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import typer

from palaestra.cli.options import Load, Settings, load_environments, parse_settings
from palaestra.envs import EnvSpec, find, make
from palaestra.envs.errors import BadInput
from palaestra.envs.serving.wire import TOKEN_VARIABLE


def add_to(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(serve)


def serve(
    env: Annotated[str, typer.Argument(help="Environment id or short name.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is open to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar=TOKEN_VARIABLE,
            show_default=False,
            help="What clients must show; needed for any host but loopback. Others on this machine can read a command "
            "line, so set the variable.",
        ),
    ] = None,
    sessions: Annotated[int, typer.Option(help="Sessions at once.")] = 64,
    idle: Annotated[float, typer.Option(help="Seconds that a session may be left alone.")] = 1800.0,
    deadline: Annotated[float, typer.Option(help="Seconds that one call of the environment may take.")] = 120.0,
    max_message: Annotated[float, typer.Option(help="Megabytes that a message may have, snapshots included.")] = 8.0,
    oracle: Annotated[bool, typer.Option(help="Tell clients what the oracle would do, when they ask.")] = True,
    html: Annotated[bool, typer.Option("--html", help="Serve WebShop's real pages, for a browser.")] = False,
    load: Load = None,
    settings: Settings = None,
) -> None:
    """Serve an environment until Ctrl-C, for `RemoteEnv` and for OpenEnv's clients (docs/serving.md).

    Examples: `palaestra serve webshopsmall`, then `palaestra eval remote -s url=http://127.0.0.1:8000 --policy random`;
    `palaestra serve webshop --html` for a browser: /N is goal N.
    """
    load_environments(load)
    spec = find(env)
    from palaestra.envs.serving.routes import Bounds

    bounds = Bounds(sessions, idle, deadline, max_message)
    if html:
        if bounds != Bounds() or not oracle:
            raise BadInput("--html serves pages, which have no sessions: it takes --host, --port and -s alone")
        _pages(spec, host, port, parse_settings(settings))
        return
    from palaestra.envs.serving.server import serve

    with contextlib.suppress(KeyboardInterrupt):
        serve(
            env,
            parse_settings(settings),
            host=host,
            port=port,
            token=token,
            bounds=bounds,
            oracle=oracle,
            told=lambda line: print(line, flush=True),
        )


def _pages(spec: EnvSpec, host: str, port: int, settings: dict[str, Any]) -> None:
    if spec.family not in ("webshop", "webshopsmall"):
        raise BadInput(
            f"{spec.id} has no pages for a browser; webshop and webshopsmall have: palaestra serve webshopsmall --html"
        )
    from palaestra.envs.webshop.env import WebShop
    from palaestra.envs.webshop.site import serve as serve_pages

    made = make(spec.id, **settings)
    assert isinstance(made, WebShop)
    shop = made.shop
    about = f"{shop.catalogue.name}, {len(shop.catalogue)} products, {shop.goal_count} goals"
    with contextlib.suppress(KeyboardInterrupt):
        serve_pages(
            shop, host, port, lambda address: print(f"WebShop ({about}) at {address}; Ctrl-C stops", flush=True)
        )

"""`palaestra serve`: an environment for others to use, so far WebShop's pages for a browser."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from palaestra.cli.options import Settings, parse_settings
from palaestra.envs import find, make
from palaestra.envs.errors import BadInput


def add_to(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(serve)


def serve(
    env: Annotated[str, typer.Argument(help="Environment id or short name; so far `webshop` and `webshopsmall`.")],
    html: Annotated[bool, typer.Option("--html", help="Serve real pages for a browser.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is open to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    settings: Settings = None,
) -> None:
    """Serve WebShop's pages to browsers until Ctrl-C: /N is goal N, buying leads to the reward.

    Example: `palaestra serve webshop --html --port 8000`; `webshopsmall` needs no data.
    """
    spec = find(env)
    if not html:
        raise BadInput(f"serving {spec.id} is not possible yet; what is: palaestra serve webshop --html")
    if spec.family not in ("webshop", "webshopsmall"):
        raise BadInput(f"{spec.id} has no pages for a browser; only webshop has: palaestra serve webshop --html")
    from palaestra.envs.webshop.env import WebShop
    from palaestra.envs.webshop.site import serve as serve_pages

    made = make(env, **parse_settings(settings))
    assert isinstance(made, WebShop)
    shop = made.shop
    about = f"{shop.catalogue.name}, {len(shop.catalogue)} products, {shop.goal_count} goals"
    with contextlib.suppress(KeyboardInterrupt):
        serve_pages(
            shop, host, port, lambda address: print(f"WebShop ({about}) at {address}; Ctrl-C stops", flush=True)
        )

"""`palaestra view`: runs, episodes and forests in a browser."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from palaestra.agents.plain import plain
from palaestra.envs.serving.wire import TOKEN_VARIABLE


def add_to(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(view)


def view(
    run: Annotated[Path, typer.Argument(help="A run, a comparison, a store, or a folder of them.")] = Path("runs"),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is open to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8170,
    token: Annotated[
        str | None,
        typer.Option(
            envvar=TOKEN_VARIABLE,
            show_default=False,
            help="What a browser must show; needed for any host but loopback. Others on this machine can read a "
            "command line, so set the variable.",
        ),
    ] = None,
) -> None:
    """Look at runs in a browser until Ctrl-C, while they work or afterwards (docs/viewer.md).

    Example: `palaestra view runs/eef`.
    """
    from palaestra.viewer.server import view as show

    with contextlib.suppress(KeyboardInterrupt):
        show(run, host=host, port=port, token=token, told=lambda line: print(plain(line), flush=True))

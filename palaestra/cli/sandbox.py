"""`palaestra sandbox build`: the image that code runs in."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, cast

import typer

from palaestra.cli.options import Json, Quiet
from palaestra.envs.sandbox.image import NAME, Origin

commands = typer.Typer(no_args_is_help=True, help="Sandboxes for code that nobody vouches for.")


def add_to(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.add_typer(commands, name="sandbox")


@commands.callback()
def sandbox() -> None:
    """Sandboxes for code that nobody vouches for."""


@commands.command()
def build(
    name: Annotated[str, typer.Option(help="Repository and tag to give the image.")] = NAME,
    base: Annotated[
        str,
        typer.Option(
            "--from",
            help="`registry` (the official Python image), `machine` (this machine's own Python, shell and tools), "
            "`auto` (the registry, where it answers).",
        ),
    ] = "auto",
    host: Annotated[str | None, typer.Option(help="The Docker engine; DOCKER_HOST without this.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Build the sandbox image of the docker backend on an engine.

    Examples: `palaestra sandbox build`, `palaestra sandbox build --from machine --host unix:///run/my.sock`.
    """
    from palaestra.envs.sandbox.engine import connect
    from palaestra.envs.sandbox.image import build

    def say(line: str) -> None:
        if not quiet and not as_json:
            print(line, file=sys.stderr)

    origin = cast("Origin | None", None if base == "auto" else base)  # build() checks it
    built = build(connect(host).client, name=name, origin=origin, say=say)
    if as_json:
        print(json.dumps(asdict(built)))
    else:
        print(f"{built.name} ({built.megabytes:.0f} MB, base from the {built.origin})")

"""`palaestra sandbox build`: the image that code runs in."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, cast

import typer

from palaestra.agents.counted import Counted
from palaestra.agents.progress import Shown
from palaestra.cli.options import Events, Quiet, shown, tell
from palaestra.cli.planning import DryRun, show_steps
from palaestra.envs.sandbox.image import NAME, Origin, plan

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
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> None:
    """Build the sandbox image of the docker backend on an engine.

    Examples: `palaestra sandbox build`, `palaestra sandbox build --from machine --host unix:///run/my.sock`.
    """
    from palaestra.envs.sandbox.engine import connect
    from palaestra.envs.sandbox.image import build

    origin = cast("Origin | None", None if base == "auto" else base)  # build() checks it
    engine = connect(host)
    if dry_run:
        told = plan(engine.client, name=name, origin=origin)
        show_steps(f"build {name}", f"the engine at {engine.host}", told, None, as_json)
        return
    with Steps(shown(quiet, as_json)) as steps:
        built = build(engine.client, name=name, origin=origin, say=steps.say)
    if as_json:
        tell(asdict(built))
    else:
        print(f"{built.name} ({built.megabytes:.0f} MB, base from the {built.origin})")


class Steps:
    """Shows one step after the other, each named by what is said when it begins."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._now: Counted | None = None

    def say(self, what: str) -> None:
        """The step before is done, and this one begins."""
        self.close(1)
        self._now = Counted(self._shown, what, "steps", 1).__enter__()

    def close(self, done: int = 0) -> None:
        """The last step is done, or it broke off."""
        if self._now is not None:
            self._now.reach(done)
            self._now.__exit__(None, None, None)
            self._now = None

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(1 if kind is None else 0)

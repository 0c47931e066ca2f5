"""Options that several commands share, and how `key=value` is read."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from palaestra.envs.errors import BadInput

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--setting", "-s", help="Setting of the environment as key=value; may be given several times."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def parse_settings(pairs: list[str] | None) -> dict[str, Any]:
    """Read `key=value` pairs: a value is JSON where it parses as such, else text. Raises BadInput."""
    settings: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise BadInput(f"{pair!r} is not of the form key=value")
        if key in settings:
            raise BadInput(f"{key!r} is given twice")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    return settings

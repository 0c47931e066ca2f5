"""Options that several commands share, and how `key=value` is read."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError

from palaestra.agents.conversation import Conversation
from palaestra.agents.policy import Sampling
from palaestra.agents.progress import JsonLines, Progress
from palaestra.envs import EnvSpec
from palaestra.envs.errors import BadInput

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Events = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print JSON Lines and nothing else: progress, then the result as the last line; with -q that line alone.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--setting", "-s", help="Setting of the environment as key=value; may be given several times."),
]
Load = Annotated[
    str | None, typer.Option("--load", help="A Python file or module that registers environments of your own.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what is in --out; an error where nothing is.")]


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


PolicyName = Annotated[
    str,
    typer.Option(
        "--policy",
        "-p",
        help="random, oracle[:NAME], flawed:SLIP[:NAME], human, openai:MODEL@URL, vllm:MODEL, vllm:MODEL@URL,..., or a "
        "model in this process: short name, folder, run.",
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--tasks", "-t", help="How many tasks, or names of tasks or task types; may be given several times."),
]
Window = Annotated[int | None, typer.Option(help="How many earlier turns are shown; all of them without this.")]
Style = Annotated[
    str | None,
    typer.Option(
        help="`action` (one line), `react` (a thought before each action), `text` (all of the answer); "
        "the environment's own without this."
    ),
]
Listed = Annotated[int, typer.Option("--actions", help="How many admissible actions are listed under an observation.")]
MaxTokens = Annotated[
    int | None, typer.Option(help="Tokens an answer at the most; 64 without this, or what the environment says.")
]
Sandbox = Annotated[
    str | None, typer.Option(help="What code runs in: `docker` or `bwrap`; short for `-s sandbox=...`.")
]
Constrain = Annotated[bool, typer.Option("--constrain", help="The model writes admissible actions only.")]
Concurrency = Annotated[int, typer.Option(help="Episodes at once.")]
Seed = Annotated[int, typer.Option(help="All randomness follows from it.")]


def parse_tasks(values: list[str] | None) -> int | tuple[str, ...] | None:
    """Read `--tasks`: one number, or names. Raises BadInput for a number among names."""
    if not values:
        return None
    if len(values) == 1 and re.fullmatch("-?[0-9]+", values[0]):
        return int(values[0])
    return tuple(name for value in values for name in value.split(",") if name)


def conversation_of(window: int | None, style: str, actions: int) -> Conversation:
    """The conversation that the options describe. Raises BadInput."""
    try:
        return Conversation.model_validate({"window": window, "style": style, "actions": actions})
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"--{first['loc'][0]}: {first['msg']}") from error


def with_sandbox(spec: EnvSpec, settings: dict[str, Any], sandbox: str | None) -> dict[str, Any]:
    """The settings with `--sandbox`. Raises BadInput for an environment that runs no code, or where both are given."""
    if sandbox is None:
        return settings
    if "sandbox" not in inspect.signature(spec.load()).parameters:
        raise BadInput(f"--sandbox {sandbox}: {spec.id} runs no code, so it has no sandbox")
    if "sandbox" in settings:
        raise BadInput("give either --sandbox or -s sandbox=..., not both")
    return {**settings, "sandbox": sandbox}


def sampling_of(temperature: float, max_tokens: int, seed: int, top_p: float = 1.0) -> Sampling:
    """The sampling that the options describe. Raises BadInput."""
    try:
        return Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}") from error


def must_go_on(resume: bool, where: Path, files: str) -> None:
    """Raise BadInput where a command was to go on and nothing was begun; `files` (a pattern) are there if it was."""
    if resume and not any(where.glob(files)):
        raise BadInput(f"--resume: {where} holds nothing to go on with; give its folder with --out, or leave it out")


def shown(quiet: bool, as_json: bool) -> Progress | Literal["auto", "quiet"]:
    """How progress is shown: not at all, as JSON Lines, or as suits what stderr is."""
    if quiet:
        return "quiet"
    return JsonLines() if as_json else "auto"


def tell(result: Mapping[str, Any]) -> None:
    """Print the result of a long command as one line of JSON, the last one (docs/command-line.md)."""
    print(json.dumps({"event": "result", **result}, default=str))


def load_environments(reference: str | None) -> None:
    """Run the file or module that registers environments. Raises BadInput."""
    if reference is not None:
        from palaestra.envs.source import load

        load(reference)

"""`palaestra compare`: methods against one another at equal rollouts and equal training tokens."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markdown import Markdown

from palaestra.agents.counted import Fits
from palaestra.agents.plain import plain
from palaestra.agents.progress import under
from palaestra.agents.typical import near, typical
from palaestra.cli.options import (
    Concurrency,
    Events,
    Load,
    Quiet,
    Resume,
    Sandbox,
    Tasks,
    load_environments,
    must_go_on,
    parse_tasks,
    shown,
    tell,
)
from palaestra.cli.planning import DryRun, show_plan
from palaestra.cli.printed import screen
from palaestra.cli.training import change_settings, complete, experts_of, read_settings
from palaestra.envs.errors import BadInput
from palaestra.trainers.estimate import of_recipe, together
from palaestra.trainers.recipe import Recipe
from palaestra.worldmodel.methods import CONTESTANTS, contestant

TOKENS = 200_000
"""Of a fit, where nothing else is said."""


def add_to(app: typer.Typer) -> None:
    """Register this file's command."""
    app.command()(compare)


def compare(
    methods: Annotated[
        list[str],
        typer.Argument(
            help=f"Two or more of: {', '.join(CONTESTANTS)}. The first one is what the others are compared with."
        ),
    ],
    env: Annotated[str | None, typer.Option(help="Environment id or short name.")] = None,
    model: Annotated[str | None, typer.Option(help="Start model of all: short name, folder or hub id.")] = None,
    experts: Annotated[
        str | None, typer.Option(help="oracle[:NAME], flawed:SLIP, openai:MODEL@URL, or a file.")
    ] = None,
    budget: Annotated[int | None, typer.Option(help="Rollouts of each method and seed.")] = None,
    tokens: Annotated[
        int | None, typer.Option(help=f"Ids that go through the model in each fit, if not {TOKENS:,}.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds: 0, 1, ...")] = 3,
    tasks: Tasks = None,
    sandbox: Sandbox = None,
    config: Annotated[Path | None, typer.Option(help="JSON or TOML file with what all share.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="A configuration key of all, or of one: eef.states=3.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Directory; going on in one is fine.")] = None,
    concurrency: Concurrency = 16,
    load: Load = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> None:
    """Run methods on the same tasks, with the same rollouts and training tokens, and say who is better by how much.

    The same command again goes on where it stopped, with `--resume` or without. Example:

    `palaestra compare rft eef --env crafting --model tiny --experts flawed:0.4 --tasks 40 --budget 240 --seeds 5`
    """
    from palaestra.agents.models import need_train
    from palaestra.trainers.compare import compare_methods, objective_given, recipes_of
    from palaestra.trainers.comparison import markdown

    load_environments(load)
    contestants = [contestant(name) for name in methods]
    if seeds < 1:
        raise BadInput(f"--seeds is a number above 0, got {seeds}")
    settings = read_settings(config) if config else {}
    given = {"env": env, "model": model, "budget": budget, "tasks": parse_tasks(tasks)}
    settings |= {key: value for key, value in given.items() if value is not None}
    if experts is not None:
        settings["experts"] = experts_of(experts)
    fits = {"tokens": TOKENS, **objective_given(settings)}
    settings["objective"] = fits if tokens is None else {**fits, "tokens": tokens}
    own: dict[str, dict[str, Any]] = {name: {} for name in methods}
    for pair in change or []:
        name, dot, rest = pair.partition(".")
        if dot and name in own:
            change_settings(own[name], [rest])
        else:
            change_settings(settings, [pair])
    spec = complete(settings, sandbox)
    where = out or Path("runs") / f"compare-{spec.family}"
    must_go_on(resume, where, "*/run.json")
    if dry_run:
        recipes = recipes_of(contestants, settings, where, range(seeds), own, {}).values()
        known = typical(near(where), spec.id)
        does = f"compare {', '.join(methods)} on {spec.id}, {seeds} seeds, one run each"
        show_plan(together(does, where, [of_recipe(recipe, known) for recipe in recipes]), as_json)
        return
    need_train()
    progress, begun = shown(quiet, as_json), 0

    def run(recipe: Recipe[Any]) -> None:
        nonlocal begun
        begun += 1
        recipe.progress = under(progress, f"{recipe.out.name} ({begun} of {seeds * len(contestants)})")
        with Fits(recipe.progress) as fits:
            recipe.fitting = fits.step
            recipe.train()

    standings = compare_methods(
        contestants,
        settings,
        where,
        seeds=range(seeds),
        own=own,
        run=run,
        concurrency=concurrency,
        progress=progress,
        command=shlex.join(["palaestra", *sys.argv[1:]]),
    )
    report = (where / "comparison.html").resolve()
    if as_json:
        tell({"out": str(where), "report": str(report), "standings": [s.model_dump(mode="json") for s in standings]})
        return
    console = screen()
    console.print(Markdown(markdown(standings)))
    console.print(plain(f"report: {report}"), soft_wrap=True)

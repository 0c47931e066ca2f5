"""`palaestra envs | check`: look at environments, prove them."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from palaestra.agents.counted import Counted
from palaestra.agents.plain import plain
from palaestra.cli.options import Events, Json, Load, Quiet, Settings, load_environments, parse_settings, shown, tell
from palaestra.cli.planning import DryRun, show_steps
from palaestra.cli.printed import screen
from palaestra.envs import EnvSpec, find, make, specs
from palaestra.envs.errors import BadInput

if TYPE_CHECKING:
    from palaestra.envs.check import Result

Env = Annotated[str, typer.Argument(help="Environment id or short name, such as `scienceworld`.")]


def add_to(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(envs)
    app.command()(check)


def envs(
    env: Annotated[str | None, typer.Argument(help="Show this one with its tasks.")] = None,
    split: Annotated[str | None, typer.Option(help="With ENV: list the tasks of this split.")] = None,
    settings: Settings = None,
    load: Load = None,
    as_json: Json = False,
) -> None:
    """List the environments, or one of them with its splits and protocols; with --split its tasks.

    Examples: `palaestra envs`, `palaestra envs scienceworld --split test`, and where settings say which tasks there are
    `palaestra envs webtasks --split test -s file=tasks.jsonl`.
    """
    load_environments(load)
    if settings and (env is None or split is None):
        raise BadInput("settings (-s) say which tasks there are: give ENV and --split with them")
    if env is None:
        _list_envs(as_json)
        return
    spec = find(env)
    if split is not None:
        names = _names(spec, split, parse_settings(settings))
        print(json.dumps(names) if as_json else plain("\n".join(names)))
        return
    described = describe(spec)
    if as_json:
        print(json.dumps(described, indent=2))
        return
    console = screen()
    for key, value in described.items():
        console.print(Text.assemble((key, "bold"), ": ", plain(_words(value))))


def _names(spec: EnvSpec, split: str, settings: dict[str, Any]) -> list[str]:
    """The tasks of a split; of an instance with these settings where it takes one to know them."""
    if not settings and (listed := spec.split(split)):
        return [task.name for task in listed]
    made = make(spec.id, **settings)
    try:
        return [task.name for task in made.tasks(split)]
    finally:
        made.close()


def describe(spec: EnvSpec) -> dict[str, Any]:
    """What is known of an environment, as JSON types."""
    problem = spec.why_not_ready()
    return {
        "id": spec.id,
        "family": spec.family,
        "summary": spec.summary,
        "splits": {name: len(tasks) for name, tasks in spec.splits.items()},
        "fidelity": str(spec.fidelity),
        "max_steps": spec.max_steps,
        "oracles": list(spec.oracles),
        "protocols": list(spec.protocols),
        "ready": problem is None,
        "problem": problem,
    }


def _list_envs(as_json: bool) -> None:
    rows = [describe(spec) for spec in specs().values()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(box=None, header_style="bold")
    for column in ("id", "splits", "fidelity", "oracles", "ready", "what"):
        table.add_column(column, overflow="fold")
    for row in rows:
        splits = ", ".join(f"{name} {size}" for name, size in row["splits"].items())
        ready = "yes" if row["ready"] else f"no: {row['problem']}"
        cells = (row["id"], splits, row["fidelity"], ", ".join(row["oracles"]) or "-", ready, row["summary"])
        table.add_row(*(plain(cell) for cell in cells))
    screen().print(table)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {size}" for key, size in value.items())
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "-"
    return "-" if value is None else str(value)


def check(
    env: Env,
    fast: Annotated[bool, typer.Option("--fast", help="Fewer tasks and cycles: seconds instead of minutes.")] = False,
    load: Load = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="Which tasks and steps are tried.")] = 0,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> int:
    """Prove that an environment keeps the contract: five-tuple, determinism, rewind, hostile actions, no leaks.

    Exit status 0 if every check passed, 1 if one failed. Example: `palaestra check bandit --fast`.
    """
    from palaestra.envs.check import check as run_check
    from palaestra.envs.check.promises import PROMISES

    load_environments(load)
    spec, broken = find(env), 0
    if dry_run:
        tasks, cycles = (6, 100) if fast else (40, 1000)
        steps = [f"{name}: {inspect.getdoc(promise)}" for name, promise in PROMISES.items()]
        most = f"at most {tasks} tasks of each split are played, and up to {cycles:,} instances made and closed"
        show_steps(f"check {len(PROMISES)} promises of {spec.id}", "", [*steps, most], 0, as_json)
        return 0
    with Counted(shown(quiet, as_json), f"check {spec.id}", "promises", len(PROMISES), broken=0) as count:

        def found(result: Result) -> None:
            nonlocal broken
            broken += not result.passed
            count.step(broken=broken)

        report = run_check(env, settings=parse_settings(settings), fast=fast, load=load, seed=seed, progress=found)
    if as_json:
        tell(json.loads(report.to_json()))
    else:
        console = screen()
        for result in report.results:
            mark = ("ok  ", "green") if result.passed else ("FAIL", "red")
            took = (f"{result.seconds:.1f} s", "dim")
            console.print(Text.assemble(mark, f" {result.name} ", took, f" {plain(result.detail)}"))
        passed = sum(result.passed for result in report.results)
        console.print(f"{passed} of {len(report.results)} checks passed")
    return 0 if report.passed else 1

"""`palaestra envs | check | play`: look at environments, prove them, play them."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from palaestra.cli.options import Json, Load, Settings, load_environments, parse_settings
from palaestra.envs import EnvSpec, Task, TextEnv, find, make, specs
from palaestra.envs.errors import BadInput

Env = Annotated[str, typer.Argument(help="Environment id or short name, such as `scienceworld`.")]


def add_to(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(envs)
    app.command()(check)
    app.command()(play)


def envs(
    env: Annotated[str | None, typer.Argument(help="Show this one with its tasks.")] = None,
    split: Annotated[str | None, typer.Option(help="With ENV: list the tasks of this split.")] = None,
    load: Load = None,
    as_json: Json = False,
) -> None:
    """List the environments, or one of them with its splits and protocols; with --split its tasks.

    Examples: `palaestra envs`, `palaestra envs scienceworld --split test`.
    """
    load_environments(load)
    if env is None:
        _list_envs(as_json)
        return
    spec = find(env)
    if split is not None:
        names = [task.name for task in spec.split(split)]
        print(json.dumps(names) if as_json else "\n".join(names))
        return
    described = describe(spec)
    if as_json:
        print(json.dumps(described, indent=2))
        return
    console = Console()
    for key, value in described.items():
        console.print(f"[bold]{key}[/]: {escape(_plain(value))}")


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
        table.add_row(*(escape(cell) for cell in cells))
    Console().print(table)


def _plain(value: object) -> str:
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
    as_json: Json = False,
) -> int:
    """Prove that an environment keeps the contract: five-tuple, determinism, rewind, hostile actions, no leaks.

    Exit status 0 if every check passed, 1 if one failed. Example: `palaestra check bandit --fast`.
    """
    from palaestra.envs.check import check as run_check

    report = run_check(env, settings=parse_settings(settings), fast=fast, load=load, seed=seed)
    if as_json:
        print(report.to_json())
    else:
        console = Console()
        for result in report.results:
            mark = "[green]ok[/]  " if result.passed else "[red]FAIL[/]"
            console.print(f"{mark} {result.name} [dim]{result.seconds:.1f} s[/] {escape(result.detail)}")
        passed = sum(result.passed for result in report.results)
        console.print(f"{passed} of {len(report.results)} checks passed")
    return 0 if report.passed else 1


_PLAY_HELP = ":undo [N] goes back, :actions lists what can be done, :hint asks the oracle, :quit leaves"


def play(
    env: Env,
    task: Annotated[str | None, typer.Option(help="Name of a task; without one the seed picks it.")] = None,
    split: Annotated[str | None, typer.Option(help="Split to pick the task from.")] = None,
    seed: Annotated[int, typer.Option(help="Picks the task.")] = 0,
    settings: Settings = None,
    load: Load = None,
) -> None:
    """Play an environment in the terminal, with undo.

    Example: `palaestra play scienceworld --task find-living-thing/12`.
    """
    load_environments(load)
    spec = find(env)
    console = Console()
    made = make(env, **parse_settings(settings))
    try:
        wanted = _wanted(made, task, split, seed)
        observation, _ = made.reset(options={"task": wanted})
        console.print(f"[bold]{wanted.id}[/]\n[dim]{escape(made.instructions(wanted))}[/]\n[dim]{_PLAY_HELP}[/]")
        console.print(escape(observation))
        _play(made, spec, console)
    finally:
        made.close()


def _wanted(env: TextEnv[Any], task: str | None, split: str | None, seed: int) -> Task:
    for name in [split] if split else env.splits():
        tasks = env.tasks(name)
        if task is None:
            return tasks[seed % len(tasks)]
        for candidate in tasks:
            if candidate.name == task:
                return candidate
    raise BadInput(f"no task {task!r} in {split or 'any split'}; `palaestra envs ENV --split NAME` lists them")


def _play(env: TextEnv[Any], spec: EnvSpec, console: Console) -> None:
    past = [env.snapshot()]
    over = False
    while True:
        try:
            line = console.input("[bold cyan]> [/]").strip()
        except EOFError:
            return
        word, _, rest = line.partition(" ")
        if word == ":quit":
            return
        if word == ":undo":
            steps = int(rest) if re.fullmatch("[0-9]{1,6}", rest.strip()) else 1
            del past[max(1, len(past) - steps) :]
            observation, info = env.restore(past[-1])
            over = False
            console.print(f"[dim]step {len(past) - 1}, score {info['score']:.2f}[/]\n{escape(observation)}")
        elif word == ":actions":
            listed = env.admissible(env.state)
            console.print(escape("; ".join(listed)) if listed is not None else "this environment cannot list them")
        elif word == ":hint":
            console.print(escape(spec.oracle()(env)) if spec.oracles else "this environment has no oracle")
        elif over:
            console.print("the episode is over; :undo goes back, :quit leaves")
        else:
            observation, reward, ended, cut, info = env.step(line)
            past.append(env.snapshot())
            over = ended or cut
            console.print(escape(observation))
            console.print(
                f"[dim]reward {reward:+.2f}, score {info['score']:.2f}{', valid' if info['valid'] else ''}[/]"
            )
            if over:
                console.print("[bold green]solved[/]" if info["success"] else "[bold]the episode is over[/]")

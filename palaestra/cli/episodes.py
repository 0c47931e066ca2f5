"""`palaestra collect | runs`: make episodes, list runs."""

from __future__ import annotations

import json
import shlex
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from palaestra.agents.collect import collect as run_collect
from palaestra.agents.plain import plain
from palaestra.agents.store import EpisodeStore
from palaestra.cli.clusters import PolicyMaker, RayAddress, ReplicaGpus, Replicas, cluster_of, joined
from palaestra.cli.environments import Env
from palaestra.cli.options import (
    Concurrency,
    Constrain,
    Events,
    Json,
    Listed,
    Load,
    MaxTokens,
    PolicyName,
    Quiet,
    Sandbox,
    Seed,
    Settings,
    Style,
    Tasks,
    Window,
    conversation_of,
    load_environments,
    parse_settings,
    parse_tasks,
    sampling_of,
    shown,
    tell,
    with_sandbox,
)
from palaestra.cli.planning import DryRun, plan_episodes, show_plan
from palaestra.cli.printed import screen
from palaestra.cli.showing import STORE, new_store
from palaestra.cli.strategies import Calls, StrategyName
from palaestra.envs import find, make
from palaestra.envs.errors import BadInput


def add_to(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(collect)
    app.command()(runs)


def collect(
    env: Env,
    policy: PolicyName,
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory of the store; going on in one is fine.")],
    split: Annotated[str | None, typer.Option(help="Split of the tasks; the training split without this.")] = None,
    tasks: Tasks = None,
    samples: Annotated[int, typer.Option(help="Episodes a task.")] = 1,
    sandbox: Sandbox = None,
    settings: Settings = None,
    window: Window = None,
    style: Style = None,
    actions: Listed = 0,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 1.0,
    strategy: StrategyName = None,
    calls: Calls = None,
    max_tokens: MaxTokens = None,
    constrain: Constrain = False,
    concurrency: Concurrency = 16,
    max_fault_rate: Annotated[float, typer.Option(help="Share of episodes that may be given up.")] = 0.2,
    seed: Seed = 0,
    load: Load = None,
    ray: RayAddress = None,
    replicas: Replicas = 0,
    replica_gpus: ReplicaGpus = 0.0,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> int:
    """Make an episode from every task and store it. The same command again goes on where it stopped.

    Example: `palaestra collect bandit --policy oracle:ucb --tasks 50 --out runs/ucb`.
    """
    from palaestra.trainers.evaluate import choose_tasks
    from palaestra.trainers.live import watched

    load_environments(load)
    spec = find(env)
    conversation = conversation_of(window, style or spec.style, actions)
    env_settings = with_sandbox(spec, parse_settings(settings), sandbox)
    _check_shares(samples, concurrency, max_fault_rate)
    made = make(env, **env_settings)
    try:
        name = split or made.splits()[0]
        chosen = choose_tasks(made.tasks(name), parse_tasks(tasks), f"split {name!r} of {spec.id}")
        tokens = spec.answer_tokens if max_tokens is None else max_tokens
        if dry_run:
            asked = ("rollouts", "collect", (strategy, calls))
            show_plan(plan_episodes(made, chosen, policy, out, samples, conversation, tokens, *asked), as_json)
            return 0
    finally:
        made.close()
    sampling = sampling_of(temperature, tokens, seed)
    make_policy = PolicyMaker(policy, spec.id, load, sampling, constrain, (strategy, calls), env_settings, concurrency)
    cluster = cluster_of(ray, replicas, replica_gpus, make_policy)
    # The cluster is joined before a model is loaded, or a server started for it; the store comes last.
    with joined(cluster), nullcontext(make_policy()) as acting, EpisodeStore(new_store(out)) as store:
        report = run_collect(
            chosen,
            acting,
            store,
            samples=samples,
            env_settings=env_settings,
            conversation=conversation,
            concurrency=concurrency,
            max_fault_rate=max_fault_rate,
            progress=watched(store.file, shown(quiet, as_json)),
            seed=seed,
            cluster=cluster,
        )
        facts: dict[str, Any] = {**asdict(report), "success_rate": report.success_rate, "store": str(store.file)}
    if as_json:
        tell(facts)
        return 1 if report.given_up else 0
    share = (
        f" ({report.success_rate:.1%} {'judged ' if report.judged else ''}successes)"
        if report.success_rate is not None
        else ""
    )
    print(f"{report.episodes} episodes{share}, {report.skipped} were there, {report.faults} faults")
    if report.given_up:
        print(plain(f"{report.given_up} could not be made; see `palaestra show {shlex.quote(str(out))} --faults`"))
    print(plain(f"look at them: palaestra show {shlex.quote(str(out))}"))
    return 1 if report.given_up else 0


def _check_shares(samples: int, concurrency: int, max_fault_rate: float) -> None:
    """Refuse what `collect` would refuse, before a store is made for it."""
    for option, value, least in (("--samples", samples, 1), ("--concurrency", concurrency, 1)):
        if value < least:
            raise BadInput(f"{option} must be at least {least}, got {value}")
    if not 0 <= max_fault_rate <= 1:
        raise BadInput(f"--max-fault-rate is a share between 0 and 1, got {max_fault_rate}")


def runs(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the runs in a folder with their state and newest figures."""
    rows = [_run_row(path) for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []
    rows = [row for row in rows if row]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        print(plain(f"no runs in {folder}; `palaestra train rft --help` starts one"))
        return
    table = Table(box=None, header_style="bold")
    for column in ("run", "method", "env", "model", "episodes", "state", "success"):
        table.add_column(column, overflow="fold")
    for row in rows:
        success = f"{row['success']:.1%}" if row["success"] is not None else "-"
        cells = (row["run"], row["method"], row["env"], row["model"], row["episodes"], row["state"], success)
        table.add_row(*(Text(plain(str(cell))) for cell in cells))
    screen().print(table)


def _run_row(path: Path) -> dict[str, Any]:
    from palaestra.trainers.report import rounds
    from palaestra.trainers.rundir import read_run

    store = path / STORE
    has_run = (path / "run.json").is_file()
    if not has_run and not store.is_file():
        return {}
    row: dict[str, Any] = {"run": str(path), "method": "collect", "env": "-", "model": "-", "state": "-"}
    row |= {"success": None, "episodes": 0}
    try:
        if store.is_file():
            with EpisodeStore(store, mode="r") as forest:
                row["episodes"] = forest.count()
        if has_run:
            record = read_run(path)
            done = rounds(path)
            config = record.get("config", {})
            row |= {
                "method": record.get("recipe", "?"),
                "env": config.get("env", "?"),
                "model": config.get("model", "?"),
            }
            row["state"] = "finished" if (path / "report.html").is_file() else f"{len(done)} rounds done"
            row["success"] = done[-1].evaluation.success.mean if done else None
    except BadInput as error:
        row["state"] = f"unreadable: {error}"
    return row

"""`palaestra collect | runs | show | export | import`: make episodes, and look at those that are there."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from palaestra.agents import episode as episodes
from palaestra.agents.collect import collect as run_collect
from palaestra.agents.forest import Forest
from palaestra.agents.policies.named import policy_by_name
from palaestra.agents.store import EpisodeStore
from palaestra.cli.environments import Env
from palaestra.cli.options import (
    Concurrency,
    Constrain,
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
    with_sandbox,
)
from palaestra.envs import Task, TextEnv, find, make
from palaestra.envs.errors import BadInput

STORE = "episodes.sqlite"
Where = Annotated[Path, typer.Argument(help="A run directory or an episode store.")]


def add_to(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(collect)
    app.command()(runs)
    app.command()(show)
    app.command()(export)
    app.command(name="import")(import_)


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
    max_tokens: MaxTokens = None,
    constrain: Constrain = False,
    concurrency: Concurrency = 16,
    max_fault_rate: Annotated[float, typer.Option(help="Share of episodes that may be given up.")] = 0.2,
    seed: Seed = 0,
    load: Load = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Make an episode from every task and store it. The same command again goes on where it stopped.

    Example: `palaestra collect bandit --policy oracle:ucb --tasks 50 --out runs/ucb`.
    """
    from palaestra.trainers.evaluate import choose_tasks

    load_environments(load)
    spec = find(env)
    conversation = conversation_of(window, style or spec.style, actions)
    env_settings = with_sandbox(spec, parse_settings(settings), sandbox)
    _check_shares(samples, concurrency, max_fault_rate)
    made = make(env, **env_settings)
    try:
        name = split or made.splits()[0]
        chosen = choose_tasks(made.tasks(name), parse_tasks(tasks), f"split {name!r} of {spec.id}")
    finally:
        made.close()
    tokens = spec.answer_tokens if max_tokens is None else max_tokens
    acting = policy_by_name(policy, spec, sampling_of(temperature, tokens, seed), constrain=constrain)
    with EpisodeStore(_new_store(out)) as store:
        report = run_collect(
            chosen,
            acting,
            store,
            samples=samples,
            env_settings=env_settings,
            conversation=conversation,
            concurrency=concurrency,
            max_fault_rate=max_fault_rate,
            progress=shown(quiet, as_json),
            seed=seed,
        )
        facts: dict[str, Any] = {**asdict(report), "success_rate": report.success_rate, "store": str(store.file)}
    if as_json:
        print(json.dumps(facts))
        return 1 if report.given_up else 0
    share = f" ({report.success_rate:.1%} successes)" if report.success_rate is not None else ""
    print(f"{report.episodes} episodes{share}, {report.skipped} were there, {report.faults} faults")
    if report.given_up:
        print(f"{report.given_up} could not be made; see `palaestra show {shlex.quote(str(out))} --faults`")
    print(f"look at them: palaestra show {shlex.quote(str(out))}")
    return 1 if report.given_up else 0


def _check_shares(samples: int, concurrency: int, max_fault_rate: float) -> None:
    """Refuse what `collect` would refuse, before a store is made for it."""
    for option, value, least in (("--samples", samples, 1), ("--concurrency", concurrency, 1)):
        if value < least:
            raise BadInput(f"{option} must be at least {least}, got {value}")
    if not 0 <= max_fault_rate <= 1:
        raise BadInput(f"--max-fault-rate is a share between 0 and 1, got {max_fault_rate}")


def _new_store(out: Path) -> Path:
    if out.is_file():
        return out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot create {out}: {error.strerror}; choose another --out") from error
    return out / STORE


def _store(where: Path) -> Path:
    path = where / STORE if where.is_dir() else where
    if not path.is_file():
        raise BadInput(f"{where} is neither a run directory nor an episode store; `palaestra runs` lists the runs")
    return path


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
        print(f"no runs in {folder}; `palaestra train rft --help` starts one")
        return
    table = Table(box=None, header_style="bold")
    for column in ("run", "method", "env", "model", "episodes", "state", "success"):
        table.add_column(column, overflow="fold")
    for row in rows:
        success = f"{row['success']:.1%}" if row["success"] is not None else "-"
        cells = (row["run"], row["method"], row["env"], row["model"], row["episodes"], row["state"], success)
        table.add_row(*(escape(str(cell)) for cell in cells))
    Console().print(table)


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


def show(
    where: Where,
    episode: Annotated[str | None, typer.Argument(help="Id of an episode, or its first digits.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only these: success, failure, truncated.")] = None,
    task: Annotated[str | None, typer.Option(help="Only of this task (its id).")] = None,
    faults: Annotated[bool, typer.Option("--faults", help="The faults with their tracebacks instead.")] = False,
    limit: Annotated[int, typer.Option(help="Rows at the most.")] = 20,
    as_json: Json = False,
) -> None:
    """Show a run: its episodes in a list, or one of them turn by turn.

    Example: `palaestra show runs/rft --outcome success`, then `palaestra show runs/rft 3f9a`.
    """
    with EpisodeStore(_store(where), mode="r") as forest:
        if episode is not None:
            _show_path(forest.path(_full_id(forest, episode)), as_json)
        elif faults:
            _show_faults(forest, limit, as_json)
        else:
            _show_list(forest, outcome, task, limit, as_json)


def _outcome(name: str | None) -> episodes.Outcome | None:
    if name is None:
        return None
    if name not in set(episodes.Outcome):
        raise BadInput(f"--outcome {name!r} is unknown; there are: {', '.join(episodes.Outcome)}")
    return episodes.Outcome(name)


def _filters(**given: Any) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def _full_id(forest: Forest, start: str) -> str:
    found = [head.id for head in forest.heads() if head.id.startswith(start)]
    if len(found) != 1:
        problem = "no episode" if not found else f"{len(found)} episodes"
        raise BadInput(f"{forest.file} holds {problem} whose id begins with {start!r}; `palaestra show` lists them")
    return found[0]


def _show_list(forest: Forest, outcome: str | None, task: str | None, limit: int, as_json: bool) -> None:
    where = _filters(outcome=_outcome(outcome), task=task)
    heads = list(forest.heads(limit=limit, **where))
    if as_json:
        print(json.dumps({"summary": asdict(forest.summary(**where)), "episodes": [asdict(head) for head in heads]}))
        return
    table = Table(box=None, header_style="bold")
    for column in ("id", "task", "outcome", "score", "turns", "who", "round"):
        table.add_column(column, overflow="fold")
    for head in heads:
        iteration = "-" if head.iteration is None else str(head.iteration)
        cells = (head.id, head.task, head.outcome, f"{head.score:.2f}", head.n_turns, head.policy, iteration)
        table.add_row(*(escape(str(cell)) for cell in cells))
    console = Console()
    console.print(table)
    total = forest.count(**where)
    console.print(f"{len(heads)} of {total} episodes; {forest.n_faults} faults")


def _show_faults(forest: Forest, limit: int, as_json: bool) -> None:
    found = [fault for fault, _ in zip(forest.faults(), range(limit), strict=False)]
    if as_json:
        print(json.dumps([fault.model_dump(mode="json", exclude={"turns"}) for fault in found]))
        return
    for fault in found:
        print(f"{fault.outcome} in {fault.start.task.id} after {len(fault.turns)} turns\n{fault.error or ''}\n")
    print(f"{len(found)} of {forest.n_faults} faults")


def _show_path(path: episodes.Path, as_json: bool) -> None:
    if as_json:
        print(path.model_dump_json())
        return
    console = Console()
    by = path.episode.provenance
    console.print(f"[bold]{escape(path.episode.start.task.id)}[/]  {escape(by.policy)} ({by.actor})")
    for step, turn in enumerate(path.turns):
        if step == path.own and step:
            console.rule(f"forked from {path.episode.start.parent} after {step} actions")
        console.print(f"[dim]{step}[/] {escape(turn.observation)}")
        if turn.thought:
            console.print(f"  [italic]{escape(turn.thought)}[/]")
        mark = "" if turn.valid else " [red](not understood)[/]"
        console.print(f"  [bold cyan]> {escape(turn.action)}[/]{mark}  [dim]{turn.reward:+.2f}, {turn.score:.2f}[/]")
    console.print(f"[dim]{len(path.turns)}[/] {escape(path.episode.final_observation)}")
    console.print(f"[bold]{path.episode.outcome}[/], score {path.episode.score:.2f}")
    if path.episode.error:
        print(path.episode.error, file=sys.stderr)


def export(
    where: Where,
    file: Annotated[Path, typer.Argument(help="*.parquet or *.jsonl; chat records always *.jsonl.")],
    form: Annotated[str, typer.Option(help="episodes (lossless), messages, eto or agentgym.")] = "episodes",
    outcome: Annotated[str | None, typer.Option(help="Only these: success, failure, truncated.")] = None,
    style: Style = None,
    load: Load = None,
) -> None:
    """Write episodes to a file: lossless, or as the chat records that others train on."""
    from palaestra.agents import export as exporting

    load_environments(load)
    with EpisodeStore(_store(where), mode="r") as forest:
        chosen = _filters(outcome=_outcome(outcome))
        if form == "episodes":
            count = exporting.export_episodes(forest, file, **chosen)
        else:
            conversation = conversation_of(None, style or "action", 0)
            told = _Instructions(forest)
            count = exporting.export_chats(
                forest, file, form=form, conversation=conversation, instructions=told, **chosen
            )
    print(f"{count} episodes in {file}")


class _Instructions:
    """What the environments told the agents, made with the settings that the store's episodes were made with."""

    def __init__(self, forest: EpisodeStore) -> None:
        self._forest = forest
        self._made: dict[str, TextEnv[Any]] = {}

    def __call__(self, task: Task) -> str:
        if task.env not in self._made:
            settings = [episode.provenance.env_settings for episode in self._forest.episodes(env=task.env)]
            if any(other != settings[0] for other in settings):
                raise BadInput(f"{self._forest.file} holds episodes of {task.env} made with different settings")
            self._made[task.env] = make(task.env, **settings[0])
        return self._made[task.env].instructions(task)


def import_(
    file: Annotated[Path, typer.Argument(help="A file that `palaestra export` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory of the store they go to.")],
) -> None:
    """Read episodes from Parquet or JSON lines into a store. A file with one bad line changes nothing."""
    from palaestra.agents.export import import_episodes, read_episodes

    if not file.is_file():
        raise BadInput(f"{file} does not exist; give a file that `palaestra export` wrote")
    for _ in read_episodes(file):  # what is wrong shows before a store is made
        pass
    with EpisodeStore(_new_store(out)) as store:
        print(f"{import_episodes(store, file)} episodes added to {store.file}")

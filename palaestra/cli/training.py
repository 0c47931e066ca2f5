"""`palaestra train | eval | demo`: train an agent on its own episodes, and measure it on held-out tasks."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markdown import Markdown

from palaestra.agents.counted import Fits
from palaestra.agents.plain import plain
from palaestra.agents.policies.named import flaws, model_name
from palaestra.agents.ray_cluster import RayCluster
from palaestra.agents.store import EpisodeStore
from palaestra.agents.typical import near, typical
from palaestra.cli.beside import Beside
from palaestra.cli.clusters import PolicyMaker, RayAddress, ReplicaGpus, Replicas, cluster_of, joined
from palaestra.cli.environments import Env
from palaestra.cli.options import (
    Concurrency,
    Constrain,
    Events,
    Listed,
    Load,
    MaxTokens,
    PolicyName,
    Quiet,
    Resume,
    Sandbox,
    Seed,
    Settings,
    Style,
    Tasks,
    Window,
    conversation_of,
    load_environments,
    must_go_on,
    parse_settings,
    parse_tasks,
    sampling_of,
    shown,
    tell,
    with_sandbox,
)
from palaestra.cli.planning import DryRun, plan_episodes, show_plan
from palaestra.cli.printed import screen
from palaestra.cli.strategies import Calls, StrategyName, usual_temperature
from palaestra.envs import EnvSpec, find, make
from palaestra.envs.errors import BadInput
from palaestra.trainers.config import config_of
from palaestra.trainers.estimate import of_recipe
from palaestra.trainers.recipe import Recipe
from palaestra.trainers.rft import RFT
from palaestra.worldmodel.methods import METHODS

Out = Annotated[Path | None, typer.Option("--out", "-o", help="Run directory; going on in one is fine.")]
Budget = Annotated[int | None, typer.Option(help="Rollouts in all.")]


def add_to(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(train)
    app.command(name="eval")(evaluate)
    app.command()(demo)


def train(
    method: Annotated[str, typer.Argument(help=f"One of: {', '.join(METHODS)}.")],
    env: Annotated[str | None, typer.Option(help="Environment id or short name.")] = None,
    model: Annotated[str | None, typer.Option(help="Start model: short name, folder or hub id.")] = None,
    experts: Annotated[
        str | None, typer.Option(help="oracle[:NAME], flawed:SLIP, openai:MODEL@URL, or a file of recorded episodes.")
    ] = None,
    budget: Budget = None,
    tasks: Tasks = None,
    sandbox: Sandbox = None,
    config: Annotated[Path | None, typer.Option(help="JSON or TOML file with the configuration.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Any configuration key: objective.epochs=2. Comes last.")
    ] = None,
    out: Out = None,
    concurrency: Concurrency = 16,
    seed: Annotated[int | None, typer.Option(help="All randomness follows from it.")] = None,
    load: Load = None,
    ray: RayAddress = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> None:
    """Train an agent on its own episodes. The same command again goes on where it stopped, with `--resume` or without.

    Every task of the split is used unless --tasks says how many. Example:

    `palaestra train rft --env bandit --model tiny --experts oracle --tasks 20 --budget 40 --set evaluation.tasks=10`
    """
    load_environments(load)
    if method not in METHODS:
        raise BadInput(f"unknown method {method!r}; there are: {', '.join(METHODS)}")
    settings = read_settings(config) if config else {}
    given = {"env": env, "model": model, "budget": budget, "tasks": parse_tasks(tasks), "seed": seed}
    settings |= {key: value for key, value in given.items() if value is not None}
    if experts is not None:
        settings["experts"] = experts_of(experts)
    change_settings(settings, change)
    spec = complete(settings, sandbox)
    where = out or Path("runs") / f"{method}-{spec.family}"
    must_go_on(resume, where, "run.json")
    if dry_run:
        plan_method(METHODS[method], settings, where, as_json)
        return
    shared: dict[str, Any] = {"concurrency": concurrency, "ray": cluster_of(ray)}
    run_method(METHODS[method], settings, where, quiet=quiet, as_json=as_json, **shared)


def complete(settings: dict[str, Any], sandbox: str | None) -> EnvSpec:
    """Add to a recipe's settings what its environment asks for and nobody said. Raises BadInput."""
    if "env" not in settings:
        raise BadInput("which environment? give --env; `palaestra envs` lists them")
    for key in ("env", "model"):
        if key in settings and not isinstance(settings[key], str):
            raise BadInput(f"configuration key {key!r} is a text, got {settings[key]!r}")
    spec = find(settings["env"])
    if sandbox is not None:
        inside = settings.get("env_settings", {})
        if not isinstance(inside, dict):
            raise BadInput(f"configuration key 'env_settings' is a group of keys, got {inside!r}")
        settings["env_settings"] = with_sandbox(spec, dict(inside), sandbox)
    if spec.style != "action":  # where an action has several lines, its first one is no answer
        for group, key, usual in (
            ("conversation", "style", spec.style),
            ("sampling", "max_tokens", spec.answer_tokens),
        ):
            if isinstance(settings.setdefault(group, {}), dict):
                settings[group].setdefault(key, usual)
    if "model" in settings:
        settings["model"] = model_name(settings["model"], spec)
    return spec


def plan_method(kind: type[Recipe[Any]], settings: dict[str, Any], out: Path, as_json: bool) -> None:
    """Say what a recipe would do and cost. Raises BadInput."""
    recipe = kind(config_of(kind.config_type, settings), out)
    try:
        show_plan(of_recipe(recipe, typical(near(out), recipe.spec.id)), as_json)
    finally:
        recipe.env.close()


def run_method(
    kind: type[Recipe[Any]],
    settings: dict[str, Any],
    out: Path,
    *,
    concurrency: int,
    quiet: bool,
    as_json: bool,
    ray: RayCluster | None = None,
) -> None:
    """Run a recipe with bars, then print its report. Raises BadInput."""
    from palaestra.agents.models import need_train

    need_train()
    progress = shown(quiet, as_json)
    recipe = kind(
        config_of(kind.config_type, settings),
        out,
        concurrency=concurrency,
        progress=progress,
        command=shlex.join(["palaestra", *sys.argv[1:]]),
        ray=ray,
    )
    with Fits(progress) as fits:
        recipe.fitting = fits.step
        report = recipe.train()
    table = report.with_suffix(".md")
    if as_json:
        tell({"run": str(out), "report": str(report.resolve()), "table": str(table.resolve())})
        return
    console = screen()
    console.print(Markdown(table.read_text().split("\n## ", 1)[0]))
    console.print(plain(f"report: {report.resolve()}"), soft_wrap=True)


def experts_of(text: str) -> dict[str, Any]:
    """Read `--experts`. Raises BadInput."""
    kind, _, rest = text.partition(":")
    if kind == "oracle":
        return {"oracle": rest or "default"}
    if kind == "flawed":
        slip, oracle = flaws(rest, text)
        return {"oracle": oracle or "default", "slip": slip}
    if kind == "openai":
        return {"policy": text}
    if not Path(text).is_file():
        raise BadInput(
            f"--experts {text!r} is neither 'oracle' nor 'flawed:SLIP' nor 'openai:MODEL@URL' nor a file that exists"
        )
    return {"file": text}


def read_settings(file: Path) -> dict[str, Any]:
    """Read a configuration file, JSON or TOML. Raises BadInput."""
    import tomllib

    try:
        text = file.read_text(encoding="utf-8")
        read: Any = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise BadInput(f"configuration {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadInput(f"configuration {file} cannot be parsed: {error}") from error
    if not isinstance(read, dict):
        raise BadInput(f"configuration {file} is not an object of keys and values")
    return read


def change_settings(settings: dict[str, Any], pairs: list[str] | None) -> None:
    """Set the keys of `--set`, nested ones too (`objective.epochs=2`). Raises BadInput."""
    for key, value in parse_settings(pairs).items():
        _put(settings, key, value)


def _put(settings: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    here = settings
    for name in parents:
        inner = here.setdefault(name, {})
        if not isinstance(inner, dict):
            raise BadInput(f"--set {dotted}: {name!r} is not a group of keys")
        here = inner
    here[last] = value


def evaluate(
    env: Env,
    policy: PolicyName,
    split: Annotated[
        str | None, typer.Option(help="A held-out split, never the training split; without this the test split.")
    ] = None,
    tasks: Tasks = None,
    samples: Annotated[int, typer.Option(help="Episodes a task.")] = 1,
    improve: Annotated[int, typer.Option(min=0, help="Ask so often to improve on each episode.")] = 0,
    recall: Annotated[
        int | None, typer.Option(min=1, help="Turns of the latest attempt that --improve shows; without this 8.")
    ] = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            help="A run, or what eval wrote, of a start model: success by difficulty, recovery from failures."
        ),
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="A named evaluation protocol of the environment.")] = None,
    sandbox: Sandbox = None,
    settings: Settings = None,
    out: Out = None,
    window: Window = None,
    style: Style = None,
    actions: Listed = 0,
    temperature: Annotated[
        float | None, typer.Option(help="0 is greedy, as without this; with a strategy it is 1 without this.")
    ] = None,
    strategy: StrategyName = None,
    calls: Calls = None,
    max_tokens: MaxTokens = None,
    constrain: Constrain = False,
    concurrency: Concurrency = 16,
    seed: Seed = 0,
    load: Load = None,
    ray: RayAddress = None,
    replicas: Replicas = 0,
    replica_gpus: ReplicaGpus = 0.0,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> None:
    """Measure a policy on held-out tasks: success and score with 95 % intervals, by task, and the evaluation card.

    Examples: `palaestra eval scienceworld --policy oracle --protocol agentgym --tasks 30`,
    `palaestra eval code/humaneval --policy smollm2-135m --sandbox bwrap --tasks 10`,
    `palaestra eval crafting --policy runs/rft-crafting --strategy best-of-n --calls 8`.
    """
    from palaestra.trainers.evaluate import choose_tasks, held_out, usual_split, with_protocol
    from palaestra.trainers.evaluate import evaluate as run_evaluation
    from palaestra.trainers.live import watched
    from palaestra.trainers.report_eval import write_evaluation
    from palaestra.trainers.rundir import write_whole
    from palaestra.trainers.self_iteration import RECALLED

    load_environments(load)
    spec = find(env)
    start = Beside.read(beside) if beside is not None else None
    conversation = conversation_of(window, style or spec.style, actions)
    env_settings = with_sandbox(spec, parse_settings(settings), sandbox)
    made = make(env, **with_protocol(spec, env_settings, protocol))
    try:
        wanted = parse_tasks(tasks)
        split = split or usual_split(made)
        chosen = choose_tasks(held_out(spec, made, split), wanted, f"split {split!r} of {spec.id}")
        tokens = spec.answer_tokens if max_tokens is None else max_tokens
        if recall is not None and not improve:
            raise BadInput("--recall says how many turns of an attempt --improve shows; give --improve, too")
        where = out or Path("runs") / f"eval-{spec.short}"
        if dry_run:
            asked = ("held-out episodes", "evaluate", (strategy, calls))
            each = samples * (1 + improve)
            show_plan(plan_episodes(made, chosen, policy, where, each, conversation, tokens, *asked), as_json)
            return
    finally:
        made.close()
    warmth = usual_temperature(strategy) if temperature is None else temperature
    sampling = sampling_of(warmth, tokens, seed)
    told = with_protocol(spec, env_settings, protocol)
    make_policy = PolicyMaker(policy, spec.id, load, sampling, constrain, (strategy, calls), told, concurrency)
    cluster = cluster_of(ray, replicas, replica_gpus, make_policy)
    if where.is_file():
        raise BadInput(f"--out {where} is a file; choose a directory")
    # The cluster is joined before a model is loaded, or a server started for it; the store comes last.
    with joined(cluster), nullcontext(make_policy()) as acting, EpisodeStore(where / "episodes.sqlite") as store:
        progress = watched(store.file, shown(quiet, as_json))
        result = run_evaluation(
            env,
            acting,
            store,
            split=split,
            tasks=wanted,
            samples=samples,
            improve=improve,
            recall=recall or RECALLED,
            protocol=protocol,
            env_settings=env_settings,
            conversation=conversation,
            seed=seed,
            concurrency=concurrency,
            progress=progress,
            command=shlex.join(["palaestra", *sys.argv[1:]]),
            ray=cluster,
        )
        bins = start.bins(result) if start is not None else {}
        recovered = None
        if start is not None:
            recovered = start.recovery(
                acting,
                store,
                env_settings=told,
                ray=cluster,
                conversation=conversation,
                seed=seed,
                concurrency=concurrency,
                progress=progress,
            )
    if recovered is not None:
        write_whole(where / "recovery.json", recovered.model_dump_json(indent=2).encode())
    write_whole(where / "evaluation.json", result.model_dump_json(indent=2).encode())
    write_whole(where / "card.md", result.card.markdown().encode())
    report = write_evaluation(where, result, bins=bins, recovery=recovered)
    if as_json:
        tell({**result.model_dump(mode="json"), "report": str(report.resolve())})
        return
    console = screen()
    console.print(Markdown(result.card.markdown(names=12)))
    console.print(f"success {result.success.text(percent=True)}   score {result.score.text()}")
    console.print(f"{result.episodes} episodes, {result.missing} missing, {result.steps:.1f} actions an episode")
    for at in result.improved:
        change = f"   change {at.change.text()}" if at.k else ""
        console.print(f"  after {at.k} improvements: score {at.score.text()}{change}")
    for name, found in bins.items():
        console.print(f"  solved {name} by the start model ({found.clusters} tasks): {found.text(percent=True)}")
    if recovered is not None and recovered.success is not None:
        console.print(f"  recovery from {recovered.failures} of its failures: {recovered.success.text(percent=True)}")
    by_type: dict[str, list[bool]] = {}
    for row in result.tasks:
        by_type.setdefault(row.type, []).extend(row.successes)
    for name, wins in by_type.items():
        console.print(plain(f"  {name}: {sum(wins)} of {len(wins)}"))
    console.print(plain(f"report: {report.resolve()}"), soft_wrap=True)


def demo(
    budget: Budget = None,
    out: Out = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> None:
    """The main job: RFT on ScienceWorld with SmolLM2-135M, on a CPU in about a quarter of an hour.

    The agent clones a few expert episodes, collects episodes of its own on the training variations, learns from those
    that succeeded, and is measured on held-out variations before and after. `--budget` is the number of rollouts.
    """
    from palaestra.cli.demo import demo_settings

    settings = demo_settings(budget, seed)
    where = out or Path("runs") / f"demo-{settings['budget']}-{seed}"
    if dry_run:
        plan_method(RFT, settings, where, as_json)
        return
    run_method(RFT, settings, where, concurrency=8, quiet=quiet, as_json=as_json)

"""`palaestra worldmodel train | eval | act`: learn what an environment does, measure how well, look ahead with it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markdown import Markdown

from palaestra.agents.counted import Fits
from palaestra.agents.plain import plain
from palaestra.agents.policies.named import model_name, policy_by_name
from palaestra.agents.store import EpisodeStore
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
)
from palaestra.cli.planning import DryRun, plan_episodes, show_plan
from palaestra.cli.printed import screen
from palaestra.cli.training import change_settings, read_settings
from palaestra.envs import find, make
from palaestra.envs.errors import BadInput
from palaestra.trainers.config import config_of

if TYPE_CHECKING:
    from palaestra.worldmodel.fidelity import Fidelity

app = typer.Typer(no_args_is_help=True, help="Learn what an environment does, measure it, look ahead with it.")

World = Annotated[str, typer.Argument(help="A world model: the run directory of `train`, or its model folder.")]
Store = Annotated[str, typer.Option("--store", help="A run directory or an episode store with real episodes.")]


def add_to(main: typer.Typer) -> None:
    """Register this file's commands."""
    main.add_typer(app, name="worldmodel")


@app.command()
def train(
    env: Annotated[str, typer.Option(help="Environment id or short name.")],
    store: Store,
    model: Annotated[str, typer.Option(help="Start model: short name, folder or hub id.")] = "smollm2-135m",
    config: Annotated[Path | None, typer.Option(help="JSON or TOML file with the configuration.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Any configuration key: objective.epochs=2. Comes last.")
    ] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run directory; going on in one is fine.")] = None,
    seed: Seed = 0,
    load: Load = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> None:
    """Train a world model on the real episodes of a store, failed ones too, and measure it on tasks set aside.

    Example: `palaestra worldmodel train --env crafting --model tiny --store runs/rft-crafting --set page.history=4`
    """
    from palaestra.agents.models import need_train
    from palaestra.trainers.rundir import read_record
    from palaestra.worldmodel.estimate import of_training
    from palaestra.worldmodel.report import write_report
    from palaestra.worldmodel.training import Learnt, TrainConfig, train_world

    load_environments(load)
    spec = find(env)
    given: dict[str, Any] = read_settings(config) if config else {}
    given |= {"env": spec.id, "env_settings": parse_settings(settings), "store": store, "seed": seed}
    given["model"] = model_name(model, spec)
    change_settings(given, change)
    where = out or Path("runs") / f"world-{spec.short}"
    if dry_run:
        show_plan(of_training(config_of(TrainConfig, given), where), as_json)
        return
    need_train()
    progress = shown(quiet, as_json)
    with Fits(progress) as fits:
        report = train_world(
            config_of(TrainConfig, given),
            where,
            command=shlex.join(["palaestra", *sys.argv[1:]]),
            fitting=fits.step,
            progress=progress,
        )
    page = write_report(where, report).resolve()
    elsewhere = read_record(where / "fit.json", Learnt).elsewhere
    if as_json:
        measured = report.model_dump(mode="json") if report else None
        tell({"run": str(where), "report": str(page), "fidelity": measured, "elsewhere": elsewhere})
        return
    console = screen()
    console.print(
        Markdown(report.markdown())
        if report
        else "no task was set aside, so nothing was measured; see `worldmodel eval`"
    )
    console.print(plain(f"{_left_out(elsewhere)}world model: {(where / 'model').resolve()}"), soft_wrap=True)
    console.print(plain(f"report: {page}"), soft_wrap=True)


@app.command(name="eval")
def evaluate(
    world: World,
    store: Store,
    horizons: Annotated[int, typer.Option(help="Imagined steps from each origin.")] = 5,
    origins: Annotated[int, typer.Option(help="Steps of each episode to imagine from.")] = 4,
    trust: Annotated[float, typer.Option(help="Least similarity of a trusted step, in [0, 1].")] = 0.5,
    episodes: Annotated[int | None, typer.Option(help="So many episodes at the most, drawn by the seed.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Save the trusted horizon also in place of one that was measured before.")
    ] = False,
    seed: Seed = 0,
    load: Load = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> None:
    """Measure a world model on real episodes of tasks that it did not learn from, by number of imagined steps.

    The trusted horizon follows from the training tasks among them alone. A world model that has none yet keeps it.

    Example: `palaestra worldmodel eval runs/world-crafting --store runs/eval-crafting`
    """
    from palaestra.trainers.evaluate import training_splits
    from palaestra.worldmodel.estimate import of_measuring
    from palaestra.worldmodel.fidelity import fidelity
    from palaestra.worldmodel.loading import load_world, read_card, world_folder
    from palaestra.worldmodel.training import held_out_episodes, store_file
    from palaestra.worldmodel.transitions import drawn, played_with

    load_environments(load)
    card = read_card(world_folder(world))
    if horizons < 1 or origins < 1 or (episodes is not None and episodes < 1) or not 0 <= trust <= 1:
        raise BadInput("--horizons, --origins and --episodes are at least 1, --trust lies between 0 and 1")
    if dry_run:
        show_plan(of_measuring(world, card, store, horizons=horizons, origins=origins, episodes=episodes), as_json)
        return
    made = make(card.env, **card.env_settings)
    try:
        with EpisodeStore(store_file(store), mode="r") as opened:
            here, elsewhere = played_with(opened, card.env, made.splits(), card.env_settings)
            found = held_out_episodes(opened, made, card, card.page, episodes=here)
        if not found:
            raise BadInput(f"{store} holds no real episode of {card.env} in a task that {world} did not learn from")
        found = sorted(found, key=lambda steps: drawn(seed, steps[0].episode))[:episodes]
        tasks, splits = [steps[0].task for steps in found], training_splits(made)
        report = fidelity(
            load_world(world),
            found,
            {task.id: made.instructions(task) for task in tasks},
            env=card.env,
            env_fingerprint=made.fingerprint(),
            horizons=horizons,
            origins=origins,
            trust=trust,
            deciding={task.id for task in tasks if task.split in splits},
            seed=seed,
            progress=shown(quiet, as_json),
        )
    finally:
        made.close()
    saved, why = _save_horizon(world_folder(world), report, replace)
    if as_json:
        tell({**report.model_dump(mode="json"), "saved": saved, "elsewhere": elsewhere})
        return
    console = screen()
    console.print(Markdown(report.markdown()))
    console.print(plain(_left_out(elsewhere) + why), soft_wrap=True)


def _left_out(elsewhere: int) -> str:
    """A line for episodes of other settings, if there are any."""
    told = f"{elsewhere:,} episodes are" if elsewhere != 1 else "1 episode is"
    return f"{told} left out: played with other settings of the environment\n" if elsewhere else ""


def _save_horizon(model: Path, report: Fidelity, replace: bool) -> tuple[bool, str]:
    """Leave the trusted horizon beside the weights, for who imagines with them and says no number of steps.

    Returns:
        Whether it was saved, and what to tell.
    """
    from palaestra.trainers.rundir import read_record, write_whole
    from palaestra.worldmodel.fidelity import Fidelity
    from palaestra.worldmodel.loading import FIDELITY

    file = model / FIDELITY
    if report.trusted is None:
        return (
            False,
            "no trusted horizon is saved: measure it on training tasks that the world model did not learn from",
        )
    if file.is_file() and not replace:
        had = read_record(file, Fidelity).trusted
        return False, f"the world model keeps the trusted horizon that it has, {had} steps; --replace saves this one"
    write_whole(file, report.model_dump_json(indent=2).encode())
    return True, f"trusted horizon saved: {file}"


@app.command()
def act(
    env: Env,
    policy: PolicyName,
    world: Annotated[
        str, typer.Option(help="A world model's folder, or `real`: the environment itself, by rewinding.")
    ],
    depth: Annotated[int | None, typer.Option(help="Imagined steps; as far as it is trusted without this.")] = None,
    candidates: Annotated[int, typer.Option(help="Answers to choose from.")] = 3,
    after: Annotated[int, typer.Option(help="Steps of an episode that are taken without thinking.")] = 2,
    propose: Annotated[
        str, typer.Option(help="`sampled`: the answers are drawn at once; `asked`: each with words to differ.")
    ] = "sampled",
    judge: Annotated[
        str | None, typer.Option(help="A world model's folder; with `--world real` the true score without this.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="A held-out split; without this the test split.")] = None,
    tasks: Tasks = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Directory; going on in one is fine.")] = None,
    window: Window = None,
    style: Style = None,
    actions: Listed = 0,
    temperature: Annotated[float, typer.Option(help="Of the policy; the candidates must differ.")] = 1.0,
    max_tokens: MaxTokens = None,
    constrain: Constrain = False,
    concurrency: Concurrency = 16,
    seed: Seed = 0,
    load: Load = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> None:
    """Measure a policy that looks ahead, on held-out tasks of the real environment.

    Examples: `palaestra worldmodel act crafting -p runs/rft-crafting --world runs/world-crafting --depth 2`,
    `palaestra worldmodel act crafting -p runs/rft-crafting --world real --depth 2` for the upper limit.
    """
    from palaestra.trainers.evaluate import choose_tasks, held_out, usual_split
    from palaestra.trainers.evaluate import evaluate as run_evaluation
    from palaestra.trainers.live import watched
    from palaestra.trainers.report_eval import write_evaluation
    from palaestra.trainers.rundir import write_whole
    from palaestra.worldmodel.loading import card_of, judging_card, load_world
    from palaestra.worldmodel.lookahead import LookAhead, LookAheadPlan
    from palaestra.worldmodel.world import RealWorld

    load_environments(load)
    spec, env_settings = find(env), parse_settings(settings)
    if candidates < 1 or after < 0 or (depth is not None and depth < 1):
        raise BadInput("--candidates and --depth are at least 1, --after at least 0")
    if propose not in ("sampled", "asked"):
        raise BadInput(f"--propose is sampled or asked, not {propose!r:.40}")
    if judge is not None:
        judging_card(judge, spec.id, env_settings)
    if world != "real":
        card_of(world, spec.id, env_settings)
    elif depth is None:
        raise BadInput("--world real has no limit of trust: say --depth")
    made = make(spec.id, **env_settings)
    where = out or Path("runs") / f"lookahead-{spec.short}"
    conversation = conversation_of(window, style or spec.style, actions)
    tokens = spec.answer_tokens if max_tokens is None else max_tokens
    try:
        held = held_out(spec, made, split or usual_split(made))
        if dry_run:
            chosen = choose_tasks(held, parse_tasks(tasks), f"the held-out tasks of {spec.id}")
            asked = ("held-out episodes", "look ahead", ("look-ahead", candidates))
            show_plan(plan_episodes(made, chosen, policy, where, 1, conversation, tokens, *asked), as_json)
            return
    finally:
        made.close()
    plan = LookAheadPlan.model_validate({"candidates": candidates, "depth": depth, "after": after, "propose": propose})
    sampling = sampling_of(temperature, tokens, seed)
    acting = policy_by_name(policy, spec, sampling, constrain=constrain, concurrency=concurrency)
    imagining = RealWorld(spec.id, env_settings) if world == "real" else load_world(world, spec.id, env_settings)
    ahead = LookAhead(
        acting,
        imagining,
        load_world(judge, spec.id, env_settings).judge if judge is not None else None,
        plan=plan,
    )
    with EpisodeStore(where / "episodes.sqlite") as store:
        result = run_evaluation(
            spec.id,
            ahead,
            store,
            split=split,
            tasks=parse_tasks(tasks),
            env_settings=env_settings,
            conversation=conversation,
            seed=seed,
            concurrency=concurrency,
            progress=watched(store.file, shown(quiet, as_json)),
            command=shlex.join(["palaestra", *sys.argv[1:]]),
        )
    write_whole(where / "evaluation.json", result.model_dump_json(indent=2).encode())
    report = write_evaluation(where, result).resolve()
    spent = ahead.spent
    if as_json:
        tell({"evaluation": result.model_dump(mode="json"), "spent": spent.counts(), "report": str(report)})
        return
    console = screen()
    console.print(f"success {result.success.text(percent=True)}   score {result.score.text()}")
    console.print(f"{result.episodes} episodes, depth {ahead.depth}, {spent.text()}")
    console.print(plain(f"report: {report}"), soft_wrap=True)

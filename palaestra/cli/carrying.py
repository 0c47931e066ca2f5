"""`palaestra export | import`: carry episodes out of a store and into one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from palaestra.agents import export as exporting
from palaestra.agents.conversation import Conversation
from palaestra.agents.counted import Counted
from palaestra.agents.episode import Episode
from palaestra.agents.packing import pack
from palaestra.agents.plain import plain
from palaestra.agents.store import EpisodeStore
from palaestra.cli.options import (
    Events,
    Load,
    Quiet,
    Style,
    conversation_of,
    load_environments,
    shown,
    tell,
)
from palaestra.cli.planning import DryRun, show_plan
from palaestra.cli.showing import STORE, Where, given, new_store, outcome_of, store_of
from palaestra.envs import Task, TextEnv, imagines, make
from palaestra.envs.errors import BadInput
from palaestra.trainers.estimate import Estimate, Part

_LOOKED_AT = 200
"""Episodes whose size a dry run takes for that of all."""


def add_to(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(export)
    app.command(name="import")(import_)


def export(
    where: Where,
    file: Annotated[Path, typer.Argument(help="*.parquet or *.jsonl; chat records always *.jsonl.")],
    form: Annotated[str, typer.Option(help="episodes (lossless), messages, eto or agentgym.")] = "episodes",
    outcome: Annotated[str | None, typer.Option(help="Only these: success, failure, truncated.")] = None,
    style: Style = None,
    load: Load = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> None:
    """Write episodes to a file: lossless, or as the chat records that others train on.

    Examples: `palaestra export runs/eef all.parquet`,
    `palaestra export runs/eef won.jsonl --form eto --outcome success`.
    """
    load_environments(load)
    if form != "episodes":
        exporting.check_form(form, _shown_as(style))
    with EpisodeStore(store_of(where), mode="r") as forest:
        chosen = given(outcome=outcome_of(outcome))
        lossless = form == "episodes"
        total = exporting.with_ancestors(forest, **chosen) if lossless else forest.count(**chosen)
        if dry_run:
            show_plan(_plan_export(forest, file, form, style, total, chosen), as_json)
            return
        with Counted(shown(quiet, as_json), f"export {file.name}", "episodes", total) as count:

            def each() -> None:
                count.step()

            if lossless:
                written = exporting.export_episodes(forest, file, each=each, **chosen)
            else:
                written = exporting.export_chats(
                    forest,
                    file,
                    form=form,
                    conversation=_shown_as(style),
                    instructions=_Instructions(forest),
                    each=each,
                    **chosen,
                )
    if as_json:
        tell({"episodes": total, "written": written, "form": form, "file": str(file)})
    else:
        print(plain(f"{written} episodes in {file}"))


def _shown_as(style: str | None) -> Conversation:
    return conversation_of(None, style or "action", 0)


def _plan_export(
    forest: EpisodeStore, file: Path, form: str, style: str | None, total: int, chosen: dict[str, Any]
) -> Estimate:
    """What an export would write: the size of the first episodes stands for that of all."""
    sizes: list[int]
    if form != "episodes":
        told, conversation = _Instructions(forest), _shown_as(style)
        sizes = [
            sum(len(line.encode()) for line in exporting.chat_lines(path, form, conversation, told))
            for path in islice(forest.paths(**chosen), _LOOKED_AT)
        ]
    elif file.suffix == ".parquet":
        sizes = [sum(map(len, pack(each))) for each in islice(forest.episodes(**chosen), _LOOKED_AT)]
    else:
        sizes = [len(exporting.episode_line(each).encode()) for each in islice(forest.episodes(**chosen), _LOOKED_AT)]
    forks = "with what they were forked from" if form == "episodes" else "each a whole path from its reset"
    packed = ", as packed as in the store" if file.suffix == ".parquet" and form == "episodes" else ""
    return _plan(f"export {forest.file} as {form}", file, total, f"forks {forks}", sizes, packed)


def _plan(does: str, out: Path, count: int, told: str, sizes: list[int], more: str) -> Estimate:
    """What carrying episodes costs: the mean of the sizes of the first ones stands for that of all."""
    mean = sum(sizes) / len(sizes) if sizes else 0
    return Estimate(
        does=does,
        out=str(out),
        parts=(Part(what="episodes", episodes=count, model=False, told=told),),
        episode_bytes=round(count * mean),
        model_bytes=0,
        basis=(f"{len(sizes):,} of its episodes: {mean:,.0f} bytes each{more}",),
    )


class _Instructions:
    """What the environments told the agents, made with the settings that the store's episodes were made with."""

    def __init__(self, forest: EpisodeStore) -> None:
        self._forest = forest
        self._made: dict[str, TextEnv[Any]] = {}

    def __call__(self, task: Task) -> str:
        if task.env not in self._made:
            settings = [episode.provenance.env_settings for episode in self._forest.episodes(env=task.env)]
            real = [(given.get("env"), given.get("env_settings", {})) for given in settings]
            if imagines(task.env) and isinstance(real[0][0], str) and all(other == real[0] for other in real):
                # who imagined it may be gone; what the agent was told is the real environment's
                self._made[task.env] = make(real[0][0], **real[0][1])
                return self(task)
            if any(other != settings[0] for other in settings):
                raise BadInput(f"{self._forest.file} holds episodes of {task.env} made with different settings")
            self._made[task.env] = make(task.env, **settings[0])
        made = self._made[task.env]
        told = task.model_copy(update={"env": made.registration.id}) if made.registration is not None else task
        return made.instructions(told)


def import_(
    file: Annotated[Path, typer.Argument(help="A file that `palaestra export` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory of the store they go to.")],
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> None:
    """Read episodes from Parquet or JSON lines into a store. A file with one bad line changes nothing.

    Example: `palaestra import all.parquet --out runs/copy`.
    """
    if not file.is_file():
        raise BadInput(f"{file} does not exist; give a file that `palaestra export` wrote")
    progress = shown(quiet or dry_run, as_json)
    with Counted(progress, f"read {file.name}", "episodes") as read:  # what is wrong shows before a store is made
        if dry_run:
            show_plan(_plan_import(file, out, read.step), as_json)
            return
        for _ in exporting.read_episodes(file):
            read.step()
    with EpisodeStore(new_store(out)) as store, Counted(progress, "import", "episodes", read.done) as count:

        def counted() -> Iterator[Episode]:
            for episode in exporting.read_episodes(file):
                yield episode
                count.step()

        added = store.add_all(counted())
    if as_json:
        tell({"read": read.done, "added": added, "store": str(store.file)})
    else:
        print(plain(f"{added} episodes added to {store.file}"))


def _plan_import(file: Path, out: Path, step: Callable[[], None]) -> Estimate:
    """What an import would add. Raises BadInput with the first line that is wrong."""
    from palaestra.agents.typical import held

    keys: list[str] = []
    sizes: list[int] = []
    for episode in exporting.read_episodes(file):
        step()
        keys.append(episode.key)
        if len(sizes) < _LOOKED_AT:
            sizes.append(sum(map(len, pack(episode))))
    store = out if out.is_file() else out / STORE
    there = held(store, keys) if store.is_file() else 0
    told = f"of {len(keys):,}; {there:,} are there"
    return _plan(
        f"import {file}", store, len(set(keys)) - there, told, sizes, "; every line was read, and none is wrong"
    )

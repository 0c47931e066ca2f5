"""`palaestra show`: the episodes of a run in a list, and one of them turn by turn."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_core import PydanticSerializationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from palaestra.agents import episode as episodes
from palaestra.agents.forest import Forest
from palaestra.agents.plain import plain
from palaestra.agents.selection import Head
from palaestra.agents.store import EpisodeStore
from palaestra.cli.options import Json
from palaestra.cli.printed import COLOURS, folded, print_text, screen
from palaestra.envs.errors import BadInput

STORE = "episodes.sqlite"
Where = Annotated[Path, typer.Argument(help="A run directory or an episode store.")]
_FORKS = 6


def add_to(app: typer.Typer) -> None:
    """Register this file's command."""
    app.command()(show)


def store_of(where: Path) -> Path:
    """The store of a run directory, or the store itself. Raises BadInput where there is none."""
    path = where / STORE if where.is_dir() else where
    if not path.is_file():
        raise BadInput(f"{where} is neither a run directory nor an episode store; `palaestra runs` lists the runs")
    return path


def new_store(out: Path) -> Path:
    """The file of the store in a directory, which is made; or the store itself. Raises BadInput."""
    if out.is_file():
        return out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot create {out}: {error.strerror}; choose another --out") from error
    return out / STORE


def outcome_of(name: str | None) -> episodes.Outcome | None:
    """An outcome by name. Raises BadInput for an unknown one."""
    if name is None:
        return None
    if name not in set(episodes.Outcome):
        raise BadInput(f"--outcome {name!r} is unknown; there are: {', '.join(episodes.Outcome)}")
    return episodes.Outcome(name)


def given(**filters: Any) -> dict[str, Any]:
    """The filters that were given."""
    return {key: value for key, value in filters.items() if value is not None}


def show(
    where: Where,
    episode: Annotated[str | None, typer.Argument(help="Id of an episode, or its first digits.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only these: success, failure, truncated.")] = None,
    task: Annotated[str | None, typer.Option(help="Only of this task (its id or name).")] = None,
    faults: Annotated[bool, typer.Option("--faults", help="The faults with their tracebacks instead.")] = False,
    limit: Annotated[int, typer.Option(help="Rows at the most.")] = 20,
    full: Annotated[bool, typer.Option("--full", help="Long observations as a whole, not folded.")] = False,
    as_json: Json = False,
) -> None:
    """Show a run: its episodes in a list, or one of them turn by turn with thoughts, rewards, forks and provenance.

    Example: `palaestra show runs/rft --outcome success`, then `palaestra show runs/rft 3f9a`.
    """
    with EpisodeStore(store_of(where), mode="r") as forest:
        if episode is not None:
            path = forest.path(_full_id(forest, episode))
            if as_json:
                print(_json_of(path))
            else:
                Shown(screen(), forest, path, full).show()
        elif faults:
            _show_faults(forest, limit, as_json)
        else:
            _show_list(forest, outcome, task, limit, as_json)


def _json_of(path: episodes.Path) -> str:
    """The path as JSON, also with lone surrogates in it, which only escapes can spell."""
    try:
        return path.model_dump_json()
    except PydanticSerializationError:
        return json.dumps(path.model_dump(mode="json"))


def _full_id(forest: Forest, start: str) -> str:
    with contextlib.suppress(BadInput):  # a whole id is found without reading all of them
        return forest.head(start).id
    found = [head.id for head in forest.heads() if head.id.startswith(start)]
    if len(found) != 1:
        problem = "no episode" if not found else f"{len(found)} episodes"
        raise BadInput(f"{forest.file} holds {problem} whose id begins with {start!r}; `palaestra show` lists them")
    return found[0]


def _show_list(forest: Forest, outcome: str | None, task: str | None, limit: int, as_json: bool) -> None:
    where = given(outcome=outcome_of(outcome), task=task)
    heads = list(forest.heads(limit=limit, **where))
    if as_json:
        print(json.dumps({"summary": asdict(forest.summary(**where)), "episodes": [asdict(head) for head in heads]}))
        return
    same = {head.env for head in heads}
    console = screen()
    narrow = console.width < 100
    rows = [_row(head, with_env=len(same) > 1, narrow=narrow) for head in heads]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        longest = max(len(row[name].plain) for row in rows if name in row)
        least = max(min(longest, 8) if name in ("env", "task", "who") else longest, len(name))
        right = name in ("score", "turns", "round")
        table.add_column(name, no_wrap=True, min_width=least, justify="right" if right else "left")
    for row in rows:
        table.add_row(*(row.get(name, "") for name in columns))
    if len(same) == 1:
        console.print(Text(plain(same.pop()), style="bold"))
    if rows:
        console.print(table)
    total, found = forest.count(**where), forest.summary(**where)
    ended = ", ".join(f"{number} {name}" for name, number in found.outcomes.items())
    if found.imagined:
        judged = ", ".join(f"{number} {name}" for name, number in found.imagined.items())
        ended = f"{ended or 'none real'}; imagined: {judged}"
    print(f"{len(heads)} of {total} episodes{f' ({ended})' if ended else ''}; {forest.n_faults} faults")


def _row(head: Head, *, with_env: bool, narrow: bool) -> dict[str, Text]:
    """An episode's cells by column; what an episode has not, or a narrow terminal has no room for, is left out."""
    row = {"id": Text(head.id[:12] if narrow else head.id)} | ({"env": Text(plain(head.env))} if with_env else {})
    row |= {} if narrow else {"split": Text(plain(head.split))}
    row |= {"task": Text(plain(head.name)), "outcome": Text(head.outcome, COLOURS.get(head.outcome, "magenta"))}
    row["score"] = Text(f"{head.score:.2f}")
    row |= {} if narrow else {"turns": Text(str(head.n_turns))}
    row["who"] = Text(plain(head.policy) + (" (imagined)" if head.actor is episodes.Actor.IMAGINED else ""))
    if head.iteration is not None:
        row["round"] = Text(str(head.iteration))
    if head.parent is not None:
        row["fork of"] = Text(f"{head.parent[:8]}@{head.fork_step}")
    return row


def _show_faults(forest: Forest, limit: int, as_json: bool) -> None:
    found = [fault for fault, _ in zip(forest.faults(), range(limit), strict=False)]
    if as_json:
        print(json.dumps([fault.model_dump(mode="json", exclude={"turns"}) for fault in found]))
        return
    for fault in found:
        turns = f"{fault.outcome} in {fault.start.task.id} after {len(fault.turns)} turns"
        print(f"{plain(turns)}\n{plain(fault.error or '')}\n")
    print(f"{len(found)} of {forest.n_faults} faults")


class Shown:
    """One episode on the terminal, from the root's reset to its end.

    Args:
        console: where.
        forest: the store, for the forks.
        path: the episode with all that came before it.
        full: fold nothing.
    """

    def __init__(self, console: Console, forest: Forest, path: episodes.Path, full: bool) -> None:
        self.console, self.forest, self.path, self.full = console, forest, path, full
        self.forks: dict[int, list[Head]] = {}
        for origin in dict.fromkeys([*path.origins, path.episode.id]):
            for child in forest.children(origin):
                if child.id not in path.origins and child.id != path.episode.id:
                    self.forks.setdefault(child.fork_step, []).append(child)

    def show(self) -> None:
        """Print all of it."""
        episode = self.path.episode
        self._head()
        for step, turn in enumerate(self.path.turns):
            if step == self.path.own and episode.start.parent is not None:
                self._rule(f"forked from {episode.start.parent} after {step} actions", "cyan")
            self._forks_at(step)
            self._turn(step, turn)
        if self.path.own == len(self.path.turns) and episode.start.parent is not None:
            self._rule(f"forked from {episode.start.parent} after {self.path.own} actions", "cyan")
        self._forks_at(len(self.path.turns))
        self._text(episode.final_observation, first=str(len(self.path.turns)))
        self.console.print()
        self.console.print(self._end())
        if episode.error:
            print(plain(episode.error), file=sys.stderr)

    def _head(self) -> None:
        episode = self.path.episode
        by, task = episode.provenance, episode.start.task
        self.console.print(
            Text.assemble((plain(task.env), "bold"), "  ", (plain(task.name), "bold cyan"), f"  {plain(task.split)}")
        )
        self.console.print(self._end())
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column(overflow="fold")
        for name, value in self._facts(by):
            facts.add_row(name, Text(plain(value)))
        self.console.print(facts)
        self.console.print()

    def _facts(self, by: episodes.Provenance) -> Iterator[tuple[str, str]]:
        episode = self.path.episode
        yield "episode", f"{episode.id}, sample {episode.sample}"
        yield "acted", f"{by.policy} ({by.actor}), version {by.policy_version}"
        if episode.start.parent is not None:
            yield "fork of", f"{episode.start.parent} after {episode.start.fork_step} actions"
        if by.recipe is not None:
            yield "recipe", by.recipe + (f", iteration {by.iteration}" if by.iteration is not None else "")
        for name, values in (
            ("sampling", by.sampling),
            ("conversation", by.conversation),
            ("settings", by.env_settings),
        ):
            shown = ", ".join(f"{key}={value}" for key, value in values.items() if value is not None)
            if shown:
                yield name, shown
        yield "environment", by.env_fingerprint or "unknown"
        cost = [
            (by.cost.env_steps, "steps"),
            (by.cost.replayed_steps, "replayed"),
            (by.cost.model_calls, "model calls"),
        ]
        cost += [(by.cost.prompt_tokens, "prompt tokens"), (by.cost.completion_tokens, "answered tokens")]
        spent = ", ".join(f"{count:,} {what}" for count, what in cost if count)
        yield "cost", f"{spent}, {by.cost.seconds:.1f} s" if spent else f"{by.cost.seconds:.1f} s"
        if episode.labels:
            labels = {key: value for key, value in episode.labels.items() if key != episodes.LISTED}
            yield "labels", ", ".join(f"{key}={value}" for key, value in labels.items())

    def _end(self) -> Text:
        episode = self.path.episode
        colour = COLOURS.get(episode.outcome, "magenta")
        turns = len(self.path.turns)
        return Text.assemble(
            (episode.outcome, f"bold {colour}"), f"  score {episode.score:.2f}  {turns} turn{'' if turns == 1 else 's'}"
        )

    def _turn(self, step: int, turn: episodes.Turn) -> None:
        context = step < self.path.own
        self._text(turn.observation, first=str(step), style="dim" if context else "")
        if turn.note:
            self._text(turn.note, style="yellow", first="note")
        if turn.thought:
            self._text(turn.thought, style="italic", first="…")
        action = turn.action or turn.completion
        self._text(action, style="cyan" if context else "bold cyan", first=">")
        colour = "green" if turn.reward > 0 else "red" if turn.reward < 0 else "dim"
        worth = Text.assemble("     ", (f"{turn.reward:+.2f}", colour), (f"  score {turn.score:.2f}", "dim"))
        if not turn.valid:
            worth.append("  not understood", "red")
        if turn.tokens is not None:
            worth.append(f"  {len(turn.tokens.context)}+{len(turn.tokens.completion)} tokens", "dim")
        self.console.print(worth)

    def _text(self, text: str, *, first: str = "", style: str = "") -> None:
        shown, more = (text, "") if self.full else folded(text)
        print_text(self.console, shown, style, first=first)
        if more:
            self.console.print(Text(f"     … {more} (--full shows all)", style="dim"))

    def _forks_at(self, step: int) -> None:
        forks: Sequence[Head] = self.forks.get(step, ())
        if not forks:
            return
        wins = sum(head.success for head in forks)
        row = Text(f"     ├ {len(forks)} fork{'' if len(forks) == 1 else 's'} here, {wins} won: ", style="dim")
        for place, head in enumerate(forks[:_FORKS]):
            row.append(", " if place else "", "dim").append(head.id[:8], COLOURS.get(head.outcome, "magenta"))
        row.append(", ..." if len(forks) > _FORKS else "", "dim")
        self.console.print(row)

    def _rule(self, text: str, style: str) -> None:
        if self.console.is_terminal:
            self.console.rule(Text(text, style=style), style=style)
        else:
            self.console.print(f"-- {text} --", soft_wrap=True)

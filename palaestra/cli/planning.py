"""`--dry-run`: what a command would do and what that costs, said before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from palaestra.agents.conversation import Conversation
from palaestra.agents.plain import plain
from palaestra.agents.typical import near, typical
from palaestra.cli.options import tell
from palaestra.cli.printed import screen
from palaestra.envs import Task, TextEnv
from palaestra.trainers.estimate import Acting, Estimate, Part, estimate

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, what it costs in rollouts, tokens, disk; do nothing.")
]

MODELS = ("random", "oracle", "flawed", "human")
"""Policies that are no model: what they say costs no tokens."""


def acts_with_model(policy: str) -> bool:
    """Does a policy of this name ask a model."""
    return policy.partition(":")[0] not in MODELS


def plan_episodes(
    env: TextEnv[Any],
    tasks: Sequence[Task],
    policy: str,
    out: Path,
    samples: int,
    conversation: Conversation,
    answer: int,
    what: str,
    verb: str,
    strategy: tuple[str | None, int | None] = (None, None),
) -> Estimate:
    """What episodes of these tasks cost.

    Args:
        env: an instance, not reset. policy: its name; it is not made, so no model is loaded or fetched.
        samples: episodes a task. answer: tokens of an answer at the most.
        what: kind of the episodes. verb: what is done with them. strategy: its name and its calls a decision.
    """
    assert env.registration is not None
    env_id, model = env.registration.id, acts_with_model(policy)
    name, calls = strategy
    count = len(tasks) * samples
    there = out / "episodes.sqlite" if out.is_dir() else out
    told = f"{len(tasks):,} tasks x {samples}"
    if name is not None:
        told += f", {calls} calls a decision" if calls else f"; the calls of {name} are not counted"
    more = [f"what {there} holds of them is not made again"] if there.is_file() else []
    acting = Acting(
        max((cap for task in tasks if (cap := env.step_cap(task)) is not None), default=None),
        typical(near(out), env_id),
        instructions=env.instructions(tasks[0]),
        conversation=conversation,
        answer=answer,
        calls=calls or 1,
    )
    part = Part(what=what, episodes=count, model=model, told=told)
    return estimate(f"{verb} with {policy} on {env_id}", out, [part], acting, more=more)


def show_plan(plan: Estimate, as_json: bool) -> None:
    """Print an estimate, as a person reads it or as one line of JSON."""
    if as_json:
        figures = {"rollouts": plan.rollouts, "disk_bytes": plan.disk_bytes}
        tell({"dry_run": True, **plan.model_dump(mode="json"), **figures})
        return
    console = screen()
    console.print(Text.assemble(("would ", "dim"), (plain(plan.does), "bold"), ("  nothing is done", "dim")))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for part in plan.parts:
        count = "?" if part.episodes is None else f"{part.episodes:,}"
        table.add_row(part.what, count, Text(plain(part.told), style="dim"))
    if plan.fits:
        ids = "ids in all unknown" if plan.fit_tokens is None else f"{plan.fit_tokens:,} ids in all"
        table.add_row("fits", f"{plan.fits:,}", Text(ids, style="dim"))
    if any(part.model for part in plan.parts):
        table.add_row("model calls", _count(plan.model_calls))
        table.add_row("tokens read", _count(plan.prompt_tokens), Text("whole prompts, each time", style="dim"))
        table.add_row("tokens written", _count(plan.completion_tokens))
    sizes = (("models", plan.model_bytes), ("episodes", plan.episode_bytes))
    parts = [f"{name} {_size(size)}, " for name, size in sizes if size != 0]
    table.add_row("disk", _size(plan.disk_bytes), Text(f"{''.join(parts)}in {plain(plan.out)}", style="dim"))
    console.print(table)
    for line in plan.basis:
        console.print(Text(f"- {plain(line)}", style="dim"))


def show_steps(does: str, out: str, steps: Sequence[str], disk_bytes: int | None, as_json: bool) -> None:
    """Print what a command would do that makes no episodes.

    Args:
        does: in a sentence; `out`: where it would write; `steps`: what it would do there, a line each.
        disk_bytes: what that takes there; None: nobody knows before.
    """
    if as_json:
        tell({"dry_run": True, "does": does, "out": out, "basis": list(steps), "disk_bytes": disk_bytes})
        return
    console = screen()
    console.print(Text.assemble(("would ", "dim"), (plain(does), "bold"), ("  nothing is done", "dim")))
    for line in steps:
        console.print(Text(f"- {plain(line)}", style="dim"), soft_wrap=True)
    console.print(Text.assemble(("disk  ", "dim"), _size(disk_bytes), (f"  in {plain(out)}" if out else "", "dim")))


def _count(count: int | None) -> str:
    if count is None:
        return "unknown"
    if count < 100_000:
        return f"{count:,}"
    return f"{count / 1e6:,.1f} M" if count >= 1e6 else f"{count / 1e3:,.0f} k"


def _size(count: int | None) -> str:
    if count is None:
        return "unknown"
    for size, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:,.1f} {name}"
    return f"{count} B"

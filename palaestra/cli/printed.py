"""Texts of environments and models on a terminal: nothing in them can steer it, and long ones are folded."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from palaestra.agents.episode import Outcome
from palaestra.agents.plain import plain

LINES, CHARACTERS = 16, 1600
"""What of an observation is shown before it is folded."""

COLOURS = {Outcome.SUCCESS: "green", Outcome.FAILURE: "red", Outcome.TRUNCATED: "yellow"}


def folded(text: str, *, lines: int = LINES, characters: int = CHARACTERS) -> tuple[str, str]:
    """The beginning of a text, and what was left out in words ("" where nothing was)."""
    shown = text[:characters]
    rows = shown.split("\n")
    shown = "\n".join(rows[:lines])
    rest = text[len(shown) :]
    if not rest.strip():
        return text.rstrip("\n"), ""
    if len(rest) < 80 and rest.count("\n") < 3:  # a note that something is missing would be no shorter
        return text.rstrip("\n"), ""
    more = rest.count("\n")
    return shown, f"{f'{more:,} more lines, ' if more else ''}{len(rest):,} more characters"


def screen() -> Console:
    """Where results are printed. What an environment wrote between colons is no emoji, what it wrote between brackets
    is no style, and numbers get no colours.

    In a pipe there is room: nobody wants a table folded at the 80 columns of a terminal that is not there.
    """
    here = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(markup=False, emoji=False, highlight=False, width=None if here else 160)


def print_text(console: Console, text: str, style: str = "", *, margin: int = 5, first: str = "") -> None:
    """Print a text behind a margin, in whose first line `first` stands. Lines are wrapped on a terminal only."""
    edge = first.rjust(margin - 1) + " "
    if console.is_terminal:
        grid = Table.grid()
        grid.add_column(width=margin, style="dim")
        grid.add_column(overflow="fold")
        grid.add_row(edge, Text(plain(text), style=style))
        console.print(grid)
        return
    for row in plain(text).split("\n"):
        console.print(Text.assemble((edge, "dim"), (row, style)), soft_wrap=True)
        edge = " " * margin

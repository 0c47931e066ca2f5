"""The win matrix: from which states of an expert's episode a policy wins, and what the expert's steps changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from palaestra.agents.episode import Episode, Start
from palaestra.agents.selection import Head
from palaestra.trainers.phases import Record


class Row(Record):
    """One expert episode in the win matrix.

    Attributes:
        task, expert: the task's id and the expert episode's.
        steps: where the states s_0 .. s_M lie, in actions from the root's reset.
        tries, wins: rollouts from each, and those that won.
        won: w_0 .. w_M; None where no rollout was made (the budget ended).
        beneficial: (j, k): the expert's actions from state j to k carried the policy from losing to winning.
        harmful: k: the expert's actions from state k to k+1 lost what was won; k+1 is a recovery state.
    """

    task: str
    expert: str
    steps: tuple[int, ...]
    tries: tuple[int, ...]
    wins: tuple[int, ...]
    won: tuple[bool | None, ...]
    beneficial: tuple[tuple[int, int], ...]
    harmful: tuple[int, ...]


class WinMatrix(Record):
    """What an iteration explored: the rows, success by state over all experts, and how much was learnt of each kind."""

    rows: tuple[Row, ...]
    success_by_state: tuple[float | None, ...]
    initial: int
    recovery: int


def row_of(
    expert: Episode, states: Sequence[Start], found: Sequence[Sequence[Head]], win: Literal["any", "half"]
) -> Row:
    """One expert's row.

    Args:
        states: s_0 .. s_M; found: the rollouts from each.
        win: one won rollout makes a state a winning one, or half of them must win.
    """
    tries = [len(heads) for heads in found]
    wins = [sum(head.success for head in heads) for heads in found]
    won = [winning(heads, win) for heads in found]
    later = {j: next((k for k in range(j + 1, len(won)) if won[k]), None) for j, w in enumerate(won) if w is False}
    return Row(
        task=expert.start.task.id,
        expert=expert.id,
        steps=tuple(start.fork_step for start in states),
        tries=tuple(tries),
        wins=tuple(wins),
        won=tuple(won),
        beneficial=tuple((j, k) for j, k in later.items() if k is not None),
        harmful=tuple(k for k in range(len(won) - 1) if won[k] and won[k + 1] is False),
    )


def winning(found: Sequence[Head], win: Literal["any", "half"]) -> bool | None:
    """Is a state a winning one, by the rollouts from it; None without any."""
    wins = sum(head.success for head in found)
    return wins >= (1 if win == "any" else len(found) / 2) if found else None


def share(rows: Sequence[Row], k: int) -> float | None:
    """Success of the rollouts from state k, over all experts; None where there were none."""
    tries = sum(row.tries[k] for row in rows if k < len(row.tries))
    return sum(row.wins[k] for row in rows if k < len(row.wins)) / tries if tries else None

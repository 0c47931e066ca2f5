"""What an agent is told when it takes a turn again: what it did there before, and to improve on it or to differ.

An answer of an agent is good or bad by what it leads to, so its earlier attempt is shown from that turn on, with what
the environment answered. Its score is not told: at the end of an evaluation nobody knows it.
"""

from __future__ import annotations

from typing import Literal

from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Path, Start

Again = Literal["improve", "diverge"]

_WHAT: dict[Again, str] = {
    "improve": "Now improve on that attempt: go on from here in a way that leads to a better result.",
    "diverge": "Now go on from here in a significantly different way than in that attempt.",
}
_THINK = " In your thought, sum up the earlier approach in a few words, name a different one, and take that."
_CHARACTERS = 160
RECALLED = 8
"""Turns of an attempt that are shown at the most, where nobody says a number."""


def again(path: Path, step: int, kind: Again, conversation: Conversation, recall: int = RECALLED) -> Start:
    """A start that takes the turn at `step` of a path again.

    Args:
        path: an earlier attempt.
        step: counted from the root's reset; one of the attempt's own turns.
        recall: turns of the attempt that are shown at the most.

    Raises:
        ValueError: the attempt has no such turn of its own.
    """
    start = path.episode.fork(step)
    seen = path.observations()
    turns = path.turns[step : step + recall]
    if not turns:
        raise ValueError(f"episode {path.episode.id} has no turn {step}")
    lines = [
        f"{number}. {_short(turn.action or turn.completion)} -> {_short(seen[step + number])}"
        for number, turn in enumerate(turns, 1)
    ]
    more = len(path.turns) - step - len(turns)
    lines += [f"... and {more} more"] if more else []
    think = _THINK if kind == "diverge" and conversation.style == "react" else ""
    note = "\n".join(["You were here before. What you did then, and what came of it:", *lines, _WHAT[kind] + think])
    return start.model_copy(update={"note": note})


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _CHARACTERS else f"{line[: _CHARACTERS - 3]}..."

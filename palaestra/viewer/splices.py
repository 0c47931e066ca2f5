"""What a spliced episode is put together of, for its page: the front of one path and the rest of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from palaestra.agents.splice import Splice


def splice_of(id: str, splices: Sequence[Splice]) -> dict[str, Any] | None:
    """The splice that an episode executes, and of each of its own turns which turn of the good path it recites.

    Returns:
        The splice with `recites`, the step of the good path by the step of this one (None: the word of reflection in a
        turn of its own); None for what is no spliced episode.
    """
    splice = next((each for each in splices if each.episode == id), None)
    if splice is None:
        return None
    aside = 1 if splice.thought and splice.place == "turn" else 0
    return {**splice.model_dump(), "aside": splice.kept if aside else None, "from": splice.kept + aside}

"""One episode turn by turn, as what JSON can hold.

Texts are cut to `SHOWN` characters; the whole of one is asked for by turn and field, in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

from palaestra.agents.episode import Episode, Path, Turn
from palaestra.agents.told import last_line
from palaestra.envs.errors import BadInput

SHOWN, PIECE, TURNS, LONGEST_PICTURE = 4000, 200_000, 200, 20_000_000
FIELDS = ("observation", "completion", "action", "thought", "note")
_PNG = b"\x89PNG\r\n\x1a\n"


def shown(text: str) -> dict[str, Any]:
    """A text, cut where it is huge; `length` is the whole one's, in characters."""
    return {"text": text[:SHOWN], "length": len(text)}


def episode(
    path: Path, first: int = 0, count: int = TURNS, marks: Sequence[dict[str, Any] | None] = ()
) -> dict[str, Any]:
    """An episode and up to `TURNS` turns of its path from turn `first` on.

    Args:
        marks: of each of these turns what it changed in the work directory (`files.marks`).
    """
    turns = []
    for step in range(first, min(len(path.turns), first + min(count, TURNS))):
        turns.append({"step": step, "origin": path.origins[step], **_turn(path.turns[step])})
        if step - first < len(marks):
            turns[-1]["files"] = marks[step - first]
    own = path.episode
    about = own.model_dump(mode="json", exclude={"turns", "final_observation", "error"})
    folder = own.provenance.env_settings.get("screenshots")
    return {
        **about,
        "final": shown(own.final_observation),
        "error": shown(own.error) if own.error else None,
        "own": path.own,
        "length": len(path.turns),
        "pictures": isinstance(folder, str),
        "first": first,
        "turns": turns,
    }


def _turn(turn: Turn) -> dict[str, Any]:
    texts = {name: shown(text) for name in FIELDS if (text := getattr(turn, name))}
    about = {"reward": turn.reward, "score": turn.score, "valid": turn.valid}
    tokens = turn.tokens
    if tokens is not None:
        about |= {"context_tokens": len(tokens.context), "completion_tokens": len(tokens.completion)}
    return {**texts, **about}


def whole(path: Path, step: int, field: str, first: int) -> dict[str, Any]:
    """`PIECE` characters of one text. `step` -1 stands for the episode itself: `final` or `error`. Raises BadInput."""
    if step == -1 and field in ("final", "error"):
        text = path.episode.final_observation if field == "final" else path.episode.error or ""
    elif 0 <= step < len(path.turns) and field in FIELDS:
        text = getattr(path.turns[step], field) or ""
    else:
        raise BadInput(f"there is no {field!r} of turn {step}")
    return {"text": text[max(0, first) : max(0, first) + PIECE], "length": len(text)}


def picture(path: Path, step: int) -> bytes | None:
    """The screenshot before action `step`, counted from the task's reset; None where there is none.

    Only files with the name that `screenshot_name` gives, in the folder that the episode's provenance names, and only
    if they hold a PNG.
    """
    from palaestra.envs.browser.env import screenshot_name

    folder = path.episode.provenance.env_settings.get("screenshots")
    if not isinstance(folder, str) or not 0 <= step <= len(path.turns):
        return None
    file = FilePath(folder) / screenshot_name(path.episode.start.task, path.actions[:step])
    try:
        if file.stat().st_size > LONGEST_PICTURE:
            return None
        data = file.read_bytes()
    except (OSError, ValueError):
        return None
    return data if data.startswith(_PNG) else None


def fault(number: int, broken: Episode) -> dict[str, Any]:
    """A fault in a line."""
    about = broken.model_dump(mode="json", include={"id", "outcome", "start"})
    return {"number": number, **about, "turns": len(broken.turns), "error": last_line(broken.error or "")[:300]}

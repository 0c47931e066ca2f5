"""One episode turn by turn, its task's forest, and two branches from their fork, as what JSON can hold.

Texts are cut to `SHOWN` characters; the whole of one is asked for by turn and field, in pieces.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from difflib import SequenceMatcher
from pathlib import Path as FilePath
from typing import Any

from palaestra.agents.episode import Episode, Path, Turn
from palaestra.agents.selection import Head
from palaestra.envs.errors import BadInput
from palaestra.viewer.table import Shown

SHOWN, PIECE, TURNS, MOST_NODES, WORDS, LONGEST_PICTURE = 4000, 200_000, 200, 2000, 3000, 20_000_000
FIELDS = ("observation", "completion", "action", "thought", "note")
_PNG = b"\x89PNG\r\n\x1a\n"


def shown(text: str) -> dict[str, Any]:
    """A text, cut where it is huge; `length` is the whole one's, in characters."""
    return {"text": text[:SHOWN], "length": len(text)}


def episode(path: Path, first: int = 0, count: int = TURNS) -> dict[str, Any]:
    """An episode and up to `TURNS` turns of its path from turn `first` on."""
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
        "turns": [
            {"step": step, "origin": path.origins[step], **_turn(path.turns[step])}
            for step in range(first, min(len(path.turns), first + min(count, TURNS)))
        ],
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


def forest(store: Shown, id: str) -> dict[str, Any]:
    """The forest of an episode's task: its episodes as nodes, with what a search would count of them.

    `visits` and `value` of a node are the number of ended episodes at or below it, pieces of a search left out that
    went on, and the mean of their scores: what N and Q of a tree search are once it is over. An episode's labels
    `visits` and `value` go before them.
    """
    heads, total = store.grove(id, MOST_NODES)
    below: dict[str, list[Head]] = defaultdict(list)
    for each in heads:
        if each.parent is not None:
            below[each.parent].append(each)
    counts: dict[str, tuple[int, float]] = {}
    for each in reversed(heads):  # a fork is always added after its parent
        ends, value = (0, 0.0) if below[each.id] and _went_on(each, below[each.id]) else (1, each.score)
        for child in below[each.id]:
            more, worth = counts[child.id]
            ends, value = ends + more, value + worth
        counts[each.id] = (ends, value)
    nodes = [
        {**node(each), "visits": counts[each.id][0], "value": counts[each.id][1] / max(1, counts[each.id][0])}
        for each in heads
    ]
    return {"task": heads[0].task, "total": total, "nodes": nodes}


def _went_on(each: Head, children: list[Head]) -> bool:
    return each.outcome.value == "truncated" and any(child.fork_step == each.end_step for child in children)


def node(each: Head) -> dict[str, Any]:
    """A row of the table, or of the forest."""
    return asdict(each) | {"key": None, "end_step": each.end_step}


def branches(store: Shown, one: str, other: str) -> dict[str, Any]:
    """Two episodes of one task from where they part. Raises BadInput when they are of two tasks.

    They share the turns that both took from the same episode, and those after it that are equal letter by letter.
    """
    a, b = store.path(one), store.path(other)
    if a.episode.start.task.id != b.episode.start.task.id and a.episode.start.task.name != b.episode.start.task.name:
        raise BadInput(f"{one} and {other} are of two tasks; choose two branches of one")
    shorter = min(len(a.turns), len(b.turns))
    parting = next((step for step in range(shorter) if not _same(a, b, step)), shorter)
    sides = [episode(path, parting) for path in (a, b)]
    return {"parting": parting, "sides": sides, "differences": _differences(a, b, parting)}


def _same(a: Path, b: Path, step: int) -> bool:
    if a.origins[step] == b.origins[step]:
        return True
    one, other = a.turns[step], b.turns[step]
    return (one.observation, one.completion, one.action) == (other.observation, other.completion, other.action)


def _differences(a: Path, b: Path, parting: int) -> list[dict[str, Any]]:
    """What two branches saw after equally many actions, word by word: the imagined page beside the real one."""
    pairs = list(zip(a.observations()[parting:], b.observations()[parting:], strict=False))[:TURNS]
    found: list[dict[str, Any]] = []
    for place, (one, other) in enumerate(pairs):
        left, right = _words(one), _words(other)
        if one == other or len(left) > WORDS or len(right) > WORDS:
            found.append({"step": parting + place, "same": one == other, "parts": None})
            continue
        codes = SequenceMatcher(None, left, right, autojunk=True).get_opcodes()
        parts = [[code, "".join(left[i:j]), "".join(right[k:m])] for code, i, j, k, m in codes]
        found.append({"step": parting + place, "same": False, "parts": parts})
    return found


def _words(text: str) -> list[str]:
    """A text cut into words and what stands between them."""
    words: list[str] = []
    for line in text[:SHOWN].splitlines(keepends=True):
        for word in line.split(" "):
            words += [word, " "]
        words.pop()
    return words


def fault(number: int, broken: Episode) -> dict[str, Any]:
    """A fault in a line."""
    lines = (broken.error or "").strip().splitlines()
    about = broken.model_dump(mode="json", include={"id", "outcome", "start"})
    return {"number": number, **about, "turns": len(broken.turns), "error": lines[-1][:300] if lines else ""}

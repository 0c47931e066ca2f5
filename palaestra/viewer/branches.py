"""Two episodes of one task from where they part, and which real episode an imagined one can be held against."""

from __future__ import annotations

from typing import Any

from palaestra.agents.episode import Actor, Path
from palaestra.envs.errors import BadInput
from palaestra.viewer.differences import by_words, effort
from palaestra.viewer.files import marks
from palaestra.viewer.paths import SHOWN, TURNS, episode
from palaestra.viewer.table import Shown

MOST_EFFORT, MOST_RIVALS = 20_000_000, 60


def branches(store: Shown, one: str, other: str) -> dict[str, Any]:
    """Two episodes of one task from where they part. Raises BadInput when they are of two tasks.

    They share the turns that both took from the same episode, and those after it that are equal letter by letter.
    """
    a, b = store.trail(one), store.trail(other)
    if a.episode.start.task.id != b.episode.start.task.id and a.episode.start.task.name != b.episode.start.task.name:
        raise BadInput(f"{one} and {other} are of two tasks; choose two branches of one")
    shorter = min(len(a.turns), len(b.turns))
    parting = next((step for step in range(shorter) if not _same(a, b, step)), shorter)
    first = max(0, parting - 1)  # the last turn that they share says what they part from
    sides = []
    for path in (a, b):
        changed = marks(store, path, first, TURNS)
        sides.append(episode(path, first, TURNS, changed if any(changed) else ()))
    return {"parting": parting, "sides": sides, "differences": _differences(a, b, parting)}


def _same(a: Path, b: Path, step: int) -> bool:
    if a.origins[step] == b.origins[step]:
        return True
    one, other = a.turns[step], b.turns[step]
    return (one.observation, one.completion, one.action) == (other.observation, other.completion, other.action)


def _differences(a: Path, b: Path, parting: int) -> list[dict[str, Any]]:
    """What two branches saw after equally many actions, word by word: the imagined page beside the real one.

    Of long texts as much is compared as is shown; beyond a certain effort nothing is.
    """
    pairs = list(zip(a.observations()[parting:], b.observations()[parting:], strict=False))[:TURNS]
    found: list[dict[str, Any]] = []
    left = MOST_EFFORT
    for place, pair in enumerate(pairs):
        one, other = (text[:SHOWN] for text in pair)
        left -= effort(one, other)
        about = {"step": parting + place, "same": pair[0] == pair[1]}
        parts = None if about["same"] or left < 0 else by_words(one, other)
        found.append({**about, "parts": parts, "cut": max(map(len, pair)) > SHOWN})
    return found


def beside(store: Shown, id: str) -> dict[str, Any]:
    """Of an imagined episode the real one of its task that went its way for longest, and the other way round.

    Returns:
        `id` of it and `shared`, the actions that both took from the reset on; `id` is None where there is none.
    """
    own = store.head(id)
    imagined = own.actor is Actor.IMAGINED
    rivals = [
        each
        for each in store.grove(id, 2000)[0]
        if (each.actor is Actor.IMAGINED) != imagined and not (each.parent and each.end_step <= 1)
    ]
    actions, best = store.trail(id).actions, (-1, "")
    for each in rivals[:MOST_RIVALS]:
        pairs = zip(actions, store.trail(each.id).actions, strict=False)
        shared = next(
            (step for step, (one, other) in enumerate(pairs) if one != other), min(len(actions), each.end_step)
        )
        best = max(best, (shared, each.id))
    return {"id": best[1] or None, "shared": max(0, best[0]), "imagined": imagined}

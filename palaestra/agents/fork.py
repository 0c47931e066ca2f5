"""What a fork begins with: the path of the episode that is forked, and what its environment kept of the step, or the
records say of it."""

from __future__ import annotations

from palaestra.agents.episode import LISTED, Path, Start, inherited
from palaestra.agents.instance import Kept
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Recorded, imagines


def parent_of(start: Start, store: EpisodeStore) -> Path:
    """The path of the episode that is forked. Raises BadInput unless the fork lies before its end."""
    assert start.parent is not None
    path = store.path(start.parent)
    of = path.episode.start.task
    if of != inherited(start.task, of.env):
        raise BadInput(
            f"fork {start.id}: its parent's task is {of.id}, not {start.task.id}; "
            "make forks with Episode.fork, so that they inherit the task and its split"
        )
    piece = path.episode.labels.get("truncated_by") == "turns"  # ended by a collector; its environment would go on
    if start.fork_step >= len(path.turns) + piece:
        raise BadInput(
            f"fork {start.id}: episode {start.parent} ends after {len(path.turns)} actions, "
            "and an episode that is over cannot be forked at its end"
        )
    return path


def kept_for(start: Start, parent: Path, store: EpisodeStore) -> Kept | None:
    """What the environment kept of the step that is forked, by the episode that took it; None where it kept nothing.

    A fork at the parent's first step or before belongs to an ancestor; at the root's reset there is nothing to keep.
    """
    if not start.fork_step:
        return None
    by = parent.origins[start.fork_step - 1]
    raw = store.kept(by, start.fork_step)
    if raw is None:
        return None
    made = (parent.episode if by == parent.episode.id else store.get(by)).provenance
    return Kept(raw, made.env_settings, made.env_fingerprint)


def recorded_for(start: Start, parent: Path, store: EpisodeStore) -> Recorded | None:
    """What the records say of the imagined step that is forked; None where nothing is imagined, and at a reset."""
    step = start.fork_step
    if not step or not imagines(start.task.env):
        return None
    origins = parent.origins[:step]
    imagined = {id for id in set(origins) if imagines(store.head(id).env)}
    real = next((number for number, id in enumerate(origins) if id in imagined), step)
    if real == step:
        return Recorded(real)
    by = parent.episode if origins[-1] == parent.episode.id else store.get(origins[-1])
    listed, number, turn = by.labels.get(LISTED), step - 1 - by.start.fork_step, parent.turns[step - 1]
    here = listed[number] if isinstance(listed, list) and number < len(listed) else None
    known = tuple(map(str, here)) if isinstance(here, list) else None
    made = by.provenance
    return Recorded(real, turn.score, turn.valid, known, made.env_settings, made.env_fingerprint)

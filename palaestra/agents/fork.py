"""What a fork begins with: the path of the episode that is forked, and what its environment kept of the step."""

from __future__ import annotations

from palaestra.agents.episode import Path, Start, inherited
from palaestra.agents.instance import Kept
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput


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

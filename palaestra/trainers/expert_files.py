"""Recorded expert episodes: what of a file can be learnt from, and what cannot and why.

A record is left out that is malformed, of another environment or of a task that is not for training, that forks what
is not used, or that does not replay: its actions, taken in the environment, must show what the record says was seen,
and end as it says. The score of an episode that was exported here must be the environment's, too; those of others'
conversations may be of another protocol (`docs/evaluation.md`). Where a model imagines what happens, no page is asked
for again, since it need not write the same: the first one must be the real environment's, and a record must hold what
was listed on its pages, where the world model lists anything, for somebody to go on from them. Everything else of the
file is used; an answer that was written in another style is learnt in the run's own (`Conversation.shown_completion`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from palaestra.agents.conversation import Conversation
from palaestra.agents.counted import Counted
from palaestra.agents.episode import LISTED, Actor, Episode
from palaestra.agents.progress import Shown
from palaestra.envs import BadInput, EnvSpec, TextEnv

_SHOWN = 60
_ROUNDED = 1e-6


def read_experts(
    file: Path,
    spec: EnvSpec,
    env: TextEnv[Any],
    *,
    splits: Sequence[str],
    allowed: Collection[str],
    conversation: Conversation,
    score: float | None,
    replay: bool,
    progress: Shown = "quiet",
) -> tuple[list[Episode], list[str]]:
    """Read a file of recorded episodes or conversations.

    Args:
        env: where records are replayed, if `replay`.
        splits: the training splits; allowed: ids of the training tasks, whatever a record states.
        conversation: how answers of conversations are read; score: of those that name none.
        progress: how the replaying is shown; its faults are records that are left out.

    Returns:
        The episodes, none of them a fault, and of each record that is left out where it is and what is wrong with it.

    Raises:
        BadInput: the file cannot be read, holds nothing, or nothing that can be used: with the first reason.
    """
    from palaestra.agents.chat_files import read_conversations
    from palaestra.agents.export import read_episodes
    from palaestra.agents.record_files import read_records

    wrong: list[str] = []

    def broken(error: BadInput) -> None:
        wrong.append(str(error))

    # Any record says it, not the first one: that may be malformed.
    ours = file.suffix == ".parquet" or any("start" in record for _, record in read_records(file, lambda _: None))
    if ours:
        recorded = _parents_first(read_episodes(file, broken))
    else:
        chats = read_conversations(file, env=spec.id, conversation=conversation, score=score, broken=broken)
        recorded = list(chats)
    if not recorded and not wrong:
        raise BadInput(f"experts file {file} holds no episodes")
    good: dict[str, Episode] = {}
    with Counted(progress, f"{'replay' if replay else 'read'} {file.name}", "episodes", len(recorded)) as count:
        for episode in recorded:
            problem = _foreign(episode, spec, splits, allowed) or _fault(episode)
            problem = problem or _no_fork(episode, good)
            if problem is None and replay:
                problem = _differs(episode, good, env, scored=ours)
            if problem is None:
                good[episode.id] = episode
            else:
                wrong.append(f"{file}: episode {episode.id} {problem}")
            count.step(faults=len(wrong))
    if not good:
        others = f" (and {len(wrong) - 1} more records that cannot be used)" if len(wrong) > 1 else ""
        raise BadInput(wrong[0] + others)
    return list(good.values()), wrong


def _parents_first(recorded: Iterable[Episode]) -> list[Episode]:
    """In the file's order, but forks only after their parents; those whose parent is not in the file come last."""
    ordered: list[Episode] = []
    there: set[str] = set()
    waiting: dict[str, list[Episode]] = defaultdict(list)
    for given in recorded:
        ready = [given]
        while ready:
            episode = ready.pop()
            parent = episode.start.parent
            if parent is not None and parent not in there:
                waiting[parent].append(episode)
                continue
            ordered.append(episode)
            there.add(episode.id)
            ready += reversed(waiting.pop(episode.id, []))
    return [*ordered, *(fork for forks in waiting.values() for fork in forks)]


def _fault(episode: Episode) -> str | None:
    if not episode.outcome.is_fault:
        return None
    return f"ended in a fault ({episode.outcome.value}), which says nothing of how its task is done"


def _foreign(episode: Episode, spec: EnvSpec, splits: Sequence[str], allowed: Collection[str]) -> str | None:
    task = episode.start.task
    if task.env != spec.id:
        return f"is of {task.env}, this run is of {spec.id}"
    if episode.provenance.actor is Actor.IMAGINED and not spec.imagined:
        return "was imagined, so what it says of the environment is made up"
    if task.split not in splits:
        return f"is of split {task.split!r} and may not be trained on"
    if task.id not in allowed:
        return (
            f"is of task {task.name!r} (seed {task.seed}), which is not among this run's training tasks, though the "
            f"file says split {task.split!r}; it may not be trained on"
        )
    return None


def _no_fork(episode: Episode, known: dict[str, Episode]) -> str | None:
    """Why an episode cannot go on from where it says."""
    start, double = episode.start, known.get(episode.id)
    if double is not None and (double.start, double.turns) != (start, episode.turns):
        return "has the id of another episode of the file"
    if start.parent is None:
        return None
    if start.parent not in known:
        return f"is a fork of {start.parent}, which is not in the file or was left out"
    parent = known[start.parent]
    if parent.start.task != start.task:
        return f"is a fork of {start.parent}, an episode of another task"
    if start.fork_step > parent.end_step:
        return f"is a fork of {start.parent} at step {start.fork_step}, which ends at step {parent.end_step}"
    return None


def _differs(episode: Episode, known: dict[str, Episode], env: TextEnv[Any], *, scored: bool) -> str | None:
    """Where the environment shows something else than the record; None where it shows the same."""
    if env.real is not None:
        return _not_begun(episode, env)
    before: list[str] = []
    start, until = episode.start, episode.start.fork_step
    while start.parent is not None:  # which may be forked at a step of its own parent
        parent = known[start.parent]
        before[:0] = parent.actions[: max(0, until - parent.start.fork_step)]
        start, until = parent.start, min(until, parent.start.fork_step)
    seen, info = env.reset(options={"task": episode.start.task})
    over = False
    for action in before:
        seen, _, over, truncated, info = env.step(action)
        over = over or truncated
    for number, turn in enumerate(episode.turns, start=len(before) + 1):
        if over:
            return f"does not replay: the environment has ended before turn {number}"
        if _plain(seen) != _plain(turn.observation):
            return (
                f"does not replay: at turn {number} the environment says {_short(seen)}, not {_short(turn.observation)}"
            )
        seen, _, over, truncated, info = env.step(turn.action)
        over = over or truncated
    if episode.final_observation and _plain(seen) != _plain(episode.final_observation):
        return f"does not replay: at its end the environment says {_short(seen)}"
    if bool(info["success"]) != episode.success:
        said, is_so = ("solved", "not solved") if episode.success else ("not solved", "solved")
        return f"does not replay: it says that the task is {said}, and the environment that it is {is_so}"
    if scored and abs(info["score"] - episode.score) > _ROUNDED:
        return f"does not replay: it says that it is worth {episode.score:.3g}, and the environment {info['score']:.3g}"
    return None


def _not_begun(episode: Episode, env: TextEnv[Any]) -> str | None:
    """Why an imagined episode cannot be gone on from; a fork begins as its parent does, which is looked at, too."""
    listed = episode.labels.get(LISTED)
    if env.lists_actions and episode.turns[1:] and not (isinstance(listed, list) and len(listed) == len(episode.turns)):
        return (
            "does not hold which actions were listed on its pages, so nobody can go on from them; give the file that "
            "`palaestra export` wrote, or do without forks: experts.replay=false"
        )
    if episode.start.parent is not None or not episode.turns:
        return None
    (seen, _), said = env.reset(options={"task": episode.start.task}), episode.turns[0].observation
    if _plain(seen) == _plain(said):
        return None
    return f"does not replay: at turn 1 the environment says {_short(seen)}, not {_short(said)}"


def _plain(text: str) -> str:
    return " ".join(text.split())


def _short(text: str) -> str:
    plain = _plain(text)
    return repr(plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}...")

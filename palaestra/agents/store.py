"""The episode store: one append-only SQLite file a run. What is added is committed at once, never doubled or changed.

    with EpisodeStore("runs/rft/episodes.sqlite") as store:
        store.add(episode)                              # False: this key is stored already
        for failed in store.episodes(split="train", outcome="failure"):
            path = store.path(failed.id)                # with all that came before it

Faults are added the same way and kept apart (`faults`): they do not take the key, so a retry can still fill it.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import TracebackType

from palaestra.agents.database import Database
from palaestra.agents.episode import Actor, Episode, inherited
from palaestra.agents.forest import Edge, Forest, Summary, Wins
from palaestra.agents.kept import pack_kept
from palaestra.agents.packing import from_column, pack, to_column
from palaestra.agents.selection import Head, Where
from palaestra.envs import imagines
from palaestra.envs.errors import BadInput

__all__ = ["Database", "Edge", "EpisodeStore", "Forest", "Head", "Summary", "Where", "Wins"]

_INSERT = f"INSERT INTO episodes VALUES (NULL, {', '.join('?' * 20)})"


class EpisodeStore(Forest):
    """All episodes of a run, and their forest.

    Args:
        path: the file.
        mode: `rw` makes the file if it is not there; `r` reads only, beside a live writer or from a read-only folder.

    Raises:
        BadInput: see `Database`; also for a closed store, a full disk and damage found later, always in one line that
            names the file.
    """

    def __enter__(self) -> EpisodeStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, episode: Episode, kept: Mapping[int, bytes] | None = None) -> bool:
        """Store an episode and commit it. A fault goes to the faults, as often as it happens.

        Args:
            kept: step, counted from the root's reset -> what the environment kept there (`TextEnv.keep`); see `kept`.

        Returns:
            True if it was stored; False if its key already was, and then nothing changes, whatever the content.

        Raises:
            BadInput: a fork of an unknown parent, after the parent's end, or of another task than the parent's; an id
                that another key has; or the file cannot be written, and then nothing of the episode is.
        """
        packed = pack(episode)  # outside the lock: packing is most of the work
        beside = pack_kept(kept) if kept and not episode.outcome.is_fault else None
        with self._transaction() as connection:
            new = self._add(connection, episode, packed)
            if new and beside is not None:
                self._keep(connection, episode.id, beside)
            return new

    def add_all(self, episodes: Iterable[Episode]) -> int:
        """Store many in one transaction: all of them, or on an error none. Forks may come before their parents.

        Returns:
            How many were new, faults included.

        Raises:
            BadInput: as `add`; and when a fork's parent is stored already with other turns than those given here, for
                the fork would continue what never happened.
        """
        added = 0
        with self._transaction() as connection:
            altered: set[str] = set()
            waiting: dict[str, list[Episode]] = defaultdict(list)
            for given in episodes:
                ready = [given]
                while ready:
                    episode = ready.pop()
                    parent = episode.start.parent
                    if parent is not None and not self._known(connection, parent):
                        waiting[parent].append(episode)
                        continue
                    added += self._add_checked(connection, episode, altered)
                    ready += waiting.pop(episode.id, [])
            for parent, forks in waiting.items():
                raise BadInput(f"{_name(forks[0])} forks {parent!r}, which is neither stored nor among those added")
        return added

    def merge(self, other: Forest) -> int:
        """Add all episodes and faults of another store, in one transaction; merging again adds nothing.

        Returns:
            How many episodes were new. Notes (`meta`) are not merged.

        Raises:
            BadInput: as `add_all`.
        """
        if other.file.resolve() == self.file.resolve():
            raise BadInput(f"episode store {self.file} cannot be merged with itself")
        with self._transaction() as connection:
            before = self._count(connection)
            altered: set[str] = set()
            for episode in other.episodes():
                if self._add_checked(connection, episode, altered) and (beside := other.kept_block(episode.id)):
                    self._keep(connection, episode.id, beside)
            for row in other._query("SELECT uid, key, head, body FROM faults ORDER BY row"):
                connection.execute("INSERT OR IGNORE INTO faults VALUES (NULL, ?, ?, ?, ?)", row)
            return self._count(connection) - before

    # -- inside ------------------------------------------------------------------------------------------------------

    def _add(self, connection: sqlite3.Connection, episode: Episode, packed: tuple[bytes, bytes]) -> bool:
        key = to_column(episode.key)
        if imagines(episode.start.task.env) and episode.provenance.actor is not Actor.IMAGINED:  # by `model_copy`
            raise BadInput(f"{_name(episode)} was imagined ({episode.start.task.env}), so its actor must be 'imagined'")
        if episode.start.parent is not None:
            self._check_fork(connection, episode)
        if episode.outcome.is_fault:
            connection.execute("INSERT INTO faults VALUES (NULL, ?, ?, ?, ?)", (uuid.uuid4().hex, key, *packed))
            return True
        if connection.execute("SELECT 1 FROM episodes WHERE key = ?", (key,)).fetchone():
            return False
        other = connection.execute("SELECT key FROM episodes WHERE id = ?", (to_column(episode.id),)).fetchone()
        if other:
            raise BadInput(
                f"{_name(episode)} has the id of another episode, {other[0]!r}; ids come from episode_id(key)"
            )
        number = connection.execute(_INSERT, _columns(episode)).lastrowid
        connection.execute("INSERT INTO bodies VALUES (?, ?, ?)", (number, *packed))
        return True

    @staticmethod
    def _keep(connection: sqlite3.Connection, id: str, body: bytes) -> None:
        connection.execute("INSERT INTO kept SELECT row, ? FROM episodes WHERE id = ?", (body, to_column(id)))

    def _add_checked(self, connection: sqlite3.Connection, episode: Episode, altered: set[str]) -> bool:
        """As `_add`, and notes in `altered` the ids that are stored with other turns, to refuse their forks."""
        new = self._add(connection, episode, pack(episode))
        if not new:
            key = to_column(episode.key)
            (id,) = connection.execute("SELECT id FROM episodes WHERE key = ?", (key,)).fetchone()
            stored = self.get(str(from_column(id)))
            if (stored.id, stored.start, stored.turns) != (episode.id, episode.start, episode.turns):
                altered.add(episode.id)
        elif episode.start.parent in altered:
            raise BadInput(
                f"{_name(episode)} forks {episode.start.parent!r}, which {self.file} holds with other turns under the "
                f"same key; keep the two runs in separate stores"
            )
        return new

    def _check_fork(self, connection: sqlite3.Connection, episode: Episode) -> None:
        start = episode.start
        row = connection.execute(
            "SELECT task, fork_step + n_turns, env FROM episodes WHERE id = ?", (to_column(start.parent),)
        ).fetchone()
        if row is None:
            raise BadInput(
                f"{_name(episode)} forks {start.parent!r}, which is not in {self.file}; add the parent first"
            )
        if row[0] != to_column(inherited(start.task, str(from_column(row[2]))).id):
            raise BadInput(f"{_name(episode)} has the task {start.task.id}, its parent {start.parent} has {row[0]}")
        if start.fork_step > row[1]:
            raise BadInput(
                f"{_name(episode)} forks {start.parent} at step {start.fork_step}, which ends at step {row[1]}"
            )

    @staticmethod
    def _known(connection: sqlite3.Connection, id: str) -> bool:
        return bool(connection.execute("SELECT 1 FROM episodes WHERE id = ?", (to_column(id),)).fetchone())

    @staticmethod
    def _count(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM episodes").fetchone()[0])


def _columns(episode: Episode) -> list[object]:
    task, origin, cost = episode.start.task, episode.provenance, episode.provenance.cost
    texts = (episode.id, episode.key, task.env, task.id, task.name, task.split, episode.start.parent)
    return [
        *map(to_column, texts),
        episode.start.fork_step,
        episode.sample,
        episode.outcome.value,
        episode.score,
        len(episode.turns),
        origin.actor.value,
        to_column(origin.policy),
        to_column(origin.policy_version),
        to_column(origin.recipe),
        origin.iteration,
        cost.prompt_tokens,
        cost.completion_tokens,
        cost.seconds,
    ]


def _name(episode: Episode) -> str:
    return f"episode {episode.id!r} ({episode.key})"

"""The episodes of a run as a forest, to read: single episodes, lazy queries, whole paths, trees, wins by fork step.

Nothing here loads the store. A query first fetches the row numbers that it means (8 bytes an episode), then the rows
in small batches; because the store is append-only, an iteration sees exactly what was there when it began, whatever is
added meanwhile.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Unpack

from pydantic import ValidationError

from palaestra.agents.database import Database
from palaestra.agents.episode import Episode, Outcome, Path, Start, Turn
from palaestra.agents.kept import unpack_kept
from palaestra.agents.packing import from_column, to_column, unpack
from palaestra.agents.selection import HEAD_COLUMNS, Head, Where, condition, head, ordering
from palaestra.envs.errors import BadInput

_HEADS_A_BATCH, _EPISODES_A_BATCH, _KEYS_A_QUERY = 1000, 32, 500


@dataclass(frozen=True, slots=True)
class Edge:
    """A fork: `child` left `parent` after `step` actions, counted from the root's reset."""

    parent: str
    child: str
    step: int


@dataclass(frozen=True, slots=True)
class Wins:
    """How the episodes that began at one step ended; `mean` and `best` are of their scores, in [0, 1]."""

    step: int
    tries: int
    wins: int
    mean: float
    best: float

    @property
    def won(self) -> bool:
        """Did any of them succeed: the win w of Exploring Expert Failures (arXiv 2504.13145)."""
        return self.wins > 0


@dataclass(frozen=True, slots=True)
class Summary:
    """A store in numbers. Faults are not among `episodes`; tokens and seconds are the episodes' costs added up.

    `outcomes` are those of real episodes; what a judge called the `imagined` ones stands apart.
    """

    episodes: int
    forks: int
    faults: int
    tasks: int
    turns: int
    outcomes: dict[Outcome, int]
    imagined: dict[Outcome, int]
    splits: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class Forest(Database):
    """All that can be asked of a store. `EpisodeStore` adds writing."""

    # -- single episodes ---------------------------------------------------------------------------------------------

    def has(self, key: str) -> bool:
        """Is an episode with this key (`Episode.key`, `episode_key`) stored. A fault is not."""
        return bool(self._query("SELECT 1 FROM episodes WHERE key = ?", (to_column(key),)))

    def stored(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that are stored: `has` for many at once."""
        wanted, found = list(keys), set[str]()
        for first in range(0, len(wanted), _KEYS_A_QUERY):
            part = [to_column(key) for key in wanted[first : first + _KEYS_A_QUERY]]
            rows = self._query(f"SELECT key FROM episodes WHERE key IN ({', '.join('?' * len(part))})", part)
            found |= {str(from_column(key)) for (key,) in rows}
        return found

    def get(self, id: str) -> Episode:
        """The episode with this id. Raises BadInput when there is none."""
        rows = self._query(
            "SELECT row, id, head, body FROM episodes JOIN bodies USING (row) WHERE id = ?", (to_column(id),)
        )
        if not rows:
            raise BadInput(f"episode store {self.file} has no episode {id!r}")
        return self._episode(*rows[0][1:])

    def head(self, id: str) -> Head:
        """The episode with this id without its turns. Raises BadInput when there is none."""
        rows = self._query(f"SELECT {HEAD_COLUMNS} FROM episodes WHERE id = ?", (to_column(id),))
        if not rows:
            raise BadInput(f"episode store {self.file} has no episode {id!r}")
        return head(rows[0])

    def kept(self, id: str, step: int) -> bytes | None:
        """What the environment kept of a step of an episode, for `TextEnv.resume`.

        Args:
            step: counted from the root's reset, so that the episode's own first one is `start.fork_step` + 1.

        Returns:
            None where nothing was kept.
        """
        body = self.kept_block(id)
        if body is None:
            return None
        try:
            return unpack_kept(body).get(step)
        except (zlib.error, ValueError, TypeError) as error:
            raise self._damaged(f"what was kept of episode {id!r} cannot be unpacked: {error}") from error

    def kept_block(self, id: str) -> bytes | None:
        """What the environment kept of all steps of an episode, as it is stored; None where nothing was."""
        if not self._has_kept:
            return None
        rows = self._query("SELECT body FROM kept JOIN episodes USING (row) WHERE id = ?", (to_column(id),))
        return rows[0][0] if rows else None

    # -- many episodes -----------------------------------------------------------------------------------------------

    def episodes(
        self, *, order: str = "added", limit: int | None = None, offset: int = 0, **where: Unpack[Where]
    ) -> Iterator[Episode]:
        """The episodes that pass the filters, read as they are asked for.

        Args:
            order: `added`, `score`, `turns`, `tokens` or `task`; with `-` before it the largest or latest first.
            limit, offset: as in SQL.
            where: see `Where`.

        Raises:
            BadInput: an unknown filter or order, or damage.
        """
        for part in _batches(self._numbers(order, limit, offset, where), _EPISODES_A_BATCH):
            rows = self._query(
                f"SELECT row, id, head, body FROM episodes JOIN bodies USING (row) WHERE row IN ({_marks(part)})", part
            )
            found = {row[0]: row[1:] for row in rows}
            yield from (self._episode(*found[number]) for number in part)

    def heads(
        self, *, order: str = "added", limit: int | None = None, offset: int = 0, **where: Unpack[Where]
    ) -> Iterator[Head]:
        """As `episodes`, without turns: some thirty times faster."""
        yield from self._heads(self._numbers(order, limit, offset, where))

    def paths(
        self, *, order: str = "added", limit: int | None = None, offset: int = 0, **where: Unpack[Where]
    ) -> Iterator[Path]:
        """As `episodes`, each with all that came before it."""
        for each in self.heads(order=order, limit=limit, offset=offset, **where):
            yield self.path(each.id)

    def keys(self, *, prefix: str = "", **where: Unpack[Where]) -> Iterator[str]:
        """The keys of the episodes that pass the filters, in the order they were added."""
        for each in self.heads(**where):
            if each.key.startswith(prefix):
                yield each.key

    def count(self, **where: Unpack[Where]) -> int:
        """How many episodes pass the filters."""
        text, parameters = condition(where)
        return int(self._query(f"SELECT count(*) FROM episodes WHERE {text}", parameters)[0][0])

    def __len__(self) -> int:
        return self.count()

    def summary(self, **where: Unpack[Where]) -> Summary:
        """The episodes that pass the filters in numbers (and all faults of the store)."""
        text, parameters = condition(where)
        totals = self._query(
            "SELECT count(*), count(parent), count(DISTINCT task), total(n_turns), total(prompt_tokens),"
            f" total(completion_tokens), total(seconds) FROM episodes WHERE {text}",
            parameters,
        )[0]
        counted = f"SELECT outcome, count(*) FROM episodes WHERE ({text}) AND actor"
        real = self._query(f"{counted} != 'imagined' GROUP BY 1 ORDER BY 1", parameters)
        imagined = self._query(f"{counted} = 'imagined' GROUP BY 1 ORDER BY 1", parameters)
        splits = self._query(f"SELECT split, count(*) FROM episodes WHERE {text} GROUP BY 1 ORDER BY 1", parameters)
        return Summary(
            episodes=totals[0],
            forks=totals[1],
            faults=self.n_faults,
            tasks=totals[2],
            turns=int(totals[3]),
            outcomes={Outcome(outcome): number for outcome, number in real},
            imagined={Outcome(outcome): number for outcome, number in imagined},
            splits={str(from_column(split)): number for split, number in splits},
            prompt_tokens=int(totals[4]),
            completion_tokens=int(totals[5]),
            seconds=totals[6],
        )

    # -- faults ------------------------------------------------------------------------------------------------------

    def faults(self, key: str | None = None) -> Iterator[Episode]:
        """The faults, of one key or all, with their tracebacks, in the order they happened."""
        text, parameters = ("TRUE", []) if key is None else ("key = ?", [to_column(key)])
        numbers = array("q", (row for (row,) in self._query(f"SELECT row FROM faults WHERE {text}", parameters)))
        for number in sorted(numbers):
            for row in self._query("SELECT key, head, body FROM faults WHERE row = ?", (number,)):
                yield self._episode(*row)

    @property
    def n_faults(self) -> int:
        """How many faults there were."""
        return int(self._query("SELECT count(*) FROM faults")[0][0])

    # -- the forest --------------------------------------------------------------------------------------------------

    def path(self, id: str) -> Path:
        """The whole path of an episode, from the root's reset through its ancestors to its end.

        A fork at a step that lies before its parent's own first turn takes its context from the ancestor that has that
        step, which is the same path. Only the ancestors that give turns are unpacked.
        """
        episode = self.get(id)
        turns: list[Turn] = list(reversed(episode.turns))
        origins = [episode.id] * len(turns)
        unfinished: list[int] = []
        until = episode.start.fork_step
        for ancestor in self.ancestors(id):
            if until <= ancestor.fork_step:
                continue
            whole, first = self.get(ancestor.id), ancestor.fork_step
            given = whole.turns[: until - first]
            turns += reversed(given)
            origins += [ancestor.id] * len(given)
            unfinished += [n + first for n in whole.labels.get("unfinished_turns", ()) if n + first < until]
            until = first
        return Path(
            episode=episode,
            turns=tuple(reversed(turns)),
            origins=tuple(reversed(origins)),
            unfinished=tuple(sorted(unfinished)),
        )

    def ancestors(self, id: str) -> list[Head]:
        """Parent, grandparent, ... up to the root. Raises BadInput when the episode is unknown."""
        columns = ", ".join(f"episodes.{name}" for name in HEAD_COLUMNS.split(", "))
        rows = self._query(
            f"WITH RECURSIVE up AS (SELECT {HEAD_COLUMNS} FROM episodes WHERE id = ? UNION"
            f" SELECT {columns} FROM up JOIN episodes ON episodes.id = up.parent) SELECT * FROM up",
            (to_column(id),),
        )
        line = {each.id: each for each in map(head, rows)}
        if id not in line:
            raise BadInput(f"episode store {self.file} has no episode {id!r}")
        found: list[Head] = []
        parent = line.pop(id).parent
        while parent is not None:
            if parent not in line:
                raise self._damaged(f"the parent {parent} of an episode is missing")
            found.append(line.pop(parent))
            parent = found[-1].parent
        return found

    def children(self, id: str, **where: Unpack[Where]) -> list[Head]:
        """The forks of an episode, by fork step and then in the order they were added."""
        where["parent"] = id
        return sorted(self.heads(**where), key=lambda each: (each.fork_step, each.number))

    def roots(self, **where: Unpack[Where]) -> Iterator[Head]:
        """The episodes that are no forks, in the order they were added."""
        yield from self._heads(self._numbers("added", None, 0, where, " AND parent IS NULL"))

    def tree(self, id: str) -> list[Edge]:
        """All forks below an episode, forks of forks included, in the order they were added. Empty when it has none."""
        rows = self._query(
            "WITH RECURSIVE below (row, id, parent, fork_step) AS ("
            " SELECT row, id, parent, fork_step FROM episodes WHERE parent = ? UNION"
            " SELECT episodes.row, episodes.id, episodes.parent, episodes.fork_step"
            " FROM below JOIN episodes ON episodes.parent = below.id"
            ") SELECT parent, id, fork_step FROM below ORDER BY row",
            (to_column(id),),
        )
        if not rows:
            self.head(id)  # an unknown episode is an error, not a tree without forks
        return [Edge(str(from_column(parent)), str(from_column(child)), step) for parent, child, step in rows]

    def wins(self, from_: Episode | Start | str, **where: Unpack[Where]) -> dict[int, Wins]:
        """How the episodes that began at each step of an episode ended, by step; steps without any are left out.

        At the episode's own first step, besides its forks there, all other episodes from the same start count: they
        began in the same state (w_0 of EEF is a plain rollout of the task). Faults never count.

        Args:
            from_: an episode or its id; or a Start, and then only the episodes from there count.
            where: whose episodes count, for instance `actor="policy", iteration=2`.
        """
        same = "(parent IS ? AND fork_step = ? AND task = ? AND id IS NOT ?)"
        if isinstance(from_, Start):
            begun = same
            parameters: list[object] = [to_column(from_.parent), from_.fork_step, to_column(from_.task.id), None]
        else:
            of = self.head(from_.id if isinstance(from_, Episode) else from_)
            begun = f"(parent = ? AND task = ? OR {same})"  # what is imagined on from here says nothing of it
            id, parent, task = (to_column(text) for text in (of.id, of.parent, of.task))
            parameters = [id, task, parent, of.fork_step, task, id]
        text, more = condition(where)
        rows = self._query(
            "SELECT fork_step, count(*), sum(outcome = 'success'), avg(score), max(score) FROM episodes"
            f" WHERE {begun} AND {text} GROUP BY fork_step ORDER BY fork_step",
            [*parameters, *more],
        )
        return {row[0]: Wins(*row) for row in rows}

    # -- inside ------------------------------------------------------------------------------------------------------

    def _numbers(self, order: str, limit: int | None, offset: int, where: Where, more: str = "") -> array[int]:
        if (limit is not None and limit < 0) or offset < 0:
            raise BadInput(f"limit and offset of a query must not be negative, got {limit} and {offset}")
        text, parameters = condition(where)
        sql = f"SELECT row FROM episodes WHERE {text}{more} ORDER BY {ordering(order)} LIMIT ? OFFSET ?"
        rows = self._query(sql, [*parameters, -1 if limit is None else limit, offset])
        return array("q", (number for (number,) in rows))

    def _heads(self, numbers: array[int]) -> Iterator[Head]:
        for part in _batches(numbers, _HEADS_A_BATCH):
            rows = self._query(f"SELECT {HEAD_COLUMNS} FROM episodes WHERE row IN ({_marks(part)})", part)
            found = {row[0]: row for row in rows}
            yield from (head(found[number]) for number in part)

    def _episode(self, name: str | bytes, head: bytes, body: bytes) -> Episode:
        try:
            return unpack(head, body)
        except (zlib.error, struct.error, ValidationError, ValueError, KeyError, TypeError) as error:
            what = str(error).splitlines()[0]
            raise self._damaged(f"episode {from_column(name)!r} cannot be unpacked: {what}") from error


def _batches(numbers: array[int], size: int) -> Iterator[list[int]]:
    for first in range(0, len(numbers), size):
        yield list(numbers[first : first + size])


def _marks(part: list[int]) -> str:
    return ", ".join("?" * len(part))

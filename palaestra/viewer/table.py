"""A store as the viewer asks it: pages of a sorted and filtered table, its choices, curves, a task's whole forest.

A table is one list of row numbers (8 bytes an episode), made once for its filters and order and then sliced, so that
any page of 100,000 episodes costs what the first one does. `upto` is the last row that counts: because the store is
append-only, a table keeps its rows while others are added, and is the same when it has to be made again.
"""

from __future__ import annotations

import json
import os
import struct
import threading
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from palaestra.agents.episode import Actor, Episode
from palaestra.agents.episode import Path as Trail
from palaestra.agents.forest import Forest, Summary
from palaestra.agents.kept import unpack_kept
from palaestra.agents.packing import from_column, to_column
from palaestra.agents.selection import HEAD_COLUMNS, Head, Where, condition, head, ordering
from palaestra.envs.errors import BadInput

T = TypeVar("T")

TABLES, LONGEST_PAGE, POINTS = 16, 500, 160
CHOICES = {"env": 200, "split": 50, "outcome": 10, "actor": 10, "recipe": 50, "iteration": 1000, "policy": 200}
"""What can be chosen from, and how many of them are named."""


@dataclass(frozen=True)
class Page:
    """Some rows of a table of `total` rows; `upto` makes the same table again."""

    rows: list[Head]
    total: int
    upto: int


_KIND = (
    "CASE WHEN recipe LIKE 'eval-%' THEN 'held-out' WHEN recipe LIKE 'recovery-%' THEN 'recovery'"
    " WHEN actor = 'policy' THEN 'rollouts' ELSE actor END"
)
"""What an episode was made for: to measure, to learn from, or by whom else."""


@dataclass(frozen=True)
class Point:
    """A piece of a run's episodes in the order they were added: `until` is the last one's number, the others means.

    `kind` is what they were made for (`held-out`, `rollouts`) or who else made them (`expert`, `spliced`, ...): what
    experts and the start model do is no part of the curve of what an agent learns. `tokens_per_second` is of one
    episode's own time; many run at once.
    """

    kind: str
    until: int
    episodes: int
    success: float
    score: float
    tokens_per_second: float | None


@dataclass(frozen=True)
class Played:
    """A task of a store in numbers: `best` is the best score, `last` the id of the episode that was added last.

    `success`, `score` and `best` are of real episodes; None where all were `imagined`.
    """

    env: str
    name: str
    split: str
    episodes: int
    forks: int
    imagined: int
    success: float | None
    score: float | None
    best: float | None
    last: str


class Shown(Forest):
    """A store that is opened to read only. Raises as `Database` does.

    Attributes:
        mark: tells this file from another one that is put in its place.
    """

    def __init__(self, path: Path) -> None:
        self.mark = mark_of(path)
        super().__init__(path, mode="r")
        self._made: OrderedDict[object, object] = OrderedDict()
        self._making = threading.RLock()

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_version(self) -> None:
        """Raises BadInput when a Palaestra of another version has changed the store while it was open here."""
        self._own()
        with self._lock, self._readable_errors():
            self._recognise(self._live())

    def last(self) -> int:
        """Number of the episode that was added last; 0 in an empty store."""
        return int(self._query("SELECT coalesce(max(row), 0) FROM episodes")[0][0])

    def page(self, where: Where, order: str, first: int, count: int, upto: int | None = None) -> Page:
        """Rows `first`, `first` + 1, ... of a table.

        Args:
            where: the filters; `task` also finds the tasks whose name begins with it.
            upto: only episodes up to this number; None is all there are now.

        Raises:
            BadInput: an unknown filter or order, or numbers that cannot be.
        """
        if first < 0 or not 0 < count <= LONGEST_PAGE:
            raise BadInput(f"a page begins at 0 or later and has 1 to {LONGEST_PAGE} rows, not {count} from {first}")
        upto = self.last() if upto is None else upto
        rows = self._once(("table", repr(sorted(where.items())), order, upto), lambda: self._table(where, order, upto))
        return Page(list(self._heads(rows[first : first + count])), len(rows), upto)

    def _table(self, where: Where, order: str, upto: int) -> array[int]:
        rest = cast(Where, {name: value for name, value in where.items() if name != "task"})
        text, parameters = condition(rest)
        if wanted := where.get("task"):
            task = to_column(str(wanted))
            text += " AND (task = ? OR name = ? OR (name >= ? AND name < ?))"
            parameters += [task, task, task, to_column(str(wanted) + "\U0010ffff")]
        sql = f"SELECT row FROM episodes WHERE row <= ? AND {text} ORDER BY {ordering(order)}"
        return array("q", (row for (row,) in self._query(sql, [upto, *parameters])))

    def choices(self) -> dict[str, list[tuple[str | int | None, int]]]:
        """The values of what can be filtered by, each with its number of episodes, the most frequent first."""
        upto = self.last()

        def count() -> dict[str, list[tuple[str | int | None, int]]]:
            found: dict[str, list[tuple[str | int | None, int]]] = {}
            for name, most in CHOICES.items():
                sql = f"SELECT {name}, count(*) FROM episodes WHERE row <= ? GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {most}"
                found[name] = [(from_column(value), number) for value, number in self._query(sql, (upto,))]
            return found

        return self._once(("choices", upto), count)

    def curve(self) -> list[Point]:
        """The run so far: of each kind of episodes at most `POINTS` pieces of equal size, and of what measures several
        policies one piece each."""
        upto = self.last()

        def measure() -> list[Point]:
            found: list[Point] = []
            counted = "SELECT kind, count(*), count(DISTINCT policy) FROM kinds GROUP BY kind ORDER BY min(row)"
            kinds = f"WITH kinds AS (SELECT *, {_KIND} AS kind FROM episodes WHERE row <= ?)"
            for kind, number, policies in self._query(f"{kinds} {counted}", (upto,)):
                size = max(-(-number // POINTS), min(10, 1 + number // 10))  # a mean of few episodes says little
                piece = "policy" if kind == "held-out" and 1 < policies <= POINTS else f"(place - 1) / {size}"
                rows = self._query(
                    f"{kinds} SELECT max(row), count(*), avg(outcome = 'success'), avg(score),"
                    " total(completion_tokens), total(seconds) FROM (SELECT *, row_number() OVER (ORDER BY row) AS"
                    f" place FROM kinds WHERE kind = ?) GROUP BY {piece} ORDER BY 1",
                    (upto, kind),
                )
                found += [
                    Point(kind, until, count, success, score, tokens / seconds if tokens and seconds else None)
                    for until, count, success, score, tokens, seconds in rows
                ]
            return found

        return self._once(("curve", upto), measure)

    def played(self) -> str | None:
        """The environment of all episodes; None where there are several, or no episodes."""
        least, most = self._query("SELECT min(env), max(env) FROM episodes")[0]
        return str(from_column(least)) if least is not None and least == most else None

    def spark(self, pieces: int) -> list[float]:
        """Mean success of so many pieces of equal size at the most, in the order they were added; of a run that learns
        from rollouts, of these alone, and never of what was imagined."""
        size = f"max(1, (count(*) OVER () + {pieces - 1}) / {pieces})"
        for only in (f"{_KIND} = 'rollouts'", "actor != 'imagined'"):
            placed = f"SELECT row, outcome, (row_number() OVER (ORDER BY row) - 1) / {size} AS piece FROM episodes"
            rows = self._query(
                f"SELECT avg(outcome = 'success') FROM ({placed} WHERE {only}) GROUP BY piece ORDER BY max(row)"
            )
            if rows:
                return [round(success, 3) for (success,) in rows]
        return []

    def figures(self) -> Summary:
        """`summary` of all episodes, counted again only when one was added or a fault came."""
        return self._once(("figures", self.last(), self.n_faults), self.summary)

    def grove(self, id: str, most: int) -> tuple[list[Head], int]:
        """The episodes of the task that an episode belongs to: forks inherit the task, so this is its whole forest.

        A task that was played in imagination too is one forest with the real one, whatever side the episode is of.

        Returns:
            Up to `most` of them in the order they were added, with the episode's ancestors, and how many there are.
        """
        own = self.head(id)
        same = "name = ? AND split = ? AND (task = ? OR (actor = 'imagined') != ?)"
        imagined = own.actor is Actor.IMAGINED
        of = [to_column(own.name), to_column(own.split), to_column(own.task), imagined]
        total = int(self._query(f"SELECT count(*) FROM episodes WHERE {same}", of)[0][0])
        rows = self._query(f"SELECT {HEAD_COLUMNS} FROM episodes WHERE {same} ORDER BY row LIMIT ?", [*of, most])
        found = {each.id: each for each in map(head, rows)}
        for each in (own, *self.ancestors(id)):
            found.setdefault(each.id, each)
        return sorted(found.values(), key=lambda each: each.number), total

    def tasks(self, order: str, first: int, count: int) -> tuple[list[Played], int]:
        """The tasks that were played, and how many there are.

        Args:
            order: "name", "episodes", "success", "score", "forks", with "-" before it for the largest first.

        Raises:
            BadInput: no such order, or numbers that cannot be.
        """
        by = {"name": "name", "episodes": "3", "forks": "4", "success": "6", "score": "7"}.get(order.removeprefix("-"))
        if by is None or first < 0 or not 0 < count <= LONGEST_PAGE:
            raise BadInput(f"there is no page of tasks by {order!r} with {count} rows from {first}")
        upto = self.last()

        def group() -> list[tuple[object, ...]]:
            # names group together what was played and what was imagined of one task, as a forest does; what a judge
            # says is no success or score of the task
            real = "CASE WHEN actor != 'imagined' THEN"
            return self._query(
                "SELECT name, split, count(*), count(parent), total(actor = 'imagined'),"
                f" avg({real} outcome = 'success' END), avg({real} score END), max({real} score END), max(row) FROM"
                f" episodes WHERE row <= ? GROUP BY name, split ORDER BY {by}"
                f" {'DESC' if order.startswith('-') else 'ASC'} NULLS LAST, name, split",
                (upto,),
            )

        rows = self._once(("tasks", order, upto), group)
        part = rows[first : first + count]
        heads = {each.number: each for each in self._heads(array("q", [cast(int, row[-1]) for row in part]))}
        found = []
        for name, split, episodes, forks, imagined, success, score, best, last in cast(
            list[tuple[str, str, int, int, float, float | None, float | None, float | None, int]], part
        ):
            about = (heads[last].env, str(from_column(name)), str(from_column(split)))
            found.append(Played(*about, episodes, forks, int(imagined), success, score, best, heads[last].id))
        return found, len(rows)

    def trail(self, id: str) -> Trail:
        """`path`, remembered: what is stored never changes."""
        return self._once(("trail", id), lambda: self.path(id))

    def kept_steps(self, id: str) -> dict[int, bytes]:
        """What the environment kept of an episode's steps; empty where it kept nothing, or where that is damaged."""

        def unpack() -> dict[int, bytes]:
            body = self.kept_block(id)
            try:
                return unpack_kept(body) if body is not None else {}
            except (zlib.error, ValueError, TypeError, struct.error):
                return {}

        return self._once(("kept", id), unpack)

    def searched(self) -> dict[str, tuple[int, float]]:
        """N and the sum of the values of every node that a search has left in the notes, by the episode's id."""
        names = self._query("SELECT key, length(value) FROM meta WHERE substr(key, 1, 7) = 'search ' ORDER BY key")

        def read() -> dict[str, tuple[int, float]]:
            found: dict[str, tuple[int, float]] = {}
            for note, nodes in self.meta().items():
                if note.startswith("search ") and isinstance(nodes, dict):
                    pairs = ((id, pair) for id, pair in nodes.items() if isinstance(pair, list) and len(pair) == 2)
                    found |= {id: (int(visits), float(total)) for id, (visits, total) in pairs}
            return found

        return self._once(("searched", json.dumps(names, default=str)), read) if names else {}

    def imagines(self) -> bool:
        """Is anything of it imagined."""
        upto = self.last()
        sql = "SELECT 1 FROM episodes WHERE actor = 'imagined' LIMIT 1"
        return self._once(("imagines", upto), lambda: bool(self._query(sql)))

    def broken(self, first: int, count: int) -> list[tuple[int, Episode]]:
        """Faults with their numbers, from a number on, in the order they happened."""
        sql = "SELECT row, key, head, body FROM faults WHERE row >= ? ORDER BY row LIMIT ?"
        rows = self._query(sql, (first, min(count, LONGEST_PAGE)))
        return [(number, self._episode(*rest)) for number, *rest in rows]

    def _once(self, key: object, make: Callable[[], T]) -> T:
        """What was made for this key, or is made now; only the last few are kept."""
        with self._making:
            if key not in self._made:
                self._made[key] = make()
            self._made.move_to_end(key)
            while len(self._made) > TABLES:
                self._made.popitem(last=False)
            return cast(T, self._made[key])


def mark_of(path: Path) -> tuple[int, int]:
    """Device and number of a file; zeros where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino

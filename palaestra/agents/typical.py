"""What episodes of an environment have cost so far, read out of stores without touching them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

_EPISODES, _STORES, _INDEX = 2000, 20, 700
"""The newest episodes of a store that are looked at, how many stores, and bytes that the store's indexes take."""


@dataclass(frozen=True)
class Typical:
    """Means over episodes of one environment.

    Attributes:
        env: its id.
        episodes: looked at; those that a model acted in, where there are any.
        turns, prompt_tokens, completion_tokens: of an episode.
        bytes: that it takes in the store.
        held: episodes of the environment in that store, forks and all.
        stores: where they are.
    """

    env: str
    episodes: int
    turns: float
    prompt_tokens: float
    completion_tokens: float
    bytes: float
    held: int
    stores: tuple[Path, ...]


def near(out: Path) -> list[Path]:
    """The stores in a run directory, in the runs below it (a comparison's), and in those beside it; newest first."""
    places = [out, *_folders(out), *_folders(out.parent)]
    files = {place / "episodes.sqlite" for place in places} if out.is_dir() or out.parent.is_dir() else set[Path]()
    found = [file for file in files if file.is_file()]
    return sorted(found, key=lambda file: (file.parent != out, -file.stat().st_mtime))[:_STORES]


def typical(stores: Sequence[Path], env: str) -> Typical | None:
    """The means over the episodes of an environment in the first of these stores that has any; None without any.

    What is no store, or cannot be read, is passed over.
    """
    for file in stores:
        for actor in ("policy", None):
            row = _row(
                file,
                "SELECT count(*), avg(n_turns), avg(prompt_tokens), avg(completion_tokens),"
                " avg(length(head) + length(body)) FROM (SELECT * FROM episodes JOIN bodies USING (row) WHERE env = ?"
                " AND parent IS NULL AND (? IS NULL OR (actor = ? AND completion_tokens > 0))"
                " ORDER BY row DESC LIMIT ?)",
                (env, actor, actor, _EPISODES),
            )
            if row is not None and row[0]:
                turns, read, written, size = (float(value or 0) for value in row[1:5])
                all_ = _row(file, "SELECT count(*) FROM episodes WHERE env = ?", (env,))
                held_here = int(all_[0]) if all_ is not None else 0
                return Typical(env, int(row[0]), turns, read, written, size + _INDEX, held_here, (file,))
    return None


def held(file: Path, keys: Iterable[str]) -> int:
    """How many episodes with these keys a store holds; 0 where there is none."""
    wanted, found = list(dict.fromkeys(keys)), 0
    for first in range(0, len(wanted), 500):
        part = wanted[first : first + 500]
        row = _row(file, f"SELECT count(*) FROM episodes WHERE key IN ({', '.join('?' * len(part))})", part)
        found += int(row[0]) if row is not None else 0
    return found


def _row(file: Path, sql: str, parameters: Sequence[object]) -> tuple[float, ...] | None:
    """The one row of a query; None where it cannot be asked. Nothing is written beside the file."""
    log = file.with_name(file.name + "-wal")
    try:
        live = log.exists() and log.stat().st_size > 0
        # Without a log nobody writes, and the file alone is the store; a plain reader would leave files beside it.
        uri = f"{file.absolute().as_uri()}?mode=ro{'' if live else '&immutable=1'}"
        with closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
            row: tuple[float, ...] | None = connection.execute(sql, parameters).fetchone()
            return row
    except (sqlite3.Error, OSError):
        return None


def _folders(place: Path) -> list[Path]:
    try:
        return [each for each in place.iterdir() if each.is_dir()] if place.is_dir() else []
    except OSError:
        return []

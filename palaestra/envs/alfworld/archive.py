"""The games of one split of ALFWorld's release, in its archive (`alfworld_SPLIT.tar.xz`) or in its folders.

An archive cannot be read at a place, and the release has thousands of folders: so the games are gone through once, and
what a start needs afterwards is kept in an SQLite file in the cache, under the archive's hash, or a hash of the paths,
sizes and times of change of all files of the folders. It is written beside its place and moved there when it is whole:
an archive or a game that cannot be read, or whose texts cannot be parsed, leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import os
import sqlite3
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from palaestra.envs.alfworld.files import GameFile
from palaestra.envs.alfworld.game import parsed
from palaestra.envs.data import cache_dir, cache_folder
from palaestra.envs.errors import BadInput
from palaestra.envs.lock import alone

_FORMAT = 2
"""Of the SQLite file: another number reads the archive again."""

_TREES = ("json_2.1.1", "json_2.1.2", ".")
"""Folders in which the release's own layout has its splits."""

TYPES = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
"""The task types, in the paper's order."""

_ABANDONED_S = 3600

_LEFT_OUT = "pick_and_place_with_movable_recep"
"""A type that ALFRED has and ALFWorld leaves out."""


class Recorded(NamedTuple):
    """An expert's recorded episode.

    Attributes:
        intro: the first observation.
        commands: what was done.
        observations: what was read after each command; after the last one it may be missing.
    """

    intro: str
    commands: tuple[str, ...]
    observations: tuple[str, ...]


class _Entry(NamedTuple):
    """The files of one game."""

    path: str
    game: str
    task: str
    expert: str | None


@dataclass(frozen=True)
class Source:
    """Where a split's games lie.

    Attributes:
        place: the archive, or the folder of the split.
        key: changes when the games change.
    """

    split: str
    place: Path
    key: str

    @classmethod
    def find(cls, folder: Path, split: str) -> Source | None:
        """The archive of a split in a data folder, or its folder; None if it has neither.

        Folders are walked through each time (0.1 s for the training split).

        Raises:
            BadInput: what is there cannot be looked at.
        """
        place = cls.place_of(folder, split)
        if place is None:
            return None
        try:
            if place.is_dir():
                return cls(split, place, _walked(place))
            stat = place.stat()
            return cls(split, place, _hashed(str(place), stat.st_size, stat.st_mtime_ns))
        except OSError as error:
            raise BadInput(f"{place} cannot be read: {error.strerror or error}") from None

    @staticmethod
    def place_of(folder: Path, split: str) -> Path | None:
        """Where a split lies: an archive or a folder. Nothing is read."""
        archive = folder / f"alfworld_{split}.tar.xz"
        if os.path.isfile(archive):
            return archive
        return next((place for tree in _TREES if os.path.isdir(place := folder / tree / split)), None)

    def entries(self) -> Iterator[_Entry]:
        """The games, in no particular order. Raises BadInput: the archive is damaged, or a file cannot be read."""
        return self._of_archive() if self.place.is_file() else self._of_folder()

    def _of_archive(self) -> Iterator[_Entry]:
        found: dict[str, str] = {}
        here = ""
        try:
            with tarfile.open(self.place, "r|xz") as archive:
                for member in archive:
                    path = PurePosixPath(member.name)
                    folder = "/".join(path.parts[-3:-1])
                    content = archive.extractfile(member) if member.isfile() else None
                    if content is None:
                        continue
                    if folder != here and found:
                        yield from _entry(here, found)
                        found = {}
                    here = folder
                    found[path.name] = content.read().decode("utf-8")
            yield from _entry(here, found)
        except (tarfile.TarError, lzma.LZMAError, EOFError, zlib.error, OSError, UnicodeDecodeError) as error:
            after = f", after {here}" if here else ""
            raise BadInput(
                f"{self.place} is damaged or cut off ({error}{after}); get it again: palaestra data get alfworld"
            ) from None

    def _of_folder(self) -> Iterator[_Entry]:
        for folder in sorted(self.place.glob("*/*/")):
            names = [name for name in (_GAME, _TASK, _EXPERT) if (folder / name).is_file()]
            try:
                found = {name: (folder / name).read_text(encoding="utf-8") for name in names}
            except (OSError, UnicodeDecodeError) as error:
                raise BadInput(f"{folder} cannot be read: {error}") from None
            yield from _entry("/".join(folder.parts[-2:]), found)


_FILES = _GAME, _TASK, _EXPERT = "game.tw-pddl", "traj_data.json", "gt_traj.json"


def _entry(path: str, found: dict[str, str]) -> Iterator[_Entry]:
    """The game of a folder, unless it has none, or one that the original's loader leaves out for its name."""
    if _GAME in found and _TASK in found and "movable" not in path and "Sliced" not in path:
        yield _Entry(path, found[_GAME], found[_TASK], found.get(_EXPERT))


def _walked(place: Path) -> str:
    """Changes with the path, size and time of change of any file of any game in a split's folder."""
    digest = hashlib.sha256(os.fsencode(place.resolve()))
    for task in sorted(_folders(place)):
        for trial in sorted(_folders(task)):
            for file in sorted(os.scandir(trial), key=lambda each: each.name):
                if file.name in _FILES:
                    stat = file.stat()
                    digest.update(os.fsencode(f"\n{stat.st_size} {stat.st_mtime_ns} {file.path}"))
    return digest.hexdigest()[:16]


def _folders(place: str | Path) -> list[str]:
    with os.scandir(place) as found:
        return [each.path for each in found if each.is_dir()]


@lru_cache(maxsize=16)
def _hashed(archive: str, size: int, changed: int) -> str:
    with open(archive, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class Games:
    """The games of a split: by task type, numbered from 0 in the order of their paths `TASK/TRIAL`.

    Args:
        source: where they lie. The first time they are gone through and parsed: seconds (the training split: 20).

    Raises:
        BadInput: an archive or a game cannot be read; one line with file and line, and nothing is kept.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._index = cache_dir() / "alfworld" / f"{source.split}-{source.key}-{_FORMAT}.sqlite"
        if not self._index.is_file():
            self._make()
        self.counts = self._read_counts()

    def path(self, kind: str, number: int) -> str:
        """`TASK/TRIAL` of a game. Raises BadInput when there are not so many."""
        return self._row(kind, number)[0]

    def file(self, kind: str, number: int) -> GameFile:
        """A game. Raises BadInput when there are not so many."""
        path, game, task, _ = self._row(kind, number)
        return GameFile.read(f"{self.source.place.name}: {path}", _text(game), _text(task))

    def expert(self, kind: str, number: int) -> Recorded | None:
        """The recorded expert episode of a game; None where the release has none."""
        path, _, _, told = self._row(kind, number)
        if told is None:
            return None
        return _record(f"{self.source.place.name}: {path}", _text(told))

    def find(self, path: str) -> tuple[str, int] | None:
        """Task type and number of a game's `TASK/TRIAL`."""
        with self._open() as index:
            row = index.execute("SELECT kind, number FROM games WHERE path = ?", (path,)).fetchone()
        return (str(row[0]), int(row[1])) if row else None

    def _row(self, kind: str, number: int) -> tuple[str, bytes, bytes, bytes | None]:
        with self._open() as index:
            asked = "SELECT path, game, task, expert FROM games WHERE kind = ? AND number = ?"
            row: tuple[str, bytes, bytes, bytes | None] | None = index.execute(asked, (kind, number)).fetchone()
        if row is None:
            raise BadInput(
                f"{self.source.place} has {self.counts.get(kind, 0)} games of type {kind}, not one with number {number}"
            )
        return row

    def _read_counts(self) -> dict[str, int]:
        with self._open() as index:
            return dict(index.execute("SELECT kind, COUNT(*) FROM games GROUP BY kind").fetchall())

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(f"{self._index.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
            with contextlib.closing(connection):
                yield connection
        except sqlite3.Error as error:
            raise BadInput(f"{self._index} cannot be read ({error}); delete it, and it will be made again") from None

    # -- the index ---------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        """Write the index beside its place and move it there. A second process that wants it waits."""
        folder = cache_folder("alfworld")
        half = folder / f"{self._index.name}.half"
        try:
            with alone(folder / f"{self._index.name}.lock"):
                _sweep(folder, half)
                if self._index.is_file():
                    return
                try:
                    self._write(str(half))
                    os.replace(half, self._index)
                finally:
                    half.unlink(missing_ok=True)
        except (sqlite3.Error, OSError) as error:
            raise BadInput(f"the index of ALFWorld's games cannot be written to {self._index} ({error})") from None

    def _write(self, half: str) -> None:
        """The games that the original's loader keeps: of a known type, and known to be solvable."""
        with contextlib.closing(sqlite3.connect(half, isolation_level=None)) as index:
            index.execute("PRAGMA journal_mode = OFF")
            index.execute("PRAGMA synchronous = OFF")
            index.execute("CREATE TABLE games (path TEXT PRIMARY KEY, kind TEXT, number INTEGER, "
                          "game BLOB, task BLOB, expert BLOB) WITHOUT ROWID")  # fmt: skip
            index.execute("BEGIN")
            kinds: dict[str, list[str]] = {}
            left_out: list[str] = []
            for entry in self.source.entries():
                if not entry.path.isprintable():
                    raise BadInput(f"{self.source.place} has a game in a folder with the name {entry.path!r}")
                where = f"{self.source.place.name}: {entry.path}"
                file = GameFile.read(where, entry.game, entry.task)
                solvable = json.loads(entry.game).get("solvable")
                if solvable is not None and not isinstance(solvable, bool):
                    raise BadInput(f"{where}/game.tw-pddl line 1: 'solvable' should be true or false, is {solvable!r}")
                if file.task_type not in (*TYPES, _LEFT_OUT):
                    raise BadInput(f"{where}/traj_data.json line 1: ALFWorld has no task type {file.task_type!r}")
                if file.task_type not in TYPES or not solvable:
                    left_out.append(entry.path)
                    continue
                parsed(file)
                if entry.expert is not None:
                    _record(where, entry.expert)
                kinds.setdefault(file.task_type, []).append(entry.path)
                expert = _packed(entry.expert) if entry.expert is not None else None
                row = (entry.path, file.task_type, 0, _packed(entry.game), _packed(entry.task), expert)
                index.execute("INSERT INTO games VALUES (?, ?, ?, ?, ?, ?)", row)
            if not kinds:
                raise BadInput(f"{self.source.place} holds no game; get it again: palaestra data get alfworld")
            for paths in kinds.values():
                numbered = [(number, path) for number, path in enumerate(sorted(paths))]
                index.executemany("UPDATE games SET number = ? WHERE path = ?", numbered)
            index.execute("CREATE UNIQUE INDEX places ON games (kind, number)")
            index.execute("COMMIT")
        if left_out:
            print(
                f"{self.source.place}: {len(left_out)} games are left out, as by the original's loader: not marked as "
                f"solvable, or of the type {_LEFT_OUT}; the first is {min(left_out)}",
                file=sys.stderr,
            )


def _sweep(folder: Path, own: Path) -> None:
    """Take away what killed processes left: this index's own half, and any that nobody has written to for an hour."""
    for left in folder.glob("*.half"):
        with contextlib.suppress(OSError):  # another process was faster
            if left == own or time.time() - left.stat().st_mtime > _ABANDONED_S:
                left.unlink()


def _record(where: str, told: str) -> Recorded:
    try:
        said = [str(turn["value"]) for turn in json.loads(told)]
        return Recorded(said[0], tuple(said[1::2]), tuple(said[2::2]))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise BadInput(f"{where}/{_EXPERT} line {line}: cannot be read ({error})") from None


def _packed(text: str) -> bytes:
    return zlib.compress(text.encode(), 2)


def _text(packed: bytes) -> str:
    return zlib.decompress(packed).decode()

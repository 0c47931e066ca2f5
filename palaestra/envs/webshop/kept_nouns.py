"""The nouns that a tagger found in titles, kept on disk beside a catalogue's index, so that no title is tagged twice.

Each tagger, that is each version of spaCy with each version of a model, has a file of its own: what another one found
is never taken for its findings. The file only spares work. One that is damaged is begun anew, one that cannot be
read or written is done without, and each entry carries a checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")

_WAIT = 10.0  # seconds, for other processes that write
_COMPLETE = 1
# Locked for long, or cannot be read or written; every other error of the database is a damaged file.
_OUT_OF_REACH = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_TABLE = "CREATE TABLE IF NOT EXISTS kept (title BLOB PRIMARY KEY, nouns TEXT, sum INT) WITHOUT ROWID"


class KeptNouns:
    """Title -> nouns on disk. Holds nothing open, so threads and forked processes may share it.

    Args:
        folder: where the file is, or will be when the first nouns are kept.
        tagger: what finds the nouns, with its versions.

    Attributes:
        path: the file.
        usable: False once the file turned out to be out of reach; then nothing is found and nothing kept.
    """

    def __init__(self, folder: Path, tagger: str) -> None:
        self.path = folder / f"{re.sub('[^A-Za-z0-9._-]+', '-', tagger)}.sqlite"
        self.usable = True

    @property
    def complete(self) -> bool:
        """Was it said that the nouns of all titles are kept."""
        return self._do(lambda database: database.execute("PRAGMA user_version").fetchone()[0]) == _COMPLETE

    def get(self, titles: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
        """The nouns of those titles whose nouns are known."""

        def look_up(database: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
            found = {}
            for title in titles:
                row = database.execute("SELECT nouns, sum FROM kept WHERE title = ?", (_key(title),)).fetchone()
                if row is not None and row[1] == _sum(title, str(row[0])):
                    found[title] = tuple(json.loads(row[0]))
            return found

        return self._do(look_up) or {}

    def put(self, found: Iterable[tuple[str, tuple[str, ...]]], *, complete: bool = False) -> None:
        """Keep the nouns of some titles, all of them or, where that cannot be written, none.

        Args:
            complete: all titles of the catalogue are known now.
        """
        told = [(title, json.dumps(nouns, ensure_ascii=False)) for title, nouns in found]
        rows = [(_key(title), nouns, _sum(title, nouns)) for title, nouns in told]

        def write(database: sqlite3.Connection) -> None:
            with database:
                database.execute("BEGIN IMMEDIATE")
                database.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", rows)
                if complete:
                    database.execute(f"PRAGMA user_version = {_COMPLETE}")

        self._do(write, make=True)

    def _do(self, task: Callable[[sqlite3.Connection], Found], *, make: bool = False) -> Found | None:
        """Do something with the file; None where it is not there (and is not to be made) or is of no use."""
        for again in (True, False):
            if not self.usable or not (make or self.path.is_file()):
                return None
            try:
                with contextlib.closing(self._opened()) as database:
                    return task(database)
            except OSError:
                self.usable = False
            except (sqlite3.Error, ValueError) as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUT_OF_REACH:
                    self.usable = False
                    return None
                self.usable = again  # it is damaged
                with contextlib.suppress(OSError):
                    self.path.unlink(missing_ok=True)
        return None

    def _opened(self) -> sqlite3.Connection:
        self.path.parent.mkdir(exist_ok=True)
        database = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous = OFF")  # a lost entry is found again, a damaged one is noticed
            database.execute(_TABLE)
        except sqlite3.Error:
            database.close()
            raise
        return database


def _key(title: str) -> bytes:
    return hashlib.blake2b(title.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _sum(title: str, nouns: str) -> int:
    return zlib.crc32(f"{title}\0{nouns}".encode("utf-8", "surrogatepass"))

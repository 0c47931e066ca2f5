"""The SQLite file under the episode store: opening it, its schema, one lock, and errors a person can read.

The file is in WAL mode: readers beside a live writer see whole transactions, and a process killed at any moment loses
what it had not committed and nothing else. `synchronous=NORMAL` means that a power cut (not a kill) may also lose the
last commits before a checkpoint, but never harms the file.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any, Literal

from palaestra.agents.packing import from_column, from_json, to_column, to_json
from palaestra.envs.errors import BadInput

SCHEMA_VERSION = 1
_MAGIC = b"SQLite format 3\x00"
_BUSY_SECONDS = 60.0

# Rows of `episodes` are light, so that heads are listed without touching turns; `bodies` holds the turns.
# Each index costs a page of log a commit, so only what picks few rows has one: splits and outcomes are filtered by
# reading the light rows.
# `head` is all of an episode but its turns; the other columns are what is asked for. A fault goes nowhere but `faults`.
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE episodes (
    row INTEGER PRIMARY KEY,
    id NOT NULL UNIQUE, key NOT NULL UNIQUE,
    env NOT NULL, task NOT NULL, name NOT NULL, split NOT NULL,
    parent REFERENCES episodes (id), fork_step INTEGER NOT NULL, sample INTEGER NOT NULL,
    outcome TEXT NOT NULL, score REAL NOT NULL, n_turns INTEGER NOT NULL,
    actor TEXT NOT NULL, policy NOT NULL, policy_version NOT NULL, recipe, iteration INTEGER,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL
);
CREATE TABLE bodies (row INTEGER PRIMARY KEY REFERENCES episodes (row), head BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE faults (row INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, key NOT NULL, head BLOB NOT NULL,
    body BLOB NOT NULL);
CREATE INDEX by_task ON episodes (task);
CREATE INDEX by_name ON episodes (name);
CREATE INDEX by_parent ON episodes (parent, fork_step);
CREATE INDEX by_iteration ON episodes (recipe, iteration);
CREATE INDEX faults_by_key ON faults (key);
"""
# Came later, and older stores do without: what environments kept of an episode's steps, where they kept anything.
_KEPT = "CREATE TABLE IF NOT EXISTS kept (row INTEGER PRIMARY KEY REFERENCES episodes (row), body BLOB NOT NULL)"


class Database:
    """One SQLite file of the store, safe to use from several threads and after a fork of the process.

    Args:
        path: the file. With mode `rw` it is made if it is not there, its folder too.
        mode: `rw`, or `r` to read beside a live writer or from a read-only folder.

    Raises:
        BadInput: the file is missing (`r`), is no episode store, is damaged, of another schema version, or the place
            cannot be written (`rw`).

    Attributes:
        file: the path of the file.
        mode: as given.
    """

    def __init__(self, path: str | os.PathLike[str], *, mode: Literal["rw", "r"] = "rw") -> None:
        if mode not in ("rw", "r"):
            raise BadInput(f"mode of an episode store is 'rw' or 'r', not {mode!r}")
        self.file = FilePath(path)
        self.mode = mode
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._closed = False
        self._has_kept = False
        self._abandoned: list[sqlite3.Connection] = []
        self._connection = self._open()

    # -- using it ----------------------------------------------------------------------------------------------------

    def _query(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a statement that only reads."""
        self._own()
        with self._lock, self._readable_errors():
            return self._live().execute(sql, parameters).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything inside is committed together at the end, or not at all."""
        self._own()
        with self._lock:
            if self.mode == "r":
                raise BadInput(f"episode store {self.file} was opened to read only; open it with mode='rw' to add")
            with self._readable_errors():
                connection = self._live()
                try:  # a Ctrl-C may come between any two of these
                    connection.execute("BEGIN IMMEDIATE")
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise

    def meta(self) -> dict[str, Any]:
        """What is noted about the run: its configuration, model, tokenizer, whatever `set_meta` was given."""
        return {
            str(from_column(key)): from_json(value)
            for key, value in self._query("SELECT key, value FROM meta WHERE key != 'schema'")
        }

    def set_meta(self, key: str, value: object) -> None:
        """Note something about the run, replacing what the key held. `value` is anything that JSON can hold."""
        if key == "schema":
            raise BadInput("the meta key 'schema' belongs to the store itself; choose another")
        try:
            raw = to_json(value)
        except (TypeError, ValueError) as error:
            raise BadInput(f"meta {key!r} of an episode store must be JSON: {error}") from None
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (to_column(key), raw))

    def check(self) -> None:
        """Read every page. Raises BadInput with the first thing that is wrong. Time: a second per some 100 MB."""
        found = str(self._query("PRAGMA integrity_check(1)")[0][0])
        if found != "ok":
            raise self._damaged(found)
        orphans = self._query("SELECT count(*) FROM episodes LEFT JOIN bodies USING (row) WHERE bodies.row IS NULL")
        if orphans[0][0]:
            raise self._damaged(f"{orphans[0][0]} episodes without turns")

    def checkpoint(self) -> None:
        """Write the log back, so that the one file holds everything; with a live reader, as much as it lets us."""
        if self.mode == "rw":
            self._query("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Write the log back and close; a single file remains. Closing twice is fine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if os.getpid() == self._pid:  # the last connection to close writes the log back and removes it
                with self._readable_errors():
                    self._connection.close()

    # -- opening it --------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self.mode == "r" and not self.file.exists():
            raise BadInput(f"no episode store at {self.file}; check the path, or collect episodes first")
        try:
            if self.mode == "rw":
                self.file.parent.mkdir(parents=True, exist_ok=True)
            if self.file.exists():
                with self.file.open("rb") as file:
                    start = file.read(len(_MAGIC))
                if start not in (_MAGIC, b""):
                    raise BadInput(f"{self.file} is not an episode store (not an SQLite file); name another file")
        except OSError as error:
            raise BadInput(f"episode store {self.file} cannot be opened: {error.strerror or error}") from None
        with self._readable_errors():
            connection = self._connect()
            try:
                if self.mode == "rw":
                    self._prepare(connection)
                self._recognise(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        options: dict[str, Any] = {"isolation_level": None, "check_same_thread": False, "timeout": _BUSY_SECONDS}
        if self.mode == "rw":
            writer: sqlite3.Connection = sqlite3.connect(self.file, **options)
            return writer
        uri = self.file.absolute().as_uri() + "?mode=ro"
        connection: sqlite3.Connection = sqlite3.connect(uri, uri=True, **options)
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            # In a read-only folder SQLite cannot make the files that WAL needs. Without a log nobody is writing, and
            # the file alone is the whole store.
            connection.close()
            log = self.file.with_name(self.file.name + "-wal")
            if log.exists() and log.stat().st_size:
                raise
            connection = sqlite3.connect(uri + "&immutable=1", uri=True, **options)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA journal_mode=WAL")
        # Asking for the write lock now shows a read-only file before hours of collecting; and two processes that make
        # the store at once do it one after the other.
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute("INSERT INTO meta VALUES ('schema', ?)", (to_json(SCHEMA_VERSION),))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _recognise(self, connection: sqlite3.Connection) -> None:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            raise BadInput(f"episode store {self.file} is empty: its first writer died before it began; collect again")
        if not {"meta", "episodes", "bodies", "faults"} <= tables:
            raise BadInput(f"{self.file} is an SQLite file but not an episode store; name another file")
        row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        try:
            version = from_json(row[0]) if row else None
        except (ValueError, AttributeError):
            version = None
        if not isinstance(version, int):
            raise self._damaged("its schema version cannot be read")
        if version != SCHEMA_VERSION:
            raise BadInput(
                f"episode store {self.file} has schema version {version}, this Palaestra reads version "
                f"{SCHEMA_VERSION}; open it with the Palaestra that wrote it, or a newer one"
            )
        self._has_kept = "kept" in tables
        if self.mode == "rw" and not self._has_kept:
            connection.execute(_KEPT)
            self._has_kept = True

    def _live(self) -> sqlite3.Connection:
        if self._closed:
            raise BadInput(f"episode store {self.file} is closed")
        return self._connection

    def _own(self) -> None:
        """After a fork of the process an SQLite connection must not be used, not even closed: open another."""
        if os.getpid() != self._pid:
            self._lock = threading.RLock()
            self._abandoned.append(self._connection)
            self._pid = os.getpid()
            if not self._closed:
                self._connection = self._open()

    # -- errors ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:
            raise self._readable(error) from error

    def _readable(self, error: Exception) -> BadInput:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        text = " ".join(str(error).split())
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self._damaged(text)
        advice = {
            sqlite3.SQLITE_FULL: "free some space; all committed episodes are safe",
            sqlite3.SQLITE_IOERR: "the disk is full, over a limit or failing; all committed episodes are safe",
            sqlite3.SQLITE_READONLY: "the file or its folder is read-only; choose another place or mode='r'",
            sqlite3.SQLITE_CANTOPEN: "the folder cannot be written or a log lies beside the file; copy both elsewhere",
            sqlite3.SQLITE_PERM: "the file may not be opened; check its permissions",
            sqlite3.SQLITE_BUSY: f"another process has held it for {_BUSY_SECONDS:.0f} s; wait for it to finish",
            sqlite3.SQLITE_LOCKED: "another process holds it; wait for it to finish",
        }.get(code, "check the file")
        return BadInput(f"episode store {self.file}: {text}; {advice}")

    def _damaged(self, what: str) -> BadInput:
        return BadInput(
            f"episode store {self.file} is damaged ({what}); restore a copy, or rescue what is left with "
            f"`sqlite3 FILE .recover`"
        )

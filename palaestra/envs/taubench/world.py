"""The databases of one episode: what has changed lies on top of tables that all episodes share.

A snapshot is a copy of the changes alone, some kilobytes. Two databases are compared as tau-bench compares them: by the
text of all that they hold with keys in order, so that 5 and 5.0 differ.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping

from palaestra.envs.taubench.data import Record, Tables

Changes = dict[str, dict[str, Record]]
"""Table -> id -> the row as it is now, of rows that were changed or added."""


class Refused(Exception):
    """A tool does not do what it was asked for; the message tells the agent why. Nothing was changed."""


class World:
    """What tools read and change.

    Args:
        tables: the databases as the files have them; never written to.
        changes: of this episode; grows with `edit` and `add`.
    """

    def __init__(self, tables: Tables, changes: Changes) -> None:
        self.tables = tables
        self.changes = changes

    def find(self, table: str, id: str) -> Record | None:
        """A row to look at, or None. It must not be changed."""
        changed = self.changes.get(table, {}).get(id)
        return changed if changed is not None else self.tables[table].get(id)

    def need(self, table: str, id: str) -> Record:
        """A row to look at. Raises Refused where there is none."""
        row = self.find(table, id)
        if row is None:
            raise Refused(f"{table[:-1]} not found")
        return row

    def rows(self, table: str) -> Iterator[tuple[str, Record]]:
        """All rows to look at: the files' in their order, then those that were added."""
        changed = self.changes.get(table, {})
        for id, row in self.tables[table].items():
            yield id, changed.get(id, row)
        for id, row in changed.items():
            if id not in self.tables[table]:
                yield id, row

    def edit(self, table: str, id: str) -> Record:
        """A row to change. Raises Refused where there is none."""
        row = self.need(table, id)
        rows = self.changes.setdefault(table, {})
        if id not in rows:
            rows[id] = copy.deepcopy(row)
        return rows[id]

    def add(self, table: str, id: str, row: Record) -> None:
        """Add a row."""
        self.changes.setdefault(table, {})[id] = row


def differing(tables: Tables, one: Changes, other: Changes) -> list[str]:
    """The rows in which two databases differ, as `table/id`; empty where they hold the same."""
    found = []
    for table in tables:
        mine, theirs = one.get(table, {}), other.get(table, {})
        for id in {**mine, **theirs}:
            base = tables[table].get(id)
            if canonical(mine.get(id, base)) != canonical(theirs.get(id, base)):
                found.append(f"{table}/{id}")
    return sorted(found)


def canonical(value: object) -> str:
    """A text that two values share exactly if tau-bench takes them for the same."""
    return str(_ordered(value))


def fingerprint(tables: Tables, changes: Changes) -> str:
    """The hash that tau-bench gives to a whole database, as its recorded episodes state it."""
    whole: Mapping[str, object] = {table: {**rows, **changes.get(table, {})} for table, rows in tables.items()}
    return hashlib.sha256(canonical(whole).encode("utf-8", "surrogatepass")).hexdigest()


def _ordered(value: object) -> object:
    if isinstance(value, Mapping):
        return tuple(sorted((key, _ordered(part)) for key, part in value.items()))
    return tuple(_ordered(part) for part in value) if isinstance(value, list) else value

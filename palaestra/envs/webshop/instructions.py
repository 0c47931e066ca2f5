"""What the attribute files of a catalogue say of its products, on disk while the products come by."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from palaestra.envs.errors import BadInput
from palaestra.envs.webshop.json_stream import members

_CACHE = 16_000  # KB of the database that are held in memory


class Instructions:
    """What the attribute files say of each product, on disk while the products come by."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._database.execute(f"PRAGMA cache_size = -{_CACHE}")
        self._database.execute(
            "CREATE TABLE said (kind TEXT, asin TEXT, content TEXT, PRIMARY KEY (kind, asin)) WITHOUT ROWID"
        )
        self._database.execute("CREATE TABLE seen (asin TEXT PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")
        self._kinds: set[str] = set()

    def load(self, kind: str, path: Path) -> None:
        self._kinds.add(kind)
        for line, asin, content in members(path):
            wrong = _wrong_synthetic(content) if kind == "synthetic" else _wrong_human(content)
            kept = "" if wrong else json.dumps(_kept(content), ensure_ascii=False)
            if not wrong and not is_text(asin + kept):
                wrong = "a text holds half of a surrogate pair, which is no text"
            if wrong:
                raise BadInput(f"{path}, line {line}: product {asin[:20]!r}: {wrong}")
            self._database.execute("INSERT OR REPLACE INTO said VALUES (?, ?, ?)", (kind, asin, kept))

    def first(self, asin: str) -> bool:
        """Is this the first time that this product is asked for."""
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (asin,)).rowcount == 1

    def of(self, kind: str, asin: str) -> object:
        """The entry of a product, None if there is none."""
        if kind not in self._kinds:
            return None
        query = "SELECT content FROM said WHERE kind = ? AND asin = ?"
        row = self._database.execute(query, (kind, asin)).fetchone()
        content: object = json.loads(row[0]) if row else None
        return content

    def close(self) -> None:
        self._database.close()


_KEYS = ("attributes", "instruction", "instruction_attributes", "instruction_options")


def _kept(content: object) -> object:
    """What goals are made of, without the rest that an entry may hold."""
    if isinstance(content, list):
        return [_kept(each) for each in content]
    return {key: content[key] for key in _KEYS if key in content} if isinstance(content, dict) else content


def is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _wrong_synthetic(entry: object) -> str | None:
    if not isinstance(entry, dict):
        return "its entry should be an object"
    if "attributes" in entry and not _texts(entry["attributes"]):
        return "'attributes' should be a list of texts"
    if entry.get("instruction") is not None:
        if not isinstance(entry["instruction"], str):
            return "'instruction' should be a text"
        if not _texts(entry.get("instruction_attributes")) or not entry["instruction_attributes"]:
            return "'instruction_attributes' should be a list of texts that is not empty"
    return None


def _wrong_human(entry: object) -> str | None:
    if not isinstance(entry, list):
        return "its entry should be a list of instructions"
    for each in entry:
        if not isinstance(each, dict) or not isinstance(each.get("instruction"), str):
            return "an instruction has no text 'instruction'"
        for key in ("instruction_attributes", "instruction_options"):
            if not _texts(each.get(key)):
                return f"{key!r} of an instruction should be a list of texts"
    return None

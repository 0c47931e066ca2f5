"""Builds the index of a catalogue on disk, once, in one pass over the product file and with flat memory.

The folder appears under its name only when it is complete; a second process that wants the same one waits.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import math
import os
import shutil
import sqlite3
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from palaestra.envs.errors import BadInput
from palaestra.envs.lock import alone
from palaestra.envs.webshop.json_stream import elements, members
from palaestra.envs.webshop.postings_writer import PostingsWriter
from palaestra.envs.webshop.product import BadRecord, Product, is_product, pack, read, searchable
from palaestra.envs.webshop.search import SearchWriter
from palaestra.envs.webshop.sources import SMALL, Source, index_root

ASIN = np.dtype("S10")
COMPLETE = "complete.json"
TOLD = "instructions.jsonl"
MOST_GOALS = 100_000_000
"""Synthetic goals that a catalogue may have; the official ones stay far below."""
_CHECKED = 1 << 26
"""Bytes of an index up to which its content is compared with its checksums whenever it is opened (0.1 s at most)."""
_WORTH_A_WORD = 1 << 25  # bytes of a product file from which on building is announced


def index_of(source: Source) -> tuple[Path, str]:
    """The index folder of a source, built if it is not there yet or not whole, and the hash of the source's content.

    The catalogue that ships in the package needs no cache: where there is none to write to, its index goes to a
    temporary folder, which goes with the process.

    Raises:
        BadInput: a file cannot be read or is damaged; names it and the line. Nothing is kept then. Or the cache cannot
            be written to.
    """
    try:
        content = source.content_hash()
        return _kept_index(source, content), content
    except (OSError, sqlite3.Error) as error:
        if source == Source.find(SMALL):
            return _temporary_index(source, content := source.content_hash()), content
        raise BadInput(
            f"the index of {source.products.name} cannot be written to {index_root()} ({error}); "
            "set PALAESTRA_CACHE to a folder that can be written"
        ) from None


def _kept_index(source: Source, content: str) -> Path:
    folder = index_root() / content
    if _is_whole(folder):
        return folder
    index_root().mkdir(parents=True, exist_ok=True)
    with alone(index_root() / f"{content}.lock"):
        if not _is_whole(folder):
            building = index_root() / f".{content}"
            for left_over in (folder, building):
                if left_over.exists():
                    shutil.rmtree(left_over)
            try:
                building.mkdir()
                _build(source, building)
                os.replace(building, folder)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    return folder


@lru_cache(maxsize=1)
def _temporary_index(source: Source, content: str) -> Path:
    root, here = Path(tempfile.mkdtemp(prefix="palaestra-webshop-")), os.getpid()
    folder = root / content
    folder.mkdir()
    atexit.register(lambda: shutil.rmtree(root, ignore_errors=True) if os.getpid() == here else None)
    _build(source, folder)
    return folder


def _is_whole(folder: Path) -> bool:
    """Is every file of an index there, with the size that it was written with, and in a small one its content."""
    try:
        told = json.loads((folder / COMPLETE).read_bytes())
        sizes, sums = told["bytes"], told["sha256"]
        if not all((folder / name).stat().st_size == size for name, size in sizes.items()):
            return False
        return sum(sizes.values()) > _CHECKED or all(_checksum(folder / name) == sums[name] for name in sizes)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def facet(kind: str, value: str) -> str:
    """The term under which the products of a category (`c`), query (`q`) or attribute (`a`) are indexed."""
    return f"{kind}:{value}"


def _build(source: Source, folder: Path) -> None:
    if source.products.stat().st_size > _WORTH_A_WORD:
        print(f"indexing {source.products}, once; a million products take some ten minutes", file=sys.stderr)
    with contextlib.closing(_Instructions(folder / "instructions.tmp")) as instructions:
        if source.attributes is not None:
            instructions.load("synthetic", source.attributes)
        if source.human is not None:
            instructions.load("human", source.human)
        writer = _Writer(folder, instructions)
        for line, record in elements(source.products):
            try:
                writer.add(record)
            except BadRecord as error:
                raise BadInput(f"{source.products}, line {line}: {error} (product {writer.read})") from None
        written = writer.finish()
    (folder / "instructions.tmp").unlink()
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    sizes = {name: path.stat().st_size for name, path in files.items()}
    sums = {name: _checksum(path) for name, path in files.items()}
    (folder / COMPLETE).write_text(json.dumps({"products": written, "bytes": sizes, "sha256": sums}))


class _Instructions:
    """What the attribute files say of each product, on disk while the products come by."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE said (kind TEXT, asin TEXT, content TEXT, PRIMARY KEY (kind, asin))")
        self._database.execute("CREATE TABLE seen (asin TEXT PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def load(self, kind: str, path: Path) -> None:
        for line, asin, content in members(path):
            wrong = _wrong_synthetic(content) if kind == "synthetic" else _wrong_human(content)
            kept = "" if wrong else json.dumps(_kept(content), ensure_ascii=False)
            if not wrong and not _is_text(asin + kept):
                wrong = "a text holds half of a surrogate pair, which is no text"
            if wrong:
                raise BadInput(f"{path}, line {line}: product {asin[:20]!r}: {wrong}")
            self._database.execute("INSERT OR REPLACE INTO said VALUES (?, ?, ?)", (kind, asin, kept))

    def first(self, asin: str) -> bool:
        """Is this the first time that this product is asked for."""
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (asin,)).rowcount == 1

    def of(self, kind: str, asin: str) -> object:
        """The entry of a product, None if there is none."""
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


def _is_text(text: str) -> bool:
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


class _Writer:
    """Writes products one after another."""

    def __init__(self, folder: Path, instructions: _Instructions) -> None:
        self._folder, self._instructions = folder, instructions
        self._search = SearchWriter(folder / "search")
        self._facets = PostingsWriter(folder / "facets", lambda term: (term,))
        self._asins = bytearray()
        self._products = (folder / "products").open("wb")
        self._ends = (folder / "products.ends").open("wb")
        self._prices = (folder / "pricing").open("wb")
        self._told = (folder / TOLD).open("w", encoding="utf-8")
        self._length = self._goals = self.read = 0

    def add(self, record: object) -> None:
        """Add the next record, or pass it over where the original does. Raises BadRecord."""
        self.read += 1
        if not isinstance(record, dict):
            raise BadRecord("a product should be an object")
        if not is_product(record):
            return
        asin = record["asin"].encode("utf-8", "surrogatepass")
        if not asin or not _is_text(record["asin"]) or len(asin) > ASIN.itemsize or asin.endswith(b"\0"):
            raise BadRecord(f"'asin' should be one to ten letters and digits, is {record['asin']!r}")
        if not self._instructions.first(record["asin"]):
            return
        said = self._instructions.of("synthetic", record["asin"])
        attributes = said.get("attributes") if isinstance(said, dict) else None
        self._write(read(record, attributes), said)

    def _write(self, product: Product, said: object) -> None:
        position = len(self._asins) // ASIN.itemsize
        self._asins += product.asin.encode().ljust(ASIN.itemsize, b"\0")
        content = pack(product)
        self._products.write(content)
        self._length += len(content)
        self._ends.write(np.uint64(self._length).tobytes())
        self._prices.write(np.asarray([product.pricing[0], *(product.pricing[1:] or (np.nan,))]).tobytes())
        self._search.add(searchable(product))
        facets = [facet("c", product.category), facet("q", product.query)]
        facets += [facet("a", attribute) for attribute in product.attributes]
        self._facets.add(dict.fromkeys(facets))
        human = self._instructions.of("human", product.asin)
        synthetic = said if isinstance(said, dict) and said.get("instruction") is not None else None
        if synthetic is not None or human is not None:
            combinations = math.prod(map(len, product.options.values()))
            self._goals += combinations if synthetic is not None else 0
            if self._goals > MOST_GOALS:
                raise BadRecord(f"there is a goal for every choice of options, and these make more than {MOST_GOALS:,}")
            self._told.write(f"{json.dumps([position, combinations, synthetic, human])}\n")

    def finish(self) -> int:
        """Write what can only be written at the end. Returns the number of products."""
        for file in (self._products, self._ends, self._prices, self._told):
            file.close()
        asins = np.frombuffer(bytes(self._asins), dtype=ASIN)
        order = np.argsort(asins, kind="stable").astype(np.uint32)
        ranks = np.empty(len(asins), dtype=np.uint32)
        ranks[order] = np.arange(len(asins), dtype=np.uint32)
        self._search.finish(ranks)
        self._facets.finish()
        asins.tofile(self._folder / "asins")
        asins[order].tofile(self._folder / "asins.sorted")
        order.tofile(self._folder / "asins.order")
        return len(asins)

"""Builds the index of a catalogue on disk, once, in one pass over the product file and with flat memory.

The folder appears under its name only when it is complete; a second process that wants the same one waits.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from palaestra.envs.errors import BadInput, EnvFault
from palaestra.envs.lock import alone
from palaestra.envs.webshop.helper import Helper
from palaestra.envs.webshop.instructions import Instructions, is_text
from palaestra.envs.webshop.json_stream import elements
from palaestra.envs.webshop.postings_merge import merge
from palaestra.envs.webshop.product import FIELDS, BadRecord, is_product
from palaestra.envs.webshop.search import write_lengths
from palaestra.envs.webshop.sources import SMALL, Source, index_root
from palaestra.envs.webshop.stocking import Given, Made, Stocker

ASIN = np.dtype("S10")
COMPLETE = "complete.json"
TOLD = "instructions.jsonl"
MOST_GOALS = 100_000_000
"""Synthetic goals that a catalogue may have; the official ones stay far below."""
_CHECKED = 1 << 26
"""Bytes of an index up to which its content is compared with its checksums whenever it is opened (0.1 s at most)."""
_WORTH_A_WORD = 1 << 25  # bytes of a product file from which on building is announced
_LARGE = 1 << 26  # and from which on other processes help
_AT_A_TIME = 256  # products that are made together
_RUNS = "runs"


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


def _build(source: Source, folder: Path) -> None:
    size = source.products.stat().st_size
    if size >= _WORTH_A_WORD:
        print(f"indexing {source.products}, once; a million products take some five minutes", file=sys.stderr)
    with (
        contextlib.closing(Instructions(folder / "instructions.tmp")) as instructions,
        contextlib.closing(_Stock(folder, _helpers(size))) as stock,
    ):
        if source.attributes is not None:
            instructions.load("synthetic", source.attributes)
        if source.human is not None:
            instructions.load("human", source.human)
        stock.take(source, instructions)
        written = stock.finish()
    (folder / "instructions.tmp").unlink()
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    sizes = {name: path.stat().st_size for name, path in files.items()}
    sums = {name: _checksum(path) for name, path in files.items()}
    (folder / COMPLETE).write_text(json.dumps({"products": written, "bytes": sizes, "sha256": sums}))


class _Stock:
    """Writes products in the order of their file, whoever made them."""

    def __init__(self, folder: Path, helpers: int) -> None:
        self._folder = folder
        self._asins, self._norms = bytearray(), bytearray()
        self._files = {name: (folder / name).open("wb") for name in ("products", "products.ends", "pricing", TOLD)}
        self._length = self._goals = self._searchable = self._words = 0
        self._pending: deque[Callable[[], Made]] = deque()
        self._helpers = _started(folder / _RUNS, helpers)
        self._stocker = None if self._helpers else Stocker(folder / _RUNS)

    def take(self, source: Source, instructions: Instructions) -> None:
        """Take all products of a source. Raises BadInput for the first record that cannot be understood."""
        given: list[Given] = []
        asked = 0

        def ask() -> None:
            nonlocal given, asked
            if self._stocker is not None:
                made = self._stocker.make(given)
                self._pending.append(lambda: made)
            else:
                self._pending.append(self._helpers[asked % len(self._helpers)].make(given).result)
            given, asked = [], asked + 1

        try:
            for each in self._given(source, instructions):
                given.append(each)
                if len(given) == _AT_A_TIME:
                    ask()
                    self._write(source, most=2 * len(self._helpers))
        except BadInput:
            ask()
            self._write(source)  # what stands before it may be wrong, too
            raise
        ask()
        self._write(source)

    def _given(self, source: Source, instructions: Instructions) -> Iterator[Given]:
        """The records that make a product; the others are passed over where the original does. Raises BadInput."""
        for number, (line, record) in enumerate(elements(source.products), 1):
            try:
                asin = _asin(record)
            except BadRecord as error:
                raise _wrong(source, line, number, str(error)) from None
            if asin is None or not isinstance(record, dict) or not instructions.first(asin):
                continue
            position = len(self._asins) // ASIN.itemsize
            self._asins += asin.encode().ljust(ASIN.itemsize, b"\0")
            said = (instructions.of(kind, asin) for kind in ("synthetic", "human"))
            yield Given(line, number, position, {key: record[key] for key in FIELDS if key in record}, *said)

    def _write(self, source: Source, most: int = 0) -> None:
        """Write what was made, until at most so much is left. Raises BadInput for the first wrong record."""
        while len(self._pending) > most:
            made = self._pending.popleft()()
            for told in made.told:
                self._goals += told.goals
                if self._goals > MOST_GOALS:
                    several = f"there is a goal for every choice of options, and these make more than {MOST_GOALS:,}"
                    raise _wrong(source, told.line, told.number, several)
                self._files[TOLD].write(f"{told.text}\n".encode())
            if made.wrong is not None:
                raise _wrong(source, *made.wrong)
            self._files["products"].write(made.products)
            self._files["products.ends"].write((np.asarray(made.ends, dtype=np.uint64) + np.uint64(self._length)).data)
            self._files["pricing"].write(made.prices)
            self._length += len(made.products)
            self._norms += made.norms
            self._searchable += made.searchable
            self._words += made.words

    def finish(self) -> int:
        """Write what can only be written at the end. Returns the number of products."""
        for file in self._files.values():
            file.close()
        made = [self._stocker.finish()] if self._stocker else [each.finish().result() for each in self._helpers]
        self.close()
        merge([run for runs in made for run in runs.search], self._folder / "search")
        merge([run for runs in made for run in runs.facets], self._folder / "facets")
        shutil.rmtree(self._folder / _RUNS)
        asins = np.frombuffer(bytes(self._asins), dtype=ASIN)
        order = np.argsort(asins, kind="stable").astype(np.uint32)
        ranks = np.empty(len(asins), dtype=np.uint32)
        ranks[order] = np.arange(len(asins), dtype=np.uint32)
        asins.tofile(self._folder / "asins")
        asins[order].tofile(self._folder / "asins.sorted")
        order.tofile(self._folder / "asins.order")
        write_lengths(self._folder / "search", bytes(self._norms), ranks, self._searchable, self._words)
        return len(asins)

    def close(self) -> None:
        """Close the files and end the helping processes."""
        for file in self._files.values():
            file.close()
        for helper in self._helpers:
            helper.close()


def _started(folder: Path, count: int) -> list[Helper]:
    """Helping processes; none where there can be none."""
    started: list[Helper] = []
    try:
        for number in range(count):
            started.append(Helper(folder / str(number)))
    except (OSError, EnvFault):
        while started:
            started.pop().close()
        shutil.rmtree(folder, ignore_errors=True)
    return started


def _helpers(size: int) -> int:
    """How many processes help with a product file of so many bytes: two, where it is large and there are processors."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 2 if size >= _LARGE and cores > 1 else 0


def _asin(record: object) -> str | None:
    """The number of a record's product; None where it makes none. Raises BadRecord."""
    if not isinstance(record, dict):
        raise BadRecord("a product should be an object")
    if not is_product(record):
        return None
    number: str = record["asin"]
    asin = number.encode("utf-8", "surrogatepass")
    if not asin or not is_text(number) or len(asin) > ASIN.itemsize or asin.endswith(b"\0"):
        raise BadRecord(f"'asin' should be one to ten letters and digits, is {number!r}")
    return number


def _wrong(source: Source, line: int, number: int, problem: str) -> BadInput:
    return BadInput(f"{source.products}, line {line}: {problem} (product {number})")

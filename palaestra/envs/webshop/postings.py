"""An inverted index in flat files that are mapped into memory: which documents hold a term, and how often.

Built in one pass with flat memory (runs that are sorted in memory, then merged), read by slices of the mapped files.
The terms lie sorted in one file and are found by bisection, so that opening costs nothing, whatever the size.
"""

from __future__ import annotations

import heapq
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO, TypeVar

import numpy as np
from numpy.typing import NDArray

RUN = 2_000_000
"""Postings that are held in memory while an index is built."""

Number = TypeVar("Number", bound=np.generic)

_MOST = 65_535  # occurrences in one document that are told apart


_WORTH = 32  # letters of a term whose place is remembered


class Postings(NamedTuple):
    """The documents that hold a term, in order, and how often each holds it. Shapes (n,), uint32 and uint16."""

    documents: NDArray[np.uint32]
    counts: NDArray[np.uint16]


class PostingsWriter:
    """Builds an index in `folder`, document by document, in their order."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._run: dict[str, array[int]] = {}
        self._held = self._runs = 0

    def add(self, document: int, counts: Mapping[str, int]) -> None:
        """Add the next document with its terms."""
        for term, count in counts.items():
            self._run.setdefault(term, array("I")).extend((document, min(count, _MOST)))
        self._held += len(counts)
        if self._held >= RUN:
            self._flush()

    def finish(self) -> None:
        """Merge what was added into the files that `PostingsReader` reads."""
        self._flush()
        with ExitStack() as opened:
            sources = [_Run(opened, self._folder, number) for number in range(self._runs)]
            out = _Output(opened, self._folder)
            term: str | None = None
            parts: list[NDArray[np.uint32]] = []
            for following, number, size in heapq.merge(*(source.heads(at) for at, source in enumerate(sources))):
                if following != term:
                    out.write(term, parts)
                    term, parts = following, []
                parts.append(sources[number].read(size))
            out.write(term, parts)
        for number in range(self._runs):
            for ending in ("terms", "pairs"):
                (self._folder / f"run{number}.{ending}").unlink()

    def _flush(self) -> None:
        name = self._folder / f"run{self._runs}"
        with open(f"{name}.terms", "w", encoding="utf-8") as terms, open(f"{name}.pairs", "wb") as pairs:
            for term in sorted(self._run):
                terms.write(f"{json.dumps([term, len(self._run[term])])}\n")
                np.asarray(self._run[term], dtype=np.uint32).tofile(pairs)
        self._runs += 1
        self._run, self._held = {}, 0


class _Run:
    def __init__(self, opened: ExitStack, folder: Path, number: int) -> None:
        self._terms: TextIO = opened.enter_context((folder / f"run{number}.terms").open(encoding="utf-8"))
        self._pairs: BinaryIO = opened.enter_context((folder / f"run{number}.pairs").open("rb"))

    def heads(self, number: int) -> Iterator[tuple[str, int, int]]:
        for line in self._terms:
            term, size = json.loads(line)
            yield term, number, size

    def read(self, size: int) -> NDArray[np.uint32]:
        return np.fromfile(self._pairs, dtype=np.uint32, count=size)


class _Output:
    def __init__(self, opened: ExitStack, folder: Path) -> None:
        names = ("terms.txt", "terms.ends", "postings.ends", "documents", "counts")
        files = [opened.enter_context((folder / name).open("wb")) for name in names]
        self._terms, self._term_ends, self._ends, self._documents, self._counts = files
        self._length = self._total = 0

    def write(self, term: str | None, parts: Iterable[NDArray[np.uint32]]) -> None:
        if term is None:
            return
        pairs = np.concatenate(list(parts)).reshape(-1, 2)
        text = term.encode("utf-8", "surrogatepass")
        self._terms.write(text)
        self._length += len(text)
        self._total += len(pairs)
        self._term_ends.write(np.uint64(self._length).tobytes())
        self._ends.write(np.uint64(self._total).tobytes())
        np.ascontiguousarray(pairs[:, 0]).tofile(self._documents)
        pairs[:, 1].astype(np.uint16).tofile(self._counts)


class PostingsReader:
    """Reads an index that `PostingsWriter` built. Safe to use from several threads and after a fork."""

    def __init__(self, folder: Path) -> None:
        self._terms = mapped(folder / "terms.txt", np.uint8)
        self._term_ends = mapped(folder / "terms.ends", np.uint64)
        self._ends = mapped(folder / "postings.ends", np.uint64)
        self._documents = mapped(folder / "documents", np.uint32)
        self._counts = mapped(folder / "counts", np.uint16)
        self._place = lru_cache(maxsize=1 << 14)(self._find)

    def __len__(self) -> int:
        return len(self._term_ends)

    def get(self, term: str) -> Postings | None:
        """Where a term occurs; None if nowhere."""
        place = (self._place if len(term) <= _WORTH else self._find)(term)
        if place is None:
            return None
        return Postings(self._documents[place[0] : place[1]], self._counts[place[0] : place[1]])

    def _find(self, term: str) -> tuple[int, int] | None:
        wanted = term.encode("utf-8", "surrogatepass")
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._term(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        if low == len(self) or self._term(low) != wanted:
            return None
        return int(self._ends[low - 1]) if low else 0, int(self._ends[low])

    def _term(self, number: int) -> bytes:
        start = int(self._term_ends[number - 1]) if number else 0
        return self._terms[start : int(self._term_ends[number])].tobytes()


def mapped(path: Path, kind: type[Number] | np.dtype[Number]) -> NDArray[Number]:
    """A file as an array of numbers that is mapped into memory, not read; an empty file as an empty array."""
    if path.stat().st_size == 0:
        return np.empty(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r").view(np.ndarray)

"""An inverted index in flat files that are mapped into memory: which documents hold a term, and how often.

Built by `postings_writer`, read by slices of the mapped files. The terms lie sorted in one file and are found by
bisection, so that opening costs nothing, whatever the size.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)

_WORTH = 32  # letters of a term whose place is remembered


class Postings(NamedTuple):
    """The documents that hold a term, in order, and how often each holds it. Shapes (n,), uint32 and uint16."""

    documents: NDArray[np.uint32]
    counts: NDArray[np.uint16]


class PostingsReader:
    """Reads an index that `PostingsWriter` built. Safe to use from several threads and after a fork."""

    def __init__(self, folder: Path) -> None:
        # Single numbers come out of a memoryview in a third of an array's time.
        self._terms = mapped(folder / "terms.txt", np.uint8).data
        self._term_ends = mapped(folder / "terms.ends", np.uint64).data
        self._ends = mapped(folder / "postings.ends", np.uint64).data
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
        number = bisect_left(range(len(self)), wanted, key=self._term)
        if number == len(self) or self._term(number) != wanted:
            return None
        return self._ends[number - 1] if number else 0, self._ends[number]

    def _term(self, number: int) -> bytes:
        return bytes(self._terms[self._term_ends[number - 1] if number else 0 : self._term_ends[number]])


def mapped(path: Path, kind: type[Number] | np.dtype[Number]) -> NDArray[Number]:
    """A file as an array of numbers that is mapped into memory, not read; an empty file as an empty array."""
    if path.stat().st_size == 0:
        return np.empty(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r").view(np.ndarray)

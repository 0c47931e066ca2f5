"""Gathers what `postings_merge` makes an inverted index of: documents come by, sorted runs of bounded size go to disk.

A run numbers its terms as they come, so that what is held, sorted and written are numbers: neither the documents nor
the different terms of a catalogue are ever in memory together.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

RUN = 2_000_000
"""Occurrences of terms that are held in memory while an index is built, and postings while it is merged."""

DIFFERENT = 10
"""A run holds at most one different term for so many occurrences that it may hold."""

_PARTS = 1 << 15  # parts of texts whose terms are remembered
_WORTH = 32  # letters of such a part
_MOST = 65_535  # occurrences in one document that are told apart


class PostingsWriter:
    """Writes runs into `folder`.

    Args:
        terms: the terms of a part of a document. Asked once for parts that come again and again.

    Attributes:
        runs: the files that were written.
    """

    def __init__(self, folder: Path, terms: Callable[[str], Sequence[str]]) -> None:
        folder.mkdir(parents=True)
        self._folder, self._terms = folder, terms
        self.runs: list[Path] = []
        self._begin()

    def add(self, document: int, parts: Iterable[str]) -> int:
        """Add a document by its parts; its number is above those before. Returns how many terms it holds in all."""
        before = len(self._occurrences)
        self._occurrences.extend(chain.from_iterable(map(self._numbers.__getitem__, parts)))
        found = len(self._occurrences) - before
        self._documents.append(document)
        self._lengths.append(found)
        if len(self._occurrences) >= RUN or len(self._numbers.terms) >= RUN // DIFFERENT:
            self.flush()
        return found

    def flush(self) -> None:
        """Write what is held as a run: its terms in order, and behind one another the documents of each."""
        terms = self._numbers.terms
        if not terms:
            self._begin()
            return
        order = sorted(range(len(terms)), key=terms.__getitem__)
        ranks = np.empty(len(terms), dtype=np.uint64)
        ranks[order] = np.arange(len(terms), dtype=np.uint64) << np.uint64(32)
        pairs = ranks[np.frombuffer(self._occurrences, dtype=np.uint32)]
        pairs |= np.repeat(np.frombuffer(self._documents, dtype=np.uint32), np.frombuffer(self._lengths, np.uint32))
        pairs.sort()
        starts = np.flatnonzero(np.concatenate(([True], pairs[1:] != pairs[:-1])))
        counts = np.minimum(np.diff(starts, append=len(pairs)), _MOST).astype(np.uint16)
        pairs = pairs[starts]
        words = [terms[number].encode("utf-8", "surrogatepass") for number in order]
        place = self._folder / f"run{len(self.runs)}"
        with place.open("wb") as file:
            bounds = (self._documents[0], self._documents[-1])
            np.asarray([len(words), len(pairs), *bounds], dtype=np.uint64).tofile(file)
            np.cumsum([len(word) for word in words], dtype=np.uint64).tofile(file)
            np.bincount((pairs >> np.uint64(32)).astype(np.int64)).astype(np.uint32).tofile(file)
            pairs.astype(np.uint32).tofile(file)  # the lower half: documents
            counts.tofile(file)
            file.write(b"".join(words))
        self.runs.append(place)
        self._begin()

    def _begin(self) -> None:
        self._occurrences, self._documents, self._lengths = array("I"), array("I"), array("I")
        self._numbers = _Numbers(self._terms)


class _Numbers(dict[str, tuple[int, ...]]):
    """Part of a text -> the numbers of its terms in this run. `terms` has the terms by number."""

    def __init__(self, terms: Callable[[str], Sequence[str]]) -> None:
        super().__init__()
        self._terms_of = terms
        self._number: dict[str, int] = {}
        self.terms: list[str] = []

    def __missing__(self, part: str) -> tuple[int, ...]:
        found = tuple(map(self._numbered, self._terms_of(part)))
        if len(part) <= _WORTH:
            if len(self) >= _PARTS:
                self.clear()
            self[part] = found
        return found

    def _numbered(self, term: str) -> int:
        number = self._number.setdefault(term, len(self.terms))
        if number == len(self.terms):
            self.terms.append(term)
        return number

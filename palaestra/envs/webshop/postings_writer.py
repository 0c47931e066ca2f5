"""Builds the inverted index that `postings` reads: in one pass, with flat memory, and mostly in numpy.

What comes by is gathered in runs of bounded size. A run numbers its terms as they come, is sorted as numbers, and goes
to disk; at the end the runs are merged piece by piece, so that neither the documents nor the different terms of a
catalogue are ever held in memory together.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

RUN = 2_000_000
"""Occurrences of terms that are held in memory while an index is built, and postings while it is merged."""

_DIFFERENT = 10  # a run holds at most one different term for so many occurrences that it may hold
_PARTS = 1 << 15  # parts of texts whose terms are remembered
_WORTH = 32  # letters of such a part
_MOST = 65_535  # occurrences in one document that are told apart
_FILES = ("words", "ends", "sizes", "documents", "counts")


class PostingsWriter:
    """Builds an index in `folder`, document by document; they are numbered from 0 as they come.

    Args:
        terms: the terms of a part of a document. Asked once for parts that come again and again.
    """

    def __init__(self, folder: Path, terms: Callable[[str], Sequence[str]]) -> None:
        folder.mkdir(parents=True)
        self._folder, self._terms = folder, terms
        self._documents = self._first = self._runs = 0
        self._begin()

    def add(self, parts: Iterable[str]) -> int:
        """Add the next document by its parts. Returns how many terms it holds, repetitions included."""
        before = len(self._occurrences)
        self._occurrences.extend(chain.from_iterable(map(self._numbers.__getitem__, parts)))
        found = len(self._occurrences) - before
        self._lengths.append(found)
        self._documents += 1
        if len(self._occurrences) >= RUN or len(self._numbers.terms) >= RUN // _DIFFERENT:
            self._flush()
        return found

    def finish(self) -> None:
        """Merge what was added into the files that `PostingsReader` reads."""
        self._flush()
        with ExitStack() as opened:
            runs = [_Run(opened, self._place(run), self._runs) for run in range(self._runs)]
            _merge(runs, _Output(opened, self._folder))
        for run in range(self._runs):
            for ending in _FILES:
                self._place(run).with_suffix(f".{ending}").unlink()

    def _begin(self) -> None:
        self._first = self._documents
        self._occurrences, self._lengths = array("I"), array("I")
        self._numbers = _Numbers(self._terms)

    def _place(self, run: int) -> Path:
        return self._folder / f"run{run}"

    def _flush(self) -> None:
        """Write what is held as a run: its terms in order, and behind one another the documents of each."""
        terms = self._numbers.terms
        order = sorted(range(len(terms)), key=terms.__getitem__)
        ranks = np.empty(len(terms), dtype=np.uint64)
        ranks[order] = np.arange(len(terms), dtype=np.uint64) << np.uint64(32)
        lengths = np.frombuffer(self._lengths, dtype=np.uint32)
        pairs = ranks[np.frombuffer(self._occurrences, dtype=np.uint32)]
        pairs |= np.repeat(np.arange(self._first, self._documents, dtype=np.uint32), lengths)
        pairs.sort()
        starts = np.flatnonzero(np.concatenate(([True], pairs[1:] != pairs[:-1])) if len(pairs) else pairs)
        counts = np.minimum(np.diff(starts, append=len(pairs)), _MOST).astype(np.uint16)
        pairs = pairs[starts]
        words = [terms[number].encode("utf-8", "surrogatepass") for number in order]
        written: dict[str, NDArray[np.unsignedinteger[Any]]] = {
            "ends": np.cumsum([len(word) for word in words], dtype=np.uint64),
            "documents": pairs.astype(np.uint32),  # the lower half
            "counts": counts,
            "sizes": np.bincount((pairs >> np.uint64(32)).astype(np.int64), minlength=len(words)).astype(np.uint32),
        }
        place = self._place(self._runs)
        place.with_suffix(".words").write_bytes(b"".join(words))
        for ending, numbers in written.items():
            numbers.tofile(place.with_suffix(f".{ending}"))
        self._runs += 1
        self._begin()


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


class _Terms(NamedTuple):
    """Terms of a run in order, and how many documents hold each."""

    words: list[bytes]
    sizes: NDArray[np.uint32]


class _Taken(NamedTuple):
    """Terms of a run, these documents of each behind one another, and how often each document holds it."""

    words: list[bytes]
    sizes: NDArray[np.uint32]
    documents: NDArray[np.uint32]
    counts: NDArray[np.uint16]


class _Run:
    """A run on disk, read from its beginning to its end."""

    def __init__(self, opened: ExitStack, place: Path, runs: int) -> None:
        self._words, self._ends, self._sizes, self._documents, self._counts = (
            opened.enter_context(place.with_suffix(f".{ending}").open("rb")) for ending in _FILES
        )
        self._postings = max(RUN // runs, 1)  # that are looked ahead at, and how many terms
        self._terms = max(self._postings // _DIFFERENT, 1)
        self._read = 0  # bytes of the terms
        self._next = _Terms([], np.empty(0, dtype=np.uint32))
        self._fill()

    def last(self) -> bytes | None:
        """The last term that is looked ahead at; None at the end."""
        return self._next.words[-1] if self._next.words else None

    def take(self, last: bytes) -> _Taken:
        """What there is up to the term `last`, which none of the runs looks beyond."""
        cut = bisect_right(self._next.words, last)
        words, sizes = self._next.words[:cut], self._next.sizes[:cut]
        self._next = _Terms(self._next.words[cut:], self._next.sizes[cut:])
        count = int(sizes.sum())
        documents = np.fromfile(self._documents, dtype=np.uint32, count=count)
        counts = np.fromfile(self._counts, dtype=np.uint16, count=count)
        if 2 * len(self._next.words) < self._terms and 2 * int(self._next.sizes.sum()) < self._postings:
            self._fill()
        return _Taken(words, sizes, documents, counts)

    def _fill(self) -> None:
        """Look further ahead: some terms, but not so many that their documents would fill the memory."""
        sizes = np.fromfile(self._sizes, dtype=np.uint32, count=self._terms)
        if not len(sizes):
            return
        kept = max(int(np.searchsorted(np.cumsum(sizes, dtype=np.uint64), self._postings, side="right")), 1)
        self._sizes.seek((kept - len(sizes)) * sizes.itemsize, 1) if kept < len(sizes) else None
        ends = np.fromfile(self._ends, dtype=np.uint64, count=kept).astype(np.int64) - self._read
        text, places = self._words.read(int(ends[-1])), ends.tolist()
        words = [text[start:end] for start, end in zip([0, *places], places, strict=False)]
        self._read += len(text)
        self._next = _Terms(self._next.words + words, np.concatenate((self._next.sizes, sizes[:kept])))


class _Output:
    """The files that `PostingsReader` reads."""

    def __init__(self, opened: ExitStack, folder: Path) -> None:
        names = ("terms.txt", "terms.ends", "postings.ends", "documents", "counts")
        files = [opened.enter_context((folder / name).open("wb")) for name in names]
        self._terms, self._term_ends, self._ends, self._documents, self._counts = files
        self._length = self._total = 0

    def write(self, taken: Sequence[_Taken]) -> None:
        """Write the next terms: those of several runs, whose documents follow one another in this order."""
        heads = [word for each in taken for word in each.words]
        order = sorted(range(len(heads)), key=heads.__getitem__)  # the same term of a later run stays behind
        places = np.asarray(order)
        sizes = np.concatenate([each.sizes for each in taken]).astype(np.int64)
        starts = np.cumsum(sizes) - sizes
        ordered = sizes[places]
        ends = np.cumsum(ordered)
        total = int(ends[-1])
        source = np.arange(total) + np.repeat(starts[places] - (ends - ordered), ordered)
        np.concatenate([each.documents for each in taken])[source].tofile(self._documents)
        np.concatenate([each.counts for each in taken])[source].tofile(self._counts)
        words = [heads[place] for place in order]
        firsts = [place for place, word in enumerate(words) if not place or word != words[place - 1]]
        different = [words[place] for place in firsts]
        self._terms.write(b"".join(different))
        lengths = np.cumsum([len(word) for word in different], dtype=np.uint64) + np.uint64(self._length)
        lengths.tofile(self._term_ends)
        posted = np.cumsum(np.add.reduceat(ordered, firsts)).astype(np.uint64) + np.uint64(self._total)
        posted.tofile(self._ends)
        self._length, self._total = int(lengths[-1]), self._total + total


def _merge(runs: Sequence[_Run], out: _Output) -> None:
    while ahead := [last for run in runs if (last := run.last()) is not None]:
        last = min(ahead)
        out.write([run.take(last) for run in runs])

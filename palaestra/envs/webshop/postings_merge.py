"""Merges the runs of `postings_writer` into the files that `postings` reads, piece by piece and mostly in numpy."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from palaestra.envs.webshop import postings_writer
from palaestra.envs.webshop.postings_writer import DIFFERENT

Number = TypeVar("Number", bound=np.generic)


def merge(places: Sequence[Path], folder: Path) -> None:
    """Merge the runs in these files, in any order, into an index in `folder`, and delete them.

    What is held in memory does not grow with the number of runs, of documents, or of different terms; only of a term
    all documents are held at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        runs = [_Run(place, len(places)) for place in places]
        runs.sort(key=lambda run: run.bounds)
        mixed = any(run.bounds[1] >= later.bounds[0] for run, later in pairwise(runs))
        out = _Output(opened, folder)
        while ahead := [last for run in runs if (last := run.last()) is not None]:
            last = min(ahead)
            out.write([run.take(last) for run in runs], mixed)
    for place in places:
        place.unlink()


class _Terms(NamedTuple):
    """Terms in order, and how many documents of a run hold each."""

    words: list[bytes]
    sizes: NDArray[np.uint32]


class _Taken(NamedTuple):
    """Terms of a run, the documents of each behind one another, and how often each document holds it."""

    words: list[bytes]
    sizes: NDArray[np.uint32]
    documents: NDArray[np.uint32]
    counts: NDArray[np.uint16]


class _Run:
    """A run on disk, read from its beginning to its end. `bounds` are its first and its last document.

    The file is open only while something is read: there may be more runs than a process may have open files.
    """

    def __init__(self, place: Path, runs: int) -> None:
        self._place = place
        self._ends = 4 * 8  # where the next ends of terms are, and so on
        terms, postings, first, last = (int(number) for number in self._read(np.uint64, 0, 4))
        self.bounds = (first, last)
        self._left = terms
        self._sizes = self._ends + 8 * terms
        self._documents = self._sizes + 4 * terms
        self._counts = self._documents + 4 * postings
        self._words = self._words_from = self._counts + 2 * postings
        self._postings = max(postings_writer.RUN // runs, 1)  # that are looked ahead at, and how many terms
        self._terms = max(self._postings // DIFFERENT, 1)
        self._next = _Terms([], np.empty(0, dtype=np.uint32))
        self._fill()

    def last(self) -> bytes | None:
        """The last term that is looked ahead at; None at the end."""
        return self._next.words[-1] if self._next.words else None

    def take(self, last: bytes) -> _Taken:
        """What there is up to the term `last`, which no run has to look ahead for."""
        cut = bisect_right(self._next.words, last)
        words, sizes = self._next.words[:cut], self._next.sizes[:cut]
        self._next = _Terms(self._next.words[cut:], self._next.sizes[cut:])
        count = int(sizes.sum())
        documents = self._read(np.uint32, self._documents, count)
        counts = self._read(np.uint16, self._counts, count)
        self._documents += documents.nbytes
        self._counts += counts.nbytes
        if self._left and 2 * len(self._next.words) < self._terms and 2 * int(self._next.sizes.sum()) < self._postings:
            self._fill()
        return _Taken(words, sizes, documents, counts)

    def _fill(self) -> None:
        """Look further ahead: some terms, but not so many that their documents would fill the memory."""
        sizes = self._read(np.uint32, self._sizes, min(self._terms, self._left))
        kept = max(int(np.searchsorted(np.cumsum(sizes, dtype=np.uint64), self._postings, side="right")), 1)
        ends = self._read(np.uint64, self._ends, kept).astype(np.int64) + self._words_from - self._words
        text, places = self._bytes(self._words, int(ends[-1])), ends.tolist()
        words = [text[start:end] for start, end in zip([0, *places], places, strict=False)]
        self._next = _Terms(self._next.words + words, np.concatenate((self._next.sizes, sizes[:kept])))
        self._left -= kept
        self._sizes += 4 * kept
        self._ends += 8 * kept
        self._words += len(text)

    def _read(self, kind: type[Number], place: int, count: int) -> NDArray[Number]:
        content = self._bytes(place, count * np.dtype(kind).itemsize)
        return np.frombuffer(content, dtype=kind) if content else np.empty(0, dtype=kind)

    def _bytes(self, place: int, count: int) -> bytes:
        with self._place.open("rb", buffering=0) as file:
            file.seek(place)
            return file.read(count)


class _Output:
    """The files that `PostingsReader` reads."""

    def __init__(self, opened: ExitStack, folder: Path) -> None:
        names = ("terms.txt", "terms.ends", "postings.ends", "documents", "counts")
        files = [opened.enter_context((folder / name).open("wb")) for name in names]
        self._terms, self._term_ends, self._ends, self._documents, self._counts = files
        self._length = self._total = 0

    def write(self, taken: Sequence[_Taken], mixed: bool) -> None:
        """Write the next terms with what the runs hold of them. `mixed`: do the documents of the runs overlap."""
        heads = [word for each in taken for word in each.words]
        order = sorted(range(len(heads)), key=heads.__getitem__)  # the same term of a later run stays behind
        words = [heads[place] for place in order]
        firsts = [place for place, word in enumerate(words) if not place or word != words[place - 1]]
        different = [words[place] for place in firsts]
        places = np.asarray(order)
        sizes = np.concatenate([each.sizes for each in taken]).astype(np.int64)
        starts = np.cumsum(sizes) - sizes
        ordered = sizes[places]
        ends = np.cumsum(ordered)
        source = np.arange(int(ends[-1])) + np.repeat(starts[places] - (ends - ordered), ordered)
        documents = np.concatenate([each.documents for each in taken])[source]
        counts = np.concatenate([each.counts for each in taken])[source]
        of_each = np.add.reduceat(ordered, firsts)
        if mixed:
            terms = np.repeat(np.arange(len(different), dtype=np.uint64) << np.uint64(32), of_each)
            source = np.argsort(terms | documents, kind="stable")
            documents, counts = documents[source], counts[source]
        self._documents.write(documents.data)
        self._counts.write(counts.data)
        self._terms.write(b"".join(different))
        term_ends = np.cumsum([len(word) for word in different], dtype=np.uint64) + np.uint64(self._length)
        posting_ends = np.cumsum(of_each).astype(np.uint64) + np.uint64(self._total)
        self._term_ends.write(term_ends.data)
        self._ends.write(posting_ends.data)
        self._length, self._total = int(term_ends[-1]), int(posting_ends[-1])

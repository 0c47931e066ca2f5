"""Search: BM25 as the original's Lucene 8.11 computes it, to the last bit, so that every ranking is the original's.

    score(query, document) = sum over terms of  w - w / (1 + f / (k1 (1 - b + b L / A)))
    w = (times in the query) * ln(1 + (N - n + 0.5) / (n + 0.5)),   k1 = 0.9,  b = 0.4

with f the term's count in the document, L the document's length rounded as Lucene's one-byte norms round it, A the mean
length, n of N documents holding the term. Single terms are computed in float32 and added up in float64; ties go to the
lower ASIN. (Robertson and Zaragoza, 2009, "The Probabilistic Relevance Framework: BM25 and Beyond".)

Why no library: tantivy and SQLite's FTS5 have k1 and b built in; bm25s can be given them, but knows no one-byte norms,
adds in float32 and keeps its vocabulary in memory. Near-ties are common among products, so each of these shows in the
rankings. What is left is the dozen lines of `score`; the index is `postings`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palaestra.envs.webshop.analysis import terms
from palaestra.envs.webshop.postings import PostingsReader, PostingsWriter, mapped

K1, B = np.float32(0.9), np.float32(0.4)
TOP = 50
"""Products that a search finds at most."""

_REMEMBERED, _WORTH = 1 << 10, 64
"""Queries whose results are remembered, and the most terms and eight times that many letters of such a one: what an
agent writes must not fill the memory."""

_EXACT = 24  # lengths below this have a norm of their own


def short(text: str, terms: int) -> bool:
    """Is a query so short that its results are worth remembering."""
    return terms <= _WORTH and len(text) <= 8 * _WORTH


def norm(length: int) -> int:
    """The byte that stands for a document's length: exact below 40, then four significant bits."""
    if length < _EXACT:
        return length
    rest = length - _EXACT
    shift = max(rest.bit_length() - 4, -1)
    return _EXACT + (rest if rest < 8 else ((rest >> shift) & 7) | (shift + 1) << 3)


def length(norm: int) -> int:
    """The length that a byte stands for."""
    if norm < _EXACT:
        return norm
    rest = norm - _EXACT
    bits, shift = rest & 7, (rest >> 3) - 1
    return _EXACT + (bits if shift < 0 else (bits | 8) << shift)


class SearchWriter:
    """Builds the search index of a catalogue in `folder`. Documents are numbered from 0 in the order they come."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._postings = folder, PostingsWriter(folder)
        self._norms = bytearray()
        self._documents = self._words = 0

    def add(self, text: str) -> None:
        """Add the next document."""
        found = terms(text)
        self._postings.add(len(self._norms), Counter(found))
        self._norms.append(norm(len(found)))
        self._documents += bool(found)
        self._words += len(found)

    def finish(self, ranks: NDArray[np.uint32]) -> None:
        """Write the index. `ranks`, shape (documents,): the place of each document's ASIN among all, for ties."""
        self._postings.finish()
        (self._folder / "norms").write_bytes(self._norms)
        ranks.astype(np.uint32).tofile(self._folder / "ranks")
        np.asarray([self._documents, self._words], dtype=np.uint64).tofile(self._folder / "totals")


class Search:
    """Searches an index that `SearchWriter` built; its files are mapped into memory."""

    def __init__(self, folder: Path) -> None:
        self._postings = PostingsReader(folder)
        self._norms = mapped(folder / "norms", np.uint8)
        self._ranks = mapped(folder / "ranks", np.uint32)
        self._documents, words = (int(total) for total in mapped(folder / "totals", np.uint64))
        mean = np.float32(words / max(self._documents, 1))
        lengths = np.asarray([length(byte) for byte in range(256)], dtype=np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):  # a catalogue without a single word
            self._inverse = np.float32(1) / (K1 * ((np.float32(1) - B) + B * lengths / mean))
        self._cached = lru_cache(maxsize=_REMEMBERED)(self._search)

    def __call__(self, text: str, top: int = TOP) -> tuple[int, ...]:
        """The numbers of the best documents for a query, best first; empty where it holds no known word."""
        query = tuple(Counter(terms(text)).items())
        return (self._cached if short(text, len(query)) else self._search)(query, top)

    def _search(self, query: Sequence[tuple[str, int]], top: int) -> tuple[int, ...]:
        totals = np.zeros(len(self._norms), dtype=np.float64)
        for term, times in query:
            self._add(totals, term, times)
        found = np.flatnonzero(totals)
        scores = totals[found].astype(np.float32)
        if len(found) > top:
            least = np.partition(scores, -top)[-top]
            kept = scores >= least
            found, scores = found[kept], scores[kept]
        order = np.lexsort((self._ranks[found], -scores))[:top]
        return tuple(int(document) for document in found[order])

    def _add(self, totals: NDArray[np.float64], term: str, times: int) -> None:
        """Add a term's scores to those of the documents that hold it."""
        postings = self._postings.get(term)
        if postings is None:
            return
        holding = len(postings.documents)
        weight = np.float32(times) * np.float32(math.log(1 + (self._documents - holding + 0.5) / (holding + 0.5)))
        inverse = self._inverse[self._norms[postings.documents]]
        totals[postings.documents] += weight - weight / (np.float32(1) + postings.counts.astype(np.float32) * inverse)

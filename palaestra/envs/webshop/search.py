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
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from palaestra.envs.webshop.analysis import terms
from palaestra.envs.webshop.postings import Postings, PostingsReader, mapped

Score = TypeVar("Score", np.float32, np.float64)

K1, B = np.float32(0.9), np.float32(0.4)
TOP = 50
"""Products that a search finds at most."""

_REMEMBERED, _WORTH = 1 << 10, 64
"""Queries whose results are remembered, and the most terms and eight times that many letters of such a one: what an
agent writes must not fill the memory."""

_FEW = 50_000
"""Postings that are all scored; with more of them it is worth the while to find out which ones cannot matter."""

_AT_A_TIME = 1 << 15
"""Postings that are scored at a time, which all fit into the processor's cache."""

_LOOK_UP = 16  # postings are scored in the time in which one document is looked up in a list
_ONE_OF = 8  # scores is looked at first

_ROUNDING = 1e-6
"""Scores are compared as float32; sums that are closer than this share of them may turn out equal."""

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


class _Asked(NamedTuple):
    """A term of a query: where it occurs, and what it weighs."""

    postings: Postings
    weight: np.float32


def write_lengths(folder: Path, norms: bytes, ranks: NDArray[np.uint32], documents: int, words: int) -> None:
    """Write what `Search` needs beside the postings.

    Args:
        norms: the `norm` of each document's length.
        ranks: shape (documents,): the place of each document's ASIN among all, for ties.
        documents, words: how many documents have words, and how many words all of them have.
    """
    (folder / "norms").write_bytes(norms)
    ranks.tofile(folder / "ranks")
    np.asarray([documents, words], dtype=np.uint64).tofile(folder / "totals")


class Search:
    """Searches an index; its files are mapped into memory."""

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
        asked = [self._asked(term, times) for term, times in query]
        held = [each for each in asked if each is not None]
        found, totals = self._totals(held, top)
        scores = totals.astype(np.float32)
        if len(found) > top:
            kept = scores >= _best(scores, top)[0]
            found, scores = found[kept], scores[kept]
        order = np.lexsort((self._ranks[found], -scores))[:top]
        return tuple(int(document) for document in found[order])

    def _totals(self, asked: Sequence[_Asked], top: int) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
        """The documents that hold a term, or those that may be among the best, with their scores before rounding.

        Scores are added up in the order of the query: in their last bits sums depend on it.
        """
        if sum(len(each.postings.documents) for each in asked) <= _FEW:
            return self._all_totals(asked)
        found = self._hopeful(asked, top)
        totals = np.zeros(len(found), dtype=np.float64)
        for each in asked:
            self._add(totals, found, each)
        return found[totals > 0], totals[totals > 0]

    def _all_totals(self, asked: Sequence[_Asked]) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
        """The same of all documents that hold a term."""
        if not asked:
            return np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.float64)
        documents = np.concatenate([each.postings.documents for each in asked])
        counts = np.concatenate([each.postings.counts for each in asked])
        sizes = [len(each.postings.documents) for each in asked]
        weights = np.repeat(np.asarray([each.weight for each in asked], dtype=np.float32), sizes)
        scores = self._scores(weights, documents, counts)
        totals = np.asarray(np.bincount(documents, scores), dtype=np.float64)  # adds one after another
        found = np.flatnonzero(totals).astype(np.uint32)
        return found, totals[found]

    def _asked(self, term: str, times: int) -> _Asked | None:
        postings = self._postings.get(term)
        if postings is None:
            return None
        holding = len(postings.documents)
        weight = np.float32(times) * np.float32(math.log(1 + (self._documents - holding + 0.5) / (holding + 0.5)))
        return _Asked(postings, weight)

    def _hopeful(self, asked: Sequence[_Asked], top: int) -> NDArray[np.uint32]:
        """The documents that may be among the best, in order: all that hold a term, without those surely not.

        A term adds less than its weight. So the terms are added up by falling weight, that is rare ones first, and as
        soon as what is left of them could not lift a document that holds nothing else to the best so far, only the
        documents found by then are looked up in the long lists that remain (Turtle and Flood, 1995, "Query evaluation:
        strategies and optimizations": "max score").
        """
        asked = sorted(asked, key=lambda each: -each.weight)
        left = np.cumsum([0.0, *(float(each.weight) for each in reversed(asked))])[::-1]
        totals = np.zeros(len(self._norms), dtype=np.float64)
        least, done = 0.0, 0
        for done, each in enumerate(asked, 1):
            least = self._add_some(totals, each, least, top)
            longest = max((len(other.postings.documents) for other in asked[done:]), default=0)
            if least > left[done] and _LOOK_UP * np.count_nonzero(totals > least - left[done]) <= longest:
                break
        found = np.flatnonzero(totals > max(least - left[done], 0)).astype(np.uint32)
        sums = totals[found]
        for at, each in enumerate(asked[done:], done):
            self._add(sums, found, each)
            least = max(least, _least(sums, top))
            kept = sums > least - left[at + 1]
            found, sums = found[kept], sums[kept]
        return found

    def _add_some(self, totals: NDArray[np.float64], asked: _Asked, least: float, top: int) -> float:
        """Add a term's scores to the totals of all documents, some at a time.

        Returns:
            What a document needs now to be among the best, at least `least`.
        """
        best = np.empty(0, dtype=np.float64)
        for start in range(0, len(asked.postings.documents), _AT_A_TIME):
            documents = asked.postings.documents[start : start + _AT_A_TIME]
            counts = asked.postings.counts[start : start + _AT_A_TIME]
            sums = totals[documents] + self._scores(asked.weight, documents, counts)
            totals[documents] = sums
            best = np.concatenate((best, sums[sums > least]))
            if len(best) >= top:
                best = _best(best, top)
                least = max(least, float(best[0]) * (1 - _ROUNDING))
        return least

    def _add(self, totals: NDArray[np.float64], found: NDArray[np.uint32], asked: _Asked) -> None:
        """Add a term's scores to the totals of these documents."""
        documents, counts = asked.postings
        places = np.searchsorted(documents, found)
        places[places == len(documents)] = 0
        holding = documents[places] == found
        places = places[holding]
        totals[holding] += self._scores(asked.weight, documents[places], counts[places])

    def _scores(
        self, weight: np.float32 | NDArray[np.float32], documents: NDArray[np.uint32], counts: NDArray[np.uint16]
    ) -> NDArray[np.float32]:
        norms = np.float32(1) + counts.astype(np.float32) * self._inverse[self._norms[documents]]
        return np.asarray(weight - weight / norms, dtype=np.float32)


def _best(scores: NDArray[Score], top: int) -> NDArray[Score]:
    """The `top` best of at least so many scores, the lowest of them first."""
    if len(scores) >= top * _ONE_OF**2:  # the best of some of them tell which others need not be ordered
        least = _best(scores[::_ONE_OF], top)[0]
        scores = scores[np.greater_equal(scores, least)]
    return np.partition(scores, -top)[-top:]


def _least(totals: NDArray[np.float64], top: int) -> float:
    """What a document surely needs to be among the best, where these are the totals of some; 0 if they are too few."""
    return float(_best(totals, top)[0]) * (1 - _ROUNDING) if len(totals) >= top else 0.0

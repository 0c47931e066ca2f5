"""The products of a shop and the search over them, read from an index on disk (see `build`).

The official file formats are understood: `items_shuffle*.json` with `items_ins_v2*.json` and `items_human_ins.json`
beside it, also as `.json.xz` or `.json.gz`, from 1,000 to 1.18 million products. They are indexed once in the cache,
under the hash of their content; then a catalogue opens at once and takes a few megabytes, whatever its size.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from palaestra.envs.errors import BadInput
from palaestra.envs.webshop.build import ASIN, TOLD, index_of
from palaestra.envs.webshop.postings import PostingsReader, mapped
from palaestra.envs.webshop.product import Product, unpack
from palaestra.envs.webshop.search import TOP, Search
from palaestra.envs.webshop.sources import SMALL, Source
from palaestra.envs.webshop.stocking import facet

__all__ = ["SMALL", "TOP", "Catalogue", "Human", "Product", "Synthetic", "Told"]

OTHER_SEARCHES = ("<r>", "<c>", "<q>", "<a>")
"""Searches that begin with one of these ask no search engine (see `Catalogue.find`)."""

_KEPT = 2048
"""Products that are held in memory, some 10 KB each."""


class Synthetic(NamedTuple):
    """A product's synthetic instruction."""

    instruction: str
    attributes: tuple[str, ...]


class Human(NamedTuple):
    """An instruction that a person wrote for a product."""

    instruction: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]


class Told(NamedTuple):
    """What goals can be made of a product.

    Attributes:
        offset: where this stands in the index, for `Catalogue.told_at`.
        position: the product's place in the file.
        combinations: in how many ways its options can be chosen.
        synthetic, human: the instructions.
    """

    offset: int
    position: int
    combinations: int
    synthetic: Synthetic | None
    human: tuple[Human, ...]


class Catalogue:
    """Products by number, search, and what goals can be made of. Nothing in it changes; threads may share it.

    Attributes:
        name: shown to people.
        fingerprint: 16 hexadecimal digits over the content of the source files.
        path: folder of the index.
    """

    def __init__(self, name: str, path: Path, fingerprint: str) -> None:
        self.name, self.path, self.fingerprint = name, path, fingerprint
        self._asins = mapped(path / "asins", ASIN)
        self._sorted = mapped(path / "asins.sorted", ASIN)
        self._order = mapped(path / "asins.order", np.uint32)
        self._products = mapped(path / "products", np.uint8)
        self._ends = mapped(path / "products.ends", np.uint64)
        self._search = Search(path / "search")
        self._facets = PostingsReader(path / "facets")
        self._read = lru_cache(maxsize=_KEPT)(self._read_product)

    @classmethod
    def open(cls, source: str | Path = SMALL) -> Catalogue:
        """Open a catalogue; index it first if that was not done yet. Cheap to call again.

        Args:
            source: "small" (our own), the name of a data set ("webshop"), a folder, or a product file.

        Raises:
            BadInput: it is not there, or a file is damaged (names file and line; nothing is kept then).
        """
        found = Source.find(source)
        path, content = index_of(found)
        with _lock:
            key = (found.name, path)
            if key not in _open:
                _open[key] = cls(found.name, path, content)
            return _open[key]

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, asin: object) -> bool:
        return isinstance(asin, str) and self.position(asin) is not None

    def __iter__(self) -> Iterator[Product]:
        """All products, in the order of the file."""
        return (self.at(position) for position in range(len(self)))

    def position(self, asin: str) -> int | None:
        """The place of a product in the file, from 0; None if there is no such product."""
        wanted = asin.encode("utf-8", "replace")
        if not wanted or len(wanted) > ASIN.itemsize or wanted.endswith(b"\0"):
            return None
        place = int(np.searchsorted(self._sorted, np.bytes_(wanted)))
        if place == len(self) or self._sorted[place] != wanted:
            return None
        return int(self._order[place])

    def product(self, asin: str) -> Product:
        """A product by its number. Raises KeyError if there is none."""
        position = self.position(asin)
        if position is None:
            raise KeyError(asin)
        return self._read(position)

    def at(self, position: int) -> Product:
        """The product at a place in the file, from 0."""
        return self._read(position)

    def asin(self, position: int) -> str:
        """The number of the product at a place in the file."""
        return bytes(self._asins[position]).decode()

    def pricing(self) -> NDArray[np.float64]:
        """Prices in dollars, shape (products, 2): the only one and NaN, or the two ends of a range."""
        return mapped(self.path / "pricing", np.float64).reshape(-1, 2)

    def told(self) -> Iterator[Told]:
        """What goals can be made of, product by product in the order of the file."""
        with (self.path / TOLD).open("rb") as lines:
            offset = 0
            for line in lines:
                with self._undamaged():
                    told = _told(offset, line)
                yield told
                offset += len(line)

    def told_at(self, offset: int) -> Told:
        """What goals can be made of one product; `offset` as `told` gave it."""
        with (self.path / TOLD).open("rb") as lines:
            lines.seek(offset)
            with self._undamaged():
                return _told(offset, lines.readline())

    def search(self, text: str, top: int = TOP) -> tuple[str, ...]:
        """The numbers of the products that match best, best first."""
        with self._undamaged():
            return tuple(self.asin(position) for position in self._search(text, top))

    def find(self, keywords: Sequence[str], rng: random.Random | None = None) -> tuple[str, ...] | None:
        """The numbers of the products that the original's list of words finds.

        The words are searched for together, unless the first one is `<c>` (category: the second word), `<q>` (query) or
        `<a>` (attribute: all words behind it), which give all products of the kind in the order of the file, or `<r>`,
        which draws 50.

        Args:
            keywords: the search, split at blanks; not empty.
            rng: what `<r>` draws from; None draws the same ones each time.

        Returns:
            None where `<c>` is alone (the original breaks there).
        """
        first, rest = keywords[0], list(keywords[1:])
        if first == "<r>":
            drawn = (rng or random.Random(0)).sample(range(len(self)), k=min(TOP, len(self)))
            return tuple(map(self.asin, drawn))
        if first == "<c>":
            return self._having("c", rest[0].strip()) if rest else None
        if first in ("<q>", "<a>"):
            return self._having(first[1], " ".join(rest).strip())
        return self.search(" ".join(keywords))

    def _having(self, kind: str, value: str) -> tuple[str, ...]:
        postings = self._facets.get(facet(kind, value))
        return () if postings is None else tuple(self.asin(int(position)) for position in postings.documents)

    def _read_product(self, position: int) -> Product:
        start = int(self._ends[position - 1]) if position else 0
        with self._undamaged():
            return unpack(self._products[start : int(self._ends[position])].tobytes())

    @contextlib.contextmanager
    def _undamaged(self) -> Iterator[None]:
        """Turns what reading a damaged index raises into one line."""
        try:
            yield
        except (zlib.error, ValueError, LookupError, TypeError) as error:
            raise BadInput(
                f"the index {self.path} of the catalogue {self.name} is damaged ({type(error).__name__}: {error}); "
                "delete this folder, and it will be built again"
            ) from None


def _told(offset: int, line: bytes) -> Told:
    position, combinations, synthetic, human = json.loads(line)
    return Told(
        offset,
        position,
        combinations,
        Synthetic(synthetic["instruction"], tuple(synthetic["instruction_attributes"])) if synthetic else None,
        tuple(
            Human(each["instruction"], tuple(each["instruction_attributes"]), tuple(each["instruction_options"]))
            for each in human or ()
        ),
    )


_open: dict[tuple[str, Path], Catalogue] = {}
_lock = threading.Lock()

"""What the index of a catalogue holds of each product, made of some products at a time.

Records go in in the order of the file and come out as bytes to be written; the terms that they are searched by go to
disk at once, as runs that are merged at the end (`postings_merge`). So it makes no difference to the index which
process does what.
"""

from __future__ import annotations

import json
import math
import struct
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from palaestra.envs.webshop.analysis import parts, terms_of
from palaestra.envs.webshop.postings_writer import PostingsWriter
from palaestra.envs.webshop.product import BadRecord, pack, read, searchable
from palaestra.envs.webshop.search import norm

_PRICES = struct.Struct("=2d")


class Given(NamedTuple):
    """A record of the product file.

    Attributes:
        line, number: where it stands: its line, and the how manyeth record it is.
        position: of the product in the catalogue.
        record: what the file says.
        synthetic, human: what the attribute files say.
    """

    line: int
    number: int
    position: int
    record: Mapping[str, object]
    synthetic: object
    human: object


class Told(NamedTuple):
    """What goals are made of, as a line of the index; `goals` of them are synthetic. Where it comes from is `given`."""

    line: int
    number: int
    goals: int
    text: str


class Made(NamedTuple):
    """What is written of some products.

    Attributes:
        products, ends: the packed products behind one another, and where each of them ends.
        prices: two numbers (float64) for each.
        norms: the byte of each product's length.
        searchable, words: how many products have words, and how many words these are.
        told: what goals are made of.
        wrong: line, number and problem of the first record that cannot be understood; nothing is made of those behind.
    """

    products: bytes
    ends: Sequence[int]
    prices: bytes
    norms: bytes
    searchable: int
    words: int
    told: Sequence[Told]
    wrong: tuple[int, int, str] | None


class Runs(NamedTuple):
    """Where the terms are, for the search and for the other kinds of searches."""

    search: Sequence[Path]
    facets: Sequence[Path]


def facet(kind: str, value: str) -> str:
    """The term under which the products of a category (`c`), query (`q`) or attribute (`a`) are indexed."""
    return f"{kind}:{value}"


class Stocker:
    """Makes products, and writes runs of their terms into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._search = PostingsWriter(folder / "search.runs", terms_of)
        self._facets = PostingsWriter(folder / "facets.runs", lambda term: (term,))

    def make(self, given: Sequence[Given]) -> Made:
        """Make some products; their positions are above those before."""
        products, ends, prices, norms = bytearray(), array("Q"), bytearray(), bytearray()
        told: list[Told] = []
        filled = words = 0
        wrong = None
        for each in given:
            try:
                attributes = each.synthetic.get("attributes") if isinstance(each.synthetic, dict) else None
                product = read(each.record, attributes)
                content = pack(product)
            except BadRecord as error:
                wrong = (each.line, each.number, str(error))
                break
            products += content
            ends.append(len(products))
            prices += _PRICES.pack(product.pricing[0], (*product.pricing, math.nan)[1])
            found = self._search.add(each.position, parts(searchable(product)))
            norms.append(norm(found))
            filled += bool(found)
            words += found
            facets = [facet("c", product.category), facet("q", product.query)]
            facets += [facet("a", attribute) for attribute in product.attributes]
            self._facets.add(each.position, dict.fromkeys(facets))
            said = each.synthetic
            synthetic = said if isinstance(said, dict) and said.get("instruction") is not None else None
            if synthetic is not None or each.human is not None:
                goals = math.prod(map(len, product.options.values()))
                text = json.dumps([each.position, goals, synthetic, each.human])
                told.append(Told(each.line, each.number, goals if synthetic is not None else 0, text))
        return Made(bytes(products), ends, bytes(prices), bytes(norms), filled, words, told, wrong)

    def finish(self) -> Runs:
        """Write what is held. Returns all runs."""
        self._search.flush()
        self._facets.flush()
        return Runs(self._search.runs, self._facets.runs)

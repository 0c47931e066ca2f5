"""Goals as the original makes them, with the prices that they were made with: drawn from a seed, or frozen.

Where a product's price is a range, the original draws one, and every goal's ceiling is drawn from the multiples of 10
dollars above the price: two of the next four, the larger one. It draws without a seed; the goals are then shuffled with
the seed 233, which fixes the numbers that published splits speak of. With `random.seed(S)` before the original loads
its data, it makes the goals and prices that `Benchmark.draw(..., seed=S)` makes.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import overload

from palaestra.envs.errors import BadInput
from palaestra.envs.webshop.catalogue import SMALL, Catalogue, Told
from palaestra.envs.webshop.nouns import Nouns, shipped_nouns
from palaestra.envs.webshop.product import Product
from palaestra.envs.webshop.protocols import Kind as Kind  # known under this name, too

NO_CEILING = 1_000_000
"""The ceiling of a goal where the price leaves no room for one."""

SHUFFLE_SEED = 233
_CEILINGS = [10.0 * tens for tens in range(1, 100)]


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be bought.

    Attributes:
        asin, category, query, title, product_category: of the product that the goal was made of.
        instruction: the goal in words, with the price ceiling.
        attributes: what the product must have.
        price_upper: ceiling in dollars.
        options: what must be chosen: name -> value in synthetic goals, values alone in human ones.
        weight: how often the original draws it, relative to the others.
    """

    asin: str
    category: str
    query: str
    title: str
    product_category: str
    instruction: str
    attributes: tuple[str, ...]
    price_upper: float
    options: Mapping[str, str] | tuple[str, ...]
    weight: float = 1.0

    @property
    def option_list(self) -> tuple[str, ...] | tuple[tuple[str, str], ...]:
        """The options as the reward compares them: pairs of name and value, or values."""
        return self.options if isinstance(self.options, tuple) else tuple(self.options.items())

    @property
    def kind(self) -> Kind:
        """Who wrote it, as far as the form of the options tells."""
        return Kind.HUMAN if isinstance(self.options, tuple) else Kind.SYNTHETIC

    def record(self) -> dict[str, object]:
        """The goal under the original's names."""
        return {
            "asin": self.asin,
            "category": self.category,
            "query": self.query,
            "name": self.title,
            "product_category": self.product_category,
            "instruction_text": self.instruction,
            "attributes": list(self.attributes),
            "price_upper": self.price_upper,
            "goal_options": list(self.options) if isinstance(self.options, tuple) else dict(self.options),
            "weight": self.weight,
        }


class Drawn(Sequence[Goal]):
    """The goals of a catalogue in the original's order, each made when it is asked for.

    In memory are a few numbers for each instruction and one for each goal.
    """

    def __init__(self, catalogue: Catalogue, kind: Kind, prices: Prices, rng: random.Random) -> None:
        self._catalogue, self._kind = catalogue, kind
        self._offsets, self._which, self._ceilings = array("Q"), array("I"), array("d")  # one for each instruction
        self._starts = array("Q")  # the first goal of each instruction
        self._uses: Counter[str] = Counter()
        total = 0
        for told in catalogue.told():
            for which, (attributes, count) in enumerate(_counted(told, kind)):
                if not attributes:  # the original passes over these, and draws nothing for them
                    continue
                self._offsets.append(told.offset)
                self._which.append(which)
                self._ceilings.append(_ceiling(prices.at(told.position), rng))
                self._starts.append(total)
                total += count
                if kind is Kind.SYNTHETIC:
                    for attribute in attributes:
                        self._uses[attribute] += count
        self._order = array("I", range(total))
        random.Random(SHUFFLE_SEED).shuffle(self._order)
        self._cached = lru_cache(maxsize=4096)(self._make)

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, number: int) -> Goal: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Goal]: ...
    def __getitem__(self, number: int | slice) -> Goal | Sequence[Goal]:
        if isinstance(number, slice):
            return [self[each] for each in range(len(self))[number]]
        return self._cached(self._order[number])

    def _make(self, place: int) -> Goal:
        at = bisect_right(self._starts, place) - 1
        told, ceiling = self._catalogue.told_at(self._offsets[at]), self._ceilings[at]
        ceiling = NO_CEILING if ceiling == NO_CEILING else ceiling  # the original's is no float
        product = self._catalogue.at(told.position)
        if self._kind is Kind.HUMAN:
            written = told.human[self._which[at]]
            text = f"{written.instruction.strip('.')}{_in_words(ceiling)}"
            return _goal(product, text, written.attributes, ceiling, written.options, 1)
        assert told.synthetic is not None  # `_counted` saw it
        attributes = told.synthetic.attributes
        options = _combination(product, place - self._starts[at])
        said = ", and ".join(f"{name}: {value}" for name, value in options.items())
        text = f"{told.synthetic.instruction}{' with ' + said if said else ''}{_in_words(ceiling)}"
        weight = sum(1.0 / self._uses[attribute] for attribute in attributes) / len(attributes)
        return _goal(product, text, attributes, ceiling, options, weight)


def _counted(told: Told, kind: Kind) -> list[tuple[tuple[str, ...], int]]:
    """The attributes of each instruction of this kind, and how many goals are made of it."""
    if kind is Kind.HUMAN:
        return [(written.attributes, 1) for written in told.human]
    return [(told.synthetic.attributes, told.combinations)] if told.synthetic is not None else []


def _goal(
    product: Product,
    instruction: str,
    attributes: tuple[str, ...],
    ceiling: float,
    options: Mapping[str, str] | tuple[str, ...],
    weight: float,
) -> Goal:
    about = (product.asin, product.category, product.query, product.title, product.product_category)
    return Goal(*about, instruction, attributes, ceiling, options, weight)


def _ceiling(price: float, rng: random.Random) -> float:
    above = [ceiling for ceiling in _CEILINGS if ceiling > price][:4]
    return max(rng.sample(above, 2)) if len(above) >= 2 else NO_CEILING


def _in_words(ceiling: float) -> str:
    return f", and price lower than {ceiling:.2f} dollars" if ceiling != NO_CEILING else ""


def _combination(product: Product, number: int) -> dict[str, str]:
    """The options of the goal `number` of a product: all combinations, the last option (by name) varying fastest."""
    chosen: dict[str, str] = {}
    for name in sorted(product.options, reverse=True):
        values = product.options[name]
        number, place = divmod(number, len(values))
        chosen[name] = values[place]
    return dict(sorted(chosen.items()))


class Prices:
    """The price of every product, in dollars: what its record says, or drawn from its range."""

    def __init__(self, catalogue: Catalogue, rng: random.Random) -> None:
        pricing = catalogue.pricing()
        self._prices = array("d", pricing[:, 0])
        for position in (pricing[:, 1] == pricing[:, 1]).nonzero()[0]:  # in the order of the file, as the original
            low, high = pricing[position]
            self._prices[position] = rng.uniform(float(low), float(high))

    def at(self, position: int) -> float:
        """The price of the product at a place in the file."""
        return self._prices[position]


@dataclass(frozen=True)
class Benchmark:
    """Goals, prices and the nouns of titles: what a score depends on beside the catalogue.

    Attributes:
        name: identifies it ("synthetic seed 0", "synthetic frozen 1a2b3c4d5e6f").
        goals: in the order of their numbers.
        price: price in dollars of a product by its number; raises KeyError.
        nouns: the nouns of a title.
    """

    name: str
    goals: Sequence[Goal]
    price: Callable[[str], float]
    nouns: Nouns

    @classmethod
    def draw(cls, catalogue: Catalogue, seed: int = 0, kind: Kind | str = Kind.SYNTHETIC) -> Benchmark:
        """Prices and goals drawn from a seed. Raises BadInput for an unknown kind."""
        kind = as_kind(kind)
        rng = random.Random(seed)
        prices = Prices(catalogue, rng)
        goals = Drawn(catalogue, kind, prices, rng)

        def price(asin: str) -> float:
            position = catalogue.position(asin)
            if position is None:
                raise KeyError(asin)
            return prices.at(position)

        nouns = Nouns(shipped_nouns() if catalogue.name == SMALL else None, catalogue.path)
        return cls(f"{kind} seed {seed}", goals, price, nouns)

    @classmethod
    def load(cls, folder: str | Path, catalogue: Catalogue, kind: Kind | str = Kind.SYNTHETIC) -> Benchmark:
        """Frozen goals, prices and nouns (see `frozen`). Raises BadInput naming file and line."""
        from palaestra.envs.webshop.frozen import load

        return load(Path(folder), catalogue, as_kind(kind))


def as_kind(kind: Kind | str) -> Kind:
    """A kind of goals by name. Raises BadInput for an unknown one."""
    try:
        return Kind(kind)
    except ValueError:
        raise BadInput(f"WebShop has no goals {str(kind)!r}; it has: {', '.join(Kind)}") from None

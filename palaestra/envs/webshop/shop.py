"""The shop behind the pages: products, search, goals and rewards, shared by all visits. Nothing in it changes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache

from palaestra.envs.webshop.catalogue import Catalogue
from palaestra.envs.webshop.goals import Benchmark, Goal
from palaestra.envs.webshop.product import Product
from palaestra.envs.webshop.reward import Reward, reward
from palaestra.envs.webshop.search import short


class Shop:
    """A catalogue with the goals and prices of one benchmark. Threads may share it.

    Attributes:
        catalogue: products and search.
        benchmark: goals, prices and the nouns of titles.
        show_attributes: do product pages offer the sub-page Attributes.
    """

    def __init__(self, catalogue: Catalogue, benchmark: Benchmark, show_attributes: bool = False) -> None:
        self.catalogue, self.benchmark, self.show_attributes = catalogue, benchmark, show_attributes
        # A page asks for its search several times. A category of the largest catalogue has 300,000 products.
        self._ranked = lru_cache(maxsize=1024)(catalogue.find)
        self._long = lru_cache(maxsize=2)(catalogue.find)  # what an agent writes must not fill the memory
        self._kinds = lru_cache(maxsize=2)(catalogue.find)

    @property
    def goal_count(self) -> int:
        """How many goals there are; their numbers begin at 0."""
        return len(self.benchmark.goals)

    def goal(self, number: int) -> Goal:
        """A goal by its number."""
        return self.benchmark.goals[number]

    def has(self, asin: str) -> bool:
        """Is there a product of this number."""
        return asin in self.catalogue

    def product(self, asin: str) -> Product:
        """A product by its number. Raises KeyError if there is none."""
        return self.catalogue.product(asin)

    def find(self, words: tuple[str, ...], seed: int, draw: int) -> tuple[str, ...] | None:
        """The products that a search finds, best first; None where it is malformed.

        Args:
            words: the search, split at blanks. `<c>`, `<q>`, `<a>` or `<r>` as the first one search otherwise.
            seed, draw: what a random search (`<r>`) draws depends on these two alone.
        """
        if words[0] == "<r>":
            return self.catalogue.find(words, random.Random(f"{seed}:{draw}"))
        if words[0] in ("<c>", "<q>", "<a>"):
            return self._kinds(words)
        return (self._ranked if short(" ".join(words), len(words)) else self._long)(words)

    def reward(self, goal: int, asin: str, chosen: Mapping[str, str]) -> Reward:
        """What buying a product with these options is worth. Raises MissingExtra without rapidfuzz."""
        wanted, product = self.goal(goal), self.product(asin)
        nouns = self.benchmark.nouns
        return reward(product, wanted, self.benchmark.price(asin), chosen, nouns(product.title), nouns(wanted.title))

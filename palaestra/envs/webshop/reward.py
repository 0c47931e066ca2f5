"""What a purchase is worth, as in WebShop (Yao et al., arXiv 2207.01206, section 3.1 and appendix A).

    r = r_type * (matched attributes + matched options + [price <= ceiling]) / (attributes + options + 1)

The parts are computed as the original computes them, oddities included: an option of a synthetic goal is a pair of name
and value and is compared in its written form, colours are reduced to the first colour name that occurs in them, and a
title score below 0.1 lowers `r_type` even where query or category agree.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from palaestra.envs.errors import MissingExtra
from palaestra.envs.webshop.goals import Goal
from palaestra.envs.webshop.product import Product

CLOSE = 85
"""Two phrases agree when their token set ratio is above this (of 100)."""

_COLOUR_WORDS = """
    alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo
    caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream crystal
    dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather indigo ivory
    ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha multicolor
    mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal rust sand
    sapphire seashell silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise violet walnut
    wheat white wine yellow"""

COLOURS = tuple(_COLOUR_WORDS.split())
"""The colour names that options are reduced to; where several occur, the first one of this list counts."""


@dataclass(frozen=True)
class Reward:
    """The reward of a purchase, in [0, 1], and its parts under the original's names.

    Attributes:
        total: the reward; 1.0 means success.
        r_type: 1.0, 0.5, 0.1 or 0.0: is it the right kind of product.
        r_att: share of the goal's attributes that the product has.
        r_option: share of the goal's options that were chosen; None where the goal names none.
        r_price: is the price not above the goal's ceiling; None where there is no ceiling.
        w_att, w_option, w_price: the weights of these three; 0 where there is nothing to weigh.
        query_match, category_match: same query; at least two category levels in common.
        title_score: share of the nouns of the goal's title that stand in the product's title.
    """

    total: float
    r_type: float
    r_att: float
    r_option: float | None
    r_price: bool | None
    w_att: float
    w_option: float
    w_price: float
    query_match: bool
    category_match: bool
    title_score: float


def reward(
    product: Product,
    goal: Goal,
    price: float,
    chosen: Mapping[str, str],
    product_nouns: Sequence[str],
    goal_nouns: Sequence[str],
) -> Reward:
    """The reward for buying `product` with the options `chosen` at `price`.

    Args:
        product_nouns, goal_nouns: the lower-case nouns of the two titles, in order and with repetitions.

    Raises:
        MissingExtra: rapidfuzz is not installed.
    """
    query_match = product.query == goal.query
    category_match = len(_levels(product.product_category) & _levels(goal.product_category)) >= 2
    title = title_score(product_nouns, goal_nouns)
    kind = type_reward(query_match or category_match, title)
    attributes = sum(_has(product, attribute) for attribute in goal.attributes)
    options = matched_options(list(chosen.values()), goal.option_list)
    cheap = price <= goal.price_upper if goal.price_upper > 0 else None
    parts = len(goal.attributes) + len(goal.option_list) + 1
    return Reward(
        total=(attributes + options + bool(cheap)) / parts * kind,
        r_type=kind,
        r_att=attributes / len(goal.attributes),
        r_option=options / len(goal.option_list) if goal.option_list else None,
        r_price=cheap,
        w_att=len(goal.attributes) / parts,
        w_option=len(goal.option_list) / parts,
        w_price=1 / parts if cheap is not None else 0.0,
        query_match=query_match,
        category_match=category_match,
        title_score=title,
    )


def title_score(product_nouns: Sequence[str], goal_nouns: Sequence[str]) -> float:
    """Distinct nouns in common, by the number of the goal's nouns *with* repetitions; 0.2 if the goal has none."""
    if not goal_nouns:
        return 0.2
    return len(set(product_nouns) & set(goal_nouns)) / len(goal_nouns)


def type_reward(match: bool, title: float) -> float:
    """`r_type` from whether query or category agree and the title score."""
    if title == 0.0:
        return 0.0
    if title < 0.1:
        return 0.1
    return 1.0 if match or title > 0.2 else 0.5


def matched_options(chosen: Sequence[str], wanted: Sequence[str | tuple[str, str]]) -> int:
    """How many of the wanted options agree with a chosen one."""
    mine = [reduce_colour(each) for each in chosen]
    return sum(any(similarity(one, other) > CLOSE for one in mine) for other in map(reduce_colour, wanted))


def reduce_colour(option: str | tuple[str, str]) -> str:
    """The first colour name that occurs in an option, or the option itself.

    In a pair a colour must be the whole name or value; without one the pair is returned in its written form.
    """
    return next((colour for colour in COLOURS if colour in option), str(option))


@lru_cache(maxsize=65536)
def similarity(one: str, other: str) -> int:
    """Token set ratio of two phrases, 0 to 100, on their letters and digits without those of Latin-1.

    Raises:
        MissingExtra: rapidfuzz is not installed.
    """
    try:
        from rapidfuzz.fuzz import token_set_ratio
        from rapidfuzz.utils import default_process
    except ModuleNotFoundError:
        raise MissingExtra("rapidfuzz (the reward of WebShop)", "webshop") from None
    return round(token_set_ratio(default_process(one.translate(_LATIN)), default_process(other.translate(_LATIN))))


_LATIN = dict.fromkeys(range(128, 256))


def _levels(category: str) -> set[str]:
    return {level.strip() for level in category.split("›")}


def _has(product: Product, attribute: str) -> bool:
    if any(similarity(own, attribute) > CLOSE for own in product.attributes):
        return True
    texts: Collection[str] = (product.title, " ".join(product.bullet_points), product.description)
    return any(attribute in text.lower() for text in texts)

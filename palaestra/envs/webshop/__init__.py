"""WebShop (Yao et al., arXiv 2207.01206): shopping by instruction, an engine of our own.

From the data up: `product`, `search` and `catalogue` are the shop's stock, `goals` and `nouns` what is asked for;
`pages` says what stands on a page, `session` what an action does, `reward` what a purchase is worth; `env` makes an
environment of it, `markup` and `site` HTML.
"""

from typing import Any

from palaestra.envs.core import Fidelity
from palaestra.envs.registry import register

ID = "palaestra/WebShop-v0"
SMALL_ID = "palaestra/WebShopSmall-v0"

OFFICIAL_GOALS = 6910
"""Synthetic goals of the official 1,000 products (the data set `webshop`); a test counts them."""

SMALL_GOALS = 499
"""Synthetic goals of the catalogue that ships in the package; a test counts them."""

_RULES = """\
You are shopping. Find the product that the instruction asks for, choose its options, and buy it.
Answer with one action:
search[words] searches the shop, from any page;
click[text] clicks what stands on the page: a product's number, the value of an option, Back to Search, < Prev, \
Next >, Description, Features, Reviews, or Buy Now.
Buy Now ends the episode; its score says how well the product, its options and its price fit."""


def register_all() -> None:
    """Register WebShop on the official 1,000 products, and on those that ship in the package. Opens no data."""
    from palaestra.envs.webshop.protocols import PROTOCOLS

    register(
        ID,
        "palaestra.envs.webshop.env:WebShop",
        splits=_names("webshop", OFFICIAL_GOALS),
        family="webshop",
        summary="find a product, choose options, buy it: the official 1,000 products, or a folder of more (own engine)",
        protocols=PROTOCOLS,
        not_ready="palaestra.envs.webshop.sources:why_no_products",
        **_BOTH,
    )
    register(
        SMALL_ID,
        "palaestra.envs.webshop.env:WebShopSmall",
        splits=_names("small", SMALL_GOALS),
        family="webshopsmall",
        summary="WebShop on 120 products of our own making: no data needed, comparable with no published score",
        **_BOTH,
    )


def _names(catalogue: str, goals: int) -> dict[str, tuple[str, ...]]:
    """Split -> names of the synthetic goals."""
    from palaestra.envs.webshop.protocols import split_ranges

    return {
        split: tuple(f"{catalogue}-synthetic/{number}" for number in numbers)
        for split, numbers in split_ranges(goals).items()
    }


_BOTH: dict[str, Any] = {
    "instructions": _RULES,
    "max_steps": 15,
    "extra": "webshop",
    "requires": ("rapidfuzz",),
    "oracles": {"target": "palaestra.envs.webshop.oracle:target"},
    "fidelity": Fidelity.EXACT,
}
"""What the two have in common."""

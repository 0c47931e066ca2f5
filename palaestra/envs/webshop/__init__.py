"""WebShop (Yao et al., arXiv 2207.01206): shopping by instruction, an engine of our own.

From the data up: `product`, `search` and `catalogue` are the shop's stock, `goals` and `nouns` what is asked for;
`pages` says what stands on a page, `session` what an action does, `reward` what a purchase is worth; `env` makes an
environment of it, `markup` and `site` HTML.
"""

from palaestra.envs.core import Fidelity
from palaestra.envs.registry import register

ID = "palaestra/WebShop-v0"

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
    """Register WebShop with the tasks of the catalogue that ships in the package. Opens no data."""
    from palaestra.envs.webshop.protocols import PROTOCOLS, split_ranges

    ranges = split_ranges(SMALL_GOALS)
    register(
        ID,
        "palaestra.envs.webshop.env:WebShop",
        splits={split: tuple(f"small-synthetic/{number}" for number in numbers) for split, numbers in ranges.items()},
        instructions=_RULES,
        max_steps=15,
        extra="webshop",
        requires=("rapidfuzz",),
        oracles={"target": "palaestra.envs.webshop.oracle:target"},
        family="webshop",
        summary="find a product, choose options, buy it (own small catalogue; -s catalogue=webshop is the real one)",
        fidelity=Fidelity.EXACT,
        protocols=PROTOCOLS,
    )

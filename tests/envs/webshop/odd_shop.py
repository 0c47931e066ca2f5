"""A catalogue of 21 odd products of our own, and what the original text environment did with it.

`odd/` holds the catalogue in the official formats: texts with markup, quotes, blanks and other scripts, option values
that are called like buttons or that two options share, numbers that are taken or too long, no price. `frozen/` and
`recorded.jsonl` were made by running princeton-nlp/WebShop (commit 64fa2a5, Lucene 8.11, spaCy 3.8 en_core_web_sm) on
these files: its goals, prices and nouns, and for each recorded session the pages that it showed.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from palaestra.envs.webshop.env import open_shop
from palaestra.envs.webshop.shop import Shop

ODD = Path(__file__).parent / "odd"
FROZEN = ODD / "frozen"
SETTINGS = {"catalogue": str(ODD), "frozen": str(FROZEN)}


def odd_shop(goals: str = "synthetic", show_attributes: bool = False) -> Shop:
    """The shop of these products, with the original's goals, prices and nouns."""
    return open_shop(str(ODD), str(FROZEN), 0, goals, show_attributes)


@cache
def recorded() -> tuple[dict[str, Any], ...]:
    """Sessions of the original: name, goals, goal, show_attributes, and pages.

    A page has action, reward, done, url, rich (the text of `text_rich`), clickables, has_search_bar, parts (of the
    reward), and of `text` and `html` the first 16 digits of the SHA-256.
    """
    return tuple(json.loads(line) for line in (ODD / "recorded.jsonl").read_text(encoding="utf-8").splitlines())

"""A visit to the shop: all that changes while an agent acts, and what an action does to it.

The page that is shown is a function of the visit (`show`), so a copy of these few fields is an exact snapshot. What
follows was taken from how the original text environment behaves, oddities included:

- An action is `name[argument]`. The last `[` that can open an argument opens it, text after the last `]` and everything
  after the first line is ignored, the name is case-sensitive, the argument is not.
- `search[...]` is understood on every page; `click[...]` when the argument is the text of something clickable.
- Which page `Next >` and `< Prev` leave is read off the page's *address*, which holds the searched words: after a
  search for the word "search_results", `< Prev` on a product goes to the results page before, not back to the results.
- Whatever is not understood leaves the page as it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum

from palaestra.envs.webshop.analysis import terms
from palaestra.envs.webshop.catalogue import OTHER_SEARCHES
from palaestra.envs.webshop.pages import (
    BACK,
    BUY,
    NEXT,
    PER_PAGE,
    PREVIOUS,
    SUB_PAGES,
    DonePage,
    IndexPage,
    ItemPage,
    Page,
    ResultsPage,
    Role,
    SubPage,
    Target,
)
from palaestra.envs.webshop.reward import Reward
from palaestra.envs.webshop.shop import Shop

BASE = "http://127.0.0.1:3000"
"""What every address begins with, in the observation mode `url`."""

MOST_TERMS = 1024
"""Different terms of a search; with more the original's search engine raises (`TooManyClauses`)."""

LONGEST_SEARCH = 100_000
"""Characters; for safety. The original takes searches of any length."""


class View(StrEnum):
    """The kinds of pages, by the word that stands in their addresses."""

    INDEX = ""
    RESULTS = "search_results"
    ITEM = "item_page"
    SUB = "item_sub_page"
    DONE = "done"


_SUB_PAGE = {name.lower(): name for name in SUB_PAGES}


@dataclass
class Visit:
    """All that changes during an episode.

    Attributes:
        goal: number of the goal, which is also the session's name in addresses.
        url: address of the page that is shown.
        view: kind of the page that is shown.
        keywords, number: the last search as a list of words, and the page of its results.
        asin, options: the product that is looked at, and what was chosen of its options.
        topic: which sub-page is shown.
        visited: products opened since the last Back to Search.
        seed, draws: what random searches (`<r>`) draw from, and how many there were.
        reward: what buying gave; None before.
    """

    goal: int
    url: str
    view: View = View.INDEX
    keywords: tuple[str, ...] = ()
    number: int = 1
    asin: str = ""
    options: dict[str, str] = field(default_factory=dict)
    topic: str = ""
    visited: list[str] = field(default_factory=list)
    seed: int = 0
    draws: int = 0
    reward: float | None = None


@dataclass(frozen=True)
class Result:
    """What an action did.

    Attributes:
        problem: why the action was ignored, in one line; None if it was understood.
        bought: the reward with its parts, if something was bought.
    """

    problem: str | None = None
    bought: Reward | None = None


def enter(goal: int, seed: int = 0) -> Visit:
    """A visit that begins."""
    return Visit(goal, f"{BASE}/{goal}", seed=seed)


def parse(action: str) -> tuple[str, str | None]:
    """Name and argument of an action, the argument None where there is none. Linear in the action's length.

    The same as matching `(.+)\\[(.+)\\]` at the start, greedily, without the regular expression's quadratic worst case.
    """
    line = action.split("\n", 1)[0]
    closing = line.rfind("]")
    opening = line.rfind("[", 1, max(closing - 1, 0))
    if opening < 0:
        return action, None
    return line[:opening], line[opening + 1 : closing]


def clicking(text: str) -> str | None:
    """The action that clicks something by its text, or None where none does (brackets; the Search button)."""
    action = f"click[{text}]"
    return action if parse(action) == ("click", text) and text == text.lower() and text != "search" else None


def searching(text: str) -> str | None:
    """The action that searches for a text, without its brackets and line ends; None where nothing is left."""
    words = " ".join(text.translate(_BRACKETS).split())[:MOST_TERMS]  # no letter makes more than one term
    return f"search[{words}]" if words else None


_BRACKETS = str.maketrans("[]", "  ")


def show(visit: Visit, shop: Shop) -> Page:
    """The page that a visit stands on."""
    told = shop.goal(visit.goal).instruction
    name = str(visit.goal)
    here = (told, name, visit.keywords, visit.number)
    if visit.view is View.INDEX:
        return IndexPage(told, name)
    if visit.view is View.RESULTS:
        hits = shop.find(visit.keywords, visit.seed, visit.draws) or ()
        first, last = (visit.number - 1) * PER_PAGE, visit.number * PER_PAGE
        return ResultsPage(*here, len(hits), tuple(shop.product(asin) for asin in hits[first:last]))
    if visit.view is View.DONE:
        return DonePage(told, name, visit.asin, visit.options, visit.reward or 0.0)
    product = shop.product(visit.asin)
    if visit.view is View.SUB:
        return SubPage(*here, product, visit.options, visit.topic)
    return ItemPage(*here, product, visit.options, shop.show_attributes)


def take(visit: Visit, action: str, shop: Shop, page: Page | None = None) -> Result:
    """Do an action: changes `visit` in place, or leaves it as it is and says why.

    Args:
        page: what `show` gave for this visit, if that is at hand.
    """
    name, argument = parse(action)
    if name not in ("search", "click"):
        return Result(f"{_short(name)} is no action; answer with search[words] or click[something on the page]")
    if argument is None:
        return Result(f"{name} needs its argument in brackets: {name}[...]")
    argument = argument.lower()
    if name == "search":
        return _search(visit, tuple(argument.split(" ")), shop)
    targets = (page or show(visit, shop)).targets
    if argument == "search":
        return Result("the Search button cannot be clicked; write search[words]")
    if argument not in targets:
        return Result(f"there is nothing on this page to click that is called {_short(argument)}")
    return _click(visit, argument, targets[argument], shop)


def _search(visit: Visit, words: tuple[str, ...], shop: Shop) -> Result:
    letters = sum(map(len, words)) + len(words) - 1
    if letters > LONGEST_SEARCH:
        return Result(f"a search has at most {LONGEST_SEARCH} characters")
    if any("\ud800" <= letter <= "\udfff" for word in words for letter in word):
        return Result("the search holds half of a surrogate pair, which is no text")
    if letters > MOST_TERMS and words[0] not in OTHER_SEARCHES and len(set(terms(" ".join(words)))) > MOST_TERMS:
        return Result(f"a search has at most {MOST_TERMS} different words")
    if shop.find(words, visit.seed, visit.draws + 1) is None:
        return Result(f"a search that begins with {words[0]} needs something behind it, as in search[<c> beauty]")
    _results(visit, words, 1)
    return Result()


def _results(visit: Visit, words: tuple[str, ...], number: int) -> None:
    visit.keywords, visit.number, visit.asin, visit.options = words, number, "", {}
    visit.draws += words[0] == "<r>"
    visit.view = View.RESULTS
    visit.url = f"{BASE}/search_results/{visit.goal}/{'+'.join(words)}/{number}"


def _item(visit: Visit) -> None:
    visit.view = View.ITEM
    words, chosen = "+".join(visit.keywords), json.dumps(visit.options)
    visit.url = f"{BASE}/item_page/{visit.goal}/{visit.asin}/{words}/{visit.number}/{chosen}"


def _sub_page(visit: Visit, topic: str) -> None:
    visit.view, visit.topic = View.SUB, topic
    words = "+".join(visit.keywords)
    visit.url = f"{BASE}/item_sub_page/{visit.goal}/{visit.asin}/{words}/{visit.number}/{topic}/{visit.options}"


def _buy(visit: Visit, shop: Shop) -> Result:
    bought = shop.reward(visit.goal, visit.asin, visit.options)
    visit.view, visit.reward = View.DONE, bought.total
    visit.url = f"{BASE}/done/{visit.goal}/{visit.asin}/{visit.options}"
    return Result(bought=bought)


def _click(visit: Visit, text: str, target: Target, shop: Shop) -> Result:
    place = _place(visit.url)
    if text == BUY.lower():
        return _buy(visit, shop)
    if text == BACK.lower():
        visit.view, visit.url = View.INDEX, f"{BASE}/{visit.goal}"
        visit.keywords, visit.number, visit.asin, visit.options, visit.visited = (), 1, "", {}, []
    elif text == NEXT.lower() and place is View.RESULTS:
        _results(visit, visit.keywords, visit.number + 1)
    elif text == PREVIOUS.lower() and place is View.RESULTS:
        _results(visit, visit.keywords, visit.number - 1)
    elif text == PREVIOUS.lower() and place is View.ITEM:
        _results(visit, visit.keywords, visit.number)
    elif text in _SUB_PAGE:
        _sub_page(visit, _SUB_PAGE[text])
    else:
        if target.role is Role.PRODUCT:
            visit.asin = text.upper()
            if visit.asin not in visit.visited:
                visit.visited.append(visit.asin)
        elif target.role is Role.OPTION:
            visit.options[target.option.lower()] = text
        _item(visit)
    return Result()


def _place(url: str) -> View:
    """The kind of page that an address is taken for: the first of these words that stands anywhere in it."""
    return next((view for view in (View.RESULTS, View.ITEM, View.SUB, View.DONE) if view in url), View.INDEX)


def _short(text: str) -> str:
    return ascii(text if len(text) <= 60 else f"{text[:59]}…")

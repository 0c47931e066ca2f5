"""The oracle of WebShop: it knows which product the goal was made of, and acts as a customer would.

It searches in plain words until the product is among what is found, opens it, selects the goal's options and buys. It
keeps nothing: the next action follows from where the visit stands, so it also goes on from where others have led.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from palaestra.envs.core import TextEnv
from palaestra.envs.errors import BadInput
from palaestra.envs.webshop.env import WebShop
from palaestra.envs.webshop.goals import Goal
from palaestra.envs.webshop.pages import BACK, BUY, NEXT, PER_PAGE, PREVIOUS, SUB_PAGES, ItemPage, Page, Role
from palaestra.envs.webshop.reward import matched_options
from palaestra.envs.webshop.session import View, Visit, clicking, searching
from palaestra.envs.webshop.shop import Shop

_NEVER_OPTIONS = frozenset(name.lower() for name in (BACK, PREVIOUS, BUY, *SUB_PAGES))
"""Texts whose click leads away from a product, even where an option has a value of that name."""


def target(env: TextEnv[Visit]) -> str:
    """The next action towards buying the goal's product with the goal's options.

    Raises:
        BadInput: not a WebShop.
    """
    inner = env.unwrapped
    if not isinstance(inner, WebShop):
        raise BadInput(f"this oracle plays WebShop, not {type(inner).__name__}")
    return towards_target(inner.state, inner.shop, inner.page(inner.state))


def towards_target(visit: Visit, shop: Shop, page: Page) -> str:
    """The same for a visit and the page that it shows, wherever the shop is played."""
    goal = shop.goal(visit.goal)
    if visit.view is View.RESULTS:
        return _from_results(visit, shop, goal)
    if isinstance(page, ItemPage) and visit.asin == goal.asin:
        missing = [value for option, value in plan(page, goal).items() if visit.options.get(option) != value]
        return f"click[{missing[0] if missing else BUY}]"
    if visit.view in (View.ITEM, View.SUB):
        return f"click[{PREVIOUS}]"
    return search(shop, goal)


def search(shop: Shop, goal: Goal) -> str:
    """The first search in plain words that finds the goal's product among the first ten, or else finds it at all."""
    found: dict[int, str] = {}
    for words in _searches(goal):
        action = searching(words)
        if action is None:
            continue
        hits = shop.find(tuple(action[len("search[") : -1].lower().split(" ")), 0, 0) or ()
        if goal.asin in hits:
            place = hits.index(goal.asin)
            if place < PER_PAGE:
                return action
            found.setdefault(place // PER_PAGE, action)
    return found[min(found)] if found else f"search[{goal.query or 'product'}]"


def plan(page: ItemPage, goal: Goal) -> Mapping[str, str]:
    """Option -> value to select, so that as many of the goal's options as possible are matched."""
    chosen: dict[str, str] = {}
    for wanted in goal.option_list:
        if matched_options(list(chosen.values()), [wanted]):
            continue
        value = wanted if isinstance(wanted, str) else wanted[1]
        for text, (role, option) in sorted(page.targets.items(), key=lambda target: target[0] != value):
            free = role is Role.OPTION and option not in chosen and text not in _NEVER_OPTIONS
            if free and clicking(text) is not None and matched_options([text], [wanted]):
                chosen[option] = text
                break
    return chosen


def _searches(goal: Goal) -> Iterator[str]:
    """Ways to ask for the goal's product, the plainest first."""
    yield goal.instruction
    yield f"{goal.query} {' '.join(goal.attributes)}"
    words = goal.title.split()
    yield " ".join(words[:8])
    yield goal.title
    yield f"{goal.title} {goal.query} {' '.join(goal.attributes)}"


def _from_results(visit: Visit, shop: Shop, goal: Goal) -> str:
    hits = shop.find(visit.keywords, visit.seed, visit.draws) or ()
    if goal.asin not in hits or (visit.keywords[0] == "<r>" and goal.asin not in _shown(hits, visit)):
        return f"click[{BACK}]"
    if goal.asin in _shown(hits, visit):
        return f"click[{goal.asin}]"
    page = hits.index(goal.asin) // PER_PAGE + 1
    if page > visit.number:
        return f"click[{NEXT}]"
    # On pages before the first there is no way back but to search again.
    return f"click[{PREVIOUS}]" if visit.number > 1 else f"click[{BACK}]"


def _shown(hits: tuple[str, ...], visit: Visit) -> tuple[str, ...]:
    return hits[(visit.number - 1) * PER_PAGE : visit.number * PER_PAGE]

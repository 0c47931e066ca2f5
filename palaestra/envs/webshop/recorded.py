"""Plays a recorded session of the original again, word for word: without a step cap, and on after Buy Now.

An episode of the environment ends with Buy Now or at its step cap. The original's sessions need not: its environment
answers whatever comes next, and so does `session.take`, which this calls.

    shop = open_shop("webshop", frozen="frozen")
    for seen in replay(shop, goal=3, actions=["search[red shoes]", ..., "click[Buy Now]", "click[< Prev]"]):
        print(seen.reward, seen.observation)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from palaestra.envs.errors import BadInput
from palaestra.envs.webshop.env import MODES, observed, open_shop
from palaestra.envs.webshop.reward import Reward
from palaestra.envs.webshop.session import Result, enter, show, take
from palaestra.envs.webshop.shop import Shop

__all__ = ["Seen", "open_shop", "replay"]


@dataclass(frozen=True)
class Seen:
    """What the original's environment answers to an action.

    Attributes:
        action: what was done; None for the first page.
        observation: the page that is shown now, in the mode asked for.
        url: its address.
        clickables, has_search_bar: what can be done there.
        reward: of this action: what buying gave, else 0.
        done: was something bought by this action. The session goes on all the same.
        bought: the reward with its parts, if something was bought.
        problem: why the action was ignored; None if it was understood.
    """

    action: str | None
    observation: str
    url: str
    clickables: tuple[str, ...]
    has_search_bar: bool
    reward: float = 0.0
    done: bool = False
    bought: Reward | None = None
    problem: str | None = None


def replay(shop: Shop, goal: int, actions: Iterable[str], mode: str = "text_rich", seed: int = 0) -> Iterator[Seen]:
    """Enter the shop with a goal and take the actions, all of them.

    Args:
        shop: with the goals, prices and nouns of the recording (`open_shop(catalogue, frozen=FOLDER)`).
        goal: its number.
        mode: "text", "text_rich", "html" or "url".
        seed: what random searches (`<r>`) draw from.

    Yields:
        What is seen at first, then what each action leads to.

    Raises:
        BadInput: a mode or a goal that there is not.
    """
    if mode not in MODES:
        raise BadInput(f"WebShop has no observation mode {mode!r}; it has: {', '.join(MODES)}")
    if not 0 <= goal < shop.goal_count:
        raise BadInput(f"there is no goal {goal}; the goals are 0 to {shop.goal_count - 1}")
    return _replay(shop, goal, actions, mode, seed)


def _replay(shop: Shop, goal: int, actions: Iterable[str], mode: str, seed: int) -> Iterator[Seen]:
    visit = enter(goal, seed)

    def seen(action: str | None, result: Result) -> Seen:
        page, bought = show(visit, shop), result.bought
        return Seen(
            action,
            observed(page, visit, mode),
            visit.url,
            tuple(page.targets),
            page.has_search_bar,
            bought.total if bought else 0.0,
            bought is not None,
            bought,
            result.problem,
        )

    yield seen(None, Result())
    for action in actions:
        result = take(visit, action, shop)
        yield seen(action, result)

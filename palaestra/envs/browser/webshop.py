"""WebShop's site in a real browser: the shop that `palaestra serve webshop --html` serves, with its goals and rewards.

What an agent buys is read off the address of the page that buying leads to, and rewarded as WebShop does. Addresses
cannot be typed here (there is no `goto`), so the way to that page is through the shop.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from palaestra.envs.browser.actions import VERBS, click, typing
from palaestra.envs.browser.asgi import asgi
from palaestra.envs.browser.context import Plan
from palaestra.envs.browser.env import BrowserEnv, PageState
from palaestra.envs.browser.gate import Allowed
from palaestra.envs.browser.session import Session
from palaestra.envs.browser.tree import Element
from palaestra.envs.core import Reply, Task, TextEnv
from palaestra.envs.errors import BadInput
from palaestra.envs.webshop.env import WebShop
from palaestra.envs.webshop.oracle import towards_target
from palaestra.envs.webshop.pages import BACK
from palaestra.envs.webshop.session import View, Visit, enter, show
from palaestra.envs.webshop.shop import Shop
from palaestra.envs.webshop.sources import SMALL

HOST = "webshop.test"


class WebShopSite(BrowserEnv):
    """You are shopping on a web site. Find the product that the instruction asks for, choose its options, and buy it.

    Buying ends the episode; the score says how well the product, its options and its price fit, as in WebShop.

    Args:
        catalogue, goals, price_seed: which shop, as in `WebShop`; without them the small one of the package.
        screenshots, load_seconds: as in `BrowserEnv`.

    Raises:
        BadInput: as `WebShop` and `BrowserEnv`.
    """

    verbs: ClassVar[frozenset[str]] = VERBS - {"stop", "goto", "drag", "hover", "press"}

    def __init__(
        self,
        catalogue: str = SMALL,
        goals: str | None = None,
        price_seed: int | None = None,
        screenshots: str | None = None,
        load_seconds: float = 30.0,
    ) -> None:
        super().__init__(screenshots, load_seconds)
        self._inner = WebShop("text", catalogue, goals, price_seed)

    @property
    def shop(self) -> Shop:
        """Products, search, goals and rewards."""
        return self._inner.shop

    def plan(self, task: Task) -> Plan:
        """Only the shop; product pictures of other hosts stay empty."""
        from palaestra.envs.webshop.site import application

        return Plan(Allowed(()), {HOST: asgi(application(self.shop), HOST)}, load_seconds=self.load_seconds)

    def start(self, task: Task) -> str:
        """The search page of the task's goal."""
        return f"http://{HOST}/{self._inner.goal_of(task)}"

    async def outcome(self, session: Session, state: PageState, task: Task) -> Reply | None:
        """The reward, once something was bought."""
        visit = visit_of(state.look.url)
        if visit is None or visit.view is not View.DONE or not self.shop.has(visit.asin):
            return None
        bought = self.shop.reward(self._inner.goal_of(task), visit.asin, visit.options)
        extra: dict[str, Any] = asdict(bought)
        return Reply("", score=bought.total, reward=bought.total, success=bought.total == 1.0, over=True, extra=extra)

    def instructions(self, task: Task) -> str:
        """What shopping is about, and the actions."""
        return (
            "You are shopping. Find the product that the instruction asks for, choose its options, and buy it; Buy Now "
            f"ends the task.\n{super().instructions(task)}"
        )

    def tasks(self, split: str) -> Sequence[Task]:
        """All tasks of a split; of another catalogue where one is set, which opens it."""
        self._inner.registration, self._inner.settings = (
            self.registration,
            {key: value for key, value in self.settings.items() if key in ("catalogue", "goals", "price_seed")},
        )
        return self._inner.tasks(split)

    def fingerprint(self) -> str:
        """As `BrowserEnv`, with the shop's own."""
        return f"{super().fingerprint()} {self._inner.fingerprint()}"


def visit_of(url: str) -> Visit | None:
    """Where in the shop an address is; None if it is none of the shop's pages."""
    parts = urlsplit(url)
    kind, *rest = unquote(parts.path).strip("/").split("/")
    if parts.hostname != HOST:
        return None
    if kind.isdigit() and not rest:
        return enter(int(kind))
    if kind not in (View.RESULTS, View.ITEM, View.SUB, View.DONE) or not rest or not rest[0].isdigit():
        return None
    query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    visit = enter(int(rest[0]))
    visit.view = View(kind)
    visit.keywords, visit.number = tuple(query.get("keywords", "").split(" ")), int(query.get("page", "1"))
    if visit.view is not View.RESULTS:
        visit.asin, visit.options = rest[1], json.loads(query.get("options", "{}"))
        visit.topic = rest[2] if visit.view is View.SUB else ""
    return visit


def target(env: TextEnv[PageState]) -> str:
    """WebShop's oracle, acting through the page.

    Raises:
        BadInput: not a WebShopSite.
    """
    inner = env.unwrapped
    if not isinstance(inner, WebShopSite):
        raise BadInput(f"this oracle shops in WebShopSite, not in {type(inner).__name__}")
    state = inner.state
    visit = visit_of(state.look.url)
    if visit is None:
        return "restart"
    wanted = towards_target(visit, inner.shop, show(visit, inner.shop))
    name, _, words = wanted.rstrip("]").partition("[")
    if name == "search":
        if visit.view is not View.INDEX:
            return _click(state.elements, BACK)
        field = next((each for each in state.elements if each.role in ("textbox", "searchbox")), None)
        return typing(field.number, words, enter=True) if field is not None else "restart"
    return _click(state.elements, words)


def _click(elements: Sequence[Element], words: str) -> str:
    plain = " ".join(words.split()).lower()
    named = [each for each in elements if each.name.lower() == plain]
    for role in ("button", "radio", "link"):
        for each in named:
            if each.role == role:
                return click(each.number)
    return "restart"

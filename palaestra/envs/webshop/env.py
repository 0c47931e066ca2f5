"""WebShop as a TextEnv: an engine of our own that behaves as the original text environment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from palaestra.envs.core import Fidelity, Reply, Task, TextEnv
from palaestra.envs.errors import BadInput
from palaestra.envs.fingerprint import code_fingerprint
from palaestra.envs.webshop.catalogue import Catalogue
from palaestra.envs.webshop.goals import Benchmark
from palaestra.envs.webshop.markup import TextSite, html
from palaestra.envs.webshop.nouns import TAGGED_AHEAD
from palaestra.envs.webshop.pages import Page, Role, plain_text, rich_text
from palaestra.envs.webshop.protocols import Kind, split_ranges
from palaestra.envs.webshop.protocols import protocol as named_protocol
from palaestra.envs.webshop.session import Visit, clicking, enter, searching, show, take
from palaestra.envs.webshop.shop import Shop
from palaestra.envs.webshop.sources import OFFICIAL, SMALL

MODES = ("text", "text_rich", "html", "url")
"""The observation modes of the original."""

_SAME_GOALS = {"observation_mode", "show_attributes", "max_steps"}
"""Settings under which the tasks are those of the registration."""


class WebShop(TextEnv[Visit]):
    """WebShop (Yao et al., arXiv 2207.01206): find a product that fits an instruction, choose its options, buy it.

    Answer with one action: search[words] searches the shop, from every page; click[text] clicks what stands on the
    page: a product's number, the value of an option, Back to Search, < Prev, Next >, Description, Features, Reviews,
    or Buy Now. Buying ends the episode; its reward says how well the product, its options and its price fit.

    Texts, clickable things and rewards are the original's to the letter. So an action that is not understood leaves
    the page as it is and the observation says nothing about it; what was wrong with it stands in `info["problem"]`.
    `info` also has `clickables` and `has_search_bar` as the original lists them, `url`, and after Buy Now the parts of
    the reward (`r_type`, `r_att`, `r_option`, `r_price`, their weights `w_...`, `query_match`, `category_match`,
    `title_score`). `info["actions"]` lists the clicks and, where there is a search bar, a search for the instruction.

    Args:
        observation_mode: "text", "text_rich", "html" or "url".
        catalogue: the name of a data set (`palaestra data list`; "webshop" has the official 1,000 products), a folder
            of the official files, an `items_shuffle*.json`, or "small" (see `WebShopSmall`).
        goals: "synthetic" or "human"; None for the protocol's, or synthetic.
        price_seed: what prices in a range and price ceilings are drawn from; None for 0.
        frozen: a folder of frozen goals, prices and nouns (`palaestra data freeze webshop`) instead of drawn ones.
        show_attributes: do product pages offer the sub-page Attributes.
        protocol: "original", "eto" or "agentgym" for the goals, splits and step cap of these; None for the
            environment's own.

    Raises:
        BadInput: an unknown mode, kind of goals or protocol, or one against the other; a protocol on "small".
    """

    fidelity: ClassVar[Fidelity] = Fidelity.EXACT

    def __init__(
        self,
        observation_mode: str = "text",
        catalogue: str = OFFICIAL,
        goals: str | None = None,
        price_seed: int | None = None,
        frozen: str | None = None,
        show_attributes: bool = False,
        protocol: str | None = None,
    ) -> None:
        super().__init__()
        if observation_mode not in MODES:
            raise BadInput(f"WebShop has no observation mode {observation_mode!r}; it has: {', '.join(MODES)}")
        if goals is not None and goals not in tuple(Kind):
            raise BadInput(f"WebShop has no goals {goals!r}; it has: {', '.join(Kind)}")
        if frozen is not None and price_seed is not None:
            raise BadInput("frozen goals come with their prices; leave out price_seed")
        if price_seed is not None and (type(price_seed) is not int or price_seed < 0):
            raise BadInput(f"price_seed must be a whole number from 0 on, got {price_seed!r}")
        if not isinstance(show_attributes, bool):
            raise BadInput(f"show_attributes must be true or false, got {show_attributes!r}")
        for what, where in (("catalogue", catalogue), ("frozen", frozen)):
            if where is not None and (not isinstance(where, str | Path) or not str(where)):
                raise BadInput(f"{what} must be a name or a path, got {where!r}")
        if catalogue is None:
            raise BadInput(f"catalogue must be a name or a path, got None; the official products are {OFFICIAL!r}")
        self.protocol = named_protocol(protocol) if protocol is not None else None
        if self.protocol is not None:
            if str(catalogue) == SMALL:
                raise BadInput(
                    f"protocol {protocol!r} cannot be run on the small catalogue: its products are made up, so "
                    "its scores are never comparable with published ones; leave out the protocol, or take webshop"
                )
            if goals not in (None, self.protocol.kind):
                raise BadInput(f"protocol {protocol!r} sets the goals itself ({self.protocol.kind}), got {goals!r}")
            goals = self.protocol.kind
            self.max_steps = self.protocol.max_steps
        self.observation_mode = observation_mode
        folder = str(frozen) if frozen is not None else None
        self._source = (str(catalogue), folder, price_seed or 0, str(goals or Kind.SYNTHETIC))
        self._show_attributes = show_attributes
        self._page: tuple[Visit, Page] | None = None
        self._shop: Shop | None = None
        self._print: str | None = None

    # -- what an environment writes ---------------------------------------------------------------------------------

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[Visit, str]:
        """Enter the shop. Raises BadInput for a task of another catalogue, or where data is missing or damaged."""
        visit = enter(self.goal_of(task), seed=int(rng.integers(2**32)))
        return visit, self._observe(visit)

    def act(self, state: Visit, action: str) -> Reply:
        """Search or click."""
        result = take(state, action, self.shop, self.page(state))
        self._page = None
        extra: dict[str, Any] = {} if result.problem is None else {"problem": result.problem}
        seen, bought = self._observe(state), result.bought
        if bought is None:
            return Reply(seen, valid=result.problem is None, extra=extra)
        extra.update(asdict(bought))
        won = bought.total == 1.0
        return Reply(seen, score=bought.total, reward=bought.total, success=won, over=True, extra=extra)

    def admissible(self, state: Visit) -> Sequence[str]:
        """A click for everything that can be clicked; where there is a search bar, a search for the instruction.

        Clicks are spelt as the page spells what they click, so that an agent writes what it reads (and what experts
        wrote); the engine takes any case.
        """
        page = self.page(state)
        searches = [searching(page.instruction)] if page.has_search_bar else []
        shown = {word.text.lower(): word.text for word in page.words() if word.role in (Role.BUTTON, Role.PRODUCT)}
        clicks = [f"click[{shown.get(text, text)}]" for text in page.targets if clicking(text) is not None]
        return [*(search for search in searches if search is not None), *clicks]

    def details(self, state: Visit) -> Mapping[str, Any]:
        """`clickables`, `has_search_bar` and `url`."""
        page = self.page(state)
        return {"clickables": list(page.targets), "has_search_bar": page.has_search_bar, "url": state.url}

    def tasks(self, split: str) -> Sequence[Task]:
        """All tasks of a split: how many there are depends on the catalogue, so this opens it."""
        if self.registration is None or not self.settings.keys() - _SAME_GOALS:
            return super().tasks(split)
        splits = self._splits()
        if split not in splits:
            raise BadInput(f"WebShop has no split {split!r} here; it has: {', '.join(splits)}")
        label = self._label()
        return [Task(env=self.registration.id, name=f"{label}/{number}", split=split) for number in splits[split]]

    def lists(self, name: str, split: str) -> bool:
        """As in the base class; of other catalogues and goals without listing them all."""
        if self.registration is not None and not self.settings.keys() - _SAME_GOALS:
            return self.registration.lists(name, split)
        label, _, number = name.rpartition("/")
        return label == self._label() and number.isdecimal() and int(number[:9]) in self._splits().get(split, ())

    def fingerprint(self) -> str:
        """Version of this code, catalogue with its hash, goals and prices, and what found the nouns of titles."""
        if self._print is None:
            catalogue, benchmark = self.shop.catalogue, self.shop.benchmark
            data = f"catalogue {catalogue.name} {catalogue.fingerprint} goals {benchmark.name}"
            cls: type = type(self)
            self._print = f"{code_fingerprint(cls)} {data} nouns {benchmark.nouns.tagger}"
        return self._print

    # -- the shop ----------------------------------------------------------------------------------------------------

    @property
    def shop(self) -> Shop:
        """Products, search, goals and rewards; opened when first asked for, and shared by all instances."""
        if self._shop is None:
            self._shop = open_shop(*self._source, self._show_attributes)
        return self._shop

    def page(self, state: Visit) -> Page:
        """The page that is shown."""
        if self._page is None or self._page[0] is not state:
            self._page = (state, show(state, self.shop))
        return self._page[1]

    def close(self) -> None:
        """Forget the episode. May be called twice; the shop stays open for other instances."""
        super().close()
        self._page = None

    def _observe(self, visit: Visit) -> str:
        return visit.url if self.observation_mode == "url" else observed(self.page(visit), visit, self.observation_mode)

    def _splits(self) -> Mapping[str, range]:
        count = self.shop.goal_count
        return self.protocol.splits(count) if self.protocol is not None else split_ranges(count)

    def _label(self) -> str:
        return f"{self.shop.catalogue.name}-{self._source[3]}"

    def goal_of(self, task: Task) -> int:
        """The goal of a task. Raises BadInput where it is not one of this catalogue."""
        label, _, number = task.name.rpartition("/")
        here = self._label()
        if label != here:
            raise BadInput(f"WebShop task {task.name!r} is not of these goals, which are called {here}/NUMBER")
        count = self.shop.goal_count
        if not re.fullmatch("0|[1-9][0-9]{0,8}", number) or int(number) >= count:
            raise BadInput(f"WebShop task {task.name!r}: the goals here are {here}/0 to {here}/{count - 1}")
        return int(number)


class WebShopSmall(WebShop):
    """WebShop on 120 products of our own making that ship in the package: no data is needed.

    Pages, search, options and rewards are `WebShop`'s; the scores compare with nobody's, so no protocol is taken.

    Args:
        observation_mode, goals, price_seed, frozen, show_attributes: as in `WebShop`.
        protocol: refused, with the reason.

    Raises:
        BadInput: as `WebShop`, and for any protocol.
    """

    def __init__(
        self,
        observation_mode: str = "text",
        goals: str | None = None,
        price_seed: int | None = None,
        frozen: str | None = None,
        show_attributes: bool = False,
        protocol: str | None = None,
    ) -> None:
        super().__init__(observation_mode, SMALL, goals, price_seed, frozen, show_attributes, protocol)


def observed(page: Page, visit: Visit, mode: str) -> str:
    """What an agent sees of a page, in one of `MODES`."""
    if mode == "url":
        return visit.url
    if mode == "html":
        return html(page, TextSite())
    return rich_text(page, visit.url, visit.visited) if mode == "text_rich" else plain_text(page)


@lru_cache(maxsize=8)
def open_shop(
    catalogue: str = OFFICIAL,
    frozen: str | None = None,
    price_seed: int = 0,
    goals: str = "synthetic",
    show_attributes: bool = False,
) -> Shop:
    """A shop by the settings of `WebShop`; what is heavy in it is opened once a process.

    The nouns of all titles are found when a catalogue is first opened, unless it is large or frozen goals bring them.

    Raises:
        BadInput: the data is missing or damaged, or has no goals of this kind.
    """
    opened = Catalogue.open(catalogue)
    if frozen is not None:
        benchmark = Benchmark.load(Path(frozen), opened, goals)
    else:
        benchmark = Benchmark.draw(opened, price_seed, goals)
    if not len(benchmark.goals):
        raise BadInput(f"the catalogue {opened.name} has no {goals} goals")
    if len(opened) <= TAGGED_AHEAD:
        benchmark.nouns.complete(lambda: (product.title for product in opened))
    return Shop(opened, benchmark, show_attributes)

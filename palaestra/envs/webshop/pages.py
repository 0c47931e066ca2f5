"""The pages of WebShop as values, and the texts an agent sees of them (Yao et al., arXiv 2207.01206).

A page knows the words that stand on it, in order, and what can be clicked. The observation modes `text` and
`text_rich` are made from these words alone; `markup.py` makes HTML of the same pages. A test reads that HTML with an
HTML parser and compares it with the words here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from palaestra.envs.webshop.product import Product

PER_PAGE = 10
BACK, PREVIOUS, NEXT, BUY = "Back to Search", "< Prev", "Next >", "Buy Now"
SUB_PAGES = ("Description", "Features", "Reviews", "Attributes")

_SEPARATOR = " [SEP] "
_BLANKS = " \n\t\f\r"


class Role(StrEnum):
    """What a text is on its page."""

    PLAIN = "plain"
    BUTTON = "button"
    OPTION = "option"
    PRODUCT = "product"


class Words(NamedTuple):
    """A run of text between two tags."""

    text: str
    role: Role = Role.PLAIN


class Target(NamedTuple):
    """What a click leads to: a button, a product, or a value of the option `option`."""

    role: Role
    option: str = ""


@dataclass(frozen=True)
class Page:
    """Any page. `instruction` is the goal in words; it stands on all of them but the last."""

    instruction: str
    session: str

    def words(self) -> list[Words]:
        """All visible texts in order, before blanks are dropped."""
        raise NotImplementedError

    def buttons(self) -> Sequence[str]:
        """The names of the buttons, as they are written."""
        raise NotImplementedError

    @cached_property
    def targets(self) -> dict[str, Target]:
        """What can be clicked, by the lower-case text that clicks it, in the original's order.

        Of two things with the same text the later one is clicked: an option value hides a button.
        """
        return {name.lower(): Target(Role.BUTTON) for name in self.buttons()}

    @property
    def has_search_bar(self) -> bool:
        """Is there a field to type a search into (a search is understood on every page)."""
        return False


@dataclass(frozen=True)
class IndexPage(Page):
    """The search page, where an episode begins."""

    def words(self) -> list[Words]:
        return [
            Words("WebShop"),
            Words("Instruction: "),
            Words(self.instruction),
            Words("Search", Role.BUTTON),
        ]

    def buttons(self) -> Sequence[str]:
        return ("Search",)

    @property
    def has_search_bar(self) -> bool:
        return True


@dataclass(frozen=True)
class InnerPage(Page):
    """What the pages behind the search page share: the search that led there and the page of its results."""

    keywords: tuple[str, ...]
    number: int


@dataclass(frozen=True)
class ResultsPage(InnerPage):
    """Ten products of a search. `total` counts all that were found, `number` may lie beyond the last page."""

    total: int
    products: tuple[Product, ...]

    def words(self) -> list[Words]:
        head = [Words("Instruction:"), Words(self.instruction), Words(BACK, Role.BUTTON)]
        head.append(Words(f"Page {self.number} (Total results: {self.total})"))
        head += [Words(name, Role.BUTTON) for name in self.buttons()[1:]]
        for product in self.products:
            head += (Words(product.asin, Role.PRODUCT), Words(product.title), Words(product.price_tag))
        return head

    def buttons(self) -> Sequence[str]:
        return (BACK, PREVIOUS, NEXT) if self.number > 1 else (BACK, NEXT)

    @cached_property
    def targets(self) -> dict[str, Target]:
        found = super().targets
        found.update((product.asin.lower(), Target(Role.PRODUCT)) for product in self.products)
        return found


@dataclass(frozen=True)
class ItemPage(InnerPage):
    """One product with its options. `chosen` maps option names to the values that were selected."""

    product: Product
    chosen: Mapping[str, str]
    show_attributes: bool = False

    def words(self) -> list[Words]:
        seen = [Words("Instruction:"), Words(self.instruction)]
        seen += (Words(BACK, Role.BUTTON), Words(PREVIOUS, Role.BUTTON))
        for name, values in self.product.options.items():
            seen.append(Words(name))
            seen += [Words(value, Role.OPTION) for value in values]
        seen += (Words(self.product.title), Words(f"Price: {self.product.price_tag}"), Words("Rating: N.A."))
        return seen + [Words(name, Role.BUTTON) for name in self.buttons()[2:]]

    def sub_pages(self) -> Sequence[str]:
        """The sub-pages that the page offers."""
        return SUB_PAGES if self.show_attributes else SUB_PAGES[:-1]

    def buttons(self) -> Sequence[str]:
        return (BACK, PREVIOUS, *self.sub_pages(), BUY)

    @cached_property
    def targets(self) -> dict[str, Target]:
        found = super().targets
        for name, values in self.product.options.items():
            found.update((value, Target(Role.OPTION, name)) for value in values)
        return found


@dataclass(frozen=True)
class SubPage(InnerPage):
    """Description, Features, Reviews or Attributes of a product."""

    product: Product
    chosen: Mapping[str, str]
    topic: str

    def words(self) -> list[Words]:
        seen = [Words("Instruction:"), Words(self.instruction), Words(BACK, Role.BUTTON), Words(PREVIOUS, Role.BUTTON)]
        product = self.product
        if self.topic == "Description":
            seen.append(Words(product.description))
        elif self.topic == "Features":
            seen += [Words(f" {line}") for line in product.bullet_points]
        elif self.topic == "Attributes":
            seen += [Words(f" {line}") for line in product.attributes]
            seen += [Words(text) for text in (product.category, product.query, product.product_category)]
        return seen  # no file of the original holds reviews

    def buttons(self) -> Sequence[str]:
        return (BACK, PREVIOUS)


@dataclass(frozen=True)
class DonePage(Page):
    """After Buy Now: what was bought and the reward. Most of its fields are left empty by the text environment."""

    asin: str
    chosen: Mapping[str, str]
    reward: float

    def options_text(self) -> str:
        """The chosen options as they stand on the page."""
        return script_json(dict(self.chosen))

    def words(self) -> list[Words]:
        texts = ["Thank you for shopping with us!", "Your code: ", "None", " (Paste it in your MTurk interface.)"]
        texts += ["Purchased", "asin", self.asin, "options", self.options_text()]
        for name in ("attrs", "category", "query", "product category"):
            texts += (name, "None")
        texts += ["Target", "asin", "options", "attrs", "price upper", "instuction text", "category"]
        texts += ["product category", "query", "Goal ", "None", "Reward", "Your score (min 0.0, max 1.0)"]
        texts += [str(self.reward), "Reward Details ", "None"]
        return [Words(text) for text in texts]

    def buttons(self) -> Sequence[str]:
        return ()


def script_json(value: object) -> str:
    """JSON with sorted keys that may stand inside a script or between tags."""
    text = json.dumps(value, sort_keys=True)
    for letter in "<>&'":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def visible(words: Sequence[Words]) -> list[Words]:
    """The words as an HTML parser hands them on: no empty ones, and blanks alone become one blank or vanish."""
    kept = []
    for each in words:
        text = each.text
        if not text.strip(_BLANKS):
            if not text or "\n" in text:
                continue
            each = Words(" ", each.role)
        kept.append(each)
    return kept


def plain_text(page: Page) -> str:
    """The observation mode `text`: what is visible, stripped, with `[SEP]` in between."""
    return _SEPARATOR.join(each.text.strip() for each in visible(page.words()))


def rich_text(page: Page, url: str, visited: Collection[str]) -> str:
    """The observation mode `text_rich`: one line for each text, clickable ones in brackets.

    As in the original an option counts as clicked when its value stands in the address in double quotes. Values with
    quotes or letters outside ASCII are escaped there and never count; words that were searched for in quotes do.

    Args:
        url: the page's address.
        visited: the products that were opened since the last Back to Search.
    """
    seen = ""
    for text, role in visible(page.words()):
        if role is Role.BUTTON:
            line = f"[button] {text} [button_]"
        elif role is Role.OPTION and f'"{text}"' in url:
            line = f"  [clicked button] {text} [clicked button_]"
            seen = f"You have clicked {text}.\n{seen}"
        elif role is Role.OPTION:
            line = f"  [button] {text} [button_]"
        elif role is Role.PRODUCT:
            kind = "clicked button" if text in visited else "button"
            line = f"\n[{kind}] {text} [{kind}_]"
        else:
            line = text
        seen += line + "\n"
    return seen

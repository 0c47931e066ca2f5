"""What MiniWoB's oracle looks at: a page's question, its elements, and scripts that see what is hidden."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from palaestra.envs.browser.actions import click, select, typing
from palaestra.envs.browser.env import BrowserEnv
from palaestra.envs.browser.tree import Element


class Unsolved(Exception):
    """From here the oracle knows no way on."""


class Scene:
    """One moment of an episode, for one page's oracle.

    Attributes:
        query: what the page asks for.
        body: its elements without those of the question.
        done: the actions so far.
        seed: the task's, as the page was given it.
    """

    def __init__(self, env: BrowserEnv) -> None:
        self._env = env
        said = env.evaluate("core.getUtterance()")
        self.query: str = said["utterance"] if isinstance(said, dict) else said
        self.body = _after_query(env.state.elements, self.query)
        self.done = env.history
        self.seed = env.task.name.rpartition("/")[2]

    def js(self, expression: str) -> Any:
        """What a script in the page says."""
        return self._env.evaluate(expression)

    def lots(self, count: int) -> list[float]:
        """The first numbers that the page drew with the task's seed, each from 0 to below 1."""
        drawn = f"(draw => Array.from({{length: {count}}}, draw))(new Math.seedrandom({json.dumps(self.seed)}))"
        return [float(each) for each in self.js(drawn)]

    def ask(self, pattern: str) -> tuple[str, ...]:
        """The groups of a pattern that the question matches. Raises Unsolved."""
        found = re.search(pattern, self.query)
        if found is None:
            raise Unsolved(f"the question {self.query!r} is of another form")
        return tuple(group or "" for group in found.groups())

    @property
    def quoted(self) -> str:
        """What stands between the first pair of quotes in the question."""
        return self.ask('"([^"]*)"')[0].strip()

    def all(self, *roles: str) -> list[Element]:
        """All elements of these roles, in order."""
        return [element for element in self.body if element.role in roles]

    def one(self, name: str, *roles: str) -> Element | None:
        """The first element of this name; of these roles, where some are named."""
        return next((e for e in self.body if e.name == name and (not roles or e.role in roles)), None)

    def get(self, name: str, *roles: str) -> Element:
        """The same. Raises Unsolved where there is none."""
        found = self.one(name, *roles)
        if found is None:
            raise Unsolved(f"there is no {name!r}")
        return found

    def where(self, what: Callable[[Element], bool]) -> list[Element]:
        """All elements for which something holds."""
        return [element for element in self.body if what(element)]

    def submit(self, name: str = "Submit") -> str:
        """Click the button that ends the task."""
        return click(self.get(name, "button").number)

    def fill(self, *wanted: tuple[Element, str], button: str = "Submit") -> str:
        """Type what is not yet in its field, then submit."""
        for field, text in wanted:
            if field.value != text:
                return typing(field.number, text)
        return self.submit(button)

    def check(self, names: Sequence[str], *roles: str) -> str:
        """Tick what is named, then submit."""
        for box in self.all(*(roles or ("checkbox", "radio"))):
            if ("checked: true" in box.states) != (box.name in names):
                return click(box.number)
        return self.submit()

    def choose(self, box: Element, option: str) -> str | None:
        """Select an option, unless it is selected."""
        return None if box.value == option else select(box.number, option)

    def fields(self) -> list[Element]:
        """All text fields."""
        return self.all("textbox", "searchbox", "spinbutton")

    def follow(self, *steps: str) -> str:
        """The step behind the longest beginning of `steps` that was just done."""
        for count in range(len(steps) - 1, 0, -1):
            if tuple(self.done[-count:]) == steps[:count]:
                return steps[count]
        return steps[0]

    def text(self, selector: str) -> str:
        """The text of an element of the page, by CSS selector."""
        return str(self.js(f"(document.querySelector({json.dumps(selector)}) || {{}}).textContent || ''")).strip()

    def middle(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[int, int]:
        """A point of an element's box, by CSS selector; its middle without further arguments. Raises Unsolved."""
        box = self.js(
            f"(e => {{ if (!e) return null; const b = e.getBoundingClientRect(); "
            f"return [b.left, b.top, b.width, b.height]; }})(document.querySelector({json.dumps(selector)}))"
        )
        if box is None:
            raise Unsolved(f"there is no {selector}")
        return round(box[0] + box[2] * x), round(box[1] + box[3] * y)

    def point(self, selector: str, x: float = 0.5, y: float = 0.5) -> str:
        """Click such a point."""
        return "click [{},{}]".format(*self.middle(selector, x, y))


def _after_query(elements: Sequence[Element], query: str) -> list[Element]:
    """The elements behind those that spell the question."""
    left = "".join(query.split())
    for place, element in enumerate(elements[1:], 1):
        said = "".join(element.name.split())
        if element.role.startswith("box:") and left:
            continue
        if not said or not left.startswith(said):
            return list(elements[place:])
        left = left[len(said) :]
    return []


def number(element: Element) -> float:
    """The number that an element's name holds. Raises Unsolved."""
    found = re.search(r"-?\d+(?:\.\d+)?", element.name.replace(",", ""))
    if found is None:
        raise Unsolved(f"{element.name!r} is no number")
    return float(found[0])


def ordinal(text: str) -> int:
    """0 for "1st", 1 for "2nd", ... Raises Unsolved."""
    found = re.search(r"(\d+)(?:st|nd|rd|th)", text)
    if found is None:
        raise Unsolved(f"{text!r} says no place")
    return int(found[1]) - 1


Way = Callable[[Scene], str]
WAYS: dict[str, Way] = {}
"""Page -> how it is solved."""


def solves(*pages: str) -> Callable[[Way], Way]:
    """Say which pages a function solves."""

    def keep(way: Way) -> Way:
        WAYS.update(dict.fromkeys(pages, way))
        return way

    return keep

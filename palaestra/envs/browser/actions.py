"""What an agent can do on a page: reading actions as WebEvolver and WebVoyager write them.

    click [3]                    type [3] [words] [1]         select [3] [an option]
    scroll [down]                scroll [3] [up]              back
    goto [address]               stop [answer]                wait, restart, press [Control+a]
    hover [3]                    drag [3] [5]                 drag [3] [40,-10]
    click [120,80]               hover [120,80]               drag [120,80] [40,-10]
    wait [200]                   hover [120,80] [9,0] [0,9]   drag [120,80] [40,-10] [5,5] [0,9]

Two numbers are a point of the window in pixels, as "at x,y" in an observation gives them; other numbers are those of
the newest observation. A mouse that is dragged or hovers may be led along several points, each so many pixels right and
down of the one before. The number of `wait` is milliseconds. The third part of `type` says whether Enter is pressed
afterwards: 1, which it is where it is missing, or 0. WebVoyager's forms (`Click [3]`, `Type [3]; [words]`,
`Scroll [WINDOW]; [down]`, `GoBack`, `Google`, `ANSWER; [words]`; arXiv 2401.13919) mean the same, and so does the
`goback` of WebEvolver (arXiv 2504.21024). Before an action may stand what WebVoyager's agents write there:
`Thought: ... Action: `.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from palaestra.envs.errors import BadInput

LONGEST_ACTION = 8000
"""Characters."""

MOST_POINTS = 64
"""How many points a mouse is led along in one action."""

LONGEST_WAIT = 5000
"""Milliseconds."""

_VERBS = {
    "click": "click",
    "type": "type",
    "select": "select",
    "scroll": "scroll",
    "back": "back",
    "goback": "back",
    "go_back": "back",
    "goto": "goto",
    "google": "goto",
    "wait": "wait",
    "restart": "restart",
    "press": "press",
    "hover": "hover",
    "drag": "drag",
    "stop": "stop",
    "answer": "stop",
}

_WORDS = frozenset({"type", "select", "goto", "stop", "press"})
"""Verbs whose words may be of several lines."""

VERBS = frozenset(_VERBS.values())

GOOGLE = "https://www.google.com/"
"""Where WebVoyager's action `Google` leads, if that host may be visited."""

_BEFORE = re.compile(r"(?:thought\s*:.*?(?:^|\s))?action\s*:\s*", re.IGNORECASE | re.DOTALL)

_KEY = re.compile(r"(?:(?:Control|Shift|Alt|Meta)\+)*(?:[!-~]|[A-Z][A-Za-z0-9]{1,11})")
_MODIFIERS = {"ctrl": "Control", "control": "Control", "shift": "Shift", "alt": "Alt", "meta": "Meta", "cmd": "Meta"}


class NotUnderstood(Exception):
    """An action that cannot be read; says what is wrong with it, for the agent."""


@dataclass(frozen=True)
class Action:
    """What is to be done.

    Attributes:
        verb: one of `VERBS`.
        target: number of an element, or None.
        point: a place in the window instead of an element.
        text: what is typed, selected, opened, pressed or answered; the direction of a scroll.
        enter: press Enter after typing.
        onto: where to drag: the number of an element, or pixels right and down.
        then: the points after that (of a hover: after its first one), each in pixels right and down of the one before.
        milliseconds: how long to wait; None for as long as an action takes anyway.
    """

    verb: str
    target: int | None = None
    text: str = ""
    enter: bool = False
    onto: int | tuple[int, int] | None = None
    point: tuple[int, int] | None = None
    then: tuple[tuple[int, int], ...] = ()
    milliseconds: int | None = None


def parse(action: str, verbs: frozenset[str] = VERBS) -> Action:
    """Read an action.

    Raises:
        NotUnderstood: with what is wrong.
    """
    if len(action) > LONGEST_ACTION:
        raise NotUnderstood(f"That is too long for an action (more than {LONGEST_ACTION} characters).")
    text = action.strip().replace("\0", " ").encode("utf-8", "replace").decode()
    if (before := _BEFORE.match(text)) is not None:
        text = text[before.end() :]
    found = re.match(r"([A-Za-z_]+)\s*[;:]?\s*", text)
    verb = _VERBS.get(found[1].lower()) if found else None
    if found is None or verb is None or verb not in verbs:
        raise NotUnderstood(f"That is no action. Actions: {_listed(verbs)}.")
    google = found[1].lower() == "google"
    if google or verb not in _WORDS:
        text = _without_remark(text)
    rest = text[found.end() :]
    if google or verb in ("back", "restart"):
        _nothing(rest, f"{found[1]} takes nothing.")
        return Action(verb, text=GOOGLE if google else "")
    if verb == "wait":
        return _wait(_inside(rest))
    if verb in ("goto", "stop"):
        return _said(verb, _inside(rest))
    if verb == "press":
        return Action("press", text=_key(_inside(rest)))
    if verb == "scroll":
        return _scroll(rest)
    place = re.match(r"\[?\s*(\d{1,5})\s*,\s*(\d{1,5})\s*\]?\s*;?\s*", rest, re.ASCII)
    if place is not None and verb in ("click", "hover", "drag"):
        onto, then = _led(verb, rest[place.end() :])
        return Action(verb, onto=onto, point=(int(place[1]), int(place[2])), then=then)
    return _on_element(verb, *_target(verb, rest))


def click(number: int) -> str:
    """The action that clicks an element."""
    return f"click [{number}]"


def typing(number: int, text: str, enter: bool = False) -> str:
    """The action that types into an element."""
    return f"type [{number}] [{text}] [{int(enter)}]"


def select(number: int, option: str) -> str:
    """The action that selects an option of an element."""
    return f"select [{number}] [{option}]"


def waiting(milliseconds: int) -> str:
    """The action that waits so long."""
    return f"wait [{milliseconds}]"


def _listed(verbs: frozenset[str]) -> str:
    forms = {
        "click": "click [number]",
        "type": "type [number] [text] [1 to press Enter, or 0]",
        "select": "select [number] [option]",
        "scroll": "scroll [up or down]",
        "back": "back",
        "goto": "goto [address]",
        "wait": "wait or wait [milliseconds]",
        "restart": "restart",
        "press": "press [key]",
        "hover": "hover [number]",
        "drag": "drag [number] [number, or x,y] and further [x,y]",
        "stop": "stop [answer]",
    }
    return ", ".join(form for verb, form in forms.items() if verb in verbs)


def _inside(rest: str) -> str:
    """What stands between the outermost brackets, or all where there are none."""
    rest = rest.strip().lstrip(";").strip()
    return rest[1:-1].strip() if rest.startswith("[") and rest.endswith("]") else rest


def _without_remark(text: str) -> str:
    """What belongs to an action that holds no words of its own: a remark on the lines below it does not."""
    first, *below = text.split("\n")
    going_on = itertools.takewhile(lambda line: not line.strip() or line.lstrip().startswith("["), below)
    return "\n".join([first, *going_on])


def _nothing(rest: str, told: str) -> None:
    """Raises NotUnderstood where more is said than the action takes."""
    if rest.strip("[]. ;"):
        raise NotUnderstood(told)


def _said(verb: str, words: str) -> Action:
    if verb == "goto" and not words:
        raise NotUnderstood("goto needs an address: goto [http://...].")
    return Action(verb, text=words)


def _target(verb: str, rest: str) -> tuple[int, str]:
    found = re.match(r"\[?\s*(\d{1,7})(?:\s*\]|(?=[\s;\[]|$))\s*;?\s*", rest, re.ASCII)
    if found is None:
        raise NotUnderstood(f"{verb} needs the number of an element: {verb} [number].")
    return int(found[1]), rest[found.end() :].strip()


def _on_element(verb: str, target: int, rest: str) -> Action:
    if verb in ("click", "hover", "drag"):
        onto, then = _led(verb, rest)
        return Action(verb, target, onto=onto, then=then)
    if verb == "select":
        if not (option := _inside(rest)):
            raise NotUnderstood("select needs an option: select [number] [option].")
        return Action("select", target, option)
    enter = True
    flag = re.search(r"(?<=\])\s*\[\s*(?:press_enter_after\s*=\s*)?([01])\s*\]$", rest)
    if flag is not None:
        enter, rest = flag[1] == "1", rest[: flag.start()]
    return Action("type", target, _inside(rest), enter)


def _led(verb: str, rest: str) -> tuple[int | tuple[int, int] | None, tuple[tuple[int, int], ...]]:
    """Where a mouse is led: the end of a drag's first stretch (None for other verbs), and the points after that."""
    if verb == "click":
        _nothing(rest, "click takes one element or one point: click [3], or click [120,80].")
    if verb == "click" or (verb == "hover" and not rest.strip(". ;")):
        return None, ()
    several = re.fullmatch(r"\s*\[[^\[\]]*\](?:\s*;?\s*\[[^\[\]]*\])+\s*", rest)
    parts = re.findall(r"\[([^\[\]]*)\]", rest) if several else [_inside(rest)]
    if len(parts) > MOST_POINTS:
        raise NotUnderstood(f"That are too many points for one {verb} (more than {MOST_POINTS}).")
    onto = None
    if verb == "drag":
        first = parts.pop(0).strip()
        onto = int(first) if re.fullmatch(r"\d{1,7}", first, re.ASCII) else _offset(verb, first)
    return onto, tuple(_offset(verb, part.strip()) for part in parts)


def _offset(verb: str, text: str) -> tuple[int, int]:
    if (pair := re.fullmatch(r"([+-]?\d{1,4})\s*,\s*([+-]?\d{1,4})", text, re.ASCII)) is not None:
        return int(pair[1]), int(pair[2])
    if verb == "hover":
        raise NotUnderstood("hover goes on by pixels: hover [number] [right,down] [right,down] ...")
    raise NotUnderstood("drag needs where to: drag [number] [number], or drag [number] [right,down] in pixels.")


def _wait(text: str) -> Action:
    if not text.strip(". "):
        return Action("wait")
    if not re.fullmatch(r"\d{1,7}", text, re.ASCII) or not 1 <= int(text) <= LONGEST_WAIT:
        raise NotUnderstood(f"wait takes whole milliseconds: wait, or wait [1] to wait [{LONGEST_WAIT}].")
    return Action("wait", milliseconds=int(text))


def _scroll(rest: str) -> Action:
    """A direction, and an element's number or WebVoyager's WINDOW beside it."""
    words = [word.lower().removeprefix("direction=") for word in re.split(r"[\[\];,\s]+", rest.rstrip(". ")) if word]
    ways = [word for word in words if word in ("up", "down")]
    places = [word for word in words if word not in ways]
    where = places[0] if places else "window"
    if len(ways) != 1 or len(places) > 1 or not re.fullmatch(r"window|\d{1,7}", where, re.ASCII):
        raise NotUnderstood("scroll takes a direction: scroll [up], scroll [down], or scroll [number] [down].")
    return Action("scroll", None if where == "window" else int(where), ways[0])


def _key(text: str) -> str:
    parts = [part.strip() for part in re.split(r"\+(?=.)", text)]
    keys = [*(_MODIFIERS.get(part.lower(), part) for part in parts[:-1]), parts[-1] if parts else ""]
    combination = "+".join(keys)
    if _KEY.fullmatch(combination) is None:
        raise NotUnderstood("press needs a key, such as press [Enter], press [Control+a] or press [ArrowDown].")
    return combination


def checked_verbs(verbs: frozenset[str]) -> frozenset[str]:
    """Raises BadInput for a verb that there is not."""
    if unknown := sorted(verbs - VERBS):
        raise BadInput(f"there is no action {unknown[0]!r}; there are: {', '.join(sorted(VERBS))}")
    return verbs

"""The oracle of MiniWoB++: a scripted way through every page; `SOLVED` says which give a reward of 1."""

from __future__ import annotations

from palaestra.envs.browser import (
    miniwob_bookings,
    miniwob_clicks,
    miniwob_drags,
    miniwob_drawing,
    miniwob_forms,
    miniwob_games,
    miniwob_mail,
    miniwob_moving,
    miniwob_text,
)
from palaestra.envs.browser.env import PageState
from palaestra.envs.browser.miniwob import MiniWoB, page_of
from palaestra.envs.browser.miniwob_scene import WAYS, Scene, Unsolved
from palaestra.envs.core import TextEnv
from palaestra.envs.errors import BadInput, NoOracle, NoWay

__all__ = [
    "SOLVED",
    "UNREACHED",
    "miniwob_bookings",
    "miniwob_clicks",
    "miniwob_drags",
    "miniwob_drawing",
    "miniwob_forms",
    "miniwob_games",
    "miniwob_mail",
    "miniwob_moving",
    "miniwob_text",
    "scripted",
]

UNREACHED = frozenset({*miniwob_drawing.NEARLY, *miniwob_moving.ENDLESS})
"""Pages where a reward of 1 is out of reach, for some seeds or for all; the oracle goes as far as it can there."""

SOLVED = tuple(sorted(set(WAYS) - UNREACHED))
"""The pages that the oracle solves, but for single seeds: tic-tac-toe/35 cannot be won, and click-pie-nodelay does not
answer where the item that is selected at its beginning is the wanted one (click-pie-nodelay/2009)."""


def scripted(env: TextEnv[PageState]) -> str:
    """The next action on the way to solving the page.

    Raises:
        BadInput: not MiniWoB. NoOracle: a page without a way. NoWay: a place from which no way leads further.
    """
    inner = env.unwrapped
    if not isinstance(inner, MiniWoB):
        raise BadInput(f"this oracle plays MiniWoB, not {type(inner).__name__}")
    page = page_of(inner.task)
    if page not in WAYS:
        raise NoOracle(f"the oracle knows no way through the page {page}; it knows {len(WAYS)} others")
    try:
        return WAYS[page](Scene(inner))
    except (Unsolved, LookupError, ValueError, AttributeError, TypeError, StopIteration) as error:
        raise NoWay(f"the oracle is at a loss on the page {page}: {error}") from error

"""Ways through MiniWoB's pages, one function a page or a few: those where something is drawn or measured.

Four pages are worth 1 only for a point that lies exactly right, and a click has whole pixels. On these the way takes
the pixel that the page itself finds best, and `NEARLY` names them: circle-center (whose centre lies between pixels),
bisect-angle, find-midpoint and right-angle.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise

from palaestra.envs.browser.actions import click, typing
from palaestra.envs.browser.miniwob_drags import drag
from palaestra.envs.browser.miniwob_scene import Scene, solves

NEARLY = ("bisect-angle", "circle-center", "find-midpoint", "right-angle")
"""Pages where whole pixels give a reward below 1 with some seeds."""

_BEST = """(() => {
  const box = name => [...document.querySelectorAll(name)].map(e => e.getBBox());
  const worth = %s;
  const drawn = document.querySelector('#svg-grid').getBoundingClientRect();
  let best = null, most = -Infinity;
  for (let y = Math.ceil(drawn.top); y < drawn.bottom - 1; y++)
    for (let x = Math.ceil(drawn.left); x < drawn.right - 1; x++) {
      const found = worth({x: x - %s, y: y - QUERY_PADDING - %s});
      if (found > most && document.elementFromPoint(x, y).closest('#svg-grid')) { most = found; best = [x, y]; }
    }
  return best;
})()"""
"""The pixel that is worth most by the page's own measure. `worth` takes the corner of the blue point's box."""

_WORTH = {
    "circle-center": "(c => p => -Math.hypot(p.x - c.x - c.width / 2 + 3, p.y - c.y - c.height / 2 + 3))"
    "(box('.black-circle')[0])",
    "find-midpoint": "(([a, b]) => p => -Math.hypot(p.x - (a.x + b.x) / 2, p.y - (a.y + b.y) / 2))"
    "(box('.black-circle'))",
    "right-angle": "((a, v) => p => -Math.abs(90 - findAngle(a, p, v)))(box('#init-black')[0], box('#init-blue')[0])",
    "bisect-angle": "(([a, b], v) => p => -Math.max(findAngle(a, p, v), findAngle(b, p, v)))"
    "(box('.init-black'), box('.init-blue')[0])",
}


def _measured(page: Scene, name: str) -> str:
    if page.js("document.querySelector('#blue-circle') !== null"):
        return page.submit()
    radius = 3 if name == "right-angle" else 3.5
    x, y = page.js(_BEST % (_WORTH[name], radius, radius))
    return f"click [{x},{y}]"


@solves("circle-center")
def _centre(page: Scene) -> str:
    return _measured(page, "circle-center")


@solves("find-midpoint")
def _midpoint(page: Scene) -> str:
    return _measured(page, "find-midpoint")


@solves("right-angle")
def _right_angle(page: Scene) -> str:
    return _measured(page, "right-angle")


@solves("bisect-angle")
def _bisect(page: Scene) -> str:
    return _measured(page, "bisect-angle")


@solves("count-sides")
def _sides(page: Scene) -> str:
    """The shape is only painted; as the page did, draw lots: how far it is turned, then how many sides it has."""
    lots = page.lots(2)
    return click(page.get(str(3 + int(lots[1] * 5)), "button").number)


_CORNERS = 16
_RADIUS = 20


@solves("draw-circle")
def _circle(page: Scene) -> str:
    if page.done and page.done[-1].startswith("drag"):
        return page.submit()
    x, y = page.middle("#circ")
    angles = [2 * math.pi * n / _CORNERS for n in range(_CORNERS + 1)]
    points = [(round(x + _RADIUS * math.cos(angle)), round(y + _RADIUS * math.sin(angle))) for angle in angles]
    steps = (f"[{b[0] - a[0]},{b[1] - a[1]}]" for a, b in pairwise(points))
    return f"drag [{points[0][0]},{points[0][1]}] {' '.join(steps)}"


@solves("draw-line")
def _line(page: Scene) -> str:
    if page.done and page.done[-1].startswith("drag"):
        return page.submit()
    x, y = page.middle("#circ")
    x, y = x - 3, y - 3  # where the page looks for the point
    if page.ask(r"a (\w+) line")[0] == "horizontal":
        return drag((x - 28, y), (x + 28, y))
    return drag((x, y - 28), (x, y + 28))


@solves("use-colorwheel", "use-colorwheel-2")
def _colour(page: Scene) -> str:
    named = re.search(r"Select (\w+) with the", page.query)
    if named is not None:
        wanted = str(page.js(f"ui_utils.colorNameToHex('{named[1]}')")).removeprefix("#")
    else:
        shown = page.js("getComputedStyle(document.querySelector('.cc')).backgroundColor")
        wanted = "".join(f"{int(part):02x}" for part in re.findall(r"\d+", shown)[:3])
    field = page.fields()[0]
    if page.js("document.querySelector('#col').value").lower() != wanted:
        return typing(field.number, wanted)
    return "click [300,300]" if "focused" in field.states else page.submit()  # the picker lies over the button

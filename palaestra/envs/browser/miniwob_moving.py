"""Ways through MiniWoB's pages, one function a page or a few: those that move, blink, or hide a place.

hover-shape never ends and never gives a reward, whatever is done on it (the page counts, and does nothing with it); its
way keeps to what it asks for, and `ENDLESS` names it.
"""

from __future__ import annotations

from itertools import pairwise

from palaestra.envs.browser.miniwob_scene import Scene, Unsolved, solves

ENDLESS = ("hover-shape",)
"""Pages that nothing ends."""


@solves("hot-cold")
def _hot(page: Scene) -> str:
    """Where it is hot shows only under the mouse; the page drew lots for it: across 160 pixels, then down 125."""
    right, down = page.lots(2)
    return f"click [{int(right * 150) + 5},{int(down * 115) + 5 + 50}]"


@solves("simon-says")
def _simon(page: Scene) -> str:
    """The page drew lots: for the length of the sequence, then for each button in it."""
    lots = page.lots(6)
    sequence = [int(each * 4) + 1 for each in lots[1 : 4 + int(lots[0] * 3)]]
    pressed = sum(action.startswith("click") for action in page.done)
    if pressed >= len(sequence):
        raise Unsolved("other buttons have been pressed")
    return page.point(f"#button-{sequence[pressed]}")


@solves("hover-shape")
def _hover(page: Scene) -> str:
    return "hover [{},{}]".format(*page.middle("#highlight"))


_CATCH = """(() => {
  const area = document.querySelector('#area_svg'), box = area.getBoundingClientRect();
  const circles = [...document.querySelectorAll('.item')].map(e => shapes.gridCoords(e));
  for (const c of circles) for (let down = -21; down <= 21; down += 3) for (let right = -21; right <= 21; right += 3) {
    const x = Math.round(box.left + c.x + CIRCLE_RADIUS + right), y = Math.round(box.top + c.y + CIRCLE_RADIUS + down);
    if (document.elementFromPoint(x, y) === area) return [x, y];
  }
  return null;
})()"""
"""A point beside a circle that the page counts as on it. On the circle itself it would measure from elsewhere."""


@solves("moving-items")
def _catch(page: Scene) -> str:
    point = page.js(_CATCH)
    if point is None:
        return "wait"
    return f"click [{point[0]},{point[1]}]"


_STAYS = 10
"""At how many points of a hover the mouse stays, each for the same part of half a second."""

_CIRCLE = """(e => {
  const moves = Object.values(e.__transition__ || {}).filter(each => each && each.time !== undefined);
  const begun = Math.max(...moves.map(each => each.time));
  const box = document.querySelector('#area_svg').getBoundingClientRect();
  return {since: Date.now() - core.ept0, passed: Date.now() - begun, box: [box.left, box.top]};
})(document.querySelector('#circ'))"""


@solves("chase-circle")
def _chase(page: Scene) -> str:
    """The page drew lots for all places of the circle; in between it goes slowly, fast, slowly (cubic in and out)."""
    found = page.js(_CIRCLE)
    lots = page.lots(12)
    stations = [(found["box"][0] + 20 + 120 * x, found["box"][1] + 20 + 120 * y)
                for x, y in zip(lots[::2], lots[1::2], strict=True)]  # fmt: skip
    passed = found["passed"]
    leg = round((found["since"] - passed) / 2000)
    points = []
    for stay in range(_STAYS):
        time = passed + (stay + 0.5) * 500 / _STAYS
        now, part = (leg, time) if time < 2000 else (leg + 1, time - 2000)
        begin, end = stations[min(now, 5)], stations[min(now + 1, 5)]
        done = _eased(min(1.0, part / (1900 if now == 4 else 2000)))
        points.append([round(a + (b - a) * done) for a, b in zip(begin, end, strict=True)])
    steps = (f"[{b[0] - a[0]},{b[1] - a[1]}]" for a, b in pairwise(points))
    return f"hover [{points[0][0]},{points[0][1]}] {' '.join(steps)}"


def _eased(part: float) -> float:
    """How much of the way is done after a part of the time."""
    return 4 * part**3 if part < 0.5 else 1 - 4 * (1 - part) ** 3

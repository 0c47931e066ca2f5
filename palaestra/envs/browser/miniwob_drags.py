"""Ways through MiniWoB's pages, one function a page or a few: those where things are dragged to their place."""

from __future__ import annotations

import re

from palaestra.envs.browser.miniwob_scene import Scene, Unsolved, ordinal, solves


def drag(begin: tuple[float, float], end: tuple[float, float]) -> str:
    """The action that drags from a point of the window to another one."""
    (x, y), (to_x, to_y) = ((round(place) for place in point) for point in (begin, end))
    return f"drag [{x},{y}] [{to_x - x},{to_y - y}]"


_PLACES = {
    "top left": 0, "top center": 1, "top right": 2, "center left": 3, "center": 4, "center right": 5,
    "bottom left": 6, "bottom center": 7, "bottom right": 8,
}  # fmt: skip


@solves("drag-items", "drag-items-grid")
def _item(page: Scene) -> str:
    name, where = page.ask(r"Drag (\S+) (.*)\.$")
    names = page.js("[...document.querySelectorAll('#sortable li')].map(e => e.textContent.trim())")
    place, row = names.index(name), 3 if len(names) == 9 else 1
    near = {"down by one position": 1, "up by one position": -1, "up by one": -row, "down by one": row,
            "left by one": -1, "right by one": 1}  # fmt: skip
    if where in near:
        return _reorder(page, place, place + near[where])
    where = where.removeprefix("to the ")
    if row == 3:
        return _reorder(page, place, _PLACES[where])
    return _reorder(page, place, {"top": 0, "bottom": 4}[where] if where in ("top", "bottom") else ordinal(where))


@solves("drag-sort-numbers")
def _sort(page: Scene) -> str:
    numbers = page.js("[...document.querySelectorAll('#sortable li div')].map(e => +e.textContent)")
    for place, wanted in enumerate(sorted(numbers)):
        if numbers[place] != wanted:
            return _reorder(page, numbers.index(wanted, place), place)
    return page.submit()


def _reorder(page: Scene, place: int, to: int) -> str:
    """Drag an item of a sortable list or grid to another's place, a little beyond it; up or down after to the side."""
    begin, end = (page.middle(f"#sortable li:nth-child({n + 1})") for n in (place, to))
    right, down = ((b - a) + (2 if b > a else -2 if b < a else 0) for a, b in zip(begin, end, strict=True))
    if right and down:
        return f"drag [{begin[0]},{begin[1]}] [{right},0] [0,{down}]"
    return f"drag [{begin[0]},{begin[1]}] [{right},{down}]"


_SHAPES = """(() => {
  const inside = e => [...document.querySelectorAll('#shape-container')].findIndex(box => {
    const [x, y, w, h] = ['x', 'y', 'width', 'height'].map(name => +box.getAttribute(name));
    const at = shapes.gridCoords(e);
    return at.x > x && at.x < x + w && at.y > y && at.y < y + h;
  });
  const free = e => {
    const b = e.getBoundingClientRect();
    for (const v of [.5, .7, .3, .85, .15]) for (const u of [.5, .7, .3, .85, .15]) {
      const x = Math.round(b.left + b.width * u), y = Math.round(b.top + b.height * v);
      if (document.elementFromPoint(x, y) === e) return [x, y];
    }
    return null;
  };
  return [...document.querySelectorAll('rect:not(#shape-container), circle, polygon')].map(e =>
    [e.tagName, e.getAttribute('fill'), inside(e), free(e)]);
})()"""
"""Of every shape: kind, colour, in which box it lies (-1: in none), and a point where it can be taken."""

_KINDS = {"rectangles": "rect", "circles": "circle", "triangles": "polygon"}


@solves("drag-shapes")
def _shapes(page: Scene) -> str:
    kind = _KINDS[page.ask(r"Drag all (\w+) into")[0]]
    return _into(page, [(point, 0) for tag, _, box, point in page.js(_SHAPES) if tag == kind and box != 0])


@solves("drag-shapes-2")
def _all_shapes(page: Scene) -> str:
    what = page.ask(r"Drag all (\w+)")[0]
    left = []
    for tag, colour, box, point in page.js(_SHAPES):
        wanted = 0 if what in (colour, next(name for name, kind in _KINDS.items() if kind == tag)) else 1
        if box != wanted:
            left.append((point, wanted))
    return _into(page, left)


def _into(page: Scene, left: list[tuple[list[int] | None, int]]) -> str:
    """Drag the first of these shapes that nothing covers into its box; submit when none is left."""
    if not left:
        return page.submit()
    for point, box in left:
        if point is not None:
            found = f"document.querySelectorAll('#shape-container')[{box}].getBoundingClientRect()"
            x, y = page.js(f"(b => [b.left + b.width / 2, b.top + b.height / 2])({found})")
            return drag((point[0], point[1]), (x, y))
    raise Unsolved("every shape that is left is covered")


@solves("resize-textarea")
def _resize(page: Scene) -> str:
    if page.done and page.done[-1].startswith("drag"):
        return page.submit()
    side, way = page.ask(r"the (width|height) is (larger|smaller)")
    by = 20 if way == "larger" else -20
    x, y = page.middle(".ui-resizable-se")
    return drag((x, y), (x + by, y) if side == "width" else (x, y + by))


_SLIDERS = """[...document.querySelectorAll('.ui-slider')].map(e => {
  const s = $(e), [bar, knob] = [e, e.querySelector('.ui-slider-handle')].map(each => each.getBoundingClientRect());
  return {value: s.slider('value'), range: s.slider('option', 'max') - s.slider('option', 'min'),
    size: [bar.width, bar.height], upright: s.slider('option', 'orientation') === 'vertical',
    at: [knob.left + knob.width / 2, knob.top + knob.height / 2],
    focused: document.activeElement === e.querySelector('.ui-slider-handle')};
})"""


@solves("use-slider", "use-slider-2")
def _slider(page: Scene) -> str:
    wanted = [int(each) for each in re.findall(r"-?\d+", page.query)]
    for slider, goal in zip(page.js(_SLIDERS), wanted, strict=True):
        ahead = goal - slider["value"]
        if not ahead:
            continue
        if slider["focused"] and abs(ahead) <= 4:
            return "press [ArrowRight]" if ahead > 0 else "press [ArrowLeft]"
        (x, y), (width, height) = slider["at"], slider["size"]
        part = ahead / slider["range"]
        return drag((x, y), (x, y - part * height) if slider["upright"] else (x + part * width, y))
    return page.submit()


_PIXELS = 60
"""How far a cube is turned at once: by as many degrees, about."""

_TURNS = {"1": (None, 264), "6": (None, 88), "3": (86, 175), "2": (177, 175), "5": (269, 175), "4": (0, 175)}
"""Side -> the middle of the angles at which it faces the user, to the right and upward; None: any."""


@solves("drag-cube")
def _cube(page: Scene) -> str:
    wanted = page.ask(r'"(\d)"')[0]
    x, y, turning, side = page.js(
        "[cube.viewport.positionX, cube.viewport.positionY, Math.max(Math.abs(cube.viewport.torqueX), "
        "Math.abs(cube.viewport.torqueY)) > 1, document.querySelector('.active').textContent]"
    )
    if turning:
        return "wait"
    if side == wanted:
        return page.submit()
    goal_x, goal_y = _TURNS[wanted]
    across = 0.0 if goal_x is None else _shortest(x % 360 - goal_x)
    ahead = y - goal_y
    right, down = (round(max(-_PIXELS, min(_PIXELS, part))) for part in (across, ahead))
    return drag((250, 250), (250 + right, 250 + down))


def _shortest(angle: float) -> float:
    """The same angle between -180 and 180 degrees."""
    return (angle + 180) % 360 - 180

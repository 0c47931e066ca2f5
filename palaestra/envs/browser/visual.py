"""What is only drawn: shapes of an SVG and coloured boxes, as further lines of the tree.

The accessibility tree leaves them out, and some pages are about nothing else ("click the red box"). A line says what a
person sees: kind, colour, size and place, as far as the document does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from palaestra.envs.browser.tree import Element

MOST_SHAPES = 150

_SHAPES = {"circle", "rect", "ellipse", "line", "polygon", "polyline", "path", "text", "image", "use"}
_ATTRIBUTES = "id class fill stroke style r x1 y1 x2 y2 points font-size d src data-index data-color data-result"
_SHOWN = tuple(_ATTRIBUTES.split())
_LONGEST = 60
_NOT_THERE = {"reward-display", "click-canvas", "sync-task-cover"}


def add_shapes(tree: list[Element], snapshot: Mapping[str, Any]) -> None:
    """Put shapes below the nearest element around them, in the order of the document.

    Args:
        snapshot: of DOMSnapshot.captureSnapshot, with background-color, visibility, cursor, background-image, content.
    """
    known: dict[int, Element] = {}
    _collect(tree, known)
    strings = snapshot["strings"]
    for document in snapshot["documents"]:
        _add(document, strings, known, tree)


def _collect(elements: Sequence[Element], known: dict[int, Element]) -> None:
    for element in elements:
        if element.backend is not None:
            known.setdefault(element.backend, element)
        _collect(element.children, known)


def _add(document: Mapping[str, Any], strings: Sequence[str], known: dict[int, Element], tree: list[Element]) -> None:
    nodes, layout = document["nodes"], document["layout"]
    backends, parents = nodes["backendNodeId"], nodes["parentIndex"]
    boxes = {
        index: (bounds, styles)
        for index, bounds, styles in zip(layout["nodeIndex"], layout["bounds"], layout["styles"], strict=True)
    }
    order = {backend: index for index, backend in enumerate(backends)}
    inner = set(parents)
    hidden: set[int] = set()
    count = 0
    for index, name_index in enumerate(nodes["nodeName"]):
        name = strings[name_index].lower() if name_index >= 0 else ""
        if parents[index] in hidden or not _seen(index, nodes, strings):
            hidden.add(index)
            continue
        if index not in boxes or count >= MOST_SHAPES:
            continue
        there = known.get(backends[index])
        if there is not None:
            if name in _SHAPES and there.role.startswith("graphics"):  # known, but not how it looks
                shown = _attributes(nodes["attributes"][index], strings)
                there.role, there.states = f"svg:{name}", _shown(shown, boxes[index][0])
                count += 1
            continue
        bounds, styles = boxes[index]
        attributes = _attributes(nodes["attributes"][index], strings)
        element = _shape(name, attributes, bounds, [strings[i] if i >= 0 else "" for i in styles], index in inner)
        if element is None:
            continue
        if name == "text":
            element.name = _text(index, nodes, strings)
        element.backend = backends[index]
        above = parents[index]
        while above >= 0 and backends[above] not in known:
            above = parents[above]
        siblings = known[backends[above]].children if above >= 0 else tree
        if name == "text":  # its words are already there, without a place
            siblings[:] = [each for each in siblings if not (each.role == "StaticText" and each.name == element.name)]
        place = next((n for n, each in enumerate(siblings) if order.get(each.backend or -1, -1) > index), len(siblings))
        siblings.insert(place, element)
        known[backends[index]] = element
        count += 1


def _seen(index: int, nodes: Mapping[str, Any], strings: Sequence[str]) -> bool:
    return _attributes(nodes["attributes"][index], strings).get("id", "") not in _NOT_THERE


def _attributes(flat: Sequence[int], strings: Sequence[str]) -> dict[str, str]:
    return {strings[flat[i]]: strings[flat[i + 1]] if flat[i + 1] >= 0 else "" for i in range(0, len(flat), 2)}


def _shape(
    name: str, attributes: Mapping[str, str], bounds: Sequence[float], styles: Sequence[str], inner: bool
) -> Element | None:
    if len(bounds) < 4 or (bounds[2] < 1 and bounds[3] < 1) or (len(styles) > 1 and styles[1] == "hidden"):
        return None
    if name in _SHAPES:
        return Element(f"svg:{name}", "", "", _shown(attributes, bounds), None)
    colour, cursor = (styles[0] if styles else ""), (styles[2] if len(styles) > 2 else "")
    drawn = any("url(" in style for style in styles[3:])
    painted = drawn or colour not in ("", "rgba(0, 0, 0, 0)") or cursor == "pointer"
    if name in ("canvas", "img") or (
        name in ("div", "span", "td", "li", "a", "i", "button", "p") and painted and not inner
    ):
        where = _where(bounds)
        paint = [f"colour={colour}"] if painted and colour != "rgba(0, 0, 0, 0)" else []
        kept = [
            f"{key}={_short(attributes[key])}" for key in ("id", "class", "src", "data-color") if attributes.get(key)
        ]
        return Element(f"box:{name}", "", "", (where, *paint, *kept), None)
    return None


def _shown(attributes: Mapping[str, str], bounds: Sequence[float]) -> tuple[str, ...]:
    return (_where(bounds), *(f"{key}={_short(attributes[key])}" for key in _SHOWN if attributes.get(key)))


def _where(bounds: Sequence[float]) -> str:
    """Size, and the middle: where a click on it goes."""
    x, y, width, height = bounds[:4]
    return f"{width:.0f}x{height:.0f} at {x + width / 2:.0f},{y + height / 2:.0f}"


def _text(index: int, nodes: Mapping[str, Any], strings: Sequence[str]) -> str:
    words, below = [], {index}
    for child in range(index + 1, len(nodes["parentIndex"])):
        if nodes["parentIndex"][child] not in below:
            if nodes["parentIndex"][child] < index:
                break
            continue
        below.add(child)
        value = nodes["nodeValue"][child]
        if value >= 0:
            words.append(strings[value])
    return " ".join(" ".join(words).split())


def _short(text: str) -> str:
    plain = " ".join(text.split())
    plain = plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}…"
    return f"'{plain}'" if " " in plain else plain

"""Ways through MiniWoB's pages where text is marked, styled or scrolled."""

from __future__ import annotations

import json
import re

from palaestra.envs.browser.actions import click
from palaestra.envs.browser.miniwob_scene import Scene, Unsolved, ordinal, solves

_ENDS = """(([selector, begin, end]) => {
  const walk = document.createTreeWalker(document.querySelector(selector), NodeFilter.SHOW_TEXT);
  const boxes = [];
  for (let node = walk.nextNode(); node; node = walk.nextNode())
    for (let i = 0; i < node.length; i++) {
      const range = document.createRange();
      range.setStart(node, i); range.setEnd(node, i + 1);
      boxes.push(range.getBoundingClientRect());
    }
  const first = boxes[begin], last = boxes[end - 1];
  return [Math.floor(first.left), (first.top + first.bottom) / 2, Math.ceil(last.right), (last.top + last.bottom) / 2];
})(%s)"""


def mark(page: Scene, selector: str, begin: int, end: int) -> str:
    """Drag over characters of an element's text, so that they are selected.

    Args:
        begin, end: the first character, and the one behind the last; neither may begin or end in a space.
    """
    left, top, right, bottom = map(round, page.js(_ENDS % json.dumps([selector, begin, end])))
    return f"drag [{left},{top}] [{right - left},{bottom - top}]"


@solves("highlight-text", "highlight-text-2")
def _highlight(page: Scene) -> str:
    selector = "#randomText"
    if "paragraph and" in page.query:
        selector += f" p:nth-child({ordinal(page.query) + 1})"
    if page.done and page.done[-1].startswith("drag"):
        return page.submit()
    text = page.js(f"document.querySelector({json.dumps(selector)}).textContent")
    return mark(page, selector, 0, len(text.rstrip()))


_STYLES = {"bold": "bold", "italics": "italic", "underlined": "underline"}


@solves("text-editor")
def _editor(page: Scene) -> str:
    words = page.js("[...document.querySelectorAll('#query .bold')].map(e => e.textContent.trim())")
    what, style = words[0], _STYLES.get(words[1], "color")
    if page.js(f"editor.getContents().ops.some(each => each.attributes && '{style}' in each.attributes)"):
        return page.submit()
    if page.js("!!document.querySelector('.ql-color.ql-expanded')"):
        colour = page.js(f"COLOR_MAP[{json.dumps(words[1])}][0]")
        return page.point(f'.ql-picker-item[data-value="{colour}"]')
    if page.done and page.done[-1].startswith("drag"):
        return page.point(".ql-picker-label" if style == "color" else f".ql-{style}")
    text = page.js("editor.getText()").rstrip()
    if what == "everything":
        return mark(page, ".ql-editor", 0, len(text))
    found = list(re.finditer(rf"(?<!\S){re.escape(what)}(?!\S)", text))
    if not found:
        raise Unsolved(f"the text has no word {what!r}")
    return mark(page, ".ql-editor", *found[-1].span())  # of equal words the page wants the last


@solves("sign-agreement")
def _agreement(page: Scene) -> str:
    if "cancel button" in page.query:
        return click(page.get("Cancel", "button").number)
    name, button = re.findall(r'"([^"]*)"', page.query)[:2]
    text, field = page.all("textbox")
    if "disabled" not in field.states:
        return page.fill((field, name), button=button)
    return page.follow(click(text.number), "press [End]")

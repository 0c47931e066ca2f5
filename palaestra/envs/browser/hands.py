"""What an action does to the page: real mouse and keyboard events wherever there are some.

Every function answers with what went wrong, for the agent, or None.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from palaestra.envs.browser.actions import Action
from palaestra.envs.browser.context import first_line
from palaestra.envs.browser.session import Session
from palaestra.envs.browser.tree import Element
from palaestra.envs.errors import EnvFault

_PATIENCE = 20.0
"""Seconds that an action may take, at least."""

_KEY_SECONDS = 10.0
"""Seconds that a key is waited for: one that leads to another page may be answered when that is there, or never."""

_TYPED = 400
"""Characters that are typed key by key; longer texts are put in at once."""

_FIELD = """function() {
  let e = this.nodeType === 1 ? this : this.parentElement;
  if (e && e.tagName === 'LABEL' && e.control) e = e.control;
  if (!e || e.closest('button, a[href]')) return 'none';
  if (e.tagName === 'OPTION' || e.tagName === 'SELECT') return 'select';
  if (e.tagName === 'INPUT') {
    if (['date', 'time', 'month', 'week', 'datetime-local', 'color', 'range'].includes(e.type)) return 'set';
    if (['checkbox', 'radio', 'button', 'submit', 'image', 'reset', 'file'].includes(e.type)) return 'none';
  }
  return 'keys';
}"""

_SET = """function(value) {
  let e = this.nodeType === 1 ? this : this.parentElement;
  e = e && (e.control || e);
  if (!e || e.tagName !== 'INPUT') return '';
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(e, value);
  e.dispatchEvent(new Event('input', {bubbles: true}));
  e.dispatchEvent(new Event('change', {bubbles: true}));
  return e.value;
}"""

_CHOOSE = """function(wanted) {
  let e = this.nodeType === 1 ? this : this.parentElement;
  let option = null;
  if (wanted === null) { option = e; e = e.closest('select'); }
  else {
    e = e.tagName === 'OPTION' ? e.closest('select') : e;
    if (!e || e.tagName !== 'SELECT') return 'this is no list of options; click it instead';
    const plain = text => text.trim().replace(/\\s+/g, ' ');
    const all = [...e.options], small = plain(wanted).toLowerCase();
    option = all.find(o => plain(o.label) === plain(wanted)) || all.find(o => o.value === wanted)
      || all.find(o => plain(o.label).toLowerCase() === small);
    if (!option) return 'it has no such option';
  }
  if (!e || option.disabled || e.disabled) return 'it is disabled';
  e.focus();
  if (e.multiple) option.selected = !option.selected; else option.selected = true;
  e.dispatchEvent(new Event('input', {bubbles: true}));
  e.dispatchEvent(new Event('change', {bubbles: true}));
  return null;
}"""

_SCROLL = """function(way) {
  const open = e => e.scrollHeight > e.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(e).overflowY);
  let e = this === window || this === document ? null : (this.nodeType === 1 ? this : this.parentElement);
  while (e && !(e.tagName === 'TEXTAREA' && e.scrollHeight > e.clientHeight) && !open(e)) e = e.parentElement;
  if (!e) {
    e = document.scrollingElement || document.documentElement;
    if (e.scrollHeight <= innerHeight + 1)
      e = [...document.querySelectorAll('*')].find(other => open(other)) || e;
  }
  const before = e.scrollTop, step = (e === document.scrollingElement ? innerHeight : e.clientHeight) * 0.8;
  e.scrollTop = before + way * step;
  return e.scrollTop !== before;
}"""

_SELECTED = """(() => {
  let e = document.activeElement;
  while (e && e.contentDocument && e.contentDocument.activeElement) e = e.contentDocument.activeElement;
  return e && e.type === 'password' ? '' : (e ? e.ownerDocument : document).getSelection().toString();
})()"""

_PASTED = """(text => {
  let e = document.activeElement || document.body;
  while (e.contentDocument && e.contentDocument.activeElement) e = e.contentDocument.activeElement;
  const data = new DataTransfer();
  data.setData('text/plain', text);
  return e.dispatchEvent(
    new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true, composed: true}));
})"""

_EDITABLE = """(() => {
  let e = document.activeElement;
  while (e && e.contentDocument && e.contentDocument.activeElement) e = e.contentDocument.activeElement;
  return !!e && (e.isContentEditable || e.tagName === 'TEXTAREA' || e.tagName === 'INPUT' || e.tabIndex >= 0 &&
    e !== document.body);
})()"""


async def perform(
    session: Session, action: Action, element: Element | None, onto: Element | None, start: str
) -> str | None:
    """Do what an action says and wait for its effect.

    Args:
        element: what `action.target` means; None where it has no target.
        onto: what `action.onto` means, where that is a number.
        start: address of the task's first page.

    Raises:
        EnvFault: the page or the browser broke.
    """
    most = session.plan.load_seconds * (2 if action.verb in ("goto", "restart") else 1)
    try:
        problem = await asyncio.wait_for(_perform(session, action, element, onto, start), max(_PATIENCE, most))
        await session.settle()
    except EnvFault:
        raise
    except TimeoutError:
        await session.settle()
        return "That took too long."
    except Exception as error:
        session.check()  # a dead page is a fault, a vanished element is not
        if "crash" in str(error).lower() or "has been closed" in str(error):
            raise EnvFault(f"the page broke: {first_line(error)}") from error
        await session.settle()
        return f"That cannot be done here: {_plain(first_line(error))}."
    return problem


async def _perform(
    session: Session, action: Action, element: Element | None, onto: Element | None, start: str
) -> str | None:
    if element is not None:
        return await _on(session, action, element, onto)
    if action.point is not None:
        return await _at_point(session, action, action.point, onto)
    if action.verb == "scroll":
        return await _scroll(session, None, action.text)
    if action.verb == "back":
        return await _back(session)
    if action.verb == "goto":
        return await _goto(session, action.text)
    if action.verb == "restart":
        while await session.forget_tab():
            pass
        return await session.goto(start)
    if action.verb == "press":
        await _press(session, action.text)
    if action.verb == "wait" and action.milliseconds is not None:
        await session.wait(action.milliseconds)
    return None


async def _on(session: Session, action: Action, element: Element, onto: Element | None) -> str | None:
    if action.verb == "click":
        if element.role == "option":
            return await _choose(session, element, None)
        await _click(session, *await _point(session, element))
    elif action.verb == "hover":
        await _hover(session, action, await _point(session, element))
    elif action.verb == "select":
        return await _choose(session, element, action.text)
    elif action.verb == "scroll":
        return await _scroll(session, element, action.text)
    elif action.verb == "drag":
        return await _drag(session, action, await _point(session, element), onto)
    elif action.verb == "type":
        return await _type(session, action, element)
    return None


async def _at_point(session: Session, action: Action, point: tuple[int, int], onto: Element | None) -> str | None:
    width, height = session.plan.viewport
    if point[0] >= width or point[1] >= height:
        return f"That is outside of the window, which is {width} by {height} pixels."
    if action.verb == "drag":
        return await _drag(session, action, point, onto)
    await (_click(session, *point) if action.verb == "click" else _hover(session, action, point))
    return None


async def _click(session: Session, x: float, y: float) -> None:
    """Not Playwright's own click: that waits until a page which it leads to has answered, however long that takes."""
    where = {"x": x, "y": y}
    await session.tab.page.mouse.move(x, y)
    for kind in ("mousePressed", "mouseReleased"):
        event = {**where, "type": kind, "button": "left", "clickCount": 1, "buttons": int(kind == "mousePressed")}
        await session.tab.cdp.send("Input.dispatchMouseEvent", event)


async def _type(session: Session, action: Action, element: Element) -> str | None:
    page = session.tab.page
    kind = await _on_node(session, element, _FIELD)
    if kind in ("none", "select"):
        return f"[{element.number}] is no field to type into."
    if kind == "set":
        kept = await _on_node(session, element, _SET, action.text)
        return None if kept else f"[{element.number}] does not take this; it takes dates as YYYY-MM-DD, times as HH:MM."
    await _click(session, *await _point(session, element))
    if not await session.script(_EDITABLE):
        return f"[{element.number}] is no field to type into."
    await page.keyboard.press("Control+a")
    if not action.text:
        await page.keyboard.press("Delete")
    elif len(action.text) <= _TYPED and not {"\n", "\r"} & set(action.text):  # as keys these would send a form off
        await page.keyboard.type(action.text)
    else:
        await page.keyboard.insert_text(action.text)
    if action.enter:
        await _press(session, "Enter")
    return None


async def _press(session: Session, key: str) -> None:
    """Press a key; whether it leads to another page is seen afterwards, as after a click."""
    meant = _clipping(key)
    if meant == "paste":
        return await _paste(session)
    if meant == "copy":
        session.clipboard = await session.script(_SELECTED) or session.clipboard
    pressed = asyncio.ensure_future(session.tab.page.keyboard.press(key))
    done, _ = await asyncio.wait({pressed}, timeout=min(_KEY_SECONDS, session.plan.load_seconds))
    if done:
        pressed.result()
    else:
        pressed.cancel()


def _clipping(key: str) -> str | None:
    """Does Chromium copy (or cut) or paste at this combination of keys; however it is spelt."""
    *held, last = (part.lower() for part in re.split(r"\+(?=.)", key))
    modifiers, letter = frozenset(held), last.removeprefix("key")
    if modifiers == {"control"} and letter in ("c", "x", "insert", "numpad0"):
        return "copy"
    if modifiers == {"shift"} and letter in ("delete", "insert"):
        return "copy" if letter == "delete" else "paste"
    return "paste" if letter == "v" and modifiers in ({"control"}, {"control", "shift"}) else None


async def _paste(session: Session) -> None:
    """Put in what this session copied. The key itself would take the newest copy of all episodes in the browser."""
    wanted = await session.script(f"{_PASTED}({json.dumps(session.clipboard)})")
    if wanted and session.clipboard:
        await session.tab.page.keyboard.insert_text(session.clipboard)


async def _choose(session: Session, element: Element, wanted: str | None) -> str | None:
    problem = await _on_node(session, element, _CHOOSE, wanted)
    return f"[{element.number}]: {problem}." if problem else None


async def _scroll(session: Session, element: Element | None, way: str) -> str | None:
    sign = 1 if way == "down" else -1
    if element is None:
        moved = await session.script(f"({_SCROLL}).call(window, {sign})")
    else:
        moved = await _on_node(session, element, _SCROLL, sign)
    if not moved:
        session.notes.append(f"This does not scroll further {way}.")
    return None


async def _hover(session: Session, action: Action, begin: tuple[float, float]) -> None:
    """Lead the mouse along the points; a clock of our own runs on the way, so that it is as long at each of them."""
    (x, y), mouse, share = begin, session.tab.page.mouse, 1 + len(action.then)
    await mouse.move(x, y)
    for right, down in action.then:
        await session.spend(share)
        x, y = x + right, y + down
        await mouse.move(x, y)


async def _drag(session: Session, action: Action, begin: tuple[float, float], onto: Element | None) -> str | None:
    """As a hover that keeps the button pressed from the first point to the last: there, too, it is still held."""
    (x, y), mouse, share = begin, session.tab.page.mouse, 2 + len(action.then)
    moves = 2 if action.then else 8
    await mouse.move(x, y)
    await session.spend(share)
    await mouse.down()
    try:
        if isinstance(action.onto, tuple):
            x, y = x + action.onto[0], y + action.onto[1]
        else:
            assert onto is not None
            x, y = await _point(session, onto, scroll=False)
        await mouse.move(x, y, steps=moves)
        for right, down in action.then:
            await session.spend(share)
            x, y = x + right, y + down
            await mouse.move(x, y, steps=moves)
        await session.spend(share)
    finally:
        await mouse.up()
    return None


async def _back(session: Session) -> str | None:
    history = await session.tab.cdp.send("Page.getNavigationHistory")
    place, entries = history["currentIndex"], history["entries"]
    if place <= 0 or entries[place - 1]["url"] == "about:blank":
        return None if await session.forget_tab() else "There is no page to go back to."
    await session.tab.cdp.send("Page.navigateToHistoryEntry", {"entryId": entries[place - 1]["id"]})
    session.tab.busy = True
    return None


async def _goto(session: Session, address: str) -> str | None:
    url = (
        address
        if "://" in address
        else f"{'http' if address.split('/')[0] in session.gate.sites else 'https'}://{address}"
    )
    if re.match("https?:", url, re.IGNORECASE) is None:
        return "goto opens http and https addresses only."
    if not session.gate.may_open(url):
        hosts = ", ".join((*session.gate.sites, *session.gate.allowed.hosts)[:20])
        return f"{url[:200]} is not among what may be visited here: {hosts}."
    return await session.goto(url)


_HIT = """function() {
  const e = this.nodeType === 1 ? this : this.parentElement;
  if (!e || window.top !== window) return null;
  let boxes = [...e.getClientRects()];
  if (this.nodeType === 3) { const r = document.createRange(); r.selectNode(this); boxes = [...r.getClientRects()]; }
  for (const b of boxes) for (const [u, v] of
      [[.5, .5], [.25, .5], [.75, .5], [.5, .25], [.5, .75], [.1, .1], [.9, .1], [.1, .9], [.9, .9]]) {
    const x = b.left + b.width * u, y = b.top + b.height * v, hit = document.elementFromPoint(x, y);
    if (hit && (hit === e || e.contains(hit))) return [x, y];
  }
  return null;
}"""


async def _point(session: Session, element: Element, *, scroll: bool = True) -> tuple[float, float]:
    """A point of the element that nothing covers, or else its middle; scrolled into view."""
    cdp, node = session.tab.cdp, {"backendNodeId": element.backend}
    if scroll:
        await cdp.send("DOM.scrollIntoViewIfNeeded", node)
    quads = (await cdp.send("DOM.getContentQuads", node))["quads"]
    free = await _on_node(session, element, _HIT)
    if free is not None:
        return float(free[0]), float(free[1])
    for quad in quads:
        xs, ys = quad[0::2], quad[1::2]
        if max(xs) - min(xs) >= 1 or max(ys) - min(ys) >= 1:
            return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    raise ValueError("the element takes no room on the page")


async def _on_node(session: Session, element: Element, function: str, *arguments: object) -> Any:
    """Call a function of the page with the element as `this`."""
    cdp = session.tab.cdp
    node = (await cdp.send("DOM.resolveNode", {"backendNodeId": element.backend}))["object"]["objectId"]
    answer = await cdp.send(
        "Runtime.callFunctionOn",
        {
            "objectId": node,
            "functionDeclaration": function,
            "arguments": [{"value": value} for value in arguments],
            "returnByValue": True,
        },
    )
    if "exceptionDetails" in answer:
        raise ValueError(str(answer["exceptionDetails"].get("text", "the page refused")))
    return answer["result"].get("value")


def _plain(text: str) -> str:
    """An error of the browser's protocol in a person's words."""
    if "Could not compute content quads" in text or "does not have a layout object" in text:
        return "the element is not visible"
    if "No node" in text or "does not belong" in text or "Could not find node" in text:
        return "the element is no longer there"
    return text.partition("): ")[2] or text

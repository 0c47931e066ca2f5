"""Ways through MiniWoB's pages, one function a page or a few: those where something is typed."""

from __future__ import annotations

import itertools
import re

from palaestra.envs.browser.actions import click, typing
from palaestra.envs.browser.miniwob_scene import Scene, Unsolved, ordinal, solves


@solves("enter-text", "enter-text-dynamic")
def _text(page: Scene) -> str:
    return page.fill((page.fields()[0], page.quoted))


@solves("enter-password")
def _password(page: Scene) -> str:
    first, second = page.js("[...document.querySelectorAll('input')].map(e => e.value)")[:2]
    for field, kept in zip(page.fields(), (first, second), strict=False):
        if kept != page.quoted:
            return typing(field.number, page.quoted)
    return page.submit()


@solves("enter-text-2")
def _cased(page: Scene) -> str:
    word = page.quoted
    return page.fill((page.fields()[0], word.upper() if "upper" in page.query else word.lower()))


@solves("login-user", "login-user-popup")
def _login(page: Scene) -> str:
    user, secret = re.findall(r'"([^"]*)"', page.query)[:2]
    cancel = page.one("Cancel", "button")
    if cancel is not None:  # a popup lies over the form
        return click(cancel.number)
    kept = page.js("[...document.querySelectorAll('#username, #password')].map(e => e.value)")
    for field, now, text in zip(page.fields(), kept, (user, secret), strict=False):
        if now != text:
            return typing(field.number, text)
    return click(page.where(lambda e: e.role == "button")[-1].number)


@solves("text-transform")
def _transformed(page: Scene) -> str:
    return page.fill((page.fields()[0], page.text("#captcha")))


@solves("simple-arithmetic")
def _sum(page: Scene) -> str:
    left, sign, right = re.search(r"(-?\d+)\s*([-+x×*])\s*(-?\d+)", page.text("#area")).groups()  # type: ignore[union-attr]
    a, b = int(left), int(right)
    return page.fill((page.fields()[0], str({"+": a + b, "-": a - b}.get(sign, a * b))))


@solves("simple-algebra")
def _equation(page: Scene) -> str:
    found = re.search(r"(-?\w+)\s*([-+])\s*(-?\w+)\s*=\s*(-?\d+)", page.text("#area"))
    if found is None:
        raise Unsolved("no equation")
    left, sign, right, total = found[1], found[2], found[3], int(found[4])
    if left == "x":
        answer = total - int(right) if sign == "+" else total + int(right)
    else:
        answer = total - int(left) if sign == "+" else int(left) - total
    return page.fill((page.fields()[0], str(answer)))


@solves("find-word")
def _word(page: Scene) -> str:
    words = page.text("#area p, #text, p").split()
    word = re.sub(r"[.,]", "", words[ordinal(page.query)])
    return page.fill((page.fields()[0], word))


@solves("scroll-text")
def _last_word(page: Scene) -> str:
    word = re.findall(r"\w+", page.js("document.querySelector('textarea').value"))[-1]
    return page.fill((page.fields()[1], word))


@solves("copy-paste", "copy-paste-2")
def _copy(page: Scene) -> str:
    kinds = page.js("[...document.querySelectorAll('input, textarea')].map(e => e.tagName)")
    sources = [place for place, kind in enumerate(kinds) if kind == "TEXTAREA"]
    boxes = page.all("textbox")
    source = boxes[sources[ordinal(page.query) if len(sources) > 1 else 0]]
    target = boxes[kinds.index("INPUT")]
    copied = (click(source.number), "press [Control+a]", "press [Control+c]")
    return page.follow(*copied, click(target.number), "press [Control+v]", page.submit())


@solves("visual-addition")
def _blocks(page: Scene) -> str:
    return page.fill((page.fields()[0], str(page.js("document.querySelectorAll('.addition-block').length"))))


@solves("guess-number")
def _guess(page: Scene) -> str:
    low, high = 0, 9
    for found in re.finditer(r"type \[\d+\] \[(\d)\]", "\n".join(page.done)):
        last = int(found[1])
        said = page.text("#feedback div:not(.hide)")
        if f"lower than {last}" in said:
            high = min(high, last - 1)
        elif f"higher than {last}" in said:
            low = max(low, last + 1)
    tried = [int(found[1]) for found in re.finditer(r"type \[\d+\] \[(\d)\]", "\n".join(page.done))]
    field = page.fields()[0]
    value = page.js("document.querySelector('#tt').value")
    said = page.text("#feedback div:not(.hide)")
    if value and (not tried or f"than {value}" not in said):
        return page.submit()
    known = [n for n in range(low, high + 1) if n not in tried]
    if not known:
        raise Unsolved("no number is left")
    middle = (low + high) // 2
    return typing(field.number, str(min(known, key=lambda n: abs(n - middle))))


@solves("use-spinner")
def _spinner(page: Scene) -> str:
    wanted, kept = int(page.ask(r"Select (-?\d+) with")[0]), int(page.js("+document.querySelector('#spinner').value"))
    field = page.all("spinbutton")[0]
    if wanted == kept:
        return page.submit()
    if "focused" not in field.states:
        return click(field.number)
    return "press [ArrowUp]" if wanted > kept else "press [ArrowDown]"


@solves("use-autocomplete", "use-autocomplete-nodelay")
def _complete(page: Scene) -> str:
    begin = page.ask(r'starts with "(.*?)"')[0]
    end = re.search(r'ends with "(.*?)"', page.query)
    known = page.js("ITEMS")
    item = next(each for each in known if each.startswith(begin) and each.endswith(end[1] if end else ""))
    kept = page.js("document.querySelector('#tags').value")
    if kept == item and page.one(item, "option", "menuitem", "StaticText") is None:
        return page.submit()
    if kept == item:
        return "press [Escape]"
    return typing(page.fields()[0].number, item)


@solves("search-engine")
def _search(page: Scene) -> str:
    wanted, place = page.quoted, ordinal(page.query)
    if page.js("document.querySelector('#search-text').value") != wanted:
        return typing(page.fields()[0].number, wanted)
    links = page.all("link")
    titles = links[: next((n for n, link in enumerate(links) if link.name in ("<", "1")), len(links))]
    if not titles:
        return page.submit("Search")
    shown = int(page.text(".active, .page-item.active") or "1")
    if place // 3 + 1 != shown:
        return click(page.get(str(place // 3 + 1), "link").number)
    return click(titles[place % 3].number)


@solves("read-table")
def _cell(page: Scene) -> str:
    label = page.ask(r"Enter the value of (.*?) into")[0]
    return page.fill((page.fields()[0], _beside(page, label)))


@solves("read-table-2")
def _cells(page: Scene) -> str:
    labels = page.js("[...document.querySelectorAll('#form label, #form span')].map(e => e.textContent)")
    names = [label.strip().rstrip(":").strip() for label in labels if label.strip()]
    return page.fill(*((field, _beside(page, name)) for field, name in zip(page.fields(), names, strict=False)))


def _beside(page: Scene, label: str) -> str:
    cells = page.all("cell", "gridcell", "rowheader")
    for one, other in itertools.pairwise(cells):
        if one.name == label:
            return other.name
    raise Unsolved(f"the table has no {label!r}")


@solves("enter-date")
def _date(page: Scene) -> str:
    month, day, year = page.ask(r"(\d+)/(\d+)/(\d+)")
    wanted = f"{year}-{int(month):02}-{int(day):02}"
    kept = page.js("document.querySelector('input').value")
    return page.submit() if kept == wanted else typing(page.all("Date")[0].number, wanted)


@solves("enter-time")
def _time(page: Scene) -> str:
    hour, minute, half = page.ask(r"(\d+):(\d+) (AM|PM)")
    wanted = f"{int(hour) % 12 + (12 if half == 'PM' else 0):02}:{minute}"
    kept = page.js("document.querySelector('input').value")
    return page.submit() if kept == wanted else typing(page.all("InputTime")[0].number, wanted)


@solves("form-sequence-2")
def _sequence_2(page: Scene) -> str:
    radio, value, box = page.ask(r'Check the (\w+) radio button and enter the number "(.*?)" into the (\w+) textbox')
    wanted = page.all("radio")[ordinal(radio)]
    if "checked: true" not in wanted.states:
        return click(wanted.number)
    return page.fill((page.all("textbox")[ordinal(box)], value))


@solves("multi-layouts", "multi-orderings")
def _film(page: Scene) -> str:
    genre, director, year = page.ask(r"Search for (.*) movies directed by (.*) from year (\d+)")
    label = ""
    behind = page.body[0].role == "textbox" and not page.body[0].name  # fields stand before their labels
    for place, box in enumerate(page.body):
        label = box.name or label
        if box.role != "textbox":
            continue
        if behind:
            label = page.body[place + 1].name
        text = (
            genre
            if "enre" in label
            else director
            if "irector" in label
            else year
            if re.search("[Yy]ear|[Dd]ate", label)
            else None
        )
        if text is not None and box.value != text:
            return typing(box.number, text)
    return click(page.body[-1].number)


@solves("scroll-text-2")
def _scroll(page: Scene) -> str:
    way = "down" if "bottom" in page.query else "up"
    at_end = page.js(
        "(e => [e.scrollTop < 1, e.scrollTop + e.clientHeight > e.scrollHeight - 2])"
        "(document.querySelector('textarea'))"
    )
    return page.submit() if at_end[way == "down"] else f"scroll [{page.all('textbox')[0].number}] [{way}]"


@solves("terminal")
def _terminal(page: Scene) -> str:
    named = re.search(r"extension \.(\S+)", page.query)
    ending = named[1] if named is not None else ""
    # The page looks for the first place of the letters: of "shark.sh" and "cats.sh" it takes the second one only.
    fits = "name => wanted ? name.indexOf(wanted) + wanted.length === name.length : !name.includes('.')"
    names = page.js(f"(wanted => currentFiles.filter({fits}))('{ending}')")
    return typing(page.all("textbox")[0].number, f"rm {names[0]}", enter=True)

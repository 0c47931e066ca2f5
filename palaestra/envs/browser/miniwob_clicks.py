"""Ways through MiniWoB's pages, one function a page or a few: those that are solved by clicking and dragging."""

from __future__ import annotations

import re

from palaestra.envs.browser.actions import click, select
from palaestra.envs.browser.miniwob_scene import Scene, Unsolved, number, ordinal, solves

_BUTTONS = ("button", "link")


@solves("click-test")
def _only_button(page: Scene) -> str:
    return click(page.all("button")[0].number)


@solves("click-test-2", "click-test-transfer")
def _button_one(page: Scene) -> str:
    return click(page.get(page.ask(r"button (\w+)")[0], "button").number)


@solves("click-button", "unicode-test")
def _quoted_button(page: Scene) -> str:
    return click(page.get(page.quoted, "button").number)


@solves("click-button-sequence")
def _two_buttons(page: Scene) -> str:
    first = page.get("ONE", "button").number
    return click(page.get("TWO", "button").number if click(first) in page.done else first)


@solves("button-delay")
def _two_buttons_slowly(page: Scene) -> str:
    first = click(page.get("ONE", "button").number)
    if first not in page.done:
        return first
    waited = list(page.done)[page.done.index(first) + 1 :].count("wait")
    return "wait" if waited < 6 else click(page.get("TWO", "button").number)


@solves("click-link")
def _quoted_text(page: Scene) -> str:
    return click(page.get(page.quoted).number)


@solves("click-dialog")
def _close(page: Scene) -> str:
    return click(page.get("Close", "button").number)


@solves("click-dialog-2")
def _dialog_button(page: Scene) -> str:
    return click(page.get("Close" if page.quoted == "x" else page.quoted, "button").number)


@solves("click-checkboxes", "click-checkboxes-large", "click-checkboxes-transfer", "click-option")
def _named_boxes(page: Scene) -> str:
    return page.check(page.ask(r"Select (.*) and click Submit")[0].split(", "))


@solves("click-checkboxes-soft")
def _similar_boxes(page: Scene) -> str:
    groups = [set(group) for group in page.js("SYNONYMS")]
    words = page.ask(r"similar to (.*) and click Submit")[0].split(", ")
    return page.check([e.name for e in page.all("checkbox") if any({e.name, w} <= g for g in groups for w in words)])


@solves("choose-list")
def _list(page: Scene) -> str:
    chosen = page.choose(page.all("combobox")[0], page.ask(r"Select (.*) from the list")[0])
    return chosen or page.submit()


@solves("click-scroll-list")
def _scroll_list(page: Scene) -> str:
    wanted = page.ask(r"Select (.*) from the scroll list")[0].split(", ")
    for option in page.all("option"):
        if ("selected: true" in option.states) != (option.name in wanted):
            return click(option.number)
    return page.submit()


@solves("click-collapsible", "click-collapsible-nodelay")
def _unfold(page: Scene) -> str:
    section = page.where(lambda e: e.role == "tab" and e.name.startswith("Section"))[0]
    return page.submit() if "expanded: true" in section.states else click(section.number)


@solves("click-collapsible-2", "click-collapsible-2-nodelay", "click-tab-2", "click-tab-2-easy", "click-tab-2-hard",
        "click-tab-2-medium")  # fmt: skip
def _seek_behind_tabs(page: Scene) -> str:
    link = page.quoted
    found = page.where(lambda e: e.name == link and e.role in ("StaticText", "link", "generic"))
    if found:
        return click(found[-1].number)
    tabs = page.all("tab")
    opened = [place for place, tab in enumerate(tabs) if "expanded: true" in tab.states]
    return click(tabs[(opened[-1] + 1) % len(tabs) if opened else 0].number)


@solves("click-tab")
def _tab(page: Scene) -> str:
    return click(page.get(page.ask(r"Click on (.*)\.")[0], "tab").number)


@solves("focus-text")
def _focus(page: Scene) -> str:
    return click(page.all("textbox")[0].number)


@solves("focus-text-2")
def _focus_nth(page: Scene) -> str:
    return click(page.all("textbox")[ordinal(page.query)].number)


@solves("click-widget")
def _widget(page: Scene) -> str:
    place = page.js(f"[...document.querySelectorAll('[data-type]')].findIndex(e => e.dataset.type == '{page.quoted}')")
    return click(page.all("radio", "checkbox", "textbox", "button")[int(place)].number)


@solves("ascending-numbers")
def _ascending(page: Scene) -> str:
    left = page.where(lambda e: e.role == "svg:text" and e.name.isdigit())
    return click(min(left, key=number).number)


@solves("grid-coordinate")
def _coordinate(page: Scene) -> str:
    wanted = page.ask(r"coordinate (\(.*?\))")[0]
    return click(page.where(lambda e: f"id={wanted}" in e.states)[0].number)


@solves("click-color")
def _colour(page: Scene) -> str:
    wanted = page.js("document.querySelector('#query-color').dataset.color || "
                     "document.querySelector('#query-color').style.backgroundColor")  # fmt: skip
    known = page.where(lambda e: f"data-color={wanted}" in e.states and "id=query-color" not in e.states)
    return click(known[0].number)


@solves("click-shades")
def _shades(page: Scene) -> str:
    colour = page.ask(r"shades of (\w+)")[0]
    wanted = page.js(f"[...document.querySelectorAll('[data-color]')].map((e, i) => [e.dataset.color === '{colour}',"
                     " e.classList.contains('selected') || e.style.borderColor !== ''])")  # fmt: skip
    boxes = page.where(lambda e: any(state.startswith("data-color=") for state in e.states))
    left = [box for box, (right, _) in zip(boxes, wanted, strict=True) if right and click(box.number) not in page.done]
    return click(left[0].number) if left else page.submit()


@solves("click-pie", "click-pie-nodelay")
def _pie(page: Scene) -> str:
    return click(page.get(page.quoted, "svg:text").number)


@solves("odd-or-even")
def _odd_or_even(page: Scene) -> str:
    row: list[int] = []
    for place, element in enumerate(page.body):
        if element.role == "StaticText" and re.fullmatch(r"-?\d+", element.name):
            row.append(place)
    for place in row:
        action = click(page.body[place + (1 if number(page.body[place]) % 2 == 0 else -1)].number)
        if action not in page.done:
            return action
    return page.submit()


@solves("buy-ticket")
def _ticket(page: Scene) -> str:
    flights = page.js("[...document.querySelectorAll('.flight')].map(e => [+e.querySelector('.time-duration').dataset"
                      ".duration, +e.querySelector('.buy-ticket').dataset.price])")  # fmt: skip
    kind = page.ask("(cheapest|shortest|longest|most expensive)")[0]
    column = 0 if kind in ("shortest", "longest") else 1
    values = [flight[column] for flight in flights]
    best = values.index(min(values) if kind in ("cheapest", "shortest") else max(values))
    return click(page.where(lambda e: e.role == "button" and e.name.startswith("Book"))[best].number)


@solves("count-shape", "identify-shape")
def _shape_button(page: Scene) -> str:
    if "figure" in page.query:
        shape = page.where(lambda e: e.role.startswith("svg:"))[0]
        kinds = {"svg:circle": "Circle", "svg:rect": "Rectangle", "svg:polygon": "Triangle"}
        return click(page.get(kinds.get(shape.role, "Number" if shape.name.isdigit() else "Letter"), "button").number)
    return click(page.get(str(len(_matching(page, page.ask(r"How many (.*) are there")[0]))), "button").number)


@solves("click-shape")
def _shape(page: Scene) -> str:
    return click(_matching(page, page.ask(r"Click on an? (.*)$")[0])[0])


def _matching(page: Scene, words: str) -> list[int]:
    """The shapes that words such as "large red rectangles" fit."""
    found = []
    for shape in page.where(lambda e: e.role.startswith("svg:")):
        said = dict(state.partition("=")[::2] for state in shape.states[1:])
        size = _size(shape.role, said, shape.states[0])
        kind = {"svg:circle": "circle", "svg:rect": "rectangle", "svg:polygon": "triangle"}.get(shape.role)
        names = {kind} if kind else {shape.name, "digit" if shape.name.isdigit() else "letter", "item"}
        names |= {size, said.get("fill", ""), "item", "shape"}
        wanted = [word if word in names else word.removesuffix("s") for word in words.split()]
        if all(word in names for word in wanted):
            found.append(shape.number)
    return found


def _size(role: str, said: dict[str, str], box: str) -> str:
    if role == "svg:text":
        return "large" if said.get("font-size", "").startswith("20") else "small"
    return "large" if int(box.split("x")[0]) >= 15 else "small"


@solves("stock-market")
def _stock(page: Scene) -> str:
    limit = float(page.ask(r"less than \$([\d.]+\d)")[0])
    ahead = page.js("+document.querySelector('#stock-price').textContent.slice(1)")
    return click(page.get("Buy", "button").number) if ahead < limit else "wait"


@solves("social-media")
def _post(page: Scene) -> str:
    user, what = page.ask(r'user (@\S+), click on the "(.*?)" button')
    return page.point(*_control(page, user, what, 0))


@solves("social-media-all", "social-media-some")
def _posts(page: Scene) -> str:
    what, count, user = page.ask(r'Click the "(.*?)" button on (all|\d+) posts? by (@\S+)')
    total = page.js(f"[...document.querySelectorAll('.media')].filter(e => e.querySelector('.username')"
                    f".textContent.trim() === '{user}').length")  # fmt: skip
    for place in range(int(total) if count == "all" else int(count)):
        action = page.point(*_control(page, user, what, place))
        if action not in page.done:
            return action
    return page.submit()


def _control(page: Scene, user: str, what: str, place: int) -> tuple[str]:
    """A selector of a post's control; of the menu's button first, where the control is in the closed menu."""
    kinds = {"Share via DM": "share", "Copy link to Tweet": "copy", "Embed Tweet": "embed", "Mute": "menu-user",
             "Block": "block-user", "Report": "report", "Reply": "reply", "Retweet": "retweet", "Like": "like",
             "Share": "share"}  # fmt: skip
    kind = kinds.get(what)
    index = page.js(f"[...document.querySelectorAll('.media')].map((e, i) => [e.querySelector('.username').textContent"
                    f".trim(), i]).filter(e => e[0] === '{user}').map(e => e[1])")  # fmt: skip
    if kind is None or place >= len(index):
        raise Unsolved(f"there is no {what!r} of {user}")
    post = f".media[data-result='{index[place]}']"
    page.js(f'document.querySelector("{post}").scrollIntoView()') if False else None
    if page.js(f'!!document.querySelector("{post} ul.hide .{kind}")'):
        return (f"{post} .more",)
    return (f"{post} .{kind}",)


@solves("navigate-tree")
def _tree(page: Scene) -> str:
    wanted = page.quoted
    known = page.one(wanted)
    if known is not None:
        return click(known.number)
    closed = page.where(lambda e: any("expandable-hitarea" in state for state in e.states))
    if not closed:
        raise Unsolved(f"{wanted} is nowhere")
    index = page.js(f"(() => {{ const shut = [...document.querySelectorAll('.expandable-hitarea')].filter(e => "
                    f"e.offsetParent); return shut.findIndex(e => [...e.parentElement.querySelectorAll('span')]"
                    f".some(s => s.textContent.trim() === '{wanted}')); }})()")  # fmt: skip
    return click(closed[max(0, int(index))].number)


@solves("click-menu")
def _menu(page: Scene) -> str:
    steps = page.ask(r"Select (.*)$")[0].split(">")
    for place, step in reversed(list(enumerate(steps))):
        item = page.one(step, "menuitem")
        if item is not None:
            return click(item.number) if place == len(steps) - 1 else f"hover [{item.number}]"
    raise Unsolved("the menu is of another form")


@solves("phone-book")
def _phone_book(page: Scene) -> str:
    name, what = page.ask(r"Find (.*) in the contact book and click on their (.*)\.")
    if page.one(name, "heading") is None:
        return click(page.get(">", "link").number)
    place = {"phone number": 0, "phone": 0, "email": 1, "email address": 1, "address": 2}[what]
    return click(page.where(lambda e: e.role == "link")[place].number)


@solves("order-food")
def _food(page: Scene) -> str:
    wanted = page.js("""(() => {
      const rows = [...document.querySelectorAll('#menu .item, .menu-item, .food-item')];
      return rows.length; })()""")
    raise Unsolved(f"{wanted} rows")


@solves("circle-center")
def _centre(page: Scene) -> str:
    action = page.point("svg circle")
    return page.submit() if action in page.done else action


@solves("drag-circle", "drag-single-shape")
def _drag_way(page: Scene) -> str:
    if page.done and page.done[-1].startswith("drag"):
        return page.submit()
    way = page.ask(r"(up|down|left|right) then")[0]
    shape = page.where(lambda e: e.role.startswith("svg:") and e.role != "svg:text")[0]
    offset = {"up": "0,-30", "down": "0,30", "left": "-30,0", "right": "30,0"}[way]
    return f"drag [{shape.number}] [{offset}]"


@solves("drag-box")
def _drag_box(page: Scene) -> str:
    if page.done and page.done[-1].startswith("drag"):
        return page.submit()
    return f"drag [{page.get('s').number}] [{page.get('L').number}]"


@solves("choose-date", "choose-date-easy", "choose-date-medium", "choose-date-nodelay")
def _date(page: Scene) -> str:
    month, day, year = page.ask(r"Select (\d+)/(\d+)/(\d+)")
    field = page.all("textbox")[0]
    if field.value == f"{month}/{day}/{year}":
        return page.submit()
    return pick_date(page, int(month), int(day)) or click(field.number)


_MONTHS = ("January February March April May June July August September October November December").split()


def pick_date(page: Scene, month: int, day: int) -> str | None:
    """The next click in an open calendar; None where none is open."""
    shown = page.text(".ui-datepicker-month")
    if shown not in _MONTHS or not page.where(lambda e: e.role == "table"):
        return None
    ahead = month - 1 - _MONTHS.index(shown)
    if ahead:
        return page.point(".ui-datepicker-next" if ahead > 0 else ".ui-datepicker-prev")
    return click(page.get(str(day), "link").number)


@solves("form-sequence-3")
def _sequence_3(page: Scene) -> str:
    option, button = page.ask(r'Choose (.*) from the dropdown, then click the button labeled "(.*?)"')
    box = page.all("combobox")[0]
    return select(box.number, option) if box.value != option else click(page.get(button, "button").number)

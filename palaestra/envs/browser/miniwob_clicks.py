"""Ways through MiniWoB's pages, one function a page or a few: those that are solved by clicking and dragging."""

from __future__ import annotations

import math
import re

from palaestra.envs.browser.actions import LONGEST_WAIT, click, select, waiting
from palaestra.envs.browser.miniwob_scene import Scene, Unsolved, number, ordinal, solves


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
    seconds = int(page.ask(r"wait (\d+) second")[0])
    waited = list(page.done)[page.done.index(first) + 1 :].count("wait")
    return "wait" if waited < 2 * seconds - 1 else click(page.get("TWO", "button").number)


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
    if left:
        return click(min(left, key=number).number)
    boxes = page.where(lambda e: e.role == "svg:rect")  # after the first click the numbers are hidden
    return click(min(boxes, key=lambda e: int(re.findall(r"data-index=(\d+)", " ".join(e.states))[0])).number)


@solves("grid-coordinate")
def _coordinate(page: Scene) -> str:
    wanted = page.ask(r"coordinate (\(.*?\))")[0]
    return click(page.where(lambda e: f"id={wanted}" in e.states)[0].number)


@solves("click-color")
def _colour(page: Scene) -> str:
    wanted = page.js(
        "(e => e ? e.style.backgroundColor : document.querySelector('#query .bold').textContent)"
        "(document.querySelector('#query-color'))"
    )
    return click(page.where(lambda e: f"data-color={wanted}" in e.states)[0].number)


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
        names = {kind, "shape"} if kind else {shape.name, "digit" if shape.name.isdigit() else "letter"}
        names |= {size, said.get("fill", ""), "item"}
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
    """The page drew lots for all prices: three for the name, then the first price, then each change; one shows every
    100 ms. Where none that is low enough shows at the end of a usual wait, the oracle waits until one does.
    """
    limit = float(page.ask(r"less than \$([\d.]+\d)")[0])
    lots = page.lots(3 + _PRICES)[3:]
    prices = [40.0 + int(lots[0] * 20)]
    for lot in lots[1:]:
        prices.append(max(0.01, round(prices[-1] + math.floor(lot * 31 - 15) / 10, 2)))
    shown = int(page.js("document.querySelectorAll('.plot-point').length"))
    # Where no price is below the limit, that of the limit itself is paid for, too.
    ahead = range(max(0, shown - 1), _PRICES)
    low = [at for at in ahead if prices[at] < limit] or [at for at in ahead if prices[at] == limit]
    left = [at - shown + 1 for at in low]
    if not left:
        raise Unsolved("the price is not reached any more")
    if left[0] == 0:
        return click(page.get("Buy", "button").number)
    return "wait" if any(ticks % 5 == 0 for ticks in left) else waiting(min(LONGEST_WAIT, 100 * left[0]))


_PRICES = 100
"""How many prices stock-market shows, in ten seconds."""


@solves("social-media")
def _post(page: Scene) -> str:
    user, what = page.ask(r'user (@\S+), click on the "(.*?)" button')
    return click(_controls(page, user, what)[0])


@solves("social-media-all", "social-media-some")
def _posts(page: Scene) -> str:
    what, count, user = page.ask(r'Click the "(.*?)" button on (all|\d+) posts? by (@\S+)')
    found = _controls(page, user, what)
    for number_ in found if count == "all" else found[: int(count)]:
        if click(number_) not in page.done:
            return click(number_)
    return page.submit()


_CONTROLS = {"Reply": "reply", "Retweet": "retweet", "Like": "like", "Share": "share"}


def _controls(page: Scene, user: str, what: str) -> list[int]:
    """The numbers of a control in all posts by a user; of the menu that holds it, while that is closed."""
    authors = page.js("[...document.querySelectorAll('.media .username')].map(e => e.textContent.trim())")
    opened = page.where(lambda e: e.name.startswith(what) and e.role == "StaticText")
    if what not in _CONTROLS and opened:
        return [opened[0].number]
    name = _CONTROLS.get(what, "more")
    shown = page.where(lambda e: any(re.fullmatch(rf"class='?{name}\b.*", state) for state in e.states))
    return [each.number for each, author in zip(shown, authors, strict=True) if author == user]


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


@solves("click-menu-2")
def _menu_of_icons(page: Scene) -> str:
    wanted = page.js(
        "(icon => icon ? Object.keys(PROBLEM_SET).find(name => icon.classList.contains(PROBLEM_SET[name])) : '')"
        "(document.querySelector('#query .ui-icon'))"
    )
    item = page.one(wanted or page.ask(r'labeled "(.*?)"')[0], "menuitem")
    if item is not None:
        return click(item.number)
    above = page.one("Playback", "menuitem")
    return click(page.get("Menu", "button").number) if above is None else f"hover [{above.number}]"


@solves("phone-book")
def _phone_book(page: Scene) -> str:
    name, what = page.ask(r"Find (.*) in the contact book and click on their (.*)\.")
    if page.one(name, "heading") is None:
        return click(page.get(">", "link").number)
    place = {"phone number": 0, "phone": 0, "email": 1, "email address": 1, "address": 2}[what]
    return click(page.where(lambda e: e.role == "link")[place].number)


@solves("order-food")
def _food(page: Scene) -> str:
    by_name = re.search(r"Order one of each item: (.*)", page.query)
    if by_name is not None:
        wanted = by_name[1].split(", ")
    else:
        count, kind = page.ask(r"Order (\d+) items that are (.*)")
        wanted = page.js(f"MENU.filter(e => e.types.includes('{kind}')).map(e => e.name.trim())")[: int(count)]
        wanted += wanted[-1:] * (int(count) - len(wanted))
    adds = page.where(lambda e: e.name == "+")
    held = page.js("[...document.querySelectorAll('.food-item')].map(e => [MENU[e.dataset.id].name.trim(),"
                   " +e.dataset.quantity || 0])")  # fmt: skip
    for add, (name, quantity) in zip(adds, held, strict=True):
        if quantity < wanted.count(name):
            return click(add.number)
    return page.fill(button=page.all("button")[-1].name)


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
    (x, y), (to_x, to_y) = page.middle("#draggableSmall"), page.middle("#draggableLarge")
    return f"drag [{x},{y}] [{to_x - x},{to_y - y}]"


@solves("choose-date", "choose-date-easy", "choose-date-medium", "choose-date-nodelay")
def _date(page: Scene) -> str:
    month, day, year = page.ask(r"Select (\d+)/(\d+)/(\d+)")
    field = page.all("textbox")[0]
    if field.value == f"{month}/{day}/{year}":
        return page.submit()
    return pick_date(page, int(month), int(day)) or click(field.number)


_YEAR = "January February March April May June July August September October November December"
_MONTHS = _YEAR.split()


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

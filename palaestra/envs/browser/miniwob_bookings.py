"""Ways through MiniWoB's pages with a flight, an appointment or a form of several parts."""

from __future__ import annotations

import re

from palaestra.envs.browser.actions import click, typing
from palaestra.envs.browser.miniwob_clicks import pick_date
from palaestra.envs.browser.miniwob_scene import Scene, Unsolved, ordinal, solves


@solves("book-flight", "book-flight-nodelay")
def _flight(page: Scene) -> str:
    kind, origin, target, date = page.js("[...document.querySelectorAll('#query .bold')].map(e => e.textContent)")
    if page.js("!document.querySelector('#results').matches('.hide')"):
        column = {"shortest": ".time-duration').dataset.duration", "cheapest": ".flight-price').dataset.price"}[kind]
        values = page.js(f"[...document.querySelectorAll('.flight')].map(e => +e.querySelector('{column})")
        books = page.where(lambda e: e.role == "button" and e.name.startswith("Book flight"))
        return click(books[values.index(min(values))].number)
    if page.js("[...document.querySelectorAll('.ui-autocomplete')].some(list => list.offsetParent !== null)"):
        return "press [Escape]"  # the list lies over the next field
    known = page.js("DOMESTIC_FLIGHTS")
    start, end, day = page.all("textbox")[:3]
    for field, place in ((start, origin), (end, target)):
        wanted = next(each for each in known if place in each)
        if field.value != wanted:
            return typing(field.number, wanted)
    if day.value == date:
        return page.submit("Search")
    month, number, _ = map(int, date.split("/"))
    return pick_date(page, month, number) or click(day.number)


_FREE = """(() => {
  const area = document.querySelector('#area').getBoundingClientRect();
  const events = [...document.querySelectorAll('#area .event')].map(e => e.getBoundingClientRect());
  return [...Array(48).keys()].map(number => {
    const half = document.getElementById('hh-' + number).getBoundingClientRect();
    const middle = (half.top + half.bottom) / 2;
    const taken = events.some(event => event.top < middle + 6 && event.bottom > middle - 6);
    const seen = middle - 8 > area.top && middle + 8 < area.bottom;
    return [!taken, seen, half.left + 60, middle];
  });
})()"""

_WINDOWS = {"8AM": 16, "12PM": 24, "4PM": 32}


@solves("daily-calendar")
def _appointment(page: Scene) -> str:
    field = next(iter(page.all("textbox")), None)
    amount, unit, name, begin = page.ask(r'Create a ([\d.]+) (\w+) event named "(.*?)", between (\w+) and')
    if field is not None:
        return page.fill((field, name), button="Create")
    length = round(float(amount) * 2) if unit.startswith("hour") else int(amount) // 30
    halves = page.js(_FREE)
    first = _WINDOWS[begin]
    starts = [n for n in range(first, first + 9 - length) if all(halves[n + more][0] for more in range(length))]
    for start in starts:
        span = halves[start : start + length]
        if all(seen for _, seen, _, _ in span):
            x, top, bottom = round(span[0][2]), round(span[0][3]), round(span[-1][3])
            return f"drag [{x},{top}] [2,{bottom - top}]"
    hours = page.where(lambda e: re.fullmatch(r"\d+[ap]m", e.name) is not None)
    look = f"hover [{hours[starts[0] // 2].number}]"
    if look not in page.done:
        return look
    raise Unsolved("no free time comes into view")


@solves("form-sequence")
def _sequence(page: Scene) -> str:
    wanted, place = int(page.ask(r"Select (-?\d+) with the slider")[0]), ordinal(page.query)
    kept = page.js("jQuery('#slider').slider('value')")
    if kept != wanted:
        there = page.point("#slider", min(0.98, (wanted + 10) / 20))  # its right edge is no longer of it
        if there not in page.done:
            return there
        return "press [ArrowRight]" if kept < wanted else "press [ArrowLeft]"
    box = page.all("checkbox")[place]
    return page.submit() if "checked: true" in box.states else click(box.number)

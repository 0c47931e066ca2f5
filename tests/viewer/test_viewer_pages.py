"""The pages in headless Chromium, over stores that real runs made: they show, nothing of an environment ever runs."""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from made import HOSTILE_NAME, HOSTILE_RUN
from odd_texts import HOSTILE, HUGE, STEERING_SEEN

from palaestra.agents.counted import Counted
from palaestra.agents.store import EpisodeStore
from palaestra.envs.browser.chromium import find_chromium
from palaestra.trainers.live import Live

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIZES = {"wide": (1280, 800), "phone": (390, 844)}


@contextmanager
def viewing(place: Path, *more: str) -> Iterator[str]:
    """`palaestra view` as a person starts it; gives the address it tells."""
    command = [sys.executable, "-m", "palaestra", "view", str(place), "--port", "0", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = re.search(r"http://[^/]+/", process.stdout.readline())
        assert told is not None
        yield told[0]
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=find_chromium().path, chromium_sandbox=os.geteuid() != 0, timeout=120_000
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def url(place: Path) -> Iterator[str]:
    with viewing(place) as address:
        yield address


class Seen:
    """A page, and what it should never do: console messages, errors, requests to somebody else."""

    def __init__(self, browser: Browser, size: str = "wide", scheme: str = "light") -> None:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        self.page: Page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, url: str, view: str) -> Page:
        self.page.goto("about:blank")
        self.page.goto(f"{url}#/{view}")
        self.page.wait_for_selector("main[aria-busy=false]")
        return self.page

    def go(self, view: str) -> Page:
        """To another view of an open page, as a link goes there."""
        self.page.evaluate(
            "view => { document.querySelector('main').setAttribute('aria-busy', true); location.hash = view; }",
            f"#/{view}",
        )
        self.page.wait_for_selector("main[aria-busy=false]")
        return self.page


def views(place: Path) -> dict[str, str]:
    """Every view by name, of episodes that are there."""
    with EpisodeStore(place / "eef/episodes.sqlite", mode="r") as store:
        fork = next(head for head in store.heads() if head.parent is not None)
    with EpisodeStore(place / "agent-r/episodes.sqlite", mode="r") as store:
        spliced = next(store.heads(actor="spliced"))
    with EpisodeStore(place / "code/episodes.sqlite", mode="r") as store:
        coded = [head.id for head in store.heads()]
    with EpisodeStore(place / "world/episodes.sqlite", mode="r") as store:
        imagined = next(store.heads(actor="imagined"))
        real = next(store.heads(task=imagined.name, actor="policy"))
    strange = quote(HOSTILE_RUN)
    with EpisodeStore(place / HOSTILE_RUN / "episodes.sqlite", mode="r") as store:
        hostile = next(store.heads())
    return {
        "comparison": "run?run=cmp",
        "tasks": "tasks?run=eef",
        "search": f"forest?run=agent-r&id={spliced.id}",
        "spliced": f"episode?run=agent-r&id={spliced.id}",
        "code": f"episode?run=code&id={coded[0]}",
        "code branches": f"branches?run=code&a={coded[0]}&b={coded[1]}",
        "worlds": "worlds?run=world",
        "page": "page?run=world&world=world&number=1",
        "real and imagined": f"branches?run=world&a={real.id}&b={imagined.id}",
        "imagined forest": f"forest?run=world&id={imagined.id}",
        "hostile run": f"run?run={strange}",
        "hostile table": f"episodes?run={strange}",
        "hostile episode": f"episode?run={strange}&id={hostile.id}",
        "hostile forest": f"forest?run={strange}&id={hostile.id}",
        "hostile tasks": f"tasks?run={strange}",
        "runs": "",
        "run": "run?run=eef",
        "episodes": "episodes?run=eef",
        "episode": f"episode?run=eef&id={fork.id}",
        "forest": f"forest?run=eef&id={fork.id}",
        "branches": f"branches?run=eef&a={fork.parent}&b={fork.id}",
        "samples": "samples?run=eef&iteration=1",
        "sample": "sample?run=eef&iteration=1&number=0",
        "faults": "faults?run=odd",
        "fault": "episode?run=odd&fault=1",
    }


@pytest.mark.parametrize(("size", "scheme"), [("wide", "light"), ("phone", "dark")])
def test_every_view_shows_without_an_error_and_fits(
    browser: Browser, url: str, place: Path, size: str, scheme: str, tmp_path: Path
) -> None:
    seen = Seen(browser, size, scheme)
    seen.open(url, "keys")
    for name, view in views(place).items():
        page = seen.go(view)
        assert page.title() != "owned", name
        assert page.locator("main script, main img").count() == 0, name
        assert page.locator("[role=alert]").count() == 0, name
        assert page.locator("h1").inner_text(), name
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], name
        assert "[object" not in page.locator("main").inner_text(), name
        page.screenshot(path=tmp_path / f"{name}.png")
    assert seen.wrong == []
    assert all(address.startswith((url, "about:", "blob:")) for address in seen.asked)


def test_what_an_environment_said_is_shown_as_text_and_never_runs(browser: Browser, url: str, place: Path) -> None:
    with EpisodeStore(place / "odd/episodes.sqlite", mode="r") as store:
        root, branch = (head.id for head in store.heads())
    seen = Seen(browser)
    page = seen.open(url, f"episode?run=odd&id={root}")
    shown = page.locator("#turn-0 pre.seen").first.inner_text()
    assert shown.replace("\ufffd", "\ud800").strip() == HOSTILE
    steering = page.locator("#turn-2 pre.seen").first.evaluate("e => e.textContent")
    assert steering.split("\r\n") == [STEERING_SEEN, "\tan end"], "written out, so that it steers nothing"
    seen.open(url, f"branches?run=odd&a={root}&b={branch}")
    seen.open(url, "episode?run=odd&fault=1")
    assert HOSTILE[:60] in page.locator("main").inner_text()
    assert page.locator("main script, main img").count() == 0
    assert "owned" not in page.title()
    assert not any("owned" in address for address in seen.asked)
    assert seen.wrong == []


def test_a_huge_observation_is_folded_and_opens_in_pieces(browser: Browser, url: str, place: Path) -> None:
    with EpisodeStore(place / "odd/episodes.sqlite", mode="r") as store:
        root = next(store.heads()).id
    seen = Seen(browser)
    page = seen.open(url, f"episode?run=odd&id={root}")
    assert page.evaluate("document.body.textContent.length") < 100_000
    more = page.get_by_role("button", name=f"of {len(HUGE):,} characters")
    more.click()
    page.wait_for_selector("text=/^204,000 of/")
    shown = page.locator("#turn-1 pre.seen").first
    assert shown.evaluate("e => e.textContent.length") == 204_000
    page.get_by_role("button", name="the end").click()
    last = page.locator(".label:has-text('the last 4,000 characters') + pre")
    assert last.evaluate("e => e.textContent") == HUGE[-4000:]
    more.click()
    page.wait_for_selector("text=/^404,000 of/")
    assert shown.evaluate("e => e.textContent.length") == 404_000
    assert seen.wrong == []


def test_five_million_characters_are_opened_piece_by_piece_and_the_page_answers_all_the_while(
    browser: Browser, tmp_path: Path
) -> None:
    """In pieces, and those out of sight are not laid out: a click is answered, and the last letter is there."""
    from store_cases import episode

    wall = ("A wall of text. " * 60 + "\U0001f9f1\n" + "B" * 7999 + "\U0001f9f1" + "B" * 1001) * 500 + "the last word"
    huge = episode(n=1)
    huge = huge.model_copy(update={"turns": (huge.turns[0].model_copy(update={"observation": wall}),)})
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        store.add(huge)
    seen = Seen(browser)
    with viewing(tmp_path) as address:
        page = seen.open(address, f"episode?run=.&id={huge.id}")
        more = page.locator("#turn-0 button.more")
        while more.count():
            before = more.inner_text()
            more.click()
            page.wait_for_function(
                "([old]) => document.querySelector('#turn-0 button.more')?.textContent !== old", arg=[before]
            )
        shown = page.locator("#turn-0 pre.seen").first
        assert shown.evaluate("e => [...e.textContent].length") == len(wall)
        assert shown.evaluate("e => e.textContent.endsWith('the last word')")
        page.keyboard.press("?")
        page.wait_for_selector("dialog[open]")
    assert seen.wrong == []


def test_the_files_of_a_turn_open_with_the_lines_that_changed_and_whole(
    browser: Browser, url: str, place: Path
) -> None:
    seen = Seen(browser)
    page = seen.open(url, views(place)["code"])
    assert HOSTILE_NAME in page.locator("#turn-1 details.files summary").inner_text()
    page.locator("#turn-2 details.files summary").first.click()
    page.wait_for_selector("#turn-2 .diff .added")
    assert "return 2 * n" in page.locator("#turn-2 .diff .added").inner_text()
    assert "return n" in page.locator("#turn-2 .diff .gone").inner_text()
    page.locator("#turn-2 .tree-list summary:has-text('solution.py')").click()
    page.wait_for_selector("#turn-2 .tree-list pre")
    assert page.locator("#turn-2 .tree-list pre").inner_text().strip() == "def double(n):\n    return 2 * n"
    page.locator("details.files.start summary").first.click()
    page.wait_for_selector("details.files.start code:has-text('notes.txt')")
    assert page.locator("main img, main script").count() == 0
    assert seen.wrong == []


def test_a_search_is_drawn_with_visits_and_values_and_a_splice_with_where_it_resumes(
    browser: Browser, url: str, place: Path
) -> None:
    seen = Seen(browser)
    page = seen.open(url, views(place)["search"])
    counted = [text.split(" · ") for text in page.locator("text.nq").all_text_contents()]
    assert counted
    assert all(int(visits) > 0 and 0 <= float(value) <= 1 for visits, value in counted)
    assert page.locator("path.splice").count() > 0
    title = page.locator("path.splice title").first.evaluate("title => title.textContent")
    assert re.match(r"spliced: \d+ turns? of \w+, then \w+ from turn \d+; (not )?accepted", title)
    page.select_option("select[name=colour]", "value")
    assert page.locator("svg.by-value").count() == 1
    page.select_option("select[name=dim]", "spliced")
    assert page.locator(".node.dim").count() == page.locator(".node:not(.spliced)").count()
    page = seen.open(url, views(place)["spliced"])
    assert "A splice:" in page.locator("main").inner_text()
    assert page.locator(".turn header:has-text('says what')").count() > 0
    assert seen.wrong == []


def test_what_goes_on_where_a_piece_of_a_search_ended_stays_in_its_lane_and_no_two_branches_overlap(
    browser: Browser, url: str, place: Path
) -> None:
    seen = Seen(browser)
    page = seen.open(url, views(place)["search"])
    lines = page.locator(".tree line.branch").evaluate_all(
        "found => found.map(e => ['y1', 'x1', 'x2'].map(n => +e.getAttribute(n)))"
    )
    lanes: dict[float, list[tuple[float, float]]] = {}
    for level, begin, end in lines:
        lanes.setdefault(level, []).append((begin, end))
    assert len(lanes) < len(lines)
    for found in lanes.values():
        found.sort()
        assert all(one[1] <= two[0] for one, two in itertools.pairwise(found))
    assert seen.wrong == []


def test_an_imagined_page_stands_beside_the_real_one_with_the_words_that_differ(
    browser: Browser, url: str, place: Path
) -> None:
    seen = Seen(browser)
    page = seen.open(url, "worlds?run=world&world=world&order=similarity")
    assert page.locator("figure.plot").count() == 2
    page.locator("table a[data-stop]").first.click()
    page.wait_for_selector("h1:has-text('Imagined and real')")
    imagined, real = page.locator(".sides > div").all()
    assert imagined.locator("del").count() + real.locator("ins").count() > 0
    assert "cellar" in imagined.inner_text() or "You are" in imagined.inner_text()
    page = seen.open(url, views(place)["real and imagined"])
    assert page.locator("h1").inner_text() == "Real and imagined"
    imagined_episode = views(place)["imagined forest"].replace("forest?", "episode?")
    page = seen.open(url, imagined_episode)
    page.get_by_role("link", name=re.compile("beside the real one")).click()
    page.wait_for_selector("h1:has-text('Real and imagined')")
    assert seen.wrong == []


def test_a_comparison_is_a_plot_with_intervals_against_the_first_method(
    browser: Browser, url: str, place: Path
) -> None:
    seen = Seen(browser)
    page = seen.open(url, "run?run=cmp")
    plots = page.locator("figure.plot:has(line.interval)")
    titles = plots.locator("figcaption").all_inner_texts()
    assert titles[:2] == ["success", "success against rft, in points"]
    first = plots.nth(0)
    assert [
        each.split(":")[0] for each in first.locator("g > title").evaluate_all("all => all.map(e => e.textContent)")
    ] == ["rft", "eef"]
    spans = first.locator("line.interval:not(.thin)").evaluate_all(
        "all => all.map(e => e.getAttribute('x2') - e.getAttribute('x1'))"
    )
    assert spans[0] == pytest.approx(spans[1])
    assert page.locator("a[data-stop]").all_inner_texts() == ["eef-0", "rft-0"]
    learning = page.locator("figure.plot:has(polyline)")
    measured = len(list((place / "cmp" / "eef-0").glob("*/evaluation.json")))
    points = learning.locator("polyline").evaluate_all("all => all.map(e => e.getAttribute('points').split(' '))")
    assert [len(each) for each in points] == [measured] * 2, "the start model's figure is no other weights'"
    assert {"start", "iteration 1"} <= set(learning.locator("svg text").all_text_contents())
    assert seen.wrong == []


def test_a_run_begins_with_what_it_came_to_and_draws_rollouts_apart_from_what_measures(
    browser: Browser, url: str, place: Path
) -> None:
    seen = Seen(browser)
    page = seen.open(url, "run?run=eef")
    assert page.locator(".kpi .label").first.inner_text() == "held-out success, iteration 1"
    for title in ("success", "score"):
        plot = page.locator("figure.plot", has=page.get_by_text(title, exact=True)).first
        legend = plot.locator(".legend > span").all_inner_texts()
        assert [text.split()[0] for text in legend] == ["rollouts", "held-out", "expert"]
        before = plot.inner_text()
        plot.locator("svg").hover()
        page.wait_for_function("([plot, before]) => plot.innerText !== before", arg=[plot.element_handle(), before])
        page.mouse.move(0, 0)
        page.wait_for_function("([plot, before]) => plot.innerText === before", arg=[plot.element_handle(), before])
    assert seen.wrong == []


def test_the_table_filters_and_sorts(browser: Browser, url: str, place: Path) -> None:
    with EpisodeStore(place / "eef/episodes.sqlite", mode="r") as store:
        best = [head.number for head in store.heads(order="-score", actor="policy")]
    assert best
    seen = Seen(browser)
    page = seen.open(url, "episodes?run=eef")
    page.select_option("select[name=actor]", "policy")
    page.wait_for_selector(f"text=/^{len(best)} episodes/")
    page.get_by_role("button", name="score").click()
    page.wait_for_selector("text=score ▼")
    page.wait_for_selector(".row")
    assert page.locator(".row").first.locator("span").first.inner_text() == str(best[0])
    assert seen.wrong == []


def test_a_hundred_thousand_episodes_scroll_with_only_those_in_sight_in_the_page(browser: Browser, big: Path) -> None:
    seen = Seen(browser)
    with viewing(big) as address:
        page = seen.open(address, "episodes?run=.")
        page.wait_for_selector(".row >> text=/^100000$/")
        for place, number in (("grid.scrollHeight", 1), ("grid.scrollHeight / 2", 50_000)):
            page.locator(".grid").evaluate(f"grid => {{ grid.scrollTop = {place}; }}")
            page.wait_for_selector(f".row >> text=/^{number}$/")
            assert page.locator(".row").count() < 60
    assert len([address for address in seen.asked if "api/episodes" in address]) < 20
    assert seen.wrong == []


def test_a_screenshot_stands_beside_its_turn_and_the_last_one_at_the_end(browser: Browser, tmp_path: Path) -> None:
    from odd_texts import PNG
    from store_cases import episode

    from palaestra.envs.browser.env import screenshot_name

    looked = episode(n=2, env_settings={"screenshots": str(tmp_path)})
    for actions in (looked.actions[:1], looked.actions):
        (tmp_path / screenshot_name(looked.start.task, actions)).write_bytes(PNG)
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        store.add(looked)
    seen = Seen(browser)
    with viewing(tmp_path) as address:
        page = seen.open(address, f"episode?run=.&id={looked.id}")
        page.wait_for_selector("#turn-1 img.shot")
        assert page.locator("#turn-1 img.shot").evaluate("image => image.decode().then(() => image.naturalWidth)") == 1
        page.wait_for_selector("main .turn.end img[alt='the page at the end']")
        assert page.locator("main img").count() == 2
    assert seen.wrong == []


def test_the_keyboard_goes_from_the_runs_to_an_episode_its_forest_and_two_branches(
    browser: Browser, url: str, place: Path
) -> None:
    seen = Seen(browser)
    page = seen.open(url, views(place)["episode"])
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.id") == "turn-1"
    page.keyboard.press("f")
    page.wait_for_selector(".node.chosen")
    other = page.locator(".node:not(.chosen)").first
    other.focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="compare the two").click()
    page.wait_for_selector("h1:has-text('Two branches')")
    page.keyboard.press("u")
    page.wait_for_selector("h1:has-text('eef')")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert seen.wrong == []


def test_the_token_view_marks_what_is_trained_and_says_why(browser: Browser, url: str) -> None:
    seen = Seen(browser)
    page = seen.open(url, "sample?run=eef&iteration=1&number=0")
    learnt = page.locator(".part.learnt")
    assert "press" in "".join(learnt.all_inner_texts())
    assert "eef learns this with weight 1" in str(learnt.first.get_attribute("title"))
    assert page.locator(".token").count() > learnt.locator(".token").count() > 0
    page.keyboard.press("j")
    told = page.locator(".told")
    assert "learn" in told.inner_text() or "context" in told.inner_text()
    learnt.first.click()
    assert "weight 1" in told.inner_text()
    turn = told.locator("a")
    assert re.match(r"turn \d+ of [0-9a-f]{16}", turn.inner_text())
    turn.click()
    page.wait_for_selector(".turn")
    assert seen.wrong == []


def test_keys_go_along_the_table_that_an_episode_was_opened_from_and_to_the_tabs(
    browser: Browser, url: str, place: Path
) -> None:
    with EpisodeStore(place / "eef/episodes.sqlite", mode="r") as store:
        ids = [head.id for head in store.heads(order="-score", outcome="failure")]
    seen = Seen(browser)
    page = seen.open(url, "episodes?run=eef&order=-score&outcome=failure")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    for key, place_ in (("]", 2), ("]", 3), ("[", 2)):
        page.wait_for_selector("a[rel=next]")
        page.keyboard.press(key)
        page.wait_for_selector(f"text={place_ + 1} of {len(ids)}")
        page.wait_for_selector(f".facts-list code:has-text('{ids[place_]}')")
    page.wait_for_selector("#tabs a:has-text('Forests')")
    page.keyboard.press("3")
    page.wait_for_selector("h1:has-text('Forests')")
    assert seen.wrong == []


def test_a_run_at_work_is_drawn_anew_and_what_was_opened_stays_open(browser: Browser, tmp_path: Path) -> None:
    from store_cases import episode

    (tmp_path / "run.json").write_text('{"format": 1, "recipe": "rft", "config": {"env": "mine/Lab-v0"}}')
    seen, live = Seen(browser), Live(tmp_path, "quiet")
    with EpisodeStore(tmp_path / "episodes.sqlite") as store, open(tmp_path / "run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a run does
        store.add(episode())
        collecting = Counted(live, "iteration 1, collect", "episodes", 10, faults=0, success=0.25).__enter__()
        collecting.reach(4, faults=2)
        with viewing(tmp_path) as address:
            page = seen.open(address, "run?run=.")
            page.wait_for_selector(".now:has-text('iteration 1, collect')")
            assert page.locator("h1 + .pill").inner_text().strip() == "working"
            figures = page.locator(".kpi .figure")
            assert figures.first.inner_text() == "1"
            page.click("summary:has-text('Configuration')")
            store.add_all([episode(sample=n) for n in range(1, 5)])
            with collecting:
                collecting.reach(10, faults=3)
            live.fitted("iteration-1", 2, 8, 1.5)
            live.fitted("iteration-1", 5, 8, 0.5)
            page.wait_for_selector(".now:has-text('fit iteration-1')")
            assert figures.first.inner_text() == "5"
            assert page.locator("details[open] summary").inner_text() == "Configuration"
            curves = page.locator("figure.plot figcaption").all_inner_texts()
            assert {text.split("\n")[0] for text in curves} == {"success", "score", "faults", "loss"}
            assert "faults\n3" in curves
            fcntl.flock(lock, fcntl.LOCK_UN)
            page.wait_for_selector("h1 + .pill:has-text('at rest')")
            page.wait_for_selector(".now:has-text('stopped here')")
    assert seen.wrong == []


def test_with_a_token_the_page_shows_runs_to_its_holder_alone(browser: Browser, place: Path) -> None:
    token = "0123456789abcdef"
    with viewing(place, "--token", token) as address:
        stranger = Seen(browser)
        page = stranger.open(address, "")
        assert "needs its token" in page.locator("[role=alert]").inner_text()
        holder = Seen(browser)
        holder.page.goto(f"{address}#token={token}")
        holder.page.wait_for_selector("main a:has-text('eef')")
        assert token not in holder.page.url
        assert not any(token in asked.split("#")[0] for asked in holder.asked)
        assert holder.wrong == []

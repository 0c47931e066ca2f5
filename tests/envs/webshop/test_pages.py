"""Pages and actions behave as the original's, recorded on a catalogue of our own, and as its grammar says."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.envs.webshop.markup import TextSite, html
from palaestra.envs.webshop.pages import SUB_PAGES, Words, plain_text, rich_text, visible
from palaestra.envs.webshop.session import LONGEST_SEARCH, View, clicking, enter, parse, searching, show, take

from .odd_shop import odd_shop, recorded
from .reading import digest, read_words

SESSIONS = {session["name"]: session for session in recorded()}
GREEDY = re.compile(r"(.+)\[(.+)\]")
DESK_LAMP, MUG = 13, 22
"""Goals of the frozen synthetic ones."""


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_of_the_original_plays_the_same(name: str) -> None:
    session = SESSIONS[name]
    shop = odd_shop(session["goals"], session["show_attributes"])
    visit = enter(session["goal"])
    for step, then in enumerate(session["pages"]):
        bought = take(visit, then["action"], shop).bought if step else None
        page = show(visit, shop)
        assert visit.url == then["url"]
        assert rich_text(page, visit.url, visit.visited) == then["rich"]
        assert digest(plain_text(page)) == then["text"], plain_text(page)
        assert digest(html(page, TextSite())) == then["html"], html(page, TextSite())
        assert list(page.targets) == then["clickables"]
        assert page.has_search_bar == then["has_search_bar"]
        assert (bought.total if bought else 0.0) == then["reward"]
        assert (bought is not None) == then["done"]
        if bought:
            assert _parts(asdict(bought)) == then["parts"]


def _parts(bought: dict[str, Any]) -> dict[str, Any]:
    """The original leaves out the options' part where no option is wanted."""
    left_out = {"total"} | ({"r_option", "w_option"} if bought["r_option"] is None else set())
    return {name: value for name, value in bought.items() if name not in left_out}


@pytest.mark.parametrize("name", SESSIONS)
def test_the_html_of_a_page_reads_as_its_words(name: str) -> None:
    session = SESSIONS[name]
    shop = odd_shop(session["goals"], session["show_attributes"])
    visit = enter(session["goal"])
    for then in session["pages"]:
        if then["action"] is not None:
            take(visit, then["action"], shop)
        page = show(visit, shop)
        assert read_words(html(page, TextSite())) == visible(page.words())


@given(st.text(alphabet="ab[]\n ", max_size=12))
def test_actions_are_parsed_as_by_the_greedy_pattern(action: str) -> None:
    match = GREEDY.match(action)
    assert parse(action) == (match.groups() if match else (action, None))


def test_a_megabyte_of_brackets_is_parsed() -> None:
    # The pattern itself would need some 10^12 steps for these.
    assert parse("[" * 1_000_000) == ("[" * 1_000_000, None)
    assert parse("a[" * 300_000 + "b]") == ("a[" * 299_999 + "a", "b")


@given(st.text(max_size=20))
def test_what_is_offered_as_a_click_or_a_search_is_parsed_as_that(text: str) -> None:
    click, search = clicking(text), searching(text)
    assert click is None or parse(click) == ("click", text)
    assert search is None or parse(search) == ("search", search[7:-1])


@pytest.mark.parametrize(
    "action", ["", "search", "search[]", "click[buy now]", "click[search]", "think[x]", "search[<c>]", "Search[a]"]
)
def test_an_ignored_action_leaves_the_visit_as_it_was_and_says_why(action: str) -> None:
    shop = odd_shop()
    visit = enter(DESK_LAMP)
    take(visit, "search[desk lamp]", shop)
    before = asdict(visit)
    result = take(visit, action, shop)
    assert result.problem
    assert "\n" not in result.problem
    assert asdict(visit) == before


def different(count: int) -> str:
    """So many words that are searched for one by one."""
    return " ".join(f"q{number}z" for number in range(count))


@pytest.mark.parametrize("words", ["<c>", chr(0xD800) + " lamp", "x" * (LONGEST_SEARCH + 1), different(1025)])
def test_searches_that_made_the_original_raise_are_refused_and_endless_ones(words: str) -> None:
    visit = enter(DESK_LAMP)
    assert take(visit, f"search[{words}]", odd_shop()).problem
    assert visit == enter(DESK_LAMP)


@pytest.mark.parametrize(
    "words", ["<a>", "<a> none has it", "<q>", "<c> ", " ", "the", "\x00", "(((", '"', "AND OR", "a:b~2^3", "*", "\t"]
)
def test_strange_searches_show_a_page_of_results(words: str) -> None:
    shop = odd_shop()
    visit = enter(DESK_LAMP)
    assert take(visit, f"search[{words}]", shop).problem is None
    assert visit.view is View.RESULTS
    assert "Total results: " in plain_text(show(visit, shop))


@pytest.mark.parametrize("words", [different(1024), "lamp " * 19_999, "x" * LONGEST_SEARCH, f"<a> {different(1025)}"])
def test_long_searches_are_made_as_the_original_makes_them(words: str) -> None:
    shop = odd_shop()
    visit = enter(DESK_LAMP)
    assert take(visit, f"search[{words}]", shop).problem is None
    assert visit.url == f"http://127.0.0.1:3000/search_results/{DESK_LAMP}/{'+'.join(words.split(' '))}/1"
    assert ("oddlamp001" in show(visit, shop).targets) is ("lamp" in words)


def test_a_search_that_is_offered_has_no_more_words_than_a_search_may_have() -> None:
    search = searching(" ".join(map(chr, range(0x4E00, 0x4E00 + 4000))))
    assert search is not None
    assert take(enter(DESK_LAMP), search, odd_shop()).problem is None


def test_a_search_for_an_attribute_finds_the_products_that_have_it() -> None:
    shop = odd_shop()
    visit = enter(DESK_LAMP)
    take(visit, "search[<a> stain resistant]", shop)
    assert "oddmug0001" in show(visit, shop).targets


def test_random_searches_follow_from_the_seed_and_are_drawn_anew_each_time() -> None:
    shop = odd_shop()

    def drawn(seed: int) -> list[tuple[str, ...]]:
        visit, pages = enter(DESK_LAMP, seed), []
        for action in ("search[<r>]", "click[next >]", "click[< prev]", "search[<r>]"):
            assert take(visit, action, shop).problem is None
            pages.append(tuple(show(visit, shop).targets))
        return pages

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    first, _, again, other = drawn(1)
    assert len({first, again, other}) == 3


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("search[lamp]",),
        ("search[mug]", "click[oddmug0001]"),
        ("search[mug]", "click[oddmug0001]", "click[features]"),
    ],
)
def test_whatever_can_be_clicked_is_understood(path: tuple[str, ...]) -> None:
    shop = odd_shop(show_attributes=True)

    def go() -> Any:
        visit = enter(MUG)
        for action in path:
            assert take(visit, action, shop).problem is None
        return visit

    for text in show(go(), shop).targets:
        if text != "search" and "[" not in text:
            assert take(go(), f"click[{text}]", shop).problem is None


def test_product_pages_offer_attributes_only_on_demand() -> None:
    for wanted in (False, True):
        shop = odd_shop(show_attributes=wanted)
        visit = enter(MUG)
        for action in ("search[mug]", "click[oddmug0001]"):
            take(visit, action, shop)
        offered = [name for name in SUB_PAGES if name.lower() in show(visit, shop).targets]
        assert offered == list(SUB_PAGES if wanted else SUB_PAGES[:-1])


@pytest.mark.parametrize(
    ("text", "kept"), [("", []), ("\n \n", []), (" ", [" "]), ("\t\r", [" "]), (" a ", [" a "]), ("\u00a0", ["\u00a0"])]
)
def test_blanks_are_kept_as_an_html_parser_keeps_them(text: str, kept: list[str]) -> None:
    assert [each.text for each in visible([Words(text)])] == kept


_ANYTHING = st.one_of(
    st.text(max_size=30),
    st.builds("{}[{}]".format, st.sampled_from(("search", "click")), st.text(max_size=30)),
    st.integers(0, 30),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_ANYTHING, max_size=12))
def test_every_page_that_actions_lead_to_can_be_shown_in_all_modes(actions: list[str | int]) -> None:
    shop = odd_shop()
    visit = enter(MUG)
    for action in actions:
        if isinstance(action, int):
            targets = list(show(visit, shop).targets) or ["search"]
            action = f"click[{targets[action % len(targets)]}]" if targets != ["search"] else "search[mug]"
        take(visit, action, shop)
        page = show(visit, shop)
        assert plain_text(page).encode()
        assert rich_text(page, visit.url, visit.visited).encode()
        assert read_words(html(page, TextSite())) == visible(page.words())

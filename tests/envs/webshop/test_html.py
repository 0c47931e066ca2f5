"""The pages served to browsers: links, forms and radio buttons lead where the text environment's clicks lead."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from starlette.testclient import TestClient

from palaestra.cli import run
from palaestra.envs.webshop.pages import plain_text, visible
from palaestra.envs.webshop.session import enter, show, take
from palaestra.envs.webshop.site import LONGEST_SEARCH, application

from .odd_shop import ODD, odd_shop
from .reading import Read, read

MUG = 22


@pytest.fixture
def browser() -> Iterator[TestClient]:
    with TestClient(application(odd_shop())) as client:
        yield client


def look(answer: httpx.Response) -> Read:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return read(answer.text)


def searched(browser: TestClient, words: str) -> Read:
    first = look(browser.get(f"/{MUG}"))
    return look(browser.post(first.forms["Search"], data={"search_query": words}))


def test_a_customer_searches_chooses_reads_and_buys(browser: TestClient) -> None:
    visit, shop = enter(MUG), odd_shop()

    def same(page: Read, action: str) -> Read:
        assert take(visit, action, shop).problem is None
        assert visible(page.words) == visible(show(visit, shop).words())
        return page

    page = same(searched(browser, "Quoted MUG"), "search[quoted mug]")
    page = same(look(browser.get(page.links["ODDMUG0001"])), "click[oddmug0001]")
    for name, value in (("color", "it's"), ("script </script>", "<b>"), ("size", "small")):
        page = same(look(browser.get(str(page.options[name, value]["data-url"]))), f"click[{value}]")
        assert "checked" in page.options[name, value]
    page = same(look(browser.post(page.forms["Features"])), "click[features]")
    page = same(look(browser.post(page.forms["< Prev"])), "click[< prev]")
    assert [value for (_, value), button in page.options.items() if "checked" in button] == ["it's", "small", "<b>"]
    page = same(look(browser.post(page.forms["Buy Now"])), "click[buy now]")
    assert str(visit.reward) in [each.text for each in page.words]


def test_the_reward_stands_in_an_element_of_its_own(browser: TestClient) -> None:
    page = look(browser.get(searched(browser, "mug").links["ODDMUG0001"]))
    bought = browser.post(page.forms["Buy Now"]).text
    reward = re.search(r'id="reward">[^<]*<pre>([^<]*)</pre>', bought)
    assert reward is not None
    assert float(reward[1]) == odd_shop().reward(MUG, "ODDMUG0001", {}).total


def test_paging_and_going_back(browser: TestClient) -> None:
    first = searched(browser, "lamp")
    assert "< Prev" not in first.forms
    second = look(browser.post(first.forms["Next >"]))
    assert not second.links.keys() & first.links.keys()
    assert look(browser.post(second.forms["< Prev"])).words == first.words
    assert plain_text(show(enter(MUG), odd_shop())).startswith("WebShop")
    assert "Search" in look(browser.post(second.forms["Back to Search"])).forms


def test_every_page_loads_nothing_from_other_hosts_but_pictures(browser: TestClient) -> None:
    page = searched(browser, "mug")
    item = look(browser.get(page.links["ODDMUG0001"]))
    for found in (page, item):
        loaded = [where for where in found.loaded if not where.startswith(("https://pictures.invalid/", "data:"))]
        assert loaded
        for where in loaded:
            assert where.startswith("/static/")
            assert browser.get(where).status_code == 200


def test_every_form_and_link_of_a_page_leads_somewhere(browser: TestClient) -> None:
    item = look(browser.get(searched(browser, "mug").links["ODDMUG0001"]))
    for where in item.forms.values():
        assert browser.post(where).status_code == 200
    for button in item.options.values():
        assert browser.get(str(button["data-url"])).status_code == 200


def test_the_first_page_of_all_is_the_first_goal(browser: TestClient) -> None:
    assert look(browser.get("/")).words == look(browser.get("/0")).words


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("/100000", "no goal"),
        ("/x", "no goal"),
        ("/٣", "no goal"),
        ("/static/secret", "no /static/secret"),
        ("/search_results/0", "words of a search"),
        ("/search_results/0?keywords=" + "x" * (LONGEST_SEARCH + 1), "words of a search"),
        ("/search_results/0?keywords=%3Cc%3E", "needs something behind it"),
        ("/search_results/0?keywords=mug&page=-1", "no page"),
        ("/search_results/0?keywords=mug&page=99999999999", "no page"),
        ("/item_page/0/NOSUCH?keywords=mug", "no product"),
        ("/item_page/0/ODDMUG0001?keywords=mug&options=[", "options"),
        ("/item_page/0/ODDMUG0001?keywords=mug&options=" + "[" * 20000, "options"),
        ('/item_page/0/ODDMUG0001?keywords=mug&options={"color":"mauve"}', "options"),
        ('/item_page/0/ODDMUG0001?keywords=mug&options={"color":["red"]}', "options"),
        ("/item_sub_page/0/ODDMUG0001/Attributes?keywords=mug", "no page"),
    ],
)
def test_addresses_of_nothing_are_told_in_one_line(browser: TestClient, where: str, told: str) -> None:
    answer = browser.get(where)
    assert answer.status_code == 404
    assert told in answer.text
    assert answer.text.count("\n") == 1


def test_what_is_typed_cannot_be_endless_and_strange_words_are_searched(browser: TestClient) -> None:
    assert browser.post("/0", data={"search_query": "x" * 100_000}).status_code == 404
    for words in ("<script>alert(1)</script>", '"><img src=x>', "台灯", "a&b=c+d%20e", "the"):
        answer = browser.post("/0", data={"search_query": words})
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        assert "<img src=x>" not in answer.text
    assert "Search" in look(browser.post("/0", data={"search_query": ""})).forms


@pytest.mark.parametrize(
    ("arguments", "products"),
    [(["webshop", "-s", f"catalogue={ODD}"], 21), (["webshop"], 1000), (["webshopsmall"], 120)],
)
def test_the_command_serves_pages_until_it_is_interrupted(arguments: list[str], products: int) -> None:
    command = [sys.executable, "-m", "palaestra", "serve", *arguments, "--html", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        try:
            told = server.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+/0", told)
            assert address is not None, told + server.stderr.read()
            assert f"{products} products" in told
            assert "Search" in look(httpx.get(address[0])).forms
            for stranger in ({"Host": "shop.example"}, {"Origin": "https://shop.example"}):  # of other people's pages
                assert httpx.get(address[0], headers=stranger).status_code == 403
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=20) == 0
            assert server.stderr.read() == ""
        finally:
            server.kill()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "bandit", "--html"], "no pages for a browser"),
        (["serve", "webshopsmall", "--html", "--port", "99999"], "cannot listen on"),
        (["serve", "webshopsmall", "--html", "--host", "127.0.0.1", "--port", "-1"], "cannot listen on"),
        (["serve", "webshopsmall", "--html", "--host", "0.0.0.0"], "on this machine only"),
        (["serve", "webshopsmall", "--html", "--host", "256.0.0.1"], "on this machine only"),
        (["serve", "webshopsmall", "--html", "--sessions", "3"], "which have no sessions"),
        (["serve", "webshopsmall", "--html", "--no-oracle"], "--host, --port and -s alone"),
        (["serve", "webshop", "--html", "-s", "catalogue=/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1

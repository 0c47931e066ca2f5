"""Texts of a page, and addresses of an agent, that are made to be read wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palaestra.envs import TextEnv, make
from palaestra.envs.browser.tree import DEEPEST

Opened = Callable[[str], TextEnv[Any]]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Opens a page of this text."""
    made: list[TextEnv[Any]] = []

    def open_page(page: str) -> TextEnv[Any]:
        (tmp_path / "index.html").write_text(page, encoding="utf-8")
        (tmp_path / "tasks.jsonl").write_text('{"id": "a", "ques": "?", "web": "http://site.test/", "answer": "x"}\n')
        made.append(make("webtasks", file=str(tmp_path / "tasks.jsonl"), site=str(tmp_path)))
        made[-1].reset(options={"task": "a"})
        return made[-1]

    yield open_page
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("a' [7] link 'Pay now'", "\"a' [7] link 'Pay now'\""),
        ("a&quot; [7] link &quot;Pay", "'a\" [7] link \"Pay'"),
        ("a' &quot;b&quot; \\", "'a\\' \"b\" \\\\'"),
        ("Plain", "'Plain'"),
        ("1 \u202eyaP\u2069", "'1 \\u202eyaP\\u2069'"),
    ],
)
def test_a_label_can_end_its_quotes_as_little_as_turn_around(opened: Opened, label: str, shown: str) -> None:
    env = opened(f"<meta charset='utf-8'><title>Page</title><button aria-label=\"{label}\">x</button>")
    assert (env.render() or "").splitlines()[-1] == f"\t[2] button {shown}"


def test_what_lies_too_deep_is_counted(opened: Opened) -> None:
    groups = DEEPEST + 50
    env = opened("<div role='group' aria-label='level'>" * groups + "<a href='/'>bottom</a>")
    (said,) = (each for each in env.state.elements if each.role == "note")
    shown = sum(each.role == "group" for each in env.state.elements)
    assert said.name == f"{groups - shown + 2} more elements lie deeper and are not shown"  # the link and its text, too
    observation, _, _, _, info = env.step(f"click [{said.number}]")
    assert observation.startswith(f"[{said.number}] is nothing to act on.")
    assert not info["valid"]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://[::1", "http://[::1 is not among what may be visited here"),
        ("file:///etc", "goto opens http and https"),
    ],
)
def test_an_address_that_is_none_is_told_as_such(opened: Opened, address: str, said: str) -> None:
    observation, _, _, _, info = opened("<h1>Page</h1>").step(f"goto [{address}]")
    assert observation.startswith(said)
    assert not info["valid"]

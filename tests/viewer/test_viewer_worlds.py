"""World models: their figures, and every page they imagined beside the real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput
from palaestra.worldmodel.compared import PAGES, packed, read

Ask = Callable[..., Any]


def test_every_page_that_was_measured_stands_beside_the_one_that_came(ask: Ask, place: Path) -> None:
    (world,) = ask("worlds", run="world")["worlds"]
    assert world["pages"] == sum(row["count"] for row in world["fidelity"]["horizons"]) > 0
    rows = ask("pages", run="world", world="world", count=500)["rows"]
    assert [row["number"] for row in rows] == list(range(world["pages"]))
    with EpisodeStore(place / "world/episodes.sqlite", mode="r") as store:
        for row in rows:
            page = ask("page", run="world", world="world", number=row["number"])
            seen = store.path(page["episode"]).observations()
            assert page["real"] == seen[page["origin"] + page["steps"]]
            assert row["action"] == store.path(page["episode"]).actions[page["origin"] + page["steps"] - 1]
            if "in room 2." in page["real"]:
                changed = [(one, other) for code, one, other in page["parts"] if code != "equal"]
                assert " ".join(one.strip() for one, _ in changed) in ("a dark cellar.", "a dark cellar")
            assert page["similarity"] < 1 if page["imagined"] != page["real"] else page["similarity"] == 1


def test_pages_come_in_the_order_that_is_asked_for(ask: Ask) -> None:
    worst = ask("pages", run="world", world="world", order="similarity", count=500)["rows"]
    assert [row["similarity"] for row in worst] == sorted(row["similarity"] for row in worst)
    nearest = ask("pages", run="world", world="world", order="steps", count=500)["rows"]
    assert [row["steps"] for row in nearest] == sorted(row["steps"] for row in nearest)
    assert ask("pages", run="world", world="world", order="steps", count=2, **{"from": 3})["rows"] == nearest[3:5]


def test_an_imagined_episode_finds_the_real_one_that_went_its_way(ask: Ask, place: Path) -> None:
    with EpisodeStore(place / "world/episodes.sqlite", mode="r") as store:
        made = next(store.heads(actor="imagined"))
        real = next(store.heads(actor="policy", task=made.name))
        pair = store.path(made.id).actions, store.path(real.id).actions
    found = ask("beside", run="world", id=made.id)
    shared = next((n for n, (a, b) in enumerate(zip(*pair, strict=False)) if a != b), min(map(len, pair)))
    assert found == {"id": real.id, "shared": shared, "imagined": True}
    both = ask("branches", run="world", a=real.id, b=made.id)
    assert {side["provenance"]["actor"] for side in both["sides"]} == {"policy", "imagined"}


@pytest.mark.parametrize(
    ("what", "parameters", "said"),
    [
        ("pages", {"world": "nope"}, "no measured world model"),
        ("pages", {"world": "world", "order": "colour"}, "no order"),
        ("page", {"world": "world", "number": 10**6}, "has no page"),
        ("page", {"world": "world", "number": -1}, "has no page"),
        ("page", {"world": "../world", "number": 0}, "no measured world model"),
    ],
)
def test_pages_that_are_not_there_are_told_in_a_line(
    ask: Ask, what: str, parameters: dict[str, Any], said: str
) -> None:
    assert said in ask(what, 404, run="world", **parameters)["error"]


def test_pages_are_packed_the_same_in_any_order_and_damage_is_named(place: Path, tmp_path: Path) -> None:
    pages = read(place / "world" / PAGES)
    assert packed(reversed(pages)) == packed(pages) == (place / "world" / PAGES).read_bytes()
    (tmp_path / PAGES).write_bytes(packed(pages)[:100])
    with pytest.raises(BadInput, match=r"pages.jsonl.gz cannot be read"):
        read(tmp_path / PAGES)

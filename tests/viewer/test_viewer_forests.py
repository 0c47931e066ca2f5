"""Forests: what a search counted of its nodes, splices and where they resume, the tasks they are roots of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palaestra.agents.search import noted
from palaestra.agents.splice import Splice
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput
from palaestra.viewer.forest import forest
from palaestra.viewer.table import Shown

Ask = Callable[..., Any]


def splices(place: Path) -> list[Splice]:
    record = json.loads((place / "agent-r/iteration-1/reflection.json").read_text())
    found = [Splice.model_validate(each) for each in record["splices"]]
    assert any(each.episode for each in found)
    return found


def test_nodes_have_the_visits_and_values_that_the_search_itself_counted(ask: Ask, place: Path) -> None:
    with EpisodeStore(place / "agent-r/episodes.sqlite", mode="r") as store:
        counted = store.meta()[noted("agent-r", 1)]
        deepest = max(store.heads(recipe="agent-r", iteration=1), key=lambda head: head.fork_step)
    nodes = {node["id"]: node for node in ask("forest", run="agent-r", id=deepest.id)["nodes"]}
    mine = {id: pair for id, pair in counted.items() if id in nodes}
    assert mine
    for id, (visits, total) in mine.items():
        assert nodes[id]["counted"] == "search"
        assert nodes[id]["visits"] == visits
        assert nodes[id]["value"] == pytest.approx(total / visits if visits else 0.0)
    assert {node["counted"] for id, node in nodes.items() if id not in mine} <= {"store"}


def test_what_no_search_grew_is_counted_from_the_ends_below(tmp_path: Path) -> None:
    from store_cases import episode

    from palaestra.agents.episode import Outcome

    with EpisodeStore(tmp_path / "s.sqlite") as store:
        root = episode(n=4)
        won = episode(root.fork(2), n=2, says="b", outcome=Outcome.SUCCESS, score=1.0)
        store.add_all([root, won, episode(won.fork(3), n=1, says="c")])
    with Shown(tmp_path / "s.sqlite") as shown:
        nodes = {node["id"]: node for node in forest(shown, root.id)["nodes"]}
    assert (nodes[root.id]["visits"], nodes[root.id]["value"]) == (3, pytest.approx(1 / 3))
    assert (nodes[won.id]["visits"], nodes[won.id]["value"]) == (2, 0.5)


def test_a_forest_names_its_splices_with_both_paths_and_where_they_resume(ask: Ask, place: Path) -> None:
    for splice in splices(place):
        if splice.episode is None:
            continue
        found = ask("forest", run="agent-r", id=splice.episode)
        ids = {node["id"] for node in found["nodes"]}
        (mine,) = [each for each in found["splices"] if each["episode"] == splice.episode]
        assert mine == splice.model_dump()
        assert {mine["bad"], mine["good"], mine["episode"]} <= ids


def test_a_spliced_episode_says_which_turns_it_took_from_where(ask: Ask, place: Path) -> None:
    splice = next(each for each in splices(place) if each.episode)
    found = ask("episode", run="agent-r", id=splice.episode)
    assert found["own"] == splice.kept
    good = ask("episode", run="agent-r", id=splice.good)["turns"]
    first = found["splice"]["from"]
    recited = [turn["action"]["text"] for turn in found["turns"][first:]]
    assert recited
    resumes = found["splice"]["resumes"]
    assert recited == [turn["action"]["text"] for turn in good[resumes : resumes + len(recited)]]
    bad = ask("episode", run="agent-r", id=splice.bad)["turns"]
    assert [turn["origin"] for turn in found["turns"][: splice.kept]] == [t["origin"] for t in bad[: splice.kept]]
    assert ask("episode", run="agent-r", id=splice.bad)["splice"] is None


def test_tasks_are_counted_as_the_store_counts_them_and_come_by_pages(ask: Ask, place: Path) -> None:
    with EpisodeStore(place / "eef/episodes.sqlite", mode="r") as store:
        heads = list(store.heads())
    rows: list[dict[str, Any]] = []
    while True:
        page = ask("tasks", run="eef", order="name", count=3, **{"from": len(rows)})
        rows += page["rows"]
        if not page["rows"]:
            break
    assert len(rows) == page["total"] == len({(head.name, head.split) for head in heads})
    for row in rows:
        mine = [head for head in heads if (head.name, head.split) == (row["name"], row["split"])]
        assert row["episodes"] == len(mine)
        assert row["forks"] == sum(head.parent is not None for head in mine)
        assert row["success"] == pytest.approx(sum(head.success for head in mine) / len(mine))
        assert row["last"] in {head.id for head in mine}
    most = ask("tasks", run="eef", order="-episodes")["rows"]
    assert [row["episodes"] for row in most] == sorted((row["episodes"] for row in rows), reverse=True)
    assert "no page of tasks" in ask("tasks", 404, run="eef", order="colour")["error"]


def test_a_note_of_another_kind_is_no_search(tmp_path: Path) -> None:
    from store_cases import episode

    with EpisodeStore(tmp_path / "s.sqlite") as store:
        store.add(root := episode())
        store.set_meta("search x -", "nothing that is known")
        store.set_meta("search y -", {root.id: [1]})
    with Shown(tmp_path / "s.sqlite") as shown:
        assert shown.searched() == {}
        with pytest.raises(BadInput, match="no page of tasks"):
            shown.tasks("name", -1, 10)

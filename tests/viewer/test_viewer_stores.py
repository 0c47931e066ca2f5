"""Stores and runs that are not as they should be: another version, put in another's place, damaged."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from store_cases import episode

from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput
from palaestra.viewer.runs import Runs
from palaestra.viewer.server import application


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one episode."""
    with EpisodeStore(tmp_path / "run/episodes.sqlite") as store:
        store.add(episode())
    return tmp_path / "run"


def client(place: Path) -> TestClient:
    return TestClient(application(Runs(place)), base_url="http://127.0.0.1")


def asked(at: TestClient, what: str, status: int = 200, **parameters: Any) -> Any:
    answer = at.get(f"/api/{what}", params={"run": ".", **parameters})
    assert answer.status_code == status, answer.text
    return answer.json()


def change(run: Path, *statements: str) -> None:
    raw = sqlite3.connect(run / "episodes.sqlite")
    for statement in statements:
        raw.execute(statement)
    raw.commit()
    raw.close()


def test_a_store_that_another_version_takes_over_while_it_is_looked_at_is_told_in_a_line(run: Path) -> None:
    at = client(run)
    assert asked(at, "episodes")["total"] == 1
    change(run, "UPDATE meta SET value = CAST('99' AS BLOB) WHERE key = 'schema'")
    assert "schema version 99" in asked(at, "episodes", 404)["error"]
    assert "schema version 99" in asked(at, "run")["problems"][0]


def test_words_of_a_newer_version_are_told_and_nothing_else_breaks(run: Path) -> None:
    at = client(run)
    change(run, "UPDATE episodes SET outcome = 'postponed'")
    said = asked(at, "episodes", 500)["error"]
    assert "postponed" in said
    assert "another version of Palaestra" in said
    assert "\n" not in said
    assert asked(at, "choices")["outcome"] == [["postponed", 1]]


def test_a_run_that_is_made_anew_in_the_same_place_is_opened_anew(run: Path) -> None:
    at = client(run)
    assert asked(at, "episodes")["total"] == 1
    shutil.rmtree(run)
    with EpisodeStore(run / "episodes.sqlite") as store:
        store.add_all([episode(sample=n) for n in range(7)])
    assert asked(at, "episodes")["total"] == 7
    assert asked(at, "run")["episodes"] == 7


def test_what_is_damaged_in_a_run_is_told_and_the_rest_is_shown(run: Path) -> None:
    (run / "run.json").write_text(json.dumps({"format": 1, "recipe": "rft", "config": {"env": "mine/Lab-v0"}}))
    (run / "start").mkdir()
    at = client(run)
    (run / "start/evaluation.json").write_text("{")
    (run / "comparison.json").write_text("[")
    (run / "iteration-1").mkdir()
    (run / "iteration-1/fit.json").write_text("{}")
    (run / "iteration-1/reflection.json").write_text("{}")
    (run / "iteration-1/synthesis.json").write_text("{")
    (run / "log.jsonl").write_text('{"event": "one", "time": 1}\n{"event"')
    found = asked(at, "run")
    assert [
        name for name in ("evaluation.json", "fit.json", "comparison.json") if name in " ".join(found["problems"])
    ] == [
        "evaluation.json",
        "fit.json",
        "comparison.json",
    ]
    assert found["summary"]["episodes"] == 1
    assert found["log"] == [{"event": "one", "time": 1}]
    assert asked(at, "worlds")["synthesis"] == []
    (run / "run.json").write_text('{"format": 2}')
    assert "format 2" in asked(at, "run")["problems"][0]
    assert asked(at, "runs")["runs"][0]["error"]


def test_a_store_whose_first_writer_died_at_once_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r/episodes.sqlite").write_bytes(b"")
    with pytest.raises(BadInput, match=r"^[^\n]*is empty[^\n]*$"):
        Runs(tmp_path / "r")
    assert "is empty" in Runs(tmp_path).listed()[0]["error"]


def test_a_run_s_line_is_read_again_only_when_the_run_was_written_to(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(run)
    first = runs.listed()
    assert first[0]["episodes"] == 1
    opened: list[Path] = []
    monkeypatch.setattr("palaestra.viewer.runs.Shown", lambda path: opened.append(path))
    assert runs.listed() == first
    assert opened == []
    monkeypatch.undo()
    with EpisodeStore(run / "episodes.sqlite") as store:
        store.add(episode(sample=1))
    assert runs.listed()[0]["episodes"] == 2

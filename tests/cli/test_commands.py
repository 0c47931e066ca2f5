"""Each command does what its help says, on real environments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run, result_of

COMMANDS = ("envs", "check", "play", "collect", "runs", "show", "export", "import", "train", "eval", "demo", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(palaestra: Run, command: str) -> None:
    done = palaestra(command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert len(done.stdout.splitlines()) > 5


def test_envs_as_json(palaestra: Run) -> None:
    rows = json.loads(palaestra("envs", "--json").stdout)
    assert {"id", "family", "splits", "fidelity", "ready"} <= set(rows[0])
    by_id = {row["id"]: row for row in rows}
    assert by_id["palaestra/ScienceWorld-v0"]["splits"] == {"train": 3592, "dev": 1796, "test": 1819}
    assert by_id["palaestra/ScienceWorld-v0"]["ready"] is True
    assert by_id["palaestra/Bandit-v0"]["fidelity"] == "exact"


def test_collect_show_export_import(palaestra: Run, tmp_path: Path) -> None:
    collect = ("collect", "bandit", "--policy", "flawed:0.5", "--tasks", "6", "--out", "run", "--json")
    first = result_of(palaestra(*collect))
    assert first["episodes"] == 6
    again = result_of(palaestra(*collect))
    assert (again["episodes"], again["skipped"]) == (0, 6)
    listed = json.loads(palaestra("show", "run", "--json").stdout)
    assert listed["summary"]["episodes"] == len(listed["episodes"]) == 6
    one = listed["episodes"][0]["id"]
    path = json.loads(palaestra("show", "run", one[:8], "--json").stdout)
    assert path["episode"]["id"] == one
    assert "score" in palaestra("show", "run", one).stdout
    for file in ("all.jsonl", "all.parquet"):
        assert palaestra("export", "run", file).returncode == 0
        assert palaestra("import", file, "--out", f"from-{file}").returncode == 0
        copied = json.loads(palaestra("show", f"from-{file}", "--json").stdout)
        assert {row["id"] for row in copied["episodes"]} == {row["id"] for row in listed["episodes"]}
    assert palaestra("export", "run", "chat.jsonl", "--form", "messages").returncode == 0
    chats = [json.loads(line) for line in (tmp_path / "chat.jsonl").read_text().splitlines()]
    assert len(chats) == 6
    assert chats[0]["messages"][0]["role"] == "system"


def test_eval_writes_a_card(palaestra: Run, tmp_path: Path) -> None:
    done = palaestra("eval", "bandit", "--policy", "oracle", "--tasks", "6", "--json", "--out", "measured")
    result = result_of(done)
    assert result["episodes"] == 6
    assert result["success"]["low"] <= result["success"]["mean"] <= result["success"]["high"]
    assert result["card"]["split"] == "test"
    assert "palaestra/Bandit-v0" in (tmp_path / "measured" / "card.md").read_text()
    report = tmp_path / "measured" / "report.html"
    stored = json.loads((tmp_path / "measured" / "evaluation.json").read_text())
    assert {"event": "result", "report": str(report), **stored} == result


def test_runs_lists_what_is_there(palaestra: Run) -> None:
    assert json.loads(palaestra("runs", "--json").stdout) == []
    palaestra("collect", "bandit", "--policy", "random", "--tasks", "3", "--out", "runs/a", "--quiet")
    rows = json.loads(palaestra("runs", "--json").stdout)
    assert [(row["run"], row["episodes"]) for row in rows] == [("runs/a", 3)]


def test_play_goes_back(palaestra: Run) -> None:
    typed = ":actions\n:hint\n" + "0\n" * 3 + ":undo 2\n:undo\n:quit\n"
    done = palaestra("play", "bandit", "--seed", "3", stdin=typed)
    assert done.returncode == 0
    assert "back at step 1" in done.stdout
    assert "back at step 0" in done.stdout


def test_check_reports_as_json(palaestra: Run) -> None:
    done = palaestra("check", "bandit", "--fast", "--json")
    report = result_of(done)
    assert done.returncode == 0
    assert all(result["passed"] for result in report["results"])


def test_doctor_knows_java_and_the_environments(palaestra: Run) -> None:
    findings = {finding["name"]: finding for finding in json.loads(palaestra("doctor", "--json").stdout)}
    assert findings["java"]["ok"] is True
    assert findings["palaestra/ScienceWorld-v0"]["ok"] is True
    assert "torch" in findings["torch"]["name"]
    assert "websockets" in findings["extra serve"]["detail"]

"""Long commands for scripts: JSON Lines with documented keys and nothing else, quiet ones, dry runs that do nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from palaestra.agents.episode import Outcome
from palaestra.agents.export import episode_line
from palaestra.agents.store import EpisodeStore
from palaestra.cli import run

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "command-line.md").read_text()
LONG = (
    ("collect", "bandit", "--policy", "oracle", "--tasks", "3", "--out", "run"),
    ("eval", "bandit", "--policy", "oracle", "--tasks", "3", "--out", "run"),
    ("check", "bandit", "--fast"),
    ("import", "all.jsonl", "--out", "copy"),
    ("export", "before", "some.jsonl"),
)
DRY = (
    ("collect", "bandit", "--policy", "oracle", "--tasks", "3", "--out", "run"),
    ("eval", "crafting", "--policy", "tiny", "--tasks", "3"),
    ("train", "rft", "--env", "crafting", "--model", "tiny", "--experts", "oracle", "--tasks", "5", "--budget", "20"),
    ("train", "grpo", "--env", "bandit", "--model", "smollm2-135m", "--budget", "512"),
    ("compare", "rft", "eef", "--env", "crafting", "--model", "tiny", "--experts", "flawed:0.4", "--budget", "60"),
    ("worldmodel", "train", "--env", "bandit", "--store", "before"),
    ("worldmodel", "act", "bandit", "-p", "random", "--world", "real", "--depth", "1", "--tasks", "2"),
    ("export", "before", "some.jsonl"),
    ("export", "before", "some.parquet"),
    ("export", "before", "some.jsonl", "--form", "eto"),
    ("import", "all.jsonl", "--out", "copy"),
    ("demo",),
    ("check", "bandit"),
    ("data", "get", "humaneval"),
    ("data", "freeze", "webshop", "--catalogue", "small", "--out", "frozen"),
)
STEPS = ("check", "data")
"""Commands that make no episodes: their dry run has fewer keys."""


class Told:
    """Runs a command in this process and gives what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *args: str, status: int = 0) -> tuple[str, str]:
        assert run(list(args)) == status
        told = self.capsys.readouterr()
        return told.out, told.err


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """In an empty directory, but for a store `before` of two episodes and a file of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / "cache"))
    assert run(["collect", "bandit", "--policy", "oracle", "--tasks", "2", "--out", "before", "--quiet"]) == 0
    assert run(["export", "before", "all.jsonl"]) == 0
    for beside in ("-wal", "-shm"):
        Path(f"before/episodes.sqlite{beside}").unlink(missing_ok=True)
    capsys.readouterr()
    return Told(capsys)


def documented(heading: str) -> set[str]:
    """The keys that a table of the page has in its first column."""
    part = PAGE.split(heading, 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
    return {key for row in re.findall(r"^\| (`.*?) \|", part, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize("command", LONG, ids=lambda command: command[0])
def test_json_is_lines_of_objects_with_the_documented_keys(told: Told, command: tuple[str, ...]) -> None:
    out, _ = told(*command, "--json")
    lines: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in lines[:-1]] == ["progress"] * (len(lines) - 1)
    assert lines[-1]["event"] == "result"
    keys = documented("### Progress lines")
    assert {"event", "stage", "unit", "done", "total", "seconds", "rate", "left", "ended"} <= keys
    for line in lines[:-1]:
        assert set(line) <= keys, set(line) - keys
    stages = {line["stage"]: line for line in lines[:-1]}
    assert stages, "a stage tells at least its beginning and its end"
    assert all((line["ended"] and line["done"] == line["total"]) or line["total"] is None for line in stages.values())
    assert set(lines[-1]) <= documented(f"### `palaestra {command[0]}`") | {"event"}


@pytest.mark.parametrize("command", [LONG[0], LONG[1], LONG[3]], ids=lambda command: command[0])
def test_quiet_json_is_the_result_alone_and_quiet_shows_no_progress(told: Told, command: tuple[str, ...]) -> None:
    out, err = told(*command, "--json", "--quiet")
    assert json.loads(out)["event"] == "result"
    assert (out.count("\n"), err) == (1, "")
    _, err = told(*command, "--quiet")
    assert err == ""


@pytest.mark.parametrize("more", [(), ("--json",), ("--quiet",), ("--json", "--quiet")], ids=lambda more: "".join(more))
def test_an_error_is_one_line_on_stderr_and_nothing_on_stdout(told: Told, more: tuple[str, ...]) -> None:
    for command in (
        ("collect", "bandit", "--policy", "nobody:1", "--out", "run"),
        ("eval", "bandit", "--policy", "oracle", "--split", "train"),
        ("train", "rft", "--env", "bandit", "--budget", "4", "--set", "colour=3"),
        ("check", "nowhere"),
        ("import", "nowhere.jsonl", "--out", "run"),
    ):
        out, err = told(*command, *more, status=2)
        assert out == ""
        assert re.fullmatch(r"error: .+\n", err)


def files(folder: Path) -> dict[Path, int]:
    """What lies there, with when it was written. SQLite's index of a store that is read is no change of anything."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {path: path.stat().st_mtime_ns for path in found}


@pytest.mark.parametrize("command", DRY, ids=lambda command: "-".join(command[:4]))
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["told", "json"])
def test_a_dry_run_says_what_it_would_cost_and_touches_nothing(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], more: tuple[str, ...]
) -> None:
    monkeypatch.delenv("PALAESTRA_DATA", raising=False)
    before = files(tmp_path)
    out, err = told(*command, "--dry-run", *more)
    assert files(tmp_path) == before
    assert err == ""
    if not more:
        assert "nothing is done" in out
        assert "disk" in out
        return
    plan = json.loads(out)
    assert plan["dry_run"] is True
    keys = documented("### `--dry-run`") | {"event"}
    assert set(plan) == keys or (command[0] in STEPS and set(plan) < keys)
    assert plan["basis"], "it says where its figures are from"


def test_what_a_dry_run_counts_is_what_is_then_done(told: Told) -> None:
    collect = ("collect", "bandit", "--policy", "oracle", "--tasks", "3", "--samples", "2", "--out", "run")
    plan = json.loads(told(*collect, "--dry-run", "--json")[0])
    assert plan["basis"][0].startswith("2 episodes of palaestra/Bandit-v0 in before/episodes.sqlite")
    done = json.loads(told(*collect, "--json", "--quiet")[0])
    assert (plan["rollouts"], plan["completion_tokens"], done["episodes"]) == (6, 0, 6)
    size = Path("run/episodes.sqlite").stat().st_size
    assert 0.2 * size < plan["disk_bytes"] < 5 * size


def test_a_dry_run_counts_rollouts_measurements_and_fits_of_a_method(told: Told) -> None:
    command = DRY[2]
    sizes = ("evaluation.tasks=4", "objective.tokens=500", "iterations=2")
    changes = [word for size in sizes for word in ("--set", size)]
    plan = json.loads(told(*command, *changes, "--dry-run", "--json")[0])
    parts = {part["what"]: part["episodes"] for part in plan["parts"]}
    assert parts == {"expert episodes": 5, "rollouts": 20, "held-out episodes": 16}  # before, cloned, two iterations
    assert (plan["fits"], plan["fit_tokens"], plan["rollouts"]) == (3, 1500, 20)
    assert plan["model_calls"] == 36 * 40, "no store knows this environment: the step cap is the most"
    assert any("step" in line and "cap" in line for line in plan["basis"])
    _, err = told(*command, "--set", "budget=0", "--set", "experts=null", "--dry-run", status=2)
    assert "budget" in err


@pytest.mark.parametrize(
    ("method", "changes", "episodes"),
    [
        ("grpo", ("budget=96", "group=4", "prompts=2"), {"rollouts": 96, "held-out episodes": 20}),  # of 12 rounds four
        ("rft", ("budget=24", "iterations=3", "evaluation.between=false"), {"rollouts": 24, "held-out episodes": 8}),
    ],
)
def test_a_dry_run_counts_the_rounds_that_are_measured(
    told: Told, method: str, changes: tuple[str, ...], episodes: dict[str, int]
) -> None:
    """The start model and the last weights always; GRPO some four times, other methods each time or the last alone."""
    settings = [word for each in (*changes, "evaluation.tasks=4") for word in ("--set", each)]
    plan = json.loads(told("train", method, "--env", "bandit", "--model", "tiny", *settings, "--dry-run", "--json")[0])
    assert {part["what"]: part["episodes"] for part in plan["parts"]} == episodes


def test_a_dry_run_of_carrying_counts_forks_with_their_parents_what_is_there_and_the_bytes(told: Told) -> None:
    from tests.agents.store_cases import episode

    root = episode(n=3)
    fork = episode(root.fork(1), n=2, outcome=Outcome.SUCCESS, score=1.0)
    with EpisodeStore("grown/episodes.sqlite") as store:
        store.add_all([root, fork, episode(sample=1)])
    for file in ("won.jsonl", "won.parquet"):
        command = ("export", "grown", file, "--outcome", "success")
        plan = json.loads(told(*command, "--dry-run", "--json")[0])
        done = json.loads(told(*command, "--json", "--quiet")[0])
        assert [plan["parts"][0]["episodes"], done["episodes"], done["written"]] == [2, 2, 2], "the parent comes along"
        assert plan["disk_bytes"] > 0
    exact = sum(len(episode_line(each).encode()) for each in (root, fork))
    assert Path("won.jsonl").stat().st_size == exact
    for there, new in ((None, 2), ("won.jsonl", 0)):
        if there is not None:
            told("import", there, "--out", "copy")
        plan = json.loads(told("import", "won.jsonl", "--out", "copy", "--dry-run", "--json")[0])
        assert plan["parts"][0]["episodes"] == new
    Path("won.jsonl").write_text("{}\n")
    out, err = told("import", "won.jsonl", "--out", "copy", "--dry-run", status=2)
    assert out == ""
    assert "won.jsonl, line 1" in err


def test_the_last_line_of_a_result_is_the_report(told: Told, tmp_path: Path) -> None:
    out, _ = told("eval", "bandit", "--policy", "oracle", "--tasks", "3", "--out", "run", "--quiet")
    assert out.splitlines()[-1] == f"report: {tmp_path / 'run' / 'report.html'}"
    assert (tmp_path / "run" / "report.md").is_file()
    with EpisodeStore("run/episodes.sqlite", mode="r") as store:
        assert len(store) == 3

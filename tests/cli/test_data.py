"""`palaestra data`: what a person sees of the data sets, and how one is fetched on the command line."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from palaestra.agents.models import resolve
from palaestra.cli import run
from palaestra.envs.datasets.catalogue import CATALOGUE, DataSet, Upstream
from palaestra.envs.errors import BadInput
from tests.cli.conftest import Run, refused
from tests.envs.data_server import Host, running

CONTENT = b"0123456789" * 1000


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PALAESTRA_DATA", raising=False)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with running() as started:
        started.files["/n.txt"] = CONTENT
        file = Upstream("n.txt", f"{started.url}/n.txt", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
        numbers = DataSet("numbers", "digits", "a licence", "Terms that one reads.", (file,), ("n.txt",))
        monkeypatch.setitem(CATALOGUE, "numbers", numbers)
        yield started


def test_list_says_what_each_is_and_whether_it_is_here(palaestra: Run, tmp_path: Path) -> None:
    done = palaestra("data", "list", blocked=("httpx", "torch", "transformers"))
    assert done.returncode == 0
    assert all(name in done.stdout for name in CATALOGUE)
    assert "not pinned; the sum is recorded at the first download" in done.stdout
    assert "humaneval  46 kB  MIT" in done.stdout
    assert "alfworld  108.5 MB  MIT" in done.stdout
    rows = json.loads(palaestra("data", "list", "--json").stdout)
    assert [row["name"] for row in rows] == list(CATALOGUE)
    assert all(row["folder"] is None for row in rows)
    assert {file["sha256"] is None for row in rows for file in row["files"] if row["name"] == "webshop"} == {False}

    (tmp_path / "shared" / "humaneval").mkdir(parents=True)
    (tmp_path / "shared" / "humaneval" / "HumanEval.jsonl.gz").write_bytes(b"x")
    rows = json.loads(palaestra("data", "list", "--json", env={"PALAESTRA_DATA": str(tmp_path / "shared")}).stdout)
    assert {row["name"]: row["folder"] for row in rows}["humaneval"] == str(tmp_path / "shared" / "humaneval")


def test_list_says_what_a_folder_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PALAESTRA_DATA", str(tmp_path))
    (tmp_path / "mbpp").mkdir()
    (tmp_path / "mbpp" / "mbpp.jsonl.xz").write_bytes(b"x")
    assert run(["data", "list"]) == 0
    assert f"in part: {tmp_path / 'mbpp'} has no sanitized-mbpp.json\n" in capsys.readouterr().out


def test_one_data_set_is_shown_with_its_terms_and_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "list", "webshop"]) == 0
    shown = capsys.readouterr().out
    assert "Amazon.com" in shown
    assert all(file.url in shown for file in CATALOGUE["webshop"].files)


def test_get_shows_the_terms_and_says_where_it_is(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "get", "numbers", "--yes"]) == 0
    first = capsys.readouterr()
    assert "Terms that one reads." in first.err
    assert first.out == f"numbers is in {tmp_path / 'cache' / 'data' / 'numbers'}\n"
    assert run(["data", "get", "numbers", "--json"]) == 0
    again = capsys.readouterr()
    assert json.loads(again.out) == {
        "event": "result",
        "name": "numbers",
        "folder": str(tmp_path / "cache" / "data" / "numbers"),
        "was_here": True,
    }
    assert again.err == ""


def test_a_script_must_accept_the_terms(palaestra: Run) -> None:
    line = refused(palaestra("data", "get", "mbpp", stdin=""), "CC BY 4.0", "add --yes", "palaestra data list mbpp")
    assert "mbpp" in line


def test_an_unknown_name_is_refused(palaestra: Run) -> None:
    refused(palaestra("data", "get", "webshopp", "--yes"), "unknown data set 'webshopp'", "webshop")


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 2)])
def test_a_person_is_asked(host: Host, tmp_path: Path, answer: str, status: int) -> None:
    file = CATALOGUE["numbers"].files[0]
    code = (
        "from palaestra.envs.datasets import catalogue as c\n"
        f"file = c.Upstream('n.txt', {file.url!r}, {file.size}, {file.sha256!r})\n"
        "c.CATALOGUE['numbers'] = c.DataSet('numbers', '', 'a licence', 'Terms that one reads.', (file,), ('n.txt',))\n"
        "from palaestra.cli import main\nmain(['data', 'get', 'numbers'])\n"
    )
    person, terminal = pty.openpty()
    try:
        os.write(person, answer.encode())
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=60,
            env=dict(os.environ),
        )
    finally:
        os.close(person)
        os.close(terminal)
    assert done.returncode == status, done.stderr
    assert "Terms that one reads." in done.stderr
    assert (tmp_path / "cache" / "data" / "numbers").is_dir() == (status == 0)


def test_a_broken_download_and_a_wrong_file_are_one_line_each(
    host: Host, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palaestra.envs.datasets.fetch.time.sleep", lambda seconds: None)
    host.breaks = [4_000, *[0] * 20]
    assert run(["data", "get", "numbers", "--yes"]) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("error: the download of n.txt broke off after 4,000 of 10,000 bytes")
    host.breaks, host.files["/n.txt"] = [], CONTENT[::-1]
    assert run(["data", "get", "numbers", "--yes"]) == 2
    said = capsys.readouterr().err
    assert "n.txt from" in said.splitlines()[-1]
    assert "nothing was kept" in said.splitlines()[-1]
    assert not (tmp_path / "cache" / "data" / "numbers").exists()


@pytest.mark.parametrize("place", ["/proc/nope", "/dev/null/x"])
def test_a_cache_that_cannot_be_made_is_one_line(
    host: Host, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PALAESTRA_CACHE", place)
    assert run(["data", "get", "numbers", "--yes"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: the cache {place}")
    assert said.endswith("set PALAESTRA_CACHE to a folder that can be")
    assert run(["data", "list"]) == 0
    assert host.asked == []
    for model in ("tiny:crafting", "smollm2-135m"):
        with pytest.raises(BadInput, match="set PALAESTRA_CACHE to a folder that can be"):
            resolve(model)


def test_a_wrong_local_file_is_named_where_it_lies(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "n.txt").write_bytes(CONTENT[::-1])
    assert run(["data", "get", "numbers", "--yes", "--from", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"n.txt from {tmp_path / 'n.txt'} is not the file that it should be" in said
    assert "http" not in said


def test_a_folder_can_be_given_instead(host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "n.txt").write_bytes(CONTENT)
    assert run(["data", "get", "numbers", "--yes", "--from", str(tmp_path)]) == 0
    assert (tmp_path / "cache" / "data" / "numbers" / "n.txt").read_bytes() == CONTENT
    assert host.asked == []

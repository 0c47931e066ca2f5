"""Files of a code task: what the work directory held at every turn, out of a real sandbox."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made import HOSTILE_NAME

from palaestra.envs.code.work import files_of
from palaestra.viewer.table import Shown

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ids(place: Path) -> list[str]:
    """The expert's episode, and the fork of it."""
    with Shown(place / "code/episodes.sqlite") as store:
        return [head.id for head in store.heads()]


def touched(turn: dict[str, Any]) -> list[list[str]]:
    found: list[list[str]] = turn["files"]["touched"]
    return found


def test_every_turn_says_which_files_it_made_changed_and_removed(ask: Ask, ids: list[str]) -> None:
    turns = ask("episode", run="code", id=ids[0])["turns"]
    assert touched(turns[0]) == [["+", "solution.py"]]
    assert sorted(touched(turns[1])) == sorted(
        [["-", "notes.txt"], ["+", "link"], ["+", "odd.bin"], ["+", HOSTILE_NAME]]
    )
    assert touched(turns[2]) == [["~", "solution.py"]]


def test_the_start_holds_the_task_s_own_files_and_the_end_what_was_submitted(ask: Ask, ids: list[str]) -> None:
    start = ask("files", run="code", id=ids[0], step=-1)
    assert [entry["path"] for entry in start["entries"]] == ["notes.txt"]
    assert start["compared"] is False
    end = ask("file", run="code", id=ids[0], step=2, path="solution.py")
    assert end["text"] == "def double(n):\n    return 2 * n\n"
    assert ask("file", run="code", id=ids[0], step=0, path="solution.py")["text"].endswith("return n\n")


def test_a_changed_file_has_its_lines_and_what_is_no_text_says_so(ask: Ask, ids: list[str]) -> None:
    entries = {entry["path"]: entry for entry in ask("files", run="code", id=ids[0], step=2)["entries"]}
    assert entries["solution.py"]["lines"] == [
        [" ", "def double(n):"],
        ["-", "    return n"],
        ["+", "    return 2 * n"],
    ]
    assert entries["odd.bin"]["text"] is False
    assert entries["link"]["kind"] == "link"
    assert entries["link"]["to"] == "solution.py"
    gone = {entry["path"]: entry for entry in ask("files", run="code", id=ids[0], step=1)["entries"]}
    assert gone["notes.txt"]["mark"] == "-"
    assert gone["notes.txt"]["lines"] == [["-", "two lines"], ["-", "of notes"]]


def test_a_fork_begins_with_the_files_that_its_parent_had_there(ask: Ask, ids: list[str]) -> None:
    turns = ask("episode", run="code", id=ids[1])["turns"]
    assert touched(turns[0]) == [["+", "solution.py"]]
    assert touched(turns[1]) == [["+", "later.txt"]]
    entries = ask("files", run="code", id=ids[1], step=1)["entries"]
    assert [entry["path"] for entry in entries] == ["later.txt", "notes.txt", "solution.py"]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"step": 9}, "no turn 9"),
        ({"step": 0, "path": "nope"}, "no file 'nope'"),
        ({"step": 0, "path": "../../etc/passwd"}, "no file"),
        ({"step": 1, "path": "odd.bin"}, "no text"),
    ],
)
def test_files_that_cannot_be_shown_are_told_in_a_line(
    ask: Ask, ids: list[str], parameters: dict[str, Any], said: str
) -> None:
    what = "file" if "path" in parameters else "files"
    assert said in ask(what, 404, run="code", id=ids[0], **parameters)["error"]


def test_episodes_without_kept_directories_say_nothing_of_files(ask: Ask) -> None:
    root = ask("episodes", run="odd", order="added")["rows"][0]["id"]
    assert "files" not in ask("episode", run="odd", id=root)["turns"][0]
    assert ask("files", run="odd", id=root, step=0)["entries"] is None


def test_what_is_damaged_or_of_another_environment_is_no_directory(place: Path, tmp_path: Path) -> None:
    with Shown(place / "code/episodes.sqlite") as store:
        whole = store.kept(next(store.heads()).id, 2)
    assert whole is not None
    assert set(files_of(whole) or {}) == {"link", "odd.bin", "solution.py", HOSTILE_NAME}
    for raw in (b"", b"{}", b"[]\n1 x\n", b'{"score": 0}\nnothing\n', whole[:-900], whole.replace(b"ustar", b"vstar")):
        found = files_of(raw)
        assert found is None or set(found) <= {"link", "odd.bin", "solution.py", HOSTILE_NAME}
    copy = tmp_path / "episodes.sqlite"
    with sqlite3.connect(place / "code/episodes.sqlite") as old, sqlite3.connect(copy) as new:
        old.backup(new)
        new.execute("UPDATE kept SET body = substr(body, 1, 20)")
    with Shown(copy) as store:
        assert store.kept_steps(next(store.heads()).id) == {}

"""An environment all of whose texts are hostile: none of them steers a terminal or is markup in a report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ENV = r"""
from dataclasses import dataclass
from palaestra import Reply, TextEnv, register

CLEAR = "\x1b[2J\x1b]0;owned\x07\u202e\x9b31m"
MARKS = "[/red] [link=file:///a]x[/link] :train: | [x](javascript:alert(1)) ![i](http://127.0.0.1:9/i.png)"
HOSTILE = f"{CLEAR} <script>alert(1)</script> {MARKS} \\| \r end"


@dataclass
class State:
    said: str = ""


class Texts(TextEnv[State]):
    def begin(self, task, rng):
        return State(), HOSTILE + "\ud800"

    def act(self, state, action):
        if action == "break" or "broken" in state.said:
            raise RuntimeError(HOSTILE)
        return Reply(HOSTILE, score=1.0, success=True, over=True)

    def admissible(self, state):
        return [HOSTILE]


Texts.__doc__ = HOSTILE + "\ud800"
tasks = {split: [f"{HOSTILE}{split}/{n}" for n in range(2)] for split in ("train", "test")}
how = {"splits": tasks, "max_steps": 2, "oracles": {"says": lambda env: HOSTILE}, "summary": HOSTILE}
register("hostile/Texts-v0", Texts, **how)


class Broken(Texts):
    def begin(self, task, rng):
        return State("broken"), HOSTILE


register("hostile/Broken-v0", Broken, **how)
"""
STRANGE = "'\x1b[2J\x1b]0;owned\x07\u202e\x9b31m [/red] <script>'"
"""A name of a folder."""
COMMANDS = (
    "envs",
    "envs hostile/Texts-v0 --load env.py",
    "envs hostile/Texts-v0 --load env.py --split test",
    "play hostile/Texts-v0 --load env.py --out played",
    "collect hostile/Texts-v0 --load env.py --policy oracle --tasks 2 --out run",
    *("show run", "show run ID", "show --json run ID"),
    "collect hostile/Broken-v0 --load env.py --policy oracle --tasks 1 --out broke",
    "show broke --faults",
    "show played",
    "eval hostile/Texts-v0 --load env.py --policy oracle --out measured",
    "eval hostile/Texts-v0 --load env.py --policy oracle --dry-run",
    "runs .",
    *(f"collect hostile/Texts-v0 --load env.py --policy oracle --tasks 2 --out {STRANGE}", f"show {STRANGE}"),
    *(f"export {STRANGE} {STRANGE}.jsonl", f"import {STRANGE}.jsonl --out {STRANGE}2", f"runs {STRANGE}"),
    f"eval hostile/Texts-v0 --load env.py --policy oracle --tasks 2 --out {STRANGE}3",
)
PROGRAM = """
import io, json, shlex, sys
from palaestra.agents.store import EpisodeStore
from palaestra.cli import run
for line in json.loads(sys.argv[1]):
    sys.stdin = io.StringIO(":actions\\n:hint\\n:1\\n:path\\n:undo\\nbreak\\n:rules\\n:quit\\n")
    print("$ " + line.encode("unicode_escape").decode(), flush=True)
    if line.endswith(" ID"):
        with EpisodeStore("run/episodes.sqlite", mode="r") as store:
            line = line.replace(" ID", " " + next(store.heads()).id)
    print(f"status {run(shlex.split(line))}", flush=True)
"""
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which all commands ran, and what they printed."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "env.py").write_text(ENV)
    command = [sys.executable, "-c", PROGRAM, json.dumps(COMMANDS)]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    return folder, done.stdout.decode()


def test_every_command_shows_such_texts_and_none_steers_the_terminal(said: tuple[Path, str]) -> None:
    told = said[1]
    assert told.count("status 0") == len(COMMANDS) - 1, told
    assert told.count("status 2") == 1, "the environment that breaks in every episode is refused in one line"
    assert told.count("RuntimeError: ") >= 2, "a fault is shown with its traceback, and somebody who plays goes on"
    assert STEERING.findall(told) == []
    for part in told.split("$ ")[2:]:
        shown = part.startswith(("envs", "play", "show run", "show broke", "eval"))
        shows = shown and "--dry-run" not in part.splitlines()[0]
        assert (r"\x1b[2J\x1b]0;owned\x07\u202e\x9b31m" in part) or not shows, part
    assert "[/red] [link=file:///a]x[/link] :train:" in told


def test_neither_does_a_report_nor_is_anything_of_them_markup_there(said: tuple[Path, str]) -> None:
    for name in ("report.md", "card.md", "report.html"):
        text = (said[0] / "measured" / name).read_text()
        assert STEERING.findall(text) == [], name
        assert r"\x1b" in text
        assert "<script" not in text
        if name.endswith(".md"):
            assert not re.search(r"(?<!\\)\]\(", text), "a link, or a picture that is fetched"
            rows = [line for line in text.splitlines() if line.startswith("|")]
            assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in rows if "owned" in line} <= {3, 7}

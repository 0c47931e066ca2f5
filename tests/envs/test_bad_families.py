"""What a task file, a folder, a tool, a server or a setting has wrong is one line and exit status 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palaestra.cli import run
from palaestra.envs.browser.miniwob_oracle import SOLVED

LINE = {"id": "a", "ques": "?", "web": "http://library.test/"}
FILES = {
    "cut.jsonl": "{",
    "plain.jsonl": json.dumps(LINE),
    "good.jsonl": json.dumps({**LINE, "answer": "x"}),
    "cut/a.toml": 'statement = "x',
    "twice/a.toml": 'statement = "x"\ncheck = "true"\ntests = "assert 1"',
    "image/a.toml": 'statement = "x"\ncheck = "true"\nimage = "alpine"',
    "untyped.py": (
        "from palaestra.envs.tools import Goal, register_tools\n"
        "def sell(item): return item\n"
        "register_tools('untyped/Tools-v0', [sell], goals={'train': {'a': Goal('x', answer='y')}})\n"
    ),
    "unjudged.py": (
        "from palaestra.envs.tools import Goal, register_tools\n"
        "def sell(item: str) -> str: return item\n"
        "register_tools('unjudged/Tools-v0', [sell], goals={'train': {'a': Goal('x')}})\n"
    ),
    "nobody.py": (
        "from palaestra.envs.tools import Goal, Server, register_mcp\n"
        "register_mcp('nobody/Tools-v0', Server(command=['no-such-program']),"
        " goals={'train': {'a': Goal('x', answer='y')}})\n"
    ),
}
NOWHERE = ("-s", "url=http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("check", "webtasks", "-q", "-s", "file=missing.jsonl"), "missing.jsonl cannot be read: No such file"),
        (("eval", "webtasks", "--policy", "oracle", "-s", "file=cut.jsonl"), "cut.jsonl, line 1: Invalid JSON"),
        (("check", "webtasks", "-q", "-s", "file=plain.jsonl"), "no task of plain.jsonl has a reference answer"),
        (("collect", "webtasks", "--policy", "oracle", "--out", "run", "-s", "hosts=5"), "hosts are names with commas"),
        (("play", "webtasks", "-s", "site=nowhere"), "site='nowhere' is no folder"),
        (("serve", "miniwob", "-s", "protocol=easy"), "no protocol 'easy'; it has: solved"),
        (("envs", "webtasks", "--split", "train", "-s", "file=good.jsonl"), "no split 'train'; it has: test"),
        (("envs", "webtasks", "-s", "file=good.jsonl"), "give ENV and --split"),
        (("eval", "codetasks", "--policy", "oracle", "-s", "folder=cut"), "task file cut/a.toml cannot be read"),
        (("check", "shell", "-q", "-s", "folder=twice"), "needs either 'tests' (Python) or 'check'"),
        (("check", "shell", "-q", "-s", "folder=nowhere"), "there is no folder nowhere"),
        (("play", "shell", "-s", "folder=image", "-s", "sandbox=bwrap"), "wants the container image 'alpine'"),
        (("eval", "humaneval", "--policy", "oracle", "--sandbox", "chroot"), "no sandbox backend 'chroot'"),
        (("eval", "bfcl", "--policy", "oracle", "-s", "category=x"), "no category 'x'; it has: base, miss_func"),
        (("check", "tauairline", "-q", "-s", "release=old"), "no release 'old'"),
        (("check", "untyped/Tools-v0", "-q", "--load", "untyped.py"), "argument 'item' has no type"),
        (("check", "unjudged/Tools-v0", "-q", "--load", "unjudged.py"), "nothing judges the goal 'a'"),
        (("play", "nobody/Tools-v0", "--load", "nobody.py"), "there is no program 'no-such-program' to run"),
        (("eval", "remote", "--policy", "oracle"), "needs its address: -s url=http://HOST:PORT"),
        (("envs", "remote", "--split", "train"), "needs its address"),
        (("eval", "remote", "--policy", "oracle", *NOWHERE), "no environment server answers at http://127.0.0.1:9"),
        (("check", "remote", "-q", *NOWHERE), "no environment server answers"),
        (("play", "remote", *NOWHERE), "no environment server answers"),
        (("check", "remote", "-q", *NOWHERE, "-s", "deadline=1e400"), "deadline is a number of seconds above 0"),
    ],
    ids=lambda value: "_".join(value[:2]) if isinstance(value, tuple) else None,
)
@pytest.mark.usefixtures("clean_registry")
def test_it_is_one_line_and_status_2(
    arguments: tuple[str, ...],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert run(list(arguments)) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_settings_say_which_tasks_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.jsonl").write_text(FILES["good.jsonl"])
    assert run(["envs", "webtasks", "--split", "test", "-s", "file=good.jsonl"]) == 0
    assert capsys.readouterr().out == "a\n"
    assert run(["envs", "miniwob", "--split", "test", "-s", "protocol=solved", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(SOLVED) * 10

"""Runs the command line as a person does: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def palaestra(tmp_path: Path) -> Run:
    """Calls `palaestra ARGS` in an empty directory. `blocked` modules cannot be imported, as if not installed."""

    def call(
        *args: str, blocked: tuple[str, ...] = (), env: dict[str, str] | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        code = (
            f"import sys\nblocked = {blocked!r}\n"
            "class Blocker:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name.split('.')[0] in blocked: raise ModuleNotFoundError(name)\n"
            "import importlib.util as util\n"
            "found = util.find_spec\n"
            "util.find_spec = lambda name, *rest: None if name.split('.')[0] in blocked else found(name, *rest)\n"
            "sys.meta_path.insert(0, Blocker())\n"
            "from palaestra.cli import main\nmain()\n"
        )
        return subprocess.run(
            [sys.executable, "-c", code, *args],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "200", **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return call


@pytest.fixture(autouse=True)
def _no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal's width, which a library that another test imported may have set, is not these tests'."""
    monkeypatch.delenv("COLUMNS", raising=False)


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The result of a long command with `--json`: the last of its JSON Lines."""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["progress"] * (len(lines) - 1) + ["result"], done.stderr
    return dict(lines[-1])


def refused(done: subprocess.CompletedProcess[str], *words: str) -> str:
    """Assert that a command was refused in one line that holds these words; return the line."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    return lines[0]

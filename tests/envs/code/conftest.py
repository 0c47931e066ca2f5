"""What the tests of the code family share: the real sandbox, and folders of tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palaestra.envs.sandbox import start
from palaestra.envs.sandbox.interface import Sandbox

DOUBLE = '''
statement = "Write double(n) in solution.py."
split = "train"
entry = "double"
visible = "assert double(2) == 4"
tests = """
assert double(2) == 4
assert double(-3) == -6
assert double("ab") == "abab"
"""
[solution]
"solution.py" = "def double(n): return 2 * n"
'''


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """A sandbox of the default kind. Tests run code in it that kills all it can, so it must be one."""
    with start("bwrap") as sandbox:
        inside = sandbox.exec(["readlink", "/proc/self/ns/pid"]).stdout.strip()
        assert inside.startswith("pid:")
        assert inside != os.readlink("/proc/self/ns/pid"), "no process namespace of its own: nothing hostile is run"
        yield sandbox


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., str]:
    """Makes a folder of tasks: file name -> text; without one, the task `double`."""

    def make(files: dict[str, str] | None = None) -> str:
        for name, text in (files or {"double.toml": DOUBLE}).items():
            path = tmp_path / "tasks" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(tmp_path / "tasks")

    return make


def task_file(tests: str, solution: str, judge: str = "apart") -> str:
    """A task file with tests and its own solution."""
    return (
        f"statement = \"Do it.\"\njudge = \"{judge}\"\ntests = '''\n{tests}\n'''\n"
        f"[solution]\n\"solution.py\" = '''\n{solution}\n'''\n"
    )

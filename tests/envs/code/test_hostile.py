"""Whatever an agent writes and does is answered: no exception, no hang, no long answer, no growth.

Every action is a command in a real sandbox, so a usual run plays few. With `PALAESTRA_ACTIONS=10000` and
`pytest --timeout 0` that many are played in each family.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from palaestra.envs import make
from palaestra.envs.check.walk import answer_problem
from palaestra.envs.code.env import LONGEST_OBSERVATION

PATHS = [
    "a.py",
    "solution.py",
    "../x",
    "/etc/passwd",
    "d/e/f",
    ".",
    "..",
    "a" * 300,
    "d",
    "-rf",
    "~/x",
    "link/x",
    "\u202e.py",
]
COMMANDS = [
    "cat /etc/shadow",
    "ln -s / link",
    "mkdir -p d",
    "printf '\\377\\000'",
    "kill -9 -1",
    "chmod 000 .",
    "head -c 1000000 /dev/zero",
    "mkfifo p",
    "touch \"$(printf 'a\\nb')\"",
    "((",
    "cat p",
    "dd if=/dev/zero of=big bs=1M count=80",
    "rm -rf *",
    "sleep 60 &",
]
TEXTS = st.one_of(st.text(max_size=60), st.sampled_from(["", "import os", "é" * 5000, "```", "\x00", "\ud800"]))
ACTIONS = st.one_of(
    st.text(max_size=200),
    st.sampled_from(COMMANDS).map(lambda command: f"run {command}"),
    st.tuples(st.sampled_from(PATHS), TEXTS).map(lambda pair: f"write {pair[0]}\n```\n{pair[1]}\n```"),
    st.sampled_from(PATHS).map(lambda path: f"read {path}"),
    st.sampled_from(["list", "test", "submit", "```\nx\n```\ntest", "```sh\nls\n```\nsubmit"]),
)


WANTED = int(os.environ.get("PALAESTRA_ACTIONS", "0"))


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def episodes(play: Callable[[list[str]], None], most: int, chance: int | None) -> None:
    """Play `most` generated episodes. Hypothesis remembers all of a run, so that many are played in several runs."""

    @settings(max_examples=most, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(ACTIONS, min_size=1, max_size=8))
    def run(actions: list[str]) -> None:
        play(actions)

    (run if chance is None else seed(chance)(run))()


@pytest.mark.parametrize("name", ["codetasks", "shell"])
def test_every_action_is_answered(name: str) -> None:
    env = make(name, timeout=1.0)
    played, before = 0, 0

    def play(actions: list[str]) -> None:
        nonlocal played, before
        env.reset(seed=0)
        for action in actions:
            answer: Any = env.step(action)
            played += 1
            if played == max(20, WANTED // 10):
                before = resident()
            assert answer_problem(answer, env.task, None) is None
            assert len(answer[0]) <= LONGEST_OBSERVATION + 200
            if answer[2] or answer[3]:
                return

    try:
        episodes(play, 25, None)
        for chance in itertools.count():
            if played >= WANTED:
                break
            episodes(play, 100, chance)
    finally:
        env.close()
    grown = resident() - before
    print(f"{name}: {played} actions, {grown / 2**20:.1f} MiB more than after the first of them")
    assert before, "too few actions were played to tell"
    assert grown < 64 * 2**20

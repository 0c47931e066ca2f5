"""`palaestra play`: undo, back, hints, completion and saving, at a terminal and in a pipe."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from palaestra.agents.episode import Actor
from palaestra.agents.store import EpisodeStore
from palaestra.cli import run
from palaestra.cli.playing import HELP

ODD = """
from dataclasses import dataclass
from palaestra.envs import EnvFault, Reply, TextEnv, register

@dataclass
class State:
    steps: int = 0

class Odd(TextEnv[State]):
    '''Say anything.'''
    def begin(self, task, rng):
        return State(), "Begin. \\x1b]0;owned\\x07 \\ud800 :train: [bold]"
    def act(self, state, action):
        if action == "break":
            raise EnvFault("the wire was cut")
        if action == "bug":
            state.steps = 99
            raise KeyError("a mistake in it")
        state.steps += 1
        return Reply(action * 3 if "\\n" not in action else repr(action), score=0.5)

register("mine/OddPlay-v0", Odd, splits={"train": range(2), "test": range(2, 4)}, style="text")
"""


class Play:
    """Plays in this process, with lines from a pipe, and gives what was printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *args: str, typed: str, status: int = 0) -> str:
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        assert run(["play", *args]) == status
        told = self.capsys.readouterr()
        return told.err if status else told.out


@pytest.fixture
def play(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Play:
    return Play(capsys, monkeypatch)


def test_undo_and_back_go_to_any_step(play: Play) -> None:
    told = play("bandit", "--seed", "3", typed=":1\n:2\n:3\n:undo 2\n:back 0\n:back 9\n:undo x\n:path\n:undo\n")
    assert "back at step 1" in told
    assert told.count("back at step 0") == 2
    assert "there is no step 9; there are 0 to 0" in told
    assert ":undo takes a number" in told
    assert "3 > :undo 2" in told, "a pipe shows what was typed, behind the step"


def test_actions_are_listed_numbered_and_searched(play: Play) -> None:
    told = play("crafting", typed=":actions\n:actions get\n:actions nothing of it\n:1\n:9999\n:bogus\n:help\n")
    assert re.search(r"^ +1 \S", told, re.MULTILINE)
    assert re.search(r"actions are possible: :actions lists them|you can: ", told)
    assert "actions holds 'nothing of it'" in told
    assert "1/40 > :9999" in told
    assert "there is no action 9999 here" in told
    assert "there is no :bogus" in told
    assert HELP.splitlines()[0] in told


def test_the_oracle_hints_and_plays_to_the_end(play: Play) -> None:
    told = play("crafting", typed=":hint\n" + ":hint!\n" * 40 + "look\n:undo\n")
    assert "the oracle would " in told
    assert re.search(r"solved in \d+ actions", told)
    assert "the episode is over" in told
    assert "back at step" in told


def test_what_is_not_understood_says_what_may_have_been_meant(play: Play) -> None:
    told = play("alfworldgenerated", typed=":actions go\ngo to nowher\n")
    assert "not understood; did you mean go to " in told


def test_what_was_played_is_stored_and_a_second_way_is_a_fork_of_it(play: Play, tmp_path: Path) -> None:
    typed = ":save\n:1\n:2\n:save\n:save\n:back 1\n:3\n"
    told = play("bandit", "--out", str(tmp_path / "mine"), typed=typed)
    assert told.count("there is nothing new to store") == 2
    assert f"look at it: palaestra show {tmp_path / 'mine'}" in told
    with EpisodeStore(tmp_path / "mine" / "episodes.sqlite", mode="r") as store:
        first, second = store.heads()
        assert (first.actor, first.n_turns, first.parent) == (Actor.HUMAN, 2, None)
        assert (second.parent, second.fork_step, second.n_turns) == (first.id, 1, 1)
    assert "where? :save FOLDER" in play("bandit", typed=":1\n:save\n")


def test_odd_texts_cannot_steer_the_terminal_and_a_fault_ends_nothing(play: Play, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    typed = 'one\nbreak\nbug\n"""\ntwo\nlines\n"""\n:hint\n:actions\n:look\n'
    told = play("mine/OddPlay-v0", "--load", str(tmp_path / "odd.py"), typed=typed)
    assert "\x1b" not in told
    assert r"Begin. \x1b]0;owned\x07 \ud800 :train: [bold]" in told
    assert "the environment broke: the wire was cut" in told
    assert "KeyError: 'a mistake in it'" in told
    assert told.count("you stand at step 1") == 2
    assert "'two\\nlines'" in told
    assert "this environment has no oracle" in told
    assert "this environment cannot list its actions" in told


def test_a_task_that_is_not_there_is_refused(play: Play) -> None:
    assert "no task 'no-such'" in play("bandit", "--task", "no-such", typed="", status=2)


def test_at_a_terminal_tab_completes_what_can_be_done(tmp_path: Path) -> None:
    person, terminal = pty.openpty()
    command = [sys.executable, "-m", "palaestra", "play", "bandit", "--seed", "3"]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=env, cwd=tmp_path)
    os.close(terminal)

    seen = ""

    def until(text: str) -> str:
        """Read on until a text comes; give what came before it."""
        nonlocal seen
        limit = time.monotonic() + 120
        while text not in seen and time.monotonic() < limit:
            if select.select([person], [], [], 1)[0]:
                seen += os.read(person, 65536).decode("utf-8", "replace")
        before, found, seen = seen.partition(text)
        assert found, before
        return before

    try:
        assert "\x1b[" in until("0 > "), "colours"
        os.write(person, b":he\t\n")
        until("takes back the last action")
        until("0 > ")
        os.write(person, b"pu\t3\n")  # all that is possible begins with "pull "
        assert "Arm 3 paid" in until("1 > ")
        os.write(person, b":quit\n")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(person)

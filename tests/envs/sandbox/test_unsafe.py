"""The backend that is no sandbox: it says so, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from palaestra.envs import sandbox
from palaestra.envs.sandbox import Limits
from palaestra.envs.sandbox.errors import OutsideWork
from palaestra.envs.sandbox.unsafe import UnsafeSandbox

TWO = "from palaestra.envs.sandbox import start; start('unsafe').close(); start('unsafe').close()"


def test_it_warns_once_in_a_process() -> None:
    ended = subprocess.run([sys.executable, "-c", TWO], capture_output=True, text=True, check=True)
    assert ended.stderr.count("palaestra: sandbox backend 'unsafe'") == 1
    assert ended.stderr.count("RuntimeWarning") == 1


def test_it_is_never_chosen_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sandbox.VARIABLE, raising=False)
    assert sandbox.choose() != "unsafe"


@pytest.mark.filterwarnings("ignore:sandbox backend 'unsafe'")
def test_it_runs_the_same_guest_and_ends_what_it_started() -> None:
    with UnsafeSandbox(Limits()) as box:
        work = Path(box.env["HOME"])
        box.write_file("a/b", "1")
        with pytest.raises(OutsideWork):
            box.read_bytes("../x")
        copy = box.snapshot()
        assert box.exec("rm -r a; sleep 1000 & setsid sh -c 'sleep 1000 & sleep 1000' & echo $!", timeout=20).ok
        assert box.exec("sleep 1000", timeout=0.2).timed_out
        child = box._child.pid  # adopts what was orphaned
        assert Path(f"/proc/{child}/task/{child}/children").read_text() == ""
        box.restore(copy)
        assert box.read_file("a/b") == "1"
    assert not work.exists()
    assert not os.path.exists(f"/proc/{child}")


@pytest.mark.filterwarnings("ignore:sandbox backend 'unsafe'")
def test_a_fork_that_closes_it_takes_nothing_away() -> None:
    with UnsafeSandbox(Limits()) as box:
        child = os.fork()
        if child == 0:
            box.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        box.write_file("a", "1")
        assert box.read_file("a") == "1"

"""Folders of ordinary Python tests: right solutions are judged right, and what cannot be judged is a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from palaestra.agents.collect import collect
from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.store import EpisodeStore
from palaestra.envs import EnvFault, find, make
from tests.envs.code.conftest import task_file
from tests.envs.code.ordinary import ORDINARY


@pytest.mark.parametrize("way", ["together"])
def test_the_right_solution_of_each_ordinary_task_passes(folder: Callable[..., str], way: str) -> None:
    files = {f"{name}.toml": task_file(tests, solution, way) for name, (tests, solution) in ORDINARY.items()}
    env = make("codetasks", folder=folder(files))
    oracle = find("codetasks").oracle()
    scores = {}
    for task in env.tasks("test"):
        env.reset(options={"task": task})
        while not (seen := env.step(oracle(env)))[2]:
            pass
        scores[task.name] = seen[4]["score"]
    env.close()
    assert scores == dict.fromkeys(ORDINARY, 1.0)


def test_together_a_wrong_solution_fails_and_says_what_came(folder: Callable[..., str]) -> None:
    tests = "assert double(2) == 4\nassert double(3) == 6"
    task = task_file(tests, "def double(n): return 2 * n", "together")
    files = {"a.toml": f"visible = 'assert double(2) == 4'\n{task}"}
    env = make("codetasks", folder=folder(files), timeout=1.0)
    for code, said in (
        ("def double(n): return n + 2", "1 of 2"),
        ("def double(n): return 1 / 0", "0 of 2"),
        ("def double(n): return n +", "0 of 2"),
        ("import os; os._exit(0)", "0 of 2"),
        ("raise SystemExit(0)", "0 of 2"),
        ("def double(n):\n    while True: pass", "0 of 2"),
    ):
        env.reset()
        env.step(f"```\n{code}\n```")
        assert env.step("submit")[0] == f"{said} hidden tests pass."
    env.reset()
    assert env.step("```\ndef double(n): return n + 1\n```\ntest")[0].endswith("failed: assert double(2) == 4\ngot 3")
    env.close()


def test_a_task_whose_own_solution_fails_is_a_fault_that_names_the_test(
    tmp_path: Any, folder: Callable[..., str]
) -> None:
    files = {
        "right.toml": task_file("assert one() == 1", "def one(): return 1"),
        "wrong.toml": task_file("def test_two():\n    assert double(2) == 5", "def double(n): return 2 * n"),
        "check.toml": 'statement = "Do it."\ncheck = "false"\ncommands = ["true"]\n',
    }
    settings = {"folder": folder(files), "sandbox": "bwrap"}
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        env = make("codetasks", **settings)
        tasks = env.tasks("test")
        env.close()
        report = collect(
            tasks, OraclePolicy("codetasks"), store, env_settings=settings, progress="quiet", max_fault_rate=1.0
        )
        assert (report.episodes, report.successes, report.given_up) == (1, 1, 2)
        said = {fault.start.task.name: fault.error or "" for fault in store.faults()}
    assert "the task wrong: its own solution fails the test test_two: it does not hold; " in said["wrong"]
    assert 'judge = "together"' in said["wrong"]
    assert "the task check: its own solution does not pass its check" in said["check"]
    # another that is wrong has failed, as ever
    env = make("codetasks", **settings)
    env.reset(options={"task": "wrong"})
    assert env.step("```\ndef double(n): return 3 * n\n```\nsubmit")[4]["score"] == 0.0
    env.close()


def test_a_test_that_cannot_be_judged_apart_is_a_fault_whatever_the_solution_is(folder: Callable[..., str]) -> None:
    tests = "import threading\ndef test_lock():\n    assert locked(threading.Lock())"
    env = make("codetasks", folder=folder({"lock.toml": task_file(tests, "def locked(lock): return True")}))
    for code in ("def locked(lock): return True", "def locked(lock): raise ValueError"):
        env.reset()
        with pytest.raises(EnvFault, match="task lock: the test test_lock: it hands a lock to the solution") as told:
            env.step(f"```\n{code}\n```\nsubmit")
        assert "\n" not in str(told.value)
        assert 'judge = "together"' in str(told.value)
    env.close()

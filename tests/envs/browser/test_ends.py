"""Renderers, browsers and drivers die; episodes become faults, the next one gets fresh ones, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from palaestra.envs import EnvFault, TextEnv, make
from palaestra.envs.browser.thread import BrowserThread, Shared, browsers

CHILD = str(Path(__file__).parent / "child.py")
TASK = {"task": "Library--0"}


@pytest.fixture
def env() -> Iterator[TextEnv[Any]]:
    made = make("webtasks")
    made.reset(options=TASK)
    yield made
    made.close()


def ours(*words: str) -> list[psutil.Process]:
    """The processes below this one whose command line holds these words."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            line = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        if all(word in line for word in words):
            found.append(process)
    return found


def kill(processes: list[psutil.Process]) -> None:
    assert processes
    for process in processes:
        process.kill()


def goes_on(env: TextEnv[Any]) -> None:
    first, _ = env.reset(options=TASK)
    assert "link 'Opening hours'" in first
    assert env.step("click [4]")[4]["valid"]


def test_a_killed_renderer_is_a_fault_and_the_next_episode_has_another(env: TextEnv[Any]) -> None:
    kill(ours("chromium", "--type=renderer"))
    with pytest.raises(EnvFault):
        env.step("click [4]")
    goes_on(env)


def test_a_killed_browser_is_a_fault_and_the_next_episode_has_another(env: TextEnv[Any]) -> None:
    browser = [
        each for each in ours("chromium", "--remote-debugging-pipe") if "--type=" not in " ".join(each.cmdline())
    ]
    kill(browser)
    with pytest.raises(EnvFault):
        env.step("click [4]")
    goes_on(env)


@pytest.mark.parametrize("action", ["click [4]", "wait", "scroll [down]"])
def test_a_killed_driver_is_a_fault_and_the_next_episode_has_another(env: TextEnv[Any], action: str) -> None:
    driver = ours("run-driver")
    chromium = ours("chromium", "--remote-debugging-pipe")
    kill(driver)
    with pytest.raises(EnvFault):
        env.step(action)
    goes_on(env)
    assert gone([each.pid for each in chromium])  # the old browser has ended with its driver


def test_a_stopped_browser_is_a_fault_and_is_given_to_nobody_again(
    env: TextEnv[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("context.CONTEXT_SECONDS", 5), ("hands._PATIENCE", 2), ("session.HUNG_SECONDS", 1)):
        monkeypatch.setattr(f"palaestra.envs.browser.{name}", seconds)  # shortens the waiting
    monkeypatch.setattr(env, "load_seconds", 1.0)
    env.reset(options=TASK)
    stopped: Shared = env._session._shared  # type: ignore[attr-defined]
    os.kill(stopped.pid, signal.SIGSTOP)
    other = make("webtasks")
    goes_on(other)  # a browser that makes no context is not asked again
    assert stopped not in browsers()._browsers or stopped.broken
    with pytest.raises(EnvFault, match=r"^the page hangs, and no other tab could be opened$"):
        env.step("click [4]")
    goes_on(env)
    assert gone([stopped.pid])  # it ended nothing by itself: the last of its episodes has gone
    other.close()


def test_a_browser_is_lost_to_nobody_where_its_borrower_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = BrowserThread()
    try:
        launched = thread.begin(thread.borrow(), 60)
        soon(lambda: thread._playwright is not None)  # the driver runs, the browser does not yet
        assert not launched.done()
        launched.cancel()
        soon(lambda: len(thread._browsers) == 1)
        shared = thread.call(thread.borrow(), 60, "the browser")
        assert [shared] == thread._browsers

        monkeypatch.setattr("palaestra.envs.browser.thread.CLOSE_SECONDS", 600)  # not killed for being slow
        os.kill(shared.pid, signal.SIGSTOP)
        ended = thread.begin(thread.give_back(shared, broken=True), 60)
        soon(lambda: not thread._browsers)
        ended.cancel()
        assert gone([shared.pid])
    finally:
        thread.close()


def test_what_a_part_took_too_long_for_is_told_with_the_time_it_took() -> None:
    async def part() -> None:
        await asyncio.wait_for(asyncio.sleep(600), 0.1)

    with pytest.raises(EnvFault, match=r"^the page did not answer; given up after (\d+) s$") as caught:
        browsers().call(part(), 500, "the page")
    assert int(str(caught.value).split()[-2]) < 500


def test_a_snapshot_outlives_the_browser_it_was_made_in(env: TextEnv[Any]) -> None:
    observation = env.step("click [4]")[0]
    snapshot = env.snapshot()
    kill(ours("chromium", "--remote-debugging-pipe"))
    assert env.restore(snapshot)[0] == observation


def test_a_page_that_computes_for_ever_is_aborted(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<button onclick='while (true) {}'>Go</button>")
    (tmp_path / "tasks.jsonl").write_text('{"id": "a", "ques": "?", "web": "http://site.test/", "answer": "x"}\n')
    env = make("webtasks", file=str(tmp_path / "tasks.jsonl"), site=str(tmp_path))
    env.reset(options={"task": "a"})
    caught: list[BaseException] = []

    def step() -> None:
        try:
            env.step("click [2]")
        except BaseException as error:
            caught.append(error)

    worker = threading.Thread(target=step)
    worker.start()
    worker.join(1.5)
    assert worker.is_alive()
    env.abort()
    worker.join(60)
    assert [type(error) for error in caught] == [EnvFault]
    assert "button 'Go'" in env.reset(options={"task": "a"})[0]
    env.close()


def test_contexts_are_closed_with_their_episodes() -> None:
    made = [make("webtasks") for _ in range(3)]
    for each in made:
        each.reset(options=TASK)
        each.reset(options=TASK)
    shared = browsers()._browsers
    assert sum(len(each.browser.contexts) for each in shared) == 3
    made[0].close()
    made[1].close()
    del made[2], each
    gc.collect()
    until = time.monotonic() + 30
    while sum(len(each.browser.contexts) for each in shared) and time.monotonic() < until:
        time.sleep(0.02)
    assert sum(len(each.browser.contexts) for each in shared) == 0


def test_a_forked_child_cannot_touch_its_parents_page(env: TextEnv[Any]) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            env.step("click [4]")
        except EnvFault:
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert env.step("click [4]")[4]["valid"]


@pytest.mark.parametrize("how", ["exit", "SIGTERM", "SIGKILL", "fork"])
def test_driver_and_browser_are_gone_when_their_process_ends(how: str) -> None:
    child = subprocess.Popen([sys.executable, CHILD, how], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    pids = [int(pid) for pid in child.stdout.readline().split()]
    forked = [each for each in psutil.Process(child.pid).children() if "python" in each.name()] if how == "fork" else []
    assert len(pids) >= 4  # the driver, the browser, its network and a renderer at least
    if how != "exit":
        child.send_signal(getattr(signal, how if how != "fork" else "SIGKILL"))
    child.wait(60)
    try:
        assert gone(pids)
    finally:
        for each in forked:
            each.kill()
        child.stdout.close()


def soon(is_so: Callable[[], bool], patience: float = 60.0) -> None:
    """Wait until it is so."""
    until = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.002)


def gone(pids: list[int], patience: float = 60.0) -> bool:
    """Are the processes gone, or will they be soon."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        time.sleep(0.05)
    return False

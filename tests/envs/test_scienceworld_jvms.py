"""JVMs are reused, replaced when they die, and gone when their process is, however it ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from palaestra.envs import BadInput, EnvFault, TextEnv, make
from palaestra.envs.jdk import Java, find_java
from palaestra.envs.jvm import LIVE, Jvm
from palaestra.envs.jvm_pool import most_idle
from palaestra.envs.scienceworld.engine import Engine, pool
from palaestra.envs.scienceworld.env import ScienceWorld, State

CHILD = str(Path(__file__).parent / "scienceworld_child.py")
TASK = {"task": "lifespan-longest-lived/3"}


@pytest.fixture
def env() -> Iterator[TextEnv[State]]:
    made = make("scienceworld", simplifications="easy")
    made.reset(options=TASK)
    yield made
    made.close()


def jvm_of(env: TextEnv[State]) -> Jvm:
    assert isinstance(env, ScienceWorld)
    assert env._engine is not None
    return env._engine.jvm


def gone(pid: int, patience: float = 60.0) -> bool:
    """Is the process gone, or will it be soon."""
    try:
        psutil.Process(pid).wait(patience)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


# -- the end of a process --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exit", "exception", "fork", "SIGTERM", "SIGINT", "SIGKILL"])
def test_the_jvm_is_gone_when_its_process_ends(how: str) -> None:
    child = subprocess.Popen([sys.executable, CHILD, how], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    if how.startswith("SIG"):
        assert psutil.pid_exists(pid)
        child.send_signal(getattr(signal, how))
    child.wait(60)
    assert gone(pid)
    child.stdout.close()


def test_the_jvm_outlives_the_thread_that_started_it() -> None:
    child = subprocess.Popen([sys.executable, CHILD, "thread"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    assert child.stdout.readline().startswith(b"This ")
    child.kill()
    child.wait(60)
    assert gone(pid)
    child.stdout.close()


def test_a_forked_child_cannot_touch_its_parents_engine(env: TextEnv[State]) -> None:
    env.step("look around")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            env.step("look around")
        except EnvFault:
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert env.step("look around")[4]["valid"]


# -- faults ----------------------------------------------------------------------------------------------------------


def test_a_jvm_that_dies_is_a_fault_and_the_next_reset_has_another(env: TextEnv[State]) -> None:
    first = jvm_of(env)
    first.process.kill()
    with pytest.raises(EnvFault, match=r"died|does not answer"):
        env.step("look around")
    env.reset(options=TASK)
    assert jvm_of(env) is not first
    assert env.step("look around")[4]["valid"]
    assert gone(first.process.pid)


def test_a_snapshot_outlives_the_jvm_it_was_made_in(env: TextEnv[State]) -> None:
    env.step("look around")
    observation = env.step("teleport to outside")[0]
    snapshot = env.snapshot()
    jvm_of(env).process.kill()
    jvm_of(env).process.wait()
    assert env.restore(snapshot)[0] == observation


def test_abort_ends_a_call_that_hangs(env: TextEnv[State]) -> None:
    jvm = jvm_of(env)
    caught: list[BaseException] = []

    def step() -> None:
        try:
            env.step("look around")
        except BaseException as error:
            caught.append(error)

    worker = threading.Thread(target=step)
    jvm.process.send_signal(signal.SIGSTOP)
    try:
        while any(state != "T" for state in thread_states(jvm.process.pid)):
            time.sleep(0.01)
        worker.start()
        worker.join(0.2)
        assert worker.is_alive()
        env.abort()
        worker.join(60)
        assert [type(error) for error in caught] == [EnvFault]
    finally:
        jvm.kill()
    assert env.reset(options=TASK)[0].startswith("Your task")


def thread_states(pid: int) -> list[str]:
    """State of each thread of a process, as in /proc: "T" is stopped."""
    return [stat.read_text().rsplit(")", 1)[1].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]


def test_a_java_that_does_not_know_the_flag_is_refused_in_one_line(tmp_path: Path) -> None:
    real = find_java()
    other = tmp_path / "java"
    other.write_text(f'#!/bin/sh\nexec {real.path} -XX:NoSuchFlag=2 "$@"\n')
    other.chmod(0o755)
    with pytest.raises(BadInput, match="does not know a flag that ScienceWorld needs") as caught:
        Engine(Java(str(other), real.version, "test"))
    assert "\n" not in str(caught.value)


def test_a_java_that_does_not_start_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvFault, match="cannot start"):
        Engine(Java(str(tmp_path / "java"), "17", "test"))
    before = len(LIVE)
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no memory >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(EnvFault, match="did not start: no memory"):
        Engine(Java(str(broken), "17", "test"))
    assert len(LIVE) == before


# -- the pool --------------------------------------------------------------------------------------------------------


def test_instances_and_episodes_share_jvms(env: TextEnv[State]) -> None:
    first = jvm_of(env)
    env.reset(options=TASK)
    assert jvm_of(env) is first
    env.close()
    other = make("scienceworld", simplifications="easy")
    other.reset(options=TASK)
    assert jvm_of(other) is first
    env.reset(options=TASK)  # closing is not the end: a closed instance borrows anew
    assert jvm_of(env) is not first
    other.close()


def test_an_instance_that_is_forgotten_gives_its_jvm_back() -> None:
    forgotten = make("scienceworld", simplifications="easy")
    forgotten.reset(options=TASK)
    jvm = jvm_of(forgotten)
    del forgotten
    gc.collect()
    borrowed = pool.borrow()
    assert borrowed.jvm is jvm
    pool.give_back(borrowed)


def test_no_more_idle_jvms_are_kept_than_there_are_cores() -> None:
    engines = [pool.borrow() for _ in range(most_idle() + 1)]
    for engine in engines:
        pool.give_back(engine)
    assert sum(engine.alive for engine in engines) == most_idle()


def test_constructing_starts_nothing_and_a_thousand_cycles_leave_nothing() -> None:
    me = psutil.Process()

    def cycle() -> None:
        made = make("scienceworld", simplifications="easy")
        made.close()
        made.close()

    cycle()
    gc.collect()
    before = (me.num_fds(), me.num_threads(), len(me.children()), me.memory_info().rss)
    for _ in range(1000):
        cycle()
    gc.collect()
    assert (me.num_fds(), me.num_threads(), len(me.children())) == before[:3]
    assert me.memory_info().rss - before[3] < 10e6


def test_episodes_in_twenty_instances_leave_nothing() -> None:
    me = psutil.Process()

    def cycle() -> None:
        made = make("scienceworld", simplifications="easy")
        made.reset(options=TASK)
        made.step("look around")
        made.close()

    cycle()
    gc.collect()
    before = (me.num_fds(), me.num_threads(), len(me.children()), me.memory_info().rss)
    for _ in range(20):
        cycle()
    gc.collect()
    assert (me.num_fds(), me.num_threads(), len(me.children())) == before[:3]
    assert me.memory_info().rss - before[3] < 20e6


def test_broken_engines_leave_no_open_files() -> None:
    me = psutil.Process()
    engine = pool.borrow()
    pool.give_back(engine)
    before = (me.num_fds(), len(LIVE))
    for _ in range(2):
        engine = pool.borrow()
        engine.jvm.process.kill()
        engine.jvm.process.wait()
        pool.give_back(engine)
    assert len(LIVE) <= before[1]
    assert me.num_fds() <= before[0]


def test_several_threads_step_their_own_instances_at_once() -> None:
    alone = make("scienceworld", simplifications="easy")
    actions = ("teleport to kitchen", "look around", "open cupboard", "look in cupboard", "wait1")
    alone.reset(options=TASK)
    expected = [alone.step(action)[0] for action in actions]
    alone.close()
    seen: dict[int, list[str]] = {}

    def work(number: int) -> None:
        made = make("scienceworld", simplifications="easy")
        for _ in range(2):
            made.reset(options=TASK)
            seen[number] = [made.step(action)[0] for action in actions]
        made.close()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert list(seen.values()) == [expected] * 3

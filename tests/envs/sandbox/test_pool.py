"""The warm pool: fresh sandboxes at once, never more than allowed, and none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from palaestra.envs import BadInput
from palaestra.envs.sandbox import Limits
from palaestra.envs.sandbox.bwrap import BubblewrapSandbox
from palaestra.envs.sandbox.client import GuestSandbox
from palaestra.envs.sandbox.errors import SandboxDied, SandboxUnavailable
from palaestra.envs.sandbox.places import PLACES, Places
from palaestra.envs.sandbox.pool import Pool, PoolState, drain, lend

LIMITS = Limits.model_validate({"memory": "128MiB", "pids": 16, "disk": "4MiB"})


def start() -> BubblewrapSandbox:
    return BubblewrapSandbox(LIMITS)


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_the_next_one_is_ready_before_it_is_asked_for() -> None:
    with Pool(start, ready=2, most=4) as pool:
        pool.fill()
        assert pool.state() == PoolState(ready=2, starting=0, lent=0)
        with pool.take() as box:
            assert box.exec(["echo", "hello"]).stdout == "hello\n"
            assert eventually(lambda: pool.state() == PoolState(ready=2, starting=0, lent=1))
        assert pool.state().lent == 0


def test_every_sandbox_is_lent_once() -> None:
    with Pool(start, ready=1, most=2) as pool:
        with pool.take() as box:
            box.write_file("left.txt", "behind")
        for _ in range(3):
            with pool.take() as box:
                assert box.list() == []


def test_one_that_died_while_it_waited_is_not_handed_out() -> None:
    with Pool(start, ready=1, most=2) as pool:
        pool.fill()
        ((_, waiting),) = pool._ready
        assert isinstance(waiting, BubblewrapSandbox)
        signal.pidfd_send_signal(waiting._init, signal.SIGKILL)
        with pool.take() as box:
            assert box is not waiting
            assert box.exec(["true"]).ok


def test_there_are_never_more_than_allowed_and_whoever_waits_gets_the_next_place() -> None:
    with Pool(start, ready=1, most=2) as pool:
        first, second = pool.take(), pool.take()
        with pytest.raises(SandboxUnavailable, match=r"no sandbox came free in time: 2 of 2 are lent"):
            pool.take(patience=0.3)
        threading.Timer(0.3, first.close).start()
        with pool.take() as third:
            assert third.exec(["true"]).ok
        second.close()
    with pytest.raises(BadInput, match="closed"):
        pool.take()


def test_the_pools_of_a_process_share_its_places_and_the_longest_idle_of_another_kind_gives_way() -> None:
    places = Places(3)
    old, mid, new = (Pool(start, ready=1, most=2, places=places) for _ in range(3))
    with old, mid, new:
        old.fill()
        mid.fill()
        with new.take() as box:  # and its pool wants another one ready, in the place of the one that idled longest
            assert box.exec(["true"]).ok
            assert eventually(lambda: new.state() == PoolState(ready=1, starting=0, lent=1))
            assert [old.state().ready, mid.state().ready] == [0, 1]
            time.sleep(0.2)
            assert [old.state().ready, mid.state().ready, new.state().ready] == [0, 1, 1]  # nobody asked: no revenge
            with old.take() as again:
                assert again.exec(["true"]).ok
                assert places.taken == 3
    with pytest.raises(BadInput, match="most=0"):
        Places(0)


def test_where_all_places_are_lent_whoever_waits_gets_the_first_that_comes_free_in_any_pool() -> None:
    places = Places(2)
    with Pool(start, ready=1, places=places) as one, Pool(start, ready=1, places=places) as other:
        first, second = one.take(), one.take()
        with pytest.raises(SandboxUnavailable, match="all pools together have 2, which is the most"):
            other.take(patience=0.3)
        threading.Timer(0.3, first.close).start()
        with other.take() as box:
            assert box.exec(["true"]).ok
            assert places.taken == 2
        second.close()


def test_more_than_all_places_are_a_clear_line_and_no_endless_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    drain()
    monkeypatch.setattr("palaestra.envs.sandbox.pool._STUCK", 0.3)
    monkeypatch.setenv("PALAESTRA_MOST_SANDBOXES", "2")
    try:
        boxes = [lend("bwrap", LIMITS) for _ in range(2)]
        with pytest.raises(SandboxUnavailable, match=r"fewer episodes at once, or allow more with \$PALAESTRA_MOST_SA"):
            lend("bwrap", LIMITS)
        monkeypatch.setenv("PALAESTRA_MOST_SANDBOXES", "3")
        boxes.append(lend("bwrap", LIMITS))
        assert PLACES.taken == 3
        for wrong in ("٣", "0", "many", "-1", "1e3"):
            monkeypatch.setenv("PALAESTRA_MOST_SANDBOXES", wrong)
            with pytest.raises(BadInput, match=f"MOST_SANDBOXES is a number from 1 to 1000000, not '{wrong}'"):
                lend("bwrap", LIMITS)
        for box in boxes:
            box.close()
    finally:
        drain()
        monkeypatch.delenv("PALAESTRA_MOST_SANDBOXES")
        with Pool(start, ready=0):  # as everywhere else again
            assert PLACES.most == 128


def test_there_are_never_more_than_all_pools_together_may_have() -> None:
    lock, alive, most, done = threading.Lock(), [0], [0], list[bool]()

    class Counted(BubblewrapSandbox):
        def __init__(self, limits: Limits) -> None:
            with lock:
                alive[0] += 1
                most[0] = max(most[0], alive[0])
            super().__init__(limits)

        def _end(self) -> None:
            super()._end()
            with lock:
                alive[0] -= 1

    def work(pool: Pool) -> None:
        for _ in range(3):
            with pool.take() as box:
                done.append(box.exec(["true"]).ok)

    places = Places(3)
    pools = [Pool(lambda: Counted(LIMITS), ready=2, most=2, places=places) for _ in range(4)]
    threads = [threading.Thread(target=work, args=(pool,)) for pool in pools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pool in pools:
        pool.close()
    assert done == [True] * 12
    assert (most, alive) == ([3], [0])


def test_a_lent_one_that_dies_gives_its_place_back() -> None:
    with Pool(start, ready=0, most=1) as pool:
        box = pool.take()
        assert isinstance(box, BubblewrapSandbox)
        signal.pidfd_send_signal(box._init, signal.SIGKILL)
        with pytest.raises(SandboxDied):
            box.exec(["true"])
        with pool.take() as after:
            assert after.exec(["true"]).ok


def test_what_keeps_sandboxes_from_starting_is_told_to_whoever_asks() -> None:
    def broken() -> BubblewrapSandbox:
        raise SandboxUnavailable("bubblewrap is not installed; install the package bubblewrap")

    with Pool(broken) as pool, pytest.raises(SandboxUnavailable, match="install the package bubblewrap"):
        pool.take()
    for ready, says in ((-1, "ready=-1"), ("two", "ready='two'"), (True, "ready=True")):
        with pytest.raises(BadInput, match=says):
            Pool(start, ready=ready)  # type: ignore[arg-type]


def test_many_threads_share_one_pool() -> None:
    done: list[str] = []

    def work(number: int) -> None:
        with lend("bwrap", LIMITS) as box:
            done.append(box.exec(["echo", str(number)]).stdout.strip())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done, key=int) == [str(number) for number in range(12)]


HOLDER = """
import sys, time
from palaestra.envs.sandbox import Limits
from palaestra.envs.sandbox.bwrap import BubblewrapSandbox
from palaestra.envs.sandbox.pool import Pool
pool = Pool(lambda: BubblewrapSandbox(Limits()), ready=3)
pool.fill()
boxes = [pool.take(), pool.take()]
pool.fill()
print("ready", flush=True)
if sys.argv[1] == "wait":
    time.sleep(600)
"""


def below(pid: int) -> set[int]:
    """All that descends from a process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_nothing_survives_the_process_however_it_ends(end: str) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "wait" if end == "kill" else "exit"], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    left = below(holder.pid)
    if end == "kill":
        assert len(left) >= 5
        holder.send_signal(signal.SIGKILL)
    holder.wait(60)
    assert eventually(lambda: not any(_runs(pid) for pid in left))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_interrupt_while_one_is_taken_costs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with Pool(start, ready=0, most=1) as pool:
        asked: list[GuestSandbox] = []

        def interrupted(box: GuestSandbox) -> bool:
            asked.append(box)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(GuestSandbox, "alive", interrupted)
            with pytest.raises(KeyboardInterrupt):
                pool.take()
        assert pool.state().lent == 0
        assert not asked[0].alive()
        with pool.take(patience=30) as box:
            assert box.exec(["true"]).ok
        assert pool.state().lent == 0


def test_a_fork_that_closes_a_lent_sandbox_neither_hangs_nor_gives_its_place_back() -> None:
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with pool._change, box._sending:
            held.set()
            go.wait(60)

    with Pool(start, ready=0, most=1, places=Places(4)) as pool, pool.take() as box:
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(60)
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # ends it where it hangs
            box.close()
            os._exit(0)
        go.set()
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert pool.state().lent == 1
        assert box.exec(["true"]).ok


def test_a_forked_child_has_a_pool_of_its_own() -> None:
    with Pool(start, ready=1, most=2) as pool:
        pool.fill()
        child = os.fork()
        if child == 0:
            try:
                with pool.take() as box:
                    os._exit(0 if box.exec(["true"]).ok else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with pool.take() as box:
            assert box.exec(["true"]).ok

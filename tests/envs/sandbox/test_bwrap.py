"""Bubblewrap's sandbox as root and as an ordinary user: who is inside, what is there, and that nothing stays behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from sandbox_ordinary import UID, OrdinarySandbox

from palaestra.envs import sandbox
from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox import Limits, bwrap, cgroups
from palaestra.envs.sandbox.bwrap import BubblewrapSandbox
from palaestra.envs.sandbox.client import GuestSandbox
from palaestra.envs.sandbox.errors import SandboxDied, SandboxUnavailable
from palaestra.envs.sandbox.pool import drain
from palaestra.envs.sandbox.probe import probe

SMALL = Limits(memory="256MiB", pids=24, disk="16MiB", files=500)  # type: ignore[arg-type]  # pydantic reads sizes
AS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module", params=["here", "ordinary"])
def box(request: pytest.FixtureRequest) -> Iterator[GuestSandbox]:
    """Started by whoever runs the tests (root, mostly), and by an ordinary user."""
    with (BubblewrapSandbox if request.param == "here" else OrdinarySandbox)(SMALL) as made:
        yield made  # type: ignore[misc]  # the second stands for one in another process


def field(box: GuestSandbox, name: str) -> str:
    found = re.search(rf"^{name}:\s*(.*)$", box.exec(["cat", "/proc/self/status"]).stdout, re.MULTILINE)
    assert found
    return found[1]


def test_commands_run_as_an_ordinary_user_without_rights(box: GuestSandbox) -> None:
    assert box.exec("id -u; id -un; id -G").stdout == "1000\nuser\n1000\n"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(field(box, kind), 16) == 0 or kind == "CapBnd"
    assert field(box, "NoNewPrivs") == "1"
    assert field(box, "Seccomp") == "2"


def test_the_guest_keeps_no_more_than_it_needs(box: GuestSandbox) -> None:
    lines = box.exec(["cat", "/proc/1/status"]).stdout
    effective = re.search(r"^CapEff:\s*(\w+)$", lines, re.MULTILINE)
    assert effective
    several = (
        box.exec("stat -c %u /proc/1/cmdline").stdout == "0\n" and AS_ROOT and not isinstance(box, OrdinarySandbox)
    )
    bits = {bit for bit in range(64) if int(effective[1], 16) >> bit & 1}
    assert bits == ({0, 1, 3, 5, 6, 7, 19} if several else set())


def test_only_root_can_be_nobody() -> None:
    if AS_ROOT:
        with BubblewrapSandbox(SMALL) as box:
            box.exec("echo mine > secret; chmod 600 secret; mkdir open; chmod 777 open")
            assert box.exec(
                "id -un; cat secret; touch x; touch open/theirs; chmod 0 open/theirs", user="nobody"
            ).stdout == ("nobody\n")
            copy = box.snapshot()  # what is not ours to read is copied all the same
            box.restore(copy)
            assert box.exec("stat -c '%U %a' open/theirs").stdout == "nobody 0\n"
    with OrdinarySandbox(SMALL) as other, pytest.raises(BadInput, match="nobody"):
        other.exec(["id"], user="nobody")


def test_nothing_of_the_host_is_there(box: GuestSandbox) -> None:
    assert box.exec(["ls", "/"]).stdout.split() == sorted(
        {"dev", "etc", "proc", "tmp", "usr", "work"}
        | {name for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32") if os.path.lexists(f"/{name}")}
    )
    allowed = {"passwd", "group", "hosts", "nsswitch.conf", "alternatives", "ld.so.cache", "localtime"}
    assert set(box.exec(["ls", "/etc"]).stdout.split()) <= allowed
    assert box.exec(["cat", "/etc/passwd"]).stdout.count("\n") == 3
    assert box.exec(["hostname"]).stdout == "sandbox\n"
    assert box.exec("grep -c . /proc/net/dev").stdout == "3\n"  # two lines of head, and lo
    assert box.exec("ls /dev/shm /dev/pts /work").stdout.split() == ["/dev/pts:", "ptmx", "/dev/shm:", "/work:"]


def test_only_three_places_can_be_written_and_each_has_a_size(box: GuestSandbox) -> None:
    look = (
        "import os\nfor top, folders, _ in os.walk('/'):\n"
        "  if top == '/': folders.remove('proc')\n"
        "  if top.count('/') > 2: folders.clear()\n"
        "  try: open(top + '/written', 'w').close(); print(top)\n"
        "  except OSError: pass\n"
    )
    assert sorted(box.exec(["python3", "-c", look]).stdout.split()) == ["/dev/shm", "/tmp", "/work"]
    sizes = box.exec("df --output=target,size,itotal -B1M /work /tmp /dev/shm | tail -n 3 | tr -s ' '").stdout
    assert [line.split() for line in sizes.splitlines()] == [
        ["/work", "16", "501"], ["/tmp", "16", "500"], ["/dev/shm", "64", "500"],
    ]  # fmt: skip


def test_memory_of_all_processes_together_is_limited(box: GuestSandbox) -> None:
    hoard = "import time; kept = bytearray(30 << 20); time.sleep(2); print(1)"
    assert box.exec(["python3", "-c", hoard]).ok
    many = f"for i in $(seq 12); do python3 -c '{hoard}' & done; wait"
    assert len(box.exec(many, timeout=60).stdout) // 2 < 9  # 256 MiB hold no more, whichever were ended
    assert box.alive()
    assert "MemoryError" in box.exec(["python3", "-c", "bytearray(1 << 30)"]).stderr


def test_shared_memory_counts_too(box: GuestSandbox) -> None:
    share = "import mmap\nm = mmap.mmap(-1, 400 << 20)\nfor at in range(0, len(m), 4096): m[at] = 1\nprint('survived')"
    result = box.exec(["python3", "-c", share])
    assert (result.rc, result.stdout) == (-9, "")
    assert box.alive()


def test_processes_are_limited_each_sandbox_for_itself(box: GuestSandbox) -> None:
    fork = (
        "import os, time\nmade = 0\n"
        "try:\n  while made < 100:\n    if os.fork() == 0: time.sleep(5); os._exit(0)\n    made += 1\n"
        "except BlockingIOError: pass\nprint(made)"
    )
    for _ in range(2):
        assert 15 <= int(box.exec(["python3", "-c", fork]).stdout) < SMALL.pids


HOARD = """
import ctypes, os, signal, time
libc, made, waiting = ctypes.CDLL(None), 0, 0
while made < 1000 and libc.inotify_init() >= 0: made += 1
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
while waiting < 5000 and libc.sigqueue(os.getpid(), 40, None) == 0: waiting += 1
print(made, waiting, flush=True)
if STAY: time.sleep(1000)
"""


@pytest.mark.parametrize("kind", [BubblewrapSandbox, OrdinarySandbox])
def test_what_the_kernel_limits_by_user_one_sandbox_cannot_take_from_another(kind: type[GuestSandbox]) -> None:
    with kind(SMALL) as first, kind(SMALL) as second:
        first.write_file("hoard.py", HOARD.replace("STAY", "True"))
        first.exec("python3 hoard.py > told & while ! test -s told; do sleep 0.05; done", background=True)
        told = second.exec(["python3", "-c", HOARD.replace("STAY", "False")])
        for each in (first.read_file("told"), told.stdout):
            made, waiting = map(int, each.split())
            assert made == 4
            assert 1000 < waiting <= 1024  # a child's end may wait too


def test_the_probe_says_what_it_found() -> None:
    found = probe("bwrap", again=True)
    assert found.works
    assert re.match(r"Python 3\.\d+\.\d+ as user, limits by (control groups|rlimits and a watchdog)$", found.detail)
    assert probe("bwrap") is found
    assert 0 < found.exec < 30


def test_a_backend_is_chosen_by_name_by_variable_or_by_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sandbox.VARIABLE, raising=False)
    with sandbox.start() as box:
        assert box.backend == "bwrap"
    monkeypatch.setenv(sandbox.VARIABLE, "unsafe")
    assert sandbox.choose() == "unsafe"
    monkeypatch.setenv(sandbox.VARIABLE, "chroot")
    with pytest.raises(BadInput, match=r"chroot.*bwrap, docker, unsafe"):
        sandbox.choose()
    with pytest.raises(BadInput, match="no setting 'image'; it has: python"):
        sandbox.start("bwrap", image="x")


def test_without_bubblewrap_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        sandbox.start("bwrap")


def test_a_program_that_is_not_bubblewrap_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SandboxUnavailable, match="does not start here"):
        sandbox.start("bwrap")


def test_the_interpreter_can_come_from_elsewhere() -> None:
    prefix = os.path.realpath(sys.base_prefix)
    with BubblewrapSandbox(SMALL, python=prefix) as box:
        where = box.exec(["python3", "-c", "import sys; print(sys.prefix, sys.version_info[:2])"]).stdout
        seen = prefix if prefix.startswith("/usr") else "/opt/python"
        assert where == f"{seen} {sys.version_info[:2]}\n"
        assert box.exec(["ls", "/root", "/home"]).rc == 2
        assert box.exec("id -u; cat /proc/1/environ").stdout == "1000\n"
        assert box.exec("echo x > /proc/sys/kernel/hostname").rc != 0
    with pytest.raises(SandboxUnavailable, match="/nowhere"):
        BubblewrapSandbox(SMALL, python="/nowhere")


@pytest.mark.parametrize("prefix", ["/", "//", "/usr/..", "."])
def test_an_interpreter_that_would_bring_the_whole_machine_is_refused(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    with pytest.raises(BadInput, match="would be seen inside"):
        BubblewrapSandbox(SMALL, python=prefix)


def test_no_setting_of_the_kernel_can_be_written(box: GuestSandbox) -> None:
    look = (
        "import os\nfor top, _, names in os.walk('/proc/sys'):\n"
        "  for name in names:\n"
        "    try: os.close(os.open(f'{top}/{name}', os.O_WRONLY)); print(top, name)\n"
        "    except OSError: pass\n"
    )
    assert box.exec(["python3", "-c", look]).stdout == ""
    assert box.exec("grep -c ' /proc/sys ro,' /proc/self/mountinfo").stdout == "1\n"


def test_the_network_is_the_hosts_only_when_asked_for() -> None:
    names = ["python3", "-c", "import socket; print(sorted(name for _, name in socket.if_nameindex()))"]
    import socket

    with BubblewrapSandbox(SMALL) as box:
        assert box.exec(names).stdout == "['lo']\n"
    with BubblewrapSandbox(SMALL.model_copy(update={"network": True})) as box:
        assert box.exec(names).stdout == f"{sorted(name for _, name in socket.if_nameindex())}\n"


# Ends.


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(map(running, pids))


def below(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def groups() -> set[Path]:
    """Control groups of this process."""
    return {folder for one in cgroups.hierarchies() for folder in one.parent.glob(f"palaestra-*-{os.getpid()}-*")}


def test_close_ends_everything_at_once_and_twice_is_fine() -> None:
    before, files = groups(), set(os.listdir("/proc/self/fd"))
    box = BubblewrapSandbox(SMALL)
    assert box._child is not None
    box.exec("sleep 1000 & setsid sleep 1000 &", background=True)
    pids = below(box._child.pid)
    assert len(pids) >= 4  # bubblewrap, the guest, two sleeps
    box.close()
    box.close()
    assert gone(pids)
    assert groups() == before
    assert set(os.listdir("/proc/self/fd")) == files
    with pytest.raises(SandboxDied, match="closed"):
        box.exec(["true"])
    assert not box.alive()


PARENT = """
import sys, threading, time
from palaestra.envs.sandbox import start
boxes = [start("bwrap") for _ in range(2)]
boxes[0].exec("sleep 1000 & setsid sleep 1000 &", background=True)
stubborn = "trap '' TERM INT HUP; while true; do sleep 1000; done"
threading.Thread(target=boxes[1].exec, args=(stubborn,)).start()
time.sleep(0.5)
print(*[box._child.pid for box in boxes], flush=True)
time.sleep(1000)
"""


def test_nothing_survives_kill_9_of_the_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    guests = [int(pid) for pid in parent.stdout.readline().split()]
    pids = [pid for guest in guests for pid in below(guest)]
    assert len(pids) >= 7
    made = {folder for one in cgroups.hierarchies() for folder in one.parent.glob(f"palaestra-*-{parent.pid}-*")}
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(pids)
    assert bool(made) == bool(cgroups.hierarchies())
    BubblewrapSandbox(SMALL).close()  # the next one cleans up
    assert not any(folder.exists() for folder in made)


class Rang(Exception):
    """What the handler of a signal raises."""


def ring(_: int, frame: FrameType | None) -> None:
    """Raises while a sandbox starts. Once it has, it is its caller's to close, even if that has not got it yet."""
    while frame is not None:
        if frame.f_code is BubblewrapSandbox.__init__.__code__:
            raise Rang
        frame = frame.f_back


def walls() -> list[int]:
    """The bubblewraps of this process."""
    return [pid for pid in below(os.getpid()) if command(pid).startswith(("bwrap", "/usr/bin/bwrap"))]


def test_a_start_that_is_interrupted_anywhere_leaves_nothing() -> None:
    drain()  # pools that other tests left fill up when they like
    BubblewrapSandbox(SMALL).close()
    files, before, others, interrupted = set(os.listdir("/proc/self/fd")), groups(), walls(), 0
    handler = signal.signal(signal.SIGALRM, ring)
    try:
        for number in range(30):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.002 * (number + 1))
                box = BubblewrapSandbox(SMALL)
                signal.setitimer(signal.ITIMER_REAL, 0)
                box.close()
            except Rang:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert interrupted
    assert gone([pid for pid in walls() if pid not in others])
    assert groups() == before
    assert set(os.listdir("/proc/self/fd")) == files


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def test_a_guest_that_is_killed_is_a_dead_sandbox() -> None:
    box = BubblewrapSandbox(SMALL)
    assert box._child is not None
    guest = next(pid for pid in below(box._child.pid) if pid != box._child.pid)
    threading.Timer(0.3, os.kill, (guest, signal.SIGKILL)).start()
    with pytest.raises(SandboxDied, match="bwrap sandbox died"):
        box.exec("sleep 1000", timeout=100)
    with pytest.raises(SandboxDied, match="gone"):
        box.list()
    assert gone(below(box._child.pid))


def test_a_sandbox_outlives_the_thread_that_started_it() -> None:
    made: list[BubblewrapSandbox] = []
    thread = threading.Thread(target=lambda: made.append(BubblewrapSandbox(SMALL)))
    thread.start()
    thread.join()
    with made[0] as box:
        time.sleep(0.1)
        assert box.exec("echo here").stdout == "here\n"


def test_a_fork_can_neither_end_nor_hold_a_sandbox() -> None:
    with BubblewrapSandbox(SMALL) as box:
        pid = os.fork()
        if pid == 0:
            box.close()
            with BubblewrapSandbox(SMALL) as own:
                os._exit(0 if own.exec(["true"]).ok else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert box.exec(["true"]).ok


def test_sixteen_at_once_do_not_meet() -> None:
    told: dict[int, str] = {}

    def one(number: int) -> None:
        with BubblewrapSandbox(SMALL) as box:
            box.write_file("n", str(number))
            told[number] = box.exec("cat n; echo ' ' /proc/[0-9]*").stdout

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(told) == set(range(16))
    for number, text in told.items():
        assert re.match(rf"{number}  /proc/1 /proc/\d+$", text)  # the guest and the shell


@pytest.mark.parametrize(
    "limit", [{"memory": "1MiB"}, {"pids": 1}, {"cpu": 0}, {"cpu": 0.005}, {"disk": 5}, {"wall": -1}, {"memry": 1}]
)
def test_a_limit_out_of_range_is_refused(limit: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=rf"limit .*{next(iter(limit))}"):
        Limits.model_validate(limit)


def test_spare_users_are_nobody() -> None:
    first = bwrap._spare_ids()
    if AS_ROOT:
        assert first is not None
        assert first > 2**30
    assert UID != 0


def test_a_sandbox_that_nobody_closed_leaves_no_group_at_exit() -> None:
    code = (
        "import os\nfrom palaestra.envs.sandbox import start, cgroups\nbox = start('bwrap')\n"
        "name = f'palaestra-*-{os.getpid()}-*'\n"
        "print(*[folder for one in cgroups.hierarchies() for folder in one.parent.glob(name)])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    folders = ended.stdout.split()
    assert bool(folders) == bool(cgroups.hierarchies())
    assert not any(map(os.path.exists, folders))

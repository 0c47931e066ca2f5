"""Backend docker on a real engine: what the interface promises, limits that hold, a guest that cannot be reached."""

from __future__ import annotations

import functools
import pickle
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox.bwrap import BubblewrapSandbox
from palaestra.envs.sandbox.docker import DockerSandbox
from palaestra.envs.sandbox.engine import Engine
from palaestra.envs.sandbox.errors import (
    BinaryOutput,
    ImageMissing,
    NotAFile,
    OutsideWork,
    SandboxDied,
    SandboxUnavailable,
    TooLarge,
)
from palaestra.envs.sandbox.image import BUILD
from palaestra.envs.sandbox.interface import MIB, Entry, ExecResult, Limits, WorkCopy
from palaestra.envs.sandbox.program import Setup
from palaestra.envs.sandbox.seccomp import ARCHITECTURES
from palaestra.envs.sandbox.syscalls import NUMBERS

pytestmark = pytest.mark.xdist_group("docker")

LIMITS = Limits(memory="128MiB", disk="16MiB", files=200, pids=16, wall=20, output=4096, file="1MiB")


@pytest.fixture(scope="module")
def shared(docker_engine: Engine) -> Iterator[DockerSandbox]:
    with DockerSandbox(LIMITS, host=docker_engine.host) as box:
        yield box


@pytest.fixture(scope="module")
def empty(shared: DockerSandbox) -> WorkCopy:
    return shared.snapshot()


@pytest.fixture
def box(shared: DockerSandbox, empty: WorkCopy) -> Iterator[DockerSandbox]:
    """One container for many tests; each finds it empty and leaves it alive."""
    shared.restore(empty)
    yield shared
    assert shared.alive()


def python(box: DockerSandbox, program: str, timeout: float | None = None) -> ExecResult:
    return box.exec(["python3", "-c", program], timeout=timeout)


# Commands.


def test_a_command_gets_its_arguments_input_folder_and_variables(box: DockerSandbox) -> None:
    box.write_file("sub/x", "")
    program = "import os,sys; print(sys.argv[1], sys.stdin.read(), os.getcwd(), os.environ['A'], sorted(os.environ))"
    done = box.exec(["python3", "-c", program, "a b"], input="fed", cwd="sub", env={"A": "1"})
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout == "a b fed /work/sub 1 ['A', 'HOME', 'LANG', 'PATH', 'TMPDIR']\n"


def test_a_script_runs_in_a_shell_and_both_streams_and_the_status_come_back(box: DockerSandbox) -> None:
    done = box.exec("echo out; echo err >&2; exit 7")
    assert (done.rc, done.stdout, done.stderr, done.timed_out, done.truncated) == (7, "out\n", "err\n", False, False)
    assert box.exec("kill -SEGV $$").rc == -11
    assert box.exec(["no-such-program"]).rc == 127


def test_a_timeout_ends_everything_the_command_started(box: DockerSandbox) -> None:
    done = box.exec("(trap '' TERM INT HUP; sleep 1000) & python3 -c 'import os; os.setsid(); os.fork(); import time;"
                    " time.sleep(1000)' & wait", timeout=0.5)  # fmt: skip
    assert done.timed_out
    assert processes(box) == {"1"}


def test_what_a_command_leaves_running_ends_with_it_unless_it_was_asked_for(box: DockerSandbox) -> None:
    box.exec("sleep 1000 & sleep 1000 &")
    assert processes(box) == {"1"}
    box.exec("sleep 1000 &", background=True)
    assert len(box.exec("pgrep sleep || ps | grep sleep", background=True).stdout.split("sleep")) > 1
    box.exec("true")
    assert processes(box) == {"1"}


def processes(box: DockerSandbox) -> set[str]:
    """Process ids inside, without those of the command that looks."""
    found = python(
        box, "import os; print(os.getpid(), *[p for p in os.listdir('/proc') if p.isdigit()])"
    ).stdout.split()
    return set(found[1:]) - {found[0]}


def test_output_beyond_the_limit_is_cut_and_binary_output_is_named(box: DockerSandbox) -> None:
    done = box.exec("yes | head -c 10000000; printf end >&2")
    assert (len(done.raw_stdout), done.truncated, done.stderr, done.rc) == (4096, True, "end", 0)
    with pytest.raises(BinaryOutput, match="stdout is not UTF-8 text: byte 0xff at 1"):
        _ = box.exec(["printf", r"a\377"]).stdout


def test_no_container_has_inotify_which_all_of_them_would_share(box: DockerSandbox) -> None:
    ask = "import ctypes; l = ctypes.CDLL(None, use_errno=True); print(l.inotify_init(), ctypes.get_errno())"
    assert box.exec(["python3", "-c", ask]).stdout == "-1 38\n"  # ENOSYS


def test_only_the_ordinary_user_is_there(box: DockerSandbox) -> None:
    assert box.exec("id -u; id -g; id -G").stdout.split() == ["10001"] * 3
    with pytest.raises(BadInput, match="no user root"):
        box.exec("id", user="root")


# Files.


def test_files_go_in_and_out_as_they_are(box: DockerSandbox) -> None:
    raw = bytes(range(256)) * 2000
    box.write_file("deep/er/data", raw)
    assert box.read_bytes("deep/er/data") == raw
    box.write_file("run", "#!/bin/sh\necho ran", executable=True)
    assert box.exec(["./run"]).stdout == "ran\n"
    box.write_file("run", "text")
    assert box.read_file("run") == "text"
    assert box.list() == [Entry("deep", "folder", 0), Entry("run", "file", 4)]
    assert box.list("deep/er") == [Entry("deep/er/data", "file", len(raw))]


def test_paths_that_lead_outside_or_nowhere_are_refused_by_name(box: DockerSandbox) -> None:
    box.exec("ln -s /etc/passwd link; ln -s / root; mkfifo pipe")
    for path in ("../etc/passwd", "/etc/passwd", "link", "root/etc/passwd"):
        with pytest.raises(OutsideWork, match=re.escape(path)):
            box.read_bytes(path)
    with pytest.raises(OutsideWork):
        box.write_file("root/tmp/x", "")
    with pytest.raises(NotAFile, match="pipe"):
        box.read_bytes("pipe")
    with pytest.raises(NotAFile, match="nothing"):
        box.read_bytes("nothing")


def test_files_beyond_the_limits_are_refused(box: DockerSandbox) -> None:
    with pytest.raises(TooLarge, match="1048577 bytes"):
        box.write_file("big", bytes(MIB + 1))
    box.exec("head -c 2000000 /dev/zero > big")
    with pytest.raises(TooLarge, match="big has 2000000 bytes"):
        box.read_bytes("big")
    box.exec("head -c 16000000 /dev/zero > big")
    left = int(LIMITS.disk) - 16_000_000
    with pytest.raises(TooLarge):
        box.write_file("more", bytes(left + 65536))


# Snapshots.


def test_restore_brings_back_files_modes_links_and_odd_names_and_ends_processes(box: DockerSandbox) -> None:
    box.exec(["python3", "-c", "import os; open(b'odd\\n\\xff', 'w').write('1'); os.symlink('odd', 'link');"
              " os.makedirs('a/b'); os.chmod('a', 0o700); open('/tmp/scratch', 'w')"])  # fmt: skip
    before = box.exec("ls -lAR --time-style=full-iso").raw_stdout
    copy = pickle.loads(pickle.dumps(box.snapshot()))
    box.exec("rm -rf a link; echo 2 > new; sleep 1000 &", background=True)
    box.restore(copy)
    assert box.exec("ls -lAR --time-style=full-iso").raw_stdout == before
    assert box.snapshot().digest == copy.digest
    assert processes(box) == {"1"}
    assert box.exec("ls /tmp").stdout == ""


def test_a_snapshot_fits_another_container_and_another_backend(box: DockerSandbox, docker_host: str) -> None:
    box.exec("mkdir d; echo deep > d/f; ln -s f d/l; printf '#!/bin/sh\necho ran' > x; chmod 755 x")
    copy = box.snapshot()
    with DockerSandbox(LIMITS) as other, BubblewrapSandbox(LIMITS) as embedded:
        for there in (other, embedded):
            there.restore(copy)
            assert there.snapshot().digest == copy.digest
            assert there.exec("./x; cat d/l").stdout == "ran\ndeep\n"
        embedded.exec("echo more > d/g")
        box.restore(embedded.snapshot())
    assert box.read_file("d/g") == "more\n"


# Walls.


def test_the_container_has_no_rights_no_network_and_a_root_that_cannot_be_written(box: DockerSandbox) -> None:
    status = box.exec("cat /proc/self/status").stdout
    assert set(re.findall(r"^Cap(?:Inh|Prm|Eff|Bnd|Amb):\t(\w+)$", status, re.MULTILINE)) == {"0" * 16}
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
    for path in ("/x", "/etc/x", "/etc/hosts", "/var/x", "/usr/x", "/dev/x", "/sys/x", "/proc/sys/kernel/hostname"):
        assert box.exec(f"echo > {path}").rc != 0, path
    assert box.exec("ls /sys/class/net").stdout.split() == ["lo"]
    connect = "import socket; socket.create_connection(('192.0.2.1', 80), 2)"
    assert "unreachable" in python(box, connect).stderr


@pytest.mark.parametrize(
    "call", ["io_uring_setup", "bpf", "userfaultfd", "unshare", "mount", "add_key", "ptrace", "shmget"]
)
def test_calls_into_the_depths_of_the_kernel_are_refused(box: DockerSandbox, call: str) -> None:
    number = NUMBERS[call][ARCHITECTURES[platform.machine()][0]]
    program = (
        f"import ctypes, errno; c = ctypes.CDLL(None, use_errno=True); r = c.syscall({number}, 0x10000000, 0, 0, 0)"
    )
    assert python(box, f"{program}; print(r, errno.errorcode[ctypes.get_errno()])").stdout == "-1 EPERM\n"


def test_too_many_processes_fail_inside_and_the_sandbox_goes_on(box: DockerSandbox) -> None:
    done = python(box, "import os, time\nn = 0\ntry:\n while True:\n  if os.fork() == 0: time.sleep(99)\n  n += 1\n"
                       "except OSError as error: print(n, error.errno)")  # fmt: skip
    assert done.stdout == f"{LIMITS.pids - 1} 11\n"  # EAGAIN


def test_the_disk_and_its_files_are_limited(box: DockerSandbox) -> None:
    done = box.exec("head -c 20000000 /dev/zero > big; wc -c < big")
    assert int(done.stdout) <= LIMITS.disk
    done = python(box, "import itertools\nfor n in itertools.count():\n try: open(f'f{n}', 'w').close()\n"
                       " except OSError as error: print(n, error.errno); break")  # fmt: skip
    count, number = map(int, done.stdout.split())
    assert number == 28  # ENOSPC
    assert count <= LIMITS.files


HOARDS = {
    "one process": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "twelve processes": "import os\nfor _ in range(12):\n if os.fork() == 0: break\nx = []\n"
    "while True: x.append(bytearray(1 << 18))",
    "files without a name": "import os, time\nx = []\n"
    "while True:\n f = os.memfd_create('x'); x.append(f)\n for _ in range(8): os.write(f, bytes(1 << 20))",
    "bytes in sockets": "import os, socket, time\nfor _ in range(12):\n if os.fork() == 0: break\nx = []\n"
    "try:\n while True:\n  a, b = socket.socketpair(); a.setblocking(False); x.append((a, b))\n  try:\n"
    "   while True: a.send(bytes(65536))\n  except BlockingIOError: pass\nexcept OSError: time.sleep(1000)",
}


@pytest.mark.parametrize("program", HOARDS.values(), ids=HOARDS)
def test_who_holds_too_much_memory_is_ended_and_the_sandbox_goes_on(box: DockerSandbox, program: str) -> None:
    done = python(box, program)
    assert not done.timed_out
    assert done.rc == -9 or "MemoryError" in done.stderr


@pytest.mark.parametrize("program", HOARDS.values(), ids=HOARDS)
def test_the_kernel_ends_commands_before_the_guest_where_that_looks_too_late(
    program: str, docker_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palaestra.envs.sandbox.docker.Setup", functools.partial(Setup, watch=False))
    with DockerSandbox(LIMITS) as unwatched:
        done = python(unwatched, program, timeout=10)
        assert done.rc == -9 or "MemoryError" in done.stderr
        assert python(unwatched, "print(open('/proc/self/oom_score_adj').read())").stdout == "1000\n\n"


ON_THE_GUEST = {
    "signals": "import os\nfor number in range(1, 65):\n try: os.kill(1, number)\n except OSError: pass",
    "limits": "import resource\nfor what in range(16): resource.prlimit(1, what, (1, 1))",
    "priority": "import os\nos.setpriority(os.PRIO_PROCESS, 1, 19)",
    "priority of all its user's processes": "import os\nos.setpriority(os.PRIO_USER, 0, 19)",
    "scheduling": "import os\nos.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))",
    "processors": "import os\nos.sched_setaffinity(0, {0})\nos.sched_setaffinity(1, {0})",
    "memory": "open('/proc/1/mem', 'rb')",
    "channel": "import os\nos.open('/proc/1/fd/1', os.O_WRONLY)",
    "environment": "open('/proc/1/environ').read()",
}


@pytest.mark.parametrize("what", ON_THE_GUEST)
def test_a_command_cannot_reach_the_guest_though_both_are_one_user(box: DockerSandbox, what: str) -> None:
    done = python(box, ON_THE_GUEST[what])
    assert what == "signals" or "PermissionError" in done.stderr
    assert box.exec(["echo", "still here"]).stdout == "still here\n"


# What can go wrong before it starts.


def test_an_engine_that_does_not_answer_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match=r"no Docker engine answers at unix://.*install one"):
        DockerSandbox(host=f"unix://{tmp_path}/none.sock")


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("tcp://x:port", r"tcp://x:port is no address of a Docker engine \(Port could not be cast"),
        ("tcp://127.0.0.1:99999", r"tcp://127.0.0.1:99999 is no address of a Docker engine \(Port out of range"),
        ("tcp://[::1", r"tcp://\[::1 is no address of a Docker engine \(Invalid IPv6 URL"),
        ("somewhere", r"no Docker engine answers at somewhere \(Invalid bind address format"),
        ("ssh://user@127.0.0.1:1", "engine at ssh://user@127.0.0.1:1 is reached through the package paramiko"),
    ],
)
def test_an_address_that_is_none_or_needs_more_is_said_in_one_line(
    host: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "paramiko", None)  # not installed, wherever this runs
    monkeypatch.setenv("DOCKER_HOST", host)
    for begin in (DockerSandbox, lambda: DockerSandbox(host=host)):
        with pytest.raises(SandboxUnavailable, match=says) as told:
            begin()
        assert "\n" not in str(told.value)


def test_a_missing_image_says_which_command_builds_it(docker_host: str) -> None:
    with pytest.raises(ImageMissing, match=f"no image palaestra-nothing:1 on the Docker engine.*{BUILD}"):
        DockerSandbox(image="palaestra-nothing:1")


def test_a_missing_runtime_is_named(docker_host: str) -> None:
    with pytest.raises(SandboxUnavailable, match=r"has no runtime 'runsc' \(it has .*runc"):
        DockerSandbox(runtime="runsc")


def test_the_runtime_is_one_setting(docker_host: str) -> None:
    with DockerSandbox(LIMITS, runtime="runc") as box:
        assert box.exec("echo ran").stdout == "ran\n"


def test_limits_beyond_the_engine_are_named_and_nothing_is_left(docker_host: str, docker_engine: Engine) -> None:
    before = len(docker_engine.client.containers.list(all=True))
    with pytest.raises(BadInput, match="CPUs"):
        DockerSandbox(Limits(cpu=1024))
    for limit in ("memory", "disk"):
        with pytest.raises(BadInput, match=rf"limit {limit}: the machine of .* has .*B of memory, got 1\.0TiB"):
            DockerSandbox(Limits.model_validate({limit: "1TiB"}))
    assert len(docker_engine.client.containers.list(all=True)) == before


def test_a_closed_sandbox_says_so(docker_host: str) -> None:
    box = DockerSandbox(LIMITS)
    box.close()
    box.close()
    assert not box.alive()
    with pytest.raises(SandboxDied, match="it was closed"):
        box.exec("true")

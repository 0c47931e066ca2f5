"""What hostile code tries, and how it is seen that it failed: one suite for every backend.

An attack gets a fresh sandbox and a `World` of things on the host that it must not reach. It raises AssertionError
where the wall has a hole. After every attack `standing` must hold: the sandbox answers, and nothing of the attack runs
on.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from palaestra.envs.sandbox.errors import NotAFile, OutsideWork, TooLarge
from palaestra.envs.sandbox.interface import ExecResult, Limits, Sandbox

LIMITS = Limits.model_validate(
    {"memory": "256MiB", "pids": 48, "disk": "16MiB", "files": 12_000, "wall": 20.0, "output": "64KiB"}
)
TOKEN_VARIABLE = "PALAESTRA_HOST_SECRET"


@dataclass(frozen=True)
class World:
    """Things on the host.

    Attributes:
        token: a secret; it lies in `file`, in the host process's environment, and is said by both listeners.
        file: readable by everybody on the host.
        folder: writable by everybody on the host.
        port: of a TCP listener on the loopback device that says the token.
        abstract: name of an abstract Unix socket that says the token.
    """

    token: str
    file: Path
    folder: Path
    port: int
    abstract: str


@contextmanager
def world() -> Iterator[World]:
    """Set the host up, and take it down again."""
    token = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="palaestra-attack-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "secret").write_text(token)
        (folder / "secret").chmod(0o644)
        tcp = socket.create_server(("127.0.0.1", 0))
        unix = socket.socket(socket.AF_UNIX)
        abstract = f"palaestra-{uuid.uuid4().hex}"
        unix.bind(f"\0{abstract}")
        unix.listen()
        for listener in (tcp, unix):
            threading.Thread(target=_say, args=(listener, token), daemon=True).start()
        os.environ[TOKEN_VARIABLE] = token
        try:
            yield World(token, folder / "secret", folder, tcp.getsockname()[1], abstract)
        finally:
            del os.environ[TOKEN_VARIABLE]
            tcp.close()
            unix.close()


def _say(listener: socket.socket, token: str) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.sendall(token.encode())


@dataclass(frozen=True)
class Attack:
    """One thing to try.

    Attributes:
        name: as the table in the documentation has it.
        holds: what must hold, in words.
        run: tries it.
        limits: of the sandbox.
        survives: must the same sandbox go on afterwards.
    """

    name: str
    holds: str
    run: Callable[[Sandbox, World], None]
    limits: Limits
    survives: bool = True


ATTACKS: list[Attack] = []


def attack(
    holds: str, **limits: object
) -> Callable[[Callable[[Sandbox, World], None]], Callable[[Sandbox, World], None]]:
    """Add a function to the suite."""

    def add(run: Callable[[Sandbox, World], None]) -> Callable[[Sandbox, World], None]:
        changed = Limits.model_validate({**LIMITS.model_dump(), **limits})
        ATTACKS.append(Attack(run.__name__.replace("_", " "), holds, run, changed))
        return run

    return add


def python(box: Sandbox, code: str, **rest: object) -> ExecResult:
    """Run Python code inside."""
    return box.exec(["python3", "-c", code], **rest)  # type: ignore[arg-type]


def standing(box: Sandbox) -> None:
    """The sandbox answers, and nothing but its guest and the question runs in it."""
    assert box.alive()
    result = box.exec("ls /proc | grep -c '^[0-9]'", timeout=20)
    assert result.ok, result
    assert int(result.stdout) <= 4, f"{result.stdout.strip()} processes are left"  # guest, sh, ls, grep


# -- reading ----------------------------------------------------------------------------------------------------------


@attack("no file of the host but the system's programs is there; no /etc/shadow, no home")
def read_host_files(box: Sandbox, world: World) -> None:
    tried = [str(world.file), f"/proc/1/root{world.file}", f"/proc/self/root{world.file}", f"/work/../..{world.file}"]
    result = box.exec(["cat", *tried, "/etc/shadow", "/etc/gshadow", "/root/.ssh/id_rsa", "/proc/kcore", "/dev/mem"])
    assert world.token not in result.shown()
    assert result.raw_stdout == b""
    seen = box.exec("ls -A /root /home /var/lib /run/docker.sock /var/run/docker.sock /sys/kernel/debug 2>/dev/null")
    words = {line for line in seen.stdout.splitlines() if line and not line.endswith(":")}
    assert not words & set(os.listdir("/root") if os.access("/root", os.R_OK) else []), words
    assert "docker.sock" not in seen.stdout


@attack("nothing of the host's environment is there, in this process or in the guest")
def read_environment_secrets(box: Sandbox, world: World) -> None:
    result = box.exec("env; cat /proc/*/environ /proc/1/environ /proc/self/environ 2>/dev/null | tr '\\0' '\\n'")
    assert world.token not in result.shown()
    assert TOKEN_VARIABLE not in result.shown()
    assert "PATH=" in result.shown()  # the question was asked


@attack("no process of the host is seen, and the guest's memory, files and environment are closed")
def snoop_in_proc(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import os\n"
        "pids = sorted(int(n) for n in os.listdir('/proc') if n.isdigit())\n"
        "print(len(pids))\n"
        "for name in ('mem', 'environ', 'fd/0', 'fd/1', 'maps', 'root/work', 'cwd', 'stack'):\n"
        "    try:\n"
        "        path = f'/proc/1/{name}'\n"
        "        with open(path, 'rb') as file: data = file.read(64)\n"
        "        if data: print('OPEN', name)\n"
        "    except OSError: pass\n"
        "for number in range(32):\n"  # their numbers may be listed; where they lead may not be seen
        "    try: print('OPEN fd', os.readlink(f'/proc/1/fd/{number}'))\n"
        "    except OSError: pass\n",
    )
    assert result.ok, result
    count, *opened = result.stdout.splitlines()
    assert int(count) <= 3
    assert opened == [], opened


@attack("the guest can be neither traced nor read nor written through ptrace and its kin")
def ptrace_the_guest(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.ptrace(16, 1, 0, 0), libc.ptrace(0x4206, 1, 0, 0))\n"  # ATTACH, SEIZE
        "class Vec(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]\n"
        "room = ctypes.create_string_buffer(16)\n"
        "here, there = Vec(ctypes.addressof(room), 16), Vec(0x400000, 16)\n"
        "print(libc.process_vm_readv(1, ctypes.byref(here), 1, ctypes.byref(there), 1, 0))\n"
        "print(libc.process_vm_writev(1, ctypes.byref(here), 1, ctypes.byref(there), 1, 0))\n",
    )
    assert result.stdout.split() == ["-1", "-1", "-1", "-1"], result


# -- writing ----------------------------------------------------------------------------------------------------------


@attack("nothing outside the work directory and the temporary folders can be written, and none of it on the host")
def write_outside(box: Sandbox, world: World) -> None:
    target = world.folder / "written"
    result = python(
        box,
        "import os\n"
        f"tried = [{str(target)!r}, '/etc/passwd', '/usr/bin/evil', '/bin/sh', '/evil', '/root/evil', '/home/evil',\n"
        "         '/var/evil', '/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/sys/evil', '/dev/evil']\n"
        "for path in tried:\n"
        "    try:\n"
        "        with open(path, 'r+b' if os.path.exists(path) else 'wb') as file: file.write(b'evil')\n"
        "        print('WROTE', path)\n"
        "    except OSError: pass\n"
        "for path in ('/usr', '/etc', '/'):\n"
        "    try: os.chmod(path, 0o777); print('CHMOD', path)\n"
        "    except OSError: pass\n",
    )
    assert result.ok, result
    assert result.stdout == ""
    assert not target.exists()
    assert os.listdir(world.folder) == ["secret"]


@attack("files are fetched from the work directory only, whatever links lie there")
def links_and_dots_on_fetch(box: Sandbox, world: World) -> None:
    made = box.exec(
        f"ln -s {world.file} link; ln -s / root; ln -s .. up; mkdir -p deep && ln -s ../.. deep/up; ln -s loop loop;"
        "ln /etc/passwd hard 2>/dev/null; ln -s /proc/1/environ environ; ln -s /dev/zero zero;"
        "python3 -c 'import os; os.mkfifo(\"pipe\")'"
    )
    assert made.ok, made
    fetched = [
        *("link", "root/etc/passwd", f"root{world.file}", "up/etc/passwd", "deep/up/etc/passwd", "loop", "environ"),
        *("zero", "pipe", "../etc/passwd", "/etc/passwd", str(world.file), "deep/../../etc/passwd", "hard"),
    ]
    for path in fetched:
        try:
            content = box.read_bytes(path)
        except (OutsideWork, NotAFile, TooLarge):
            continue
        raise AssertionError(f"{path} was fetched: {content[:40]!r}")
    for path in ("link", "root/work/x", "up/x", "/etc/x", "../x", "pipe", "zero"):
        try:
            box.write_file(path, "evil")
        except (OutsideWork, NotAFile):
            continue
        raise AssertionError(f"{path} was written")
    for path in ("root", "up", "deep/up", "/", ".."):
        try:
            found = box.list(path)
        except (OutsideWork, NotAFile):
            continue
        raise AssertionError(f"{path} was listed: {found[:3]}")
    assert world.file.read_text() == world.token
    box.exec("rm -rf -- * ")


@attack("the work directory ends at its size; afterwards the sandbox goes on")
def fill_the_disk(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import os\n"
        "done = 0\n"
        "try:\n"
        "    for number in range(16):\n"
        "        with open(f'big{number}', 'wb', buffering=0) as file:\n"
        "            for _ in range(4): file.write(b'x' * 2**20); done += 1\n"
        "except OSError as error: print(error.strerror)\n"
        "print(done)\n",
    )
    assert result.ok, result
    assert int(result.stdout.split()[-1]) <= 16
    assert "space" in result.stdout, result
    box.exec("rm big*")
    box.write_file("after", "fine")
    assert box.read_file("after") == "fine"
    box.exec(["rm", "after"])


@attack("the number of files ends at its limit; afterwards the sandbox goes on")
def fill_the_inodes(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import os\n"
        "made = 0\n"
        "try:\n"
        "    for made in range(30_000): open(f'f{made}', 'w').close()\n"
        "except OSError as error: print(error.strerror)\n"
        "print(made)\n",
        timeout=60,
    )
    assert result.ok, result
    assert int(result.stdout.split()[-1]) <= 12_000
    assert "space" in result.stdout or "quota" in result.stdout
    assert box.exec("find . -type f -delete", timeout=60).ok
    box.write_file("after", "fine")
    box.exec(["rm", "after"])


# -- network ----------------------------------------------------------------------------------------------------------


@attack("neither the host's loopback device nor its abstract sockets can be reached")
def loopback_and_abstract_sockets(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import socket\n"
        "def ask(family, where):\n"
        "    try:\n"
        "        with socket.socket(family) as s: s.settimeout(3); s.connect(where); print('SAID', s.recv(99))\n"
        "    except OSError: pass\n"
        f"for host in ('127.0.0.1', '0.0.0.0', '172.17.0.1', '10.0.2.2'): ask(socket.AF_INET, (host, {world.port}))\n"
        f"ask(socket.AF_INET6, ('::1', {world.port}))\n"
        f"ask(socket.AF_UNIX, chr(0) + {world.abstract!r})\n"
        "ask(socket.AF_UNIX, '/var/run/docker.sock')\n",
        timeout=40,
    )
    assert result.ok, result
    assert "SAID" not in result.stdout
    assert world.token not in result.shown()


@attack("no name is resolved and no packet leaves")
def dns_and_packets(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import socket\n"
        "for name in ('example.com', 'localhost.localdomain.invalid'):\n"
        "    try: print('RESOLVED', socket.getaddrinfo(name, 80))\n"
        "    except OSError: pass\n"
        "for host in ('1.1.1.1', '8.8.8.8', '169.254.169.254'):\n"
        "    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):\n"
        "        try:\n"
        "            s = socket.socket(socket.AF_INET, kind); s.settimeout(2); s.connect((host, 53)); s.send(b'x')\n"
        "            print('SENT', host)\n"
        "        except OSError: pass\n"
        "for family, kind in ((socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW)):\n"
        "    try: socket.socket(family, kind, 1); print('RAW')\n"
        "    except OSError: pass\n",
        timeout=60,
    )
    assert result.ok, result
    assert result.stdout == ""


# -- using everything up ----------------------------------------------------------------------------------------------


@attack("no more processes than allowed; all are gone at the timeout")
def fork_bomb(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import os, time\n"
        "made = 0\n"
        "while True:\n"
        "    try:\n"
        "        if os.fork() == 0:\n"
        "            while True:\n"
        "                try: os.fork()\n"
        "                except OSError: time.sleep(0.01)\n"
        "        made += 1\n"
        "    except OSError: break\n"
        "print(made, len([n for n in os.listdir('/proc') if n.isdigit()]), flush=True)\n"
        "time.sleep(60)\n",
        timeout=4,
    )
    assert result.timed_out
    assert int(result.stdout.split()[1]) <= 50  # the guest and what the engine puts beside it come on top


@attack("processes left running that fill their number end with the next command, and do not keep it from running")
def hoard_of_processes_left_running(box: Sandbox, world: World) -> None:
    box.write_file(
        "hoard.py",
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "while True:\n"
        "    try:\n"
        "        if os.fork() == 0: time.sleep(1000)\n"
        "    except OSError:\n"
        "        open('full', 'w').close()\n"
        "        time.sleep(0.01)\n",
    )
    box.exec("python3 hoard.py", background=True)
    deadline = time.monotonic() + 60
    while "full" not in {entry.path for entry in box.list()}:
        assert time.monotonic() < deadline, "their number is not limited"
        time.sleep(0.05)
    result = box.exec("echo $(echo hi)")
    if not result.ok:  # started among them, what it started itself found no place
        result = box.exec("echo $(echo hi)")
    assert result.stdout == "hi\n", result
    box.exec(["rm", "hoard.py", "full"])


@attack("one process that takes all memory is ended, and nothing beside it")
def memory_bomb(box: Sandbox, world: World) -> None:
    code = "b = []\nwhile True: b.append(bytearray(8 * 2**20)); b[-1][::4096] = bytes(2048)\n"
    result = python(box, code, timeout=20)
    assert not result.ok
    assert not result.timed_out, "it was not stopped by the limit of memory"


@attack("twelve processes that each take a part of it are no way around the limit of memory")
def memory_bomb_in_twelve_processes(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import os, sys, time\n"
        "kids = []\n"
        "for _ in range(12):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        b = [bytearray(2**20) for _ in range(48)]\n"  # 12 x 48 MiB against 256 MiB
        "        for part in b: part[::4096] = bytes(256)\n"
        "        time.sleep(3)\n"
        "        os._exit(0)\n"
        "    kids.append(pid)\n"
        "lost = sum(os.waitpid(pid, 0)[1] != 0 for pid in kids)\n"
        "print(lost)\n",
        timeout=25,
    )
    assert not result.timed_out
    assert not result.ok or int(result.stdout) > 0, "576 MiB fit into 256 MiB"


@attack(
    "page tables count as memory: a large mapping that is hardly touched is no way around its limit", memory="64MiB"
)
def memory_bomb_of_page_tables(box: Sandbox, world: World) -> None:
    code = (
        "import ctypes, time\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]\n"
        "libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]\n"
        "size = 600 * 512 * 2**20\n"  # 600 MiB of tables, at one page of them for each 2 MiB
        "at = libc.mmap(None, size, 1, 0x4022, -1, 0)\n"
        "libc.madvise(at, size, 15)\n"  # no huge pages
        "for page in range(at, at + size, 2**21): ctypes.c_char.from_address(page).value\n"
        "time.sleep(3)\n"
    )
    for _ in range(4):
        result = python(box, code, timeout=40)
        assert not result.ok
        assert not result.timed_out, "it was not stopped by the limit of memory"
        after = box.exec("for name in a b c d e f g h; do ls / > /dev/null; done")
        assert after.ok, f"the next command pays for the one before it: {after}"


@attack("what lies in sockets counts as memory, however many hold it and whoever has them", memory="64MiB")
def memory_bomb_in_sockets(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import os, socket, time\n"
        "for _ in range(8):\n"
        "    read, write = os.pipe()\n"
        "    if os.fork() == 0:\n"
        "        kept, held = [], 0\n"
        "        try:\n"
        "            while held < 50 * 2**20:\n"
        "                kept.append(socket.socketpair())\n"
        "                for end in kept[-1]:\n"
        "                    end.setblocking(False)\n"
        "                    try: end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**24)\n"
        "                    except OSError: pass\n"
        "                    try:\n"
        "                        while True: held += end.send(bytes(65536))\n"
        "                    except BlockingIOError: pass\n"
        "        except OSError: pass\n"
        "        print(held, flush=True)\n"
        "        time.sleep(3)\n"
        "        os._exit(0)\n"
        "lost = sum(os.wait()[1] != 0 for _ in range(8))\n"
        "raise SystemExit(lost)\n",
        timeout=40,
    )
    assert not result.timed_out
    assert not result.ok or sum(map(int, result.stdout.split())) < 128 * 2**20, "more lies in sockets than the limit"


@attack("what a process holds counts as memory after its first thread has ended, too")
def memory_bomb_behind_a_thread_that_ended(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import ctypes, mmap, os, platform, threading, time\n"
        "def hold():\n"
        "    time.sleep(0.2)\n"
        "    held = mmap.mmap(-1, 480 * 2**20)\n"  # shared, so no limit of a process's own data counts it
        "    for at in range(0, len(held), 4096): held[at] = 1\n"
        "    time.sleep(1)\n"
        "    os.write(1, b'survived')\n"
        "    os._exit(0)\n"
        "threading.Thread(target=hold).start()\n"
        "ctypes.CDLL(None).syscall(60 if platform.machine() == 'x86_64' else 93, 0)\n",
        timeout=20,
    )
    assert result.stdout == "", result
    assert not result.timed_out


@attack("a loop that ignores every signal ends at the timeout")
def endless_loop_that_ignores_signals(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import signal\n"
        "for n in range(1, 65):\n"
        "    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True: pass\n",
        timeout=2,
    )
    assert result.timed_out
    assert result.seconds < 15


@attack("a gigabyte of output is drained and cut, on both streams, and takes no memory here")
def flood_of_output(box: Sandbox, world: World) -> None:
    result = box.exec("head -c 1073741824 /dev/zero; head -c 10485760 /dev/zero >&2", timeout=120)
    assert result.rc == 0
    assert result.truncated
    assert len(result.raw_stdout) <= 65536
    assert len(result.raw_stderr) <= 65536


@attack("a recursion without end ends its own process only")
def deep_recursion(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import sys, threading\n"
        "sys.setrecursionlimit(10**8)\n"
        "def down(n): return down(n + 1) + 1\n"
        "threading.stack_size(128 * 2**20)\n"
        "t = threading.Thread(target=down, args=(0,)); t.start(); t.join()\n"
        "raise SystemExit(3)\n",
        timeout=20,
    )
    assert not result.ok
    nested = box.exec("d=.; for i in $(seq 1 300); do d=$d/a; done; mkdir -p $d && echo made", timeout=20)
    assert box.exec("rm -rf a", timeout=20).ok, nested


# -- outliving and interfering ----------------------------------------------------------------------------------------


@attack("what a command leaves behind is dead when the command has ended or its time is up")
def grandchild_that_outlives_the_timeout(box: Sandbox, world: World) -> None:
    code = "n=0; while true; do n=$((n+1)); echo $n > tick; sleep 0.05; done"
    result = box.exec(f"sh -c '{code}' & sleep 30", timeout=2)
    assert result.timed_out
    first = box.read_bytes("tick")
    box.exec(["sleep", "0.5"])
    assert box.read_bytes("tick") == first, "it still runs"


@attack("a daemon that has forked twice and left its session is dead when its command has ended")
def double_fork_daemon(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        for n in (0, 1, 2): os.close(n)\n"
        "        while True:\n"
        "            open('tock', 'w').write(str(time.time())); time.sleep(0.05)\n"
        "    os._exit(0)\n"
        "time.sleep(0.5)\n",
    )
    assert result.ok, result
    first = box.read_bytes("tock")
    box.exec(["sleep", "0.5"])
    assert box.read_bytes("tock") == first, "it still runs"


@attack("killing everything kills the attacker and what it started; the guest goes on")
def kill_everything(box: Sandbox, world: World) -> None:
    box.exec("kill -9 -1; kill -9 1; kill -STOP 1; kill -TERM 1; true")
    result = python(
        box, "import os, signal\nfor s in (9, 15, 19): \n    try: os.kill(1, s)\n    except OSError: pass\n"
    )
    assert result.ok or result.rc < 0


@attack("no file is kept from the guest by a lease, and no pipe takes what the pipes of other sandboxes could hold")
def leases_and_large_pipes(box: Sandbox, world: World) -> None:
    box.write_file("leased", "kept")
    result = box.exec(
        "cat > lease.py <<'end'\n"
        "import fcntl, os, signal, time\n"
        "signal.signal(signal.SIGIO, signal.SIG_IGN)\n"
        "try: fcntl.fcntl(os.open('leased', os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
        "except OSError: pass\n"
        "read, write = os.pipe()\n"
        "try: print('GROWN', fcntl.fcntl(write, 1031, 2**20))\n"
        "except OSError: pass\n"
        "print(fcntl.fcntl(write, 1032) > 0, flush=True)\n"
        "if os.fork() == 0: time.sleep(1000)\n"
        "os._exit(0)\n"
        "end\n"
        "python3 lease.py",
        background=True,
    )
    assert result.stdout == "True\n", result
    assert box.read_file("leased") == "kept"
    box.snapshot()
    box.write_file("leased", "new")
    assert box.read_file("leased") == "new"
    box.exec(["rm", "leased", "lease.py"])


@attack("a frame that is not the guest's is never taken for one: no result, no file is forged")
def forge_a_frame(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import os, glob, struct\n"
        "frames = [b'\\x00\\x00\\x00\\x10{\"rc\": 0, \"done\": 1}', b'done\\x00' * 40, struct.pack('>I', 2**31)]\n"
        "for path in [*glob.glob('/proc/1/fd/*'), '/proc/1/fd/1', '/proc/1/fd/0', '/dev/stdout', '/proc/self/fd/1',\n"
        "             *[f'/proc/{os.getppid()}/fd/{n}' for n in range(20)]]:\n"
        "    for frame in frames:\n"
        "        try:\n"
        "            with open(path, 'wb', buffering=0) as file: file.write(frame)\n"
        "        except OSError: pass\n"
        "for number in range(3, 64):\n"
        "    try: os.write(number, frames[1]); print('INHERITED', number)\n"
        "    except OSError: pass\n"
        "os._exit(7)\n",
    )
    assert result.rc == 7, result
    assert b"INHERITED" not in result.raw_stdout


@attack("no new namespace, mount, BPF program, io_uring, kernel key or userfaultfd; no other architecture's calls")
def forbidden_system_calls(box: Sandbox, world: World) -> None:
    result = python(
        box,
        "import ctypes, os, platform\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "x86 = platform.machine() == 'x86_64'\n"
        "numbers = dict(unshare=272, mount=165, umount2=166, pivot_root=155, bpf=321, io_uring_setup=425,\n"
        "    io_uring_enter=426, io_uring_register=427, keyctl=250, add_key=248, request_key=249, userfaultfd=323,\n"
        "    setns=308, perf_event_open=298, kexec_load=246, init_module=175, finit_module=313,\n"
        "    open_by_handle_at=304,\n"
        "    fsopen=430, fsmount=432, move_mount=429, open_tree=428, mount_setattr=442, swapon=167, reboot=169,\n"
        "    settimeofday=164, acct=163, chroot=161) if x86 else dict(unshare=97, mount=40,\n"
        "    umount2=39, pivot_root=41, bpf=280, io_uring_setup=425, io_uring_enter=426, io_uring_register=427,\n"
        "    keyctl=219, add_key=217, request_key=218, userfaultfd=282, setns=268, perf_event_open=241,\n"
        "    kexec_load=104, init_module=105, finit_module=273, open_by_handle_at=265, fsopen=430, fsmount=432,\n"
        "    move_mount=429,\n"
        "    open_tree=428, mount_setattr=442, swapon=224, reboot=142, settimeofday=170, acct=89, chroot=51)\n"
        "for name, number in numbers.items():\n"
        "    args = (0x10000000, 0, 0, 0, 0, 0) if name == 'unshare' else (0, 0, 0, 0, 0, 0)\n"
        "    ctypes.set_errno(0)\n"
        "    if libc.syscall(number, *args) >= 0: print('ALLOWED', name)\n"
        "    elif ctypes.get_errno() not in (1, 38, 13): print('REACHED', name, ctypes.get_errno())\n"
        "if x86 and os.fork() == 0:\n"  # an x32 call: refused, or the end of whoever makes it
        "    if libc.syscall(0x40000000 + 39) >= 0: print('ALLOWED x32', flush=True)\n"
        "    os._exit(0)\n"
        "for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000):\n"
        "    if libc.unshare(flag) == 0: print('UNSHARED', hex(flag))\n",
    )
    assert result.ok, result
    assert result.stdout == ""
    tools = box.exec(
        "unshare -r id; mount -t tmpfs none /work; su -c id; sudo -n id; mknod dev b 8 0; true", timeout=20
    )
    assert "uid=0" not in tools.shown()


# -- what the host must bear ------------------------------------------------------------------------------------------


@attack("a tree of 10,000 files is listed, copied and put back", disk="64MiB")
def tree_of_ten_thousand_files(box: Sandbox, world: World) -> None:
    made = python(
        box,
        "import os\n"
        "for d in range(100):\n"
        "    os.mkdir(f'd{d}')\n"
        "    for f in range(99): open(f'd{d}/f{f}', 'w').write(str(f))\n",
        timeout=60,
    )
    assert made.ok, made
    assert len(box.list(".")) == 100
    copy = box.snapshot()
    assert box.exec("rm -rf d*", timeout=60).ok
    box.restore(copy)
    assert box.exec("find . -type f | wc -l", timeout=60).stdout.strip() == "9900"
    assert box.read_file("d42/f17") == "17"
    assert box.snapshot().digest == copy.digest
    assert box.exec("rm -rf d*", timeout=60).ok


@attack("names with newlines and bytes that are not UTF-8 are listed, copied and put back")
def odd_file_names(box: Sandbox, world: World) -> None:
    names = [b"new\nline", b"\xff\xfe", b"-rf", b" ", b"a\tb", b"\x1b[31m", "ü".encode(), b"n" * 255]
    made = python(box, f"for name in {names!r}: open(name, 'wb').write(name)")
    assert made.ok, made
    copy = box.snapshot()
    assert box.exec("find . -type f -delete").ok
    box.restore(copy)
    assert {os.fsencode(entry.path) for entry in box.list()} == set(names)
    for name in names:
        assert box.read_bytes(os.fsdecode(name)) == name
    assert box.exec("find . -type f -delete").ok


@attack("taking all permissions from the folders it works in locks out neither the sandbox nor the next command")
def locks_itself_out(box: Sandbox, world: World) -> None:
    box.write_file("kept", "kept")
    copy = box.snapshot()
    for folders in ("/work", ".", "/tmp", "/dev/shm", "/work /tmp /dev/shm", "a/b/c a/b a ."):
        for mode in ("000", "400", "100"):
            box.exec(f"mkdir -p a/b/c; echo x > a/b/c/f; for f in {folders}; do chmod {mode} $f; done")
            assert {entry.path for entry in box.list()} >= {"a", "kept"}, folders
            assert box.read_file("kept") == "kept"
            box.write_file("more", "more")
            done = box.exec("cat more && echo x > /work/own && echo x > /tmp/own && echo x > /dev/shm/own")
            assert done.stdout == "more", (folders, mode, done)
            assert len(box.snapshot().archive) > len(copy.archive)
            box.exec(f"for f in {folders}; do chmod {mode} $f; done")
            box.restore(copy)
            assert [entry.path for entry in box.list()] == ["kept"]
            assert box.snapshot().digest == copy.digest
            assert box.exec("ls -A /tmp /dev/shm | grep own").stdout == ""

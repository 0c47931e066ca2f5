"""Backend "bwrap": bubblewrap, the embedded sandbox. Needs nothing but its package; works as root and as anybody.

Everything is unshared: users, processes, mounts, network, IPC, host name. Inside are the system's programs, read-only,
made-up files in /etc, and sized tmpfs to write to: /work, /tmp and /dev/shm. Nothing of /home, /root, /var, /run or
/sys is there, and of /etc only what programs cannot start without.

As root, three users that exist nowhere else are mapped: the guest's, the commands' and "nobody". As an ordinary user
there is one, which the guest and the commands share; what protects the guest then is that it is pid 1, undumpable, and
that its frames carry a secret. What is measured in control groups where we may make them is watched by the guest where
we may not.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import ClassVar

from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox import cgroups, seccomp
from palaestra.envs.sandbox.client import GRACE, PATH, GuestSandbox
from palaestra.envs.sandbox.errors import SandboxDied, SandboxUnavailable
from palaestra.envs.sandbox.interface import Limits
from palaestra.envs.sandbox.pipes import PipeWire, Words, end
from palaestra.envs.sandbox.program import STUB, Setup, scratch_sizes

INSTALL = "install the package bubblewrap (Debian, Ubuntu: apt-get install bubblewrap)"
USER, NOBODY = 1000, 65534
_PREFIX = "/opt/python"  # where an interpreter from elsewhere is seen inside
_SPARE = range(0x70000000, 0x7F000000, 4)  # user ids that no distribution hands out
_UNMEASURED_DESCRIPTORS = 256  # of a process, where no control group counts what pipes and sockets hold
_ETC = {
    "passwd": "root:x:0:0::/:/usr/sbin/nologin\n"
    f"user:x:{USER}:{USER}::/work:/bin/sh\nnobody:x:{NOBODY}:{NOBODY}::/:/bin/sh\n",
    "group": f"root:x:0:\nuser:x:{USER}:\nnogroup:x:{NOBODY}:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


class BubblewrapSandbox(GuestSandbox):
    """A sandbox made by bubblewrap.

    Args:
        limits: what it may use.
        python: the interpreter inside: a prefix such as /usr or /home/me/miniconda3; None: the system's, else the one
            that runs Palaestra.

    Raises:
        SandboxUnavailable: bubblewrap is not installed, or may not start here.
        BadInput: `python` is the top of the file system, or a folder with the home directory in it.
    """

    backend: ClassVar[str] = "bwrap"

    def __init__(self, limits: Limits, python: str | None = None) -> None:
        super().__init__(limits)
        program = shutil.which("bwrap")
        if program is None:
            raise SandboxUnavailable(f"bubblewrap is not installed; {INSTALL}")
        prefix = python_prefix(python)
        self.users = _Users(prefix)
        self.env["PATH"] = PATH if prefix == "/usr" else f"{_seen(prefix)}/bin:{PATH}"
        self._owner = os.getpid()
        self._words: Words | None = None
        self._group: cgroups.Group | None = None
        self._files: list[int] = []  # ours, to be closed at the end
        self._child: subprocess.Popen[bytes] | None = None
        self._init = -1  # pidfd of the guest
        try:
            self._launch(lambda: self._prepare(program, prefix))
            to, back = self._files
            self._begin(PipeWire(to, back), self._setup())
        except SandboxDied as error:
            raise SandboxUnavailable(f"bubblewrap does not start here: {error}; {_hint()}") from error
        except BaseException:
            self._abandon()
            raise

    @property
    def measured(self) -> bool:
        """Does a control group limit its memory and processes; else the guest does."""
        return self._group is not None

    def _setup(self) -> Setup:
        limits, scratch = self.limits, scratch_sizes(self.limits)
        mounts = [("/work", f"size={int(limits.disk)},nr_inodes={limits.files + 1}")]
        mounts += [(path, f"size={size},nr_inodes={limits.files}") for path, size in scratch.items()]
        several = self.users.several
        return Setup(
            limits,
            scratch=tuple(scratch),
            sockets=0 if self.measured or limits.network else _socket_buffer(),
            descriptors=1024 if self.measured else _UNMEASURED_DESCRIPTORS,
            watches=4,
            nproc=several or _kernel() >= (5, 14),
            mounts=mounts,
            readonly=("/proc/sys",),
            become=None if several else (USER, USER),
            users={"user": (USER, USER), "nobody": (NOBODY, NOBODY)} if several else {},
            namespaces=0 if several else 1,
            drop=True,
            filter=seccomp.bpf(measured=self.measured),
            pdeath=True,
            niceness=5,
        )

    def _prepare(self, program: str, prefix: str) -> None:
        """Make its group and start it. Raises SandboxUnavailable."""
        self._words = Words()
        self._group = cgroups.make(self.limits)
        try:
            self._run(program, prefix, self._words.file)
        except (OSError, ValueError, TimeoutError) as error:
            words = self._words.text().strip()
            raise SandboxUnavailable(f"bubblewrap does not start here: {words or error}; {_hint()}") from error

    def _run(self, program: str, prefix: str, words: int) -> None:
        """Start bubblewrap, map the users, put it into its group, let it go on. Raises OSError, TimeoutError."""
        pipes = [os.pipe() for _ in range(4)]
        (in_read, in_write), (out_read, out_write), (told, tell), (wait, go) = pipes
        theirs = [in_read, out_write, tell, wait]
        self._files += [in_write, out_read]
        try:
            etc = {name: _memory_file(text) for name, text in _ETC.items()}
            theirs += etc.values()
            command = [*self.users.prefix(), program, *_flags(self.limits, prefix, etc, info=tell, block=wait)]
            command += [f"{_seen(prefix)}/bin/python3", "-I", "-S", "-c", STUB]
            self._child = _spawn(
                lambda: subprocess.Popen(
                    command,
                    stdin=in_read,
                    stdout=out_write,
                    stderr=words,
                    pass_fds=[tell, wait, *etc.values()],
                    env={},
                    cwd="/",
                )
            )
            while theirs:
                os.close(theirs.pop())
            pid = _told(told, time.monotonic() + GRACE)
            self._init = os.pidfd_open(pid)
            self.users.map(pid)
            if self._group is not None:
                self._group.add(pid)
            with contextlib.suppress(OSError):  # only root may: the guest is the last that the kernel ends for memory
                Path(f"/proc/{pid}/oom_score_adj").write_text("-999")
            os.write(go, b"1")
        finally:
            for file in (*theirs, told, go):
                os.close(file)

    def _last_words(self) -> str:
        return self._words.text() if self._words is not None else ""

    def _end(self) -> None:
        if os.getpid() == self._owner:  # not in a fork of us, which has our files, but not our children
            if self._child is not None:
                end(self._child)  # the guest dies with it, and all else with the guest
            if self._init >= 0:
                with contextlib.suppress(OSError):  # before it is configured it outlives bubblewrap
                    signal.pidfd_send_signal(self._init, signal.SIGKILL)
                select.select([self._init], [], [], 10.0)
            if self._group is not None:
                self._group.remove()
            self._quiet()  # else its number, given to another file, would be read from
        for file in (*self._files, *([self._init] if self._init >= 0 else [])):
            with contextlib.suppress(OSError):
                os.close(file)
        if self._words is not None:
            self._words.close()


class _Users:
    """The users inside, and who they are outside."""

    def __init__(self, prefix: str) -> None:
        first = _spare_ids() if os.geteuid() == 0 else None
        self.several = first is not None
        # Root stays root outside (with no more rights inside than anybody) where only root can reach the interpreter.
        reachable = all(folder.stat().st_mode & stat.S_IXOTH for folder in (Path(prefix), *Path(prefix).parents))
        self.outside = os.geteuid() if first is None or not reachable else first
        self._commands = first

    def prefix(self) -> list[str]:
        """What starts bubblewrap as that user. A program, as changing user in a fork copies all our page tables."""
        if self.outside == os.geteuid():
            return []
        ids = [f"--reuid={self.outside}", f"--regid={self.outside}", "--clear-groups"]
        return [shutil.which("setpriv") or "/usr/bin/setpriv", *ids]

    def map(self, pid: int) -> None:
        """Write the maps of a new user namespace. Raises OSError."""
        folder = Path(f"/proc/{pid}")
        lines = {0: self.outside}
        if self._commands is not None:
            lines |= {USER: self._commands + 1, NOBODY: self._commands + 2}
        for name in ("uid_map", "gid_map"):
            if name == "gid_map" and not self.several:
                (folder / "setgroups").write_text("deny")
                lines = {0: os.getegid()}
            (folder / name).write_text("".join(f"{inside} {outside} 1\n" for inside, outside in lines.items()))


def _spare_ids() -> int | None:
    """The first of three ids that mean nobody; None where this root may not map any, as in some containers."""
    ranges = [[int(number) for number in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    for first, _, count in ranges:
        if first <= _SPARE[0] and _SPARE[-1] < first + count:
            return secrets.choice(_SPARE)
    for first, _, count in ranges:
        if count >= 65536:
            return first + count - 16
    return None


def python_prefix(asked: str | None = None) -> str:
    """The prefix of the interpreter that will be `python3` inside. Raises SandboxUnavailable, BadInput."""
    for prefix in [asked] if asked else ["/usr", os.path.realpath(sys.base_prefix)]:
        if os.access(f"{prefix}/bin/python3", os.X_OK):
            real, home = Path(os.path.realpath(prefix)), Path(os.path.realpath(os.path.expanduser("~")))
            if real == Path("/") or (real != Path("/usr") and real in (home, *home.parents)):
                raise BadInput(
                    f"python={prefix}: all of {real} would be seen inside; name the prefix of a Python alone"
                )
            return prefix
    raise SandboxUnavailable(f"there is no bin/python3 in {asked or sys.base_prefix}; the sandbox needs a Python")


def _seen(prefix: str) -> str:
    """Where an interpreter is inside."""
    return prefix if prefix == "/usr" or prefix.startswith("/usr/") else _PREFIX


def _flags(limits: Limits, prefix: str, etc: dict[str, int], info: int, block: int) -> list[str]:
    flags = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    flags += [] if limits.network else ["--unshare-net"]
    flags += ["--die-with-parent", "--new-session", "--as-pid-1", "--clearenv", "--hostname", "sandbox"]
    # In the new user namespace only: the guest limits the mounts, and drops them before anything else runs.
    flags += ["--cap-add", "ALL", "--userns-block-fd", str(block), "--info-fd", str(info)]
    flags += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.islink(f"/{name}"):
            flags += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            flags += ["--ro-bind", f"/{name}", f"/{name}"]
    if _seen(prefix) == _PREFIX:
        flags += ["--perms", "0755", "--dir", os.path.dirname(_PREFIX), "--ro-bind", prefix, _PREFIX]
    flags += ["--perms", "0755", "--dir", "/etc"]
    for name, file in etc.items():
        flags += ["--perms", "0644", "--file", str(file), f"/etc/{name}"]
    for name in ("alternatives", "ld.so.cache", "localtime", *(["resolv.conf", "ssl/certs"] if limits.network else [])):
        flags += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    flags += ["--proc", "/proc", "--dev", "/dev"]
    flags += ["--perms", "0755", "--size", str(int(limits.disk)), "--tmpfs", "/work"]
    for path, size in scratch_sizes(limits).items():
        flags += ["--perms", "1777", "--size", str(size), "--tmpfs", path]
    return [*flags, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/work", "--"]


def _told(file: int, deadline: float) -> int:
    """The id of the process that bubblewrap says it has made. Raises TimeoutError, ValueError (it says nothing)."""
    text = b""
    while b"}" not in text:
        if not select.select([file], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError("it does not answer")
        part = os.read(file, 4096)
        if not part:
            raise ValueError("it ended at once")
        text += part
    return int(json.loads(text)["child-pid"])


def _memory_file(text: str) -> int:
    file = os.memfd_create("etc", os.MFD_CLOEXEC)
    os.write(file, text.encode())
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _socket_buffer() -> int:
    """Bytes that a socket holds at most in one direction, where nobody may have them changed."""
    folder = Path("/proc/sys/net/core")
    return max(int((folder / name).read_text()) for name in ("wmem_default", "rmem_default"))


@cache
def _kernel() -> tuple[int, int]:
    major, minor, *_ = os.uname().release.split(".")
    return int(major), int("".join(digit for digit in minor if digit.isdigit()) or 0)


def _hint() -> str:
    """What may keep user namespaces from being made, and what to do."""
    for name, bad, good in (
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "10000"),
    ):
        with contextlib.suppress(OSError):
            if Path("/proc/sys", name.replace(".", "/")).read_text().strip() == bad:
                return f"this system forbids user namespaces: sysctl {name}={good}"
    return "in a container, allow user namespaces there, or use the docker backend"


# bubblewrap is to die with us, but the kernel takes that for "with the thread that started it": a thread that stays.
_spawning = threading.Lock()
_spawner: ThreadPoolExecutor | None = None


def _spawn(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    global _spawner
    with _spawning:
        if _spawner is None:
            _spawner = ThreadPoolExecutor(1, "palaestra-sandbox-parent")
        return _spawner.submit(start).result()


def _forget_spawner() -> None:
    """In a fork of this process the thread does not exist."""
    global _spawner, _spawning
    _spawner, _spawning = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_spawner)

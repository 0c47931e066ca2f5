"""Processes inside the sandbox: ending them all, reaping them, and how much memory they hold together."""

from __future__ import annotations

import os
import time

_SIGKILL, _SIGCONT, _SIGSTOP = 9, 18, 19
_COUNTED = (b"VmRSS", b"VmPTE", b"VmPMD", b"Threads")


class Processes:
    """All processes but the guest itself.

    As pid 1 of a pid namespace that is one `kill(-1)`, which no fork can outrun. Elsewhere (backend "unsafe") it is
    what descends from the guest, looked up in /proc again and again until nothing is left.
    """

    def __init__(self) -> None:
        self.is_init = os.getpid() == 1
        self._sockets, self._socket, self._before = -1, 0, 0

    def others(self) -> list[int]:
        """Ids of all other processes that are not dead."""
        if self.is_init:
            return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]
        parents: dict[int, int] = {}
        for name in os.listdir("/proc"):
            if name.isdigit() and (stat := _read(f"/proc/{name}/stat")):
                state, parent = stat.rpartition(b")")[2].split()[:2]
                if state not in b"ZX":
                    parents[int(name)] = int(parent)
        found = {os.getpid()}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found - {os.getpid()})

    def signal(self, number: int) -> None:
        """Send one signal to all others."""
        for pid in [-1] if self.is_init else self.others():
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                continue

    def freeze(self) -> None:
        """Stop all others, so that nothing moves while the work directory is copied."""
        self.signal(_SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self.signal(_SIGCONT)

    def end(self, patience: float = 30.0) -> bool:
        """Kill and reap all others. False where some would not go, as the kernel is still busy for them."""
        deadline = time.monotonic() + patience
        pause = 0.0005
        while True:
            self.signal(_SIGKILL)
            if self._reap_all():
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, 0.02)

    def _reap_all(self) -> bool:
        """Reap what is dead. Is nothing left?"""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return not self.others()
            if pid == 0:
                return False

    def reap(self) -> dict[int, int]:
        """Reap what is dead now: process id -> wait status."""
        dead: dict[int, int] = {}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return dead
            if pid == 0:
                return dead
            dead[pid] = status

    def charge_sockets(self, each: int) -> None:
        """From now on a socket counts as so many bytes of memory, whatever lies in it.

        The network namespace must be the sandbox's own: its sockets are counted there, whoever holds them. Called
        before this process is hidden, as then it cannot open its own files.
        """
        self._socket, self._sockets = each, os.open("/proc/self/net/sockstat", os.O_RDONLY | os.O_CLOEXEC)
        self._before = self._in_sockets()

    def _in_sockets(self) -> int:
        if self._sockets < 0:
            return 0
        for line in os.pread(self._sockets, 4096, 0).splitlines():
            if line.startswith(b"sockets: used "):
                return int(line.split()[2]) * self._socket
        return 0

    def memory(self, enough: int) -> int:
        """Bytes that all others hold in memory together; counted exactly only where it may be more than `enough`.

        With their page tables, which a mapping that is hardly touched makes larger than all that is resident of it.
        """
        held = [_held(pid) for pid in self.others()]
        beside = self._in_sockets() - self._before + sum(tables for _, _, tables in held)
        if (all_of_it := beside + sum(resident for _, resident, _ in held)) <= enough:
            return all_of_it
        return beside + sum(_proportional(path, resident) for path, resident, _ in held)  # shared pages count once


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(65536) or b""
    except OSError:  # it ended meanwhile
        return b""


def _held(pid: int) -> tuple[str, int, int]:
    """Where a process's memory is described, how many bytes are resident, and how many its page tables take."""
    path = f"/proc/{pid}"
    resident, tables, threads = _status(path)
    if threads > 1 and not resident:  # its first thread has ended, with which the kernel forgets what the others hold
        for name in _listed(f"{path}/task"):
            path = f"/proc/{name}"
            resident, tables, _ = _status(path)
            if resident:
                break
    return path, resident, tables


def _status(path: str) -> tuple[int, int, int]:
    """Bytes resident and of page tables, and the number of threads."""
    found = {}
    for line in _read(path + "/status").splitlines():
        name, _, value = line.partition(b":")
        if name in _COUNTED:
            found[name] = int(value.split()[0])
    kilobytes = found.get(b"VmPTE", 0) + found.get(b"VmPMD", 0)
    return found.get(b"VmRSS", 0) * 1024, kilobytes * 1024, found.get(b"Threads", 1)


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:  # it ended meanwhile
        return []


def _proportional(path: str, resident: int) -> int:
    for line in _read(path + "/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return resident  # this kernel or a missing permission hides the exact figure

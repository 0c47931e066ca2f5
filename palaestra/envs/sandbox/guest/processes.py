"""Processes inside the sandbox: ending them all, reaping them, and how much memory they hold together."""

from __future__ import annotations

import os
import time

_SIGKILL, _SIGCONT, _SIGSTOP = 9, 18, 19
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Processes:
    """All processes but the guest itself.

    As pid 1 of a pid namespace that is one `kill(-1)`, which no fork can outrun. Elsewhere (backend "unsafe") it is
    what descends from the guest, looked up in /proc again and again until nothing is left.
    """

    def __init__(self) -> None:
        self.is_init = os.getpid() == 1

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

    def memory(self, enough: int) -> int:
        """Bytes that all others hold in memory together; counted exactly only where it may be more than `enough`."""
        pids = self.others()
        if (resident := sum(map(_resident, pids))) <= enough:
            return resident
        return sum(map(_proportional, pids))  # pages that several share count once


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(65536) or b""
    except OSError:  # it ended meanwhile
        return b""


def _resident(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def _proportional(pid: int) -> int:
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return _resident(pid)  # this kernel or a missing permission hides the exact figure

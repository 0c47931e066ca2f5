"""Control groups for sandboxes that no engine looks after: memory, processes and CPU of all of it together.

Version 2 where its controllers are there and may be used, else the hierarchies of version 1, else none: then the guest
itself watches (see `Setup.watch`). A group's folder is named for the process that made it: those of a killed process
stay, empty, until Palaestra next starts a sandbox here, which finds and removes them.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from palaestra.envs.sandbox.interface import Limits
from palaestra.envs.sandbox.program import SPARE_MEMORY

_PREFIX = "palaestra"
_numbers = itertools.count()


@dataclass(frozen=True)
class Hierarchy:
    """Where groups can be made.

    Attributes:
        parent: the folder to make them in.
        unified: is it version 2.
        controllers: of "memory", "pids" and "cpu", those that work here.
    """

    parent: Path
    unified: bool
    controllers: frozenset[str]


class Group:
    """One control group, in one hierarchy or in several. `make` makes it, `remove` gives it back."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self._owner = os.getpid()
        _left.add(self)

    def add(self, pid: int) -> None:
        """Put a process in, and all that it starts from now on. Raises OSError."""
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def remove(self, patience: float = 5.0) -> None:
        """Kill what is left in it and remove it. What cannot be removed yet is left to the next `sweep`."""
        deadline = time.monotonic() + patience
        _left.discard(self)
        for folder in self._folders:
            while not _removed(folder) and time.monotonic() < deadline:
                time.sleep(0.005)


_left: set[Group] = set()


@atexit.register
def remove_all() -> None:
    """Remove the groups of sandboxes that nobody closed, and end what is in them. Not in a fork, which made none."""
    for group in [group for group in _left if group._owner == os.getpid()]:
        group.remove(1.0)


def make(limits: Limits) -> Group | None:
    """A group with these limits; None where memory and processes cannot both be limited."""
    found = hierarchies()
    if not {"memory", "pids"} <= set(itertools.chain(*(hierarchy.controllers for hierarchy in found))):
        return None
    sweep()
    name = f"{_own_prefix()}-{next(_numbers)}"
    folders: list[Path] = []
    try:
        for hierarchy in found:
            folder = hierarchy.parent / name
            folder.mkdir()
            folders.append(folder)
            _limit(folder, hierarchy, limits)
    except OSError:
        Group(folders).remove(0.1)
        return None
    return Group(folders)


def _limit(folder: Path, hierarchy: Hierarchy, limits: Limits) -> None:
    # The work directory is memory too, and limited by itself; the guest is one of the processes.
    memory, pids = int(limits.memory) + int(limits.disk) + SPARE_MEMORY, limits.pids + 1
    quota = max(1000, int(limits.cpu * 100_000))
    settings: dict[str, str] = {}
    if "memory" in hierarchy.controllers:
        names = ("memory.max",) if hierarchy.unified else ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        settings |= {name: str(memory) for name in names}
        settings |= {"memory.swap.max": "0"}
    if "pids" in hierarchy.controllers:
        settings |= {"pids.max": str(pids)}
    if "cpu" in hierarchy.controllers:
        v1 = {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": str(quota)}
        settings |= {"cpu.max": f"{quota} 100000"} if hierarchy.unified else v1
    for name, value in settings.items():
        if "sw" not in name or (folder / name).exists():  # a kernel without swap accounting has no file for it
            (folder / name).write_text(value)


@functools.cache
def hierarchies() -> tuple[Hierarchy, ...]:
    """Where this process may make groups; found out once."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    own = dict(_memberships(Path("/proc/self/cgroup").read_text()))
    for _, folder, kind, *_ in mounts:
        if kind == "cgroup2" and (found := _unified(Path(folder), own.get("", "/"))):
            return (found,)
    several = []
    for controller in ("memory", "pids", "cpu"):
        for _, folder, kind, options, *_ in mounts:
            parent, one = Path(folder) / own.get(controller, "/").lstrip("/"), frozenset({controller})
            if kind == "cgroup" and controller in options.split(",") and _usable(Hierarchy(parent, False, one)):
                several.append(Hierarchy(parent, False, one))
                break
    return tuple(several)


def _memberships(text: str) -> list[tuple[str, str]]:
    """Controller -> our group; the unified hierarchy's has no name."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    return [(controller, path) for _, controllers, path in lines for controller in controllers.split(",")]


def _unified(root: Path, own: str) -> Hierarchy | None:
    """Our own group cannot have limited groups below it while we are in it: the one above it, or the top."""
    above = (root / own.lstrip("/")).parent if own != "/" else root
    for parent in dict.fromkeys((above, root)):
        with contextlib.suppress(OSError):
            wanted = {"memory", "pids", "cpu"} & set((parent / "cgroup.controllers").read_text().split())
            if missing := wanted - set((parent / "cgroup.subtree_control").read_text().split()):
                (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(missing)))
            found = Hierarchy(parent, True, frozenset(wanted))
            if {"memory", "pids"} <= wanted and _usable(found):
                return found
    return None


def _usable(hierarchy: Hierarchy) -> bool:
    """Try it: make a group, limit it, remove it."""
    folder = hierarchy.parent / f"{_own_prefix()}-try"
    try:
        folder.mkdir()
    except OSError:
        return False
    try:
        _limit(folder, hierarchy, Limits())
        # To move a process takes the right to write where both its groups meet.
        return os.access((hierarchy.parent if hierarchy.unified else folder) / "cgroup.procs", os.W_OK)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _own_prefix() -> str:
    pid = os.getpid()
    return f"{_PREFIX}-{os.stat('/proc/self/ns/pid').st_ino}-{pid}-{_started(pid)}"


def _started(pid: int) -> str | None:
    """When a process started, in the kernel's ticks: with it a process id means one process only."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def sweep() -> None:
    """Remove the groups of processes that are gone, and kill what is in them. Those of other pid namespaces stay."""
    here = str(os.stat("/proc/self/ns/pid").st_ino)
    for hierarchy in hierarchies():
        for folder in hierarchy.parent.glob(f"{_PREFIX}-{here}-*"):
            pid, started = folder.name.split("-")[2:4]
            if _started(int(pid)) != started:
                _removed(folder)


def _removed(folder: Path) -> bool:
    """Kill what is in a group, and try to remove it."""
    with contextlib.suppress(OSError):
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True

"""What stays behind when an environment is made and closed many times: memory, threads, processes, open files.

Growth counts as a leak only if it is found in every one of several equal blocks of cycles: a cache that fills once, or
a pool that starts a process late, grows in one block, a leak in all of them.
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

BLOCKS = 4


@dataclass(frozen=True)
class Resources:
    """What this process holds now; None where this machine does not tell (all but Linux).

    Attributes:
        objects: bytes of Python's own allocations, numpy's included; None unless traced.
        memory: resident set size in bytes.
        threads: threads of this process, native ones included where the machine tells.
        processes: descendants of this process, dead ones that nobody waited for included.
        files: open file descriptors.
    """

    objects: int | None
    memory: int | None
    threads: int
    processes: int | None
    files: int | None

    @classmethod
    def now(cls) -> Resources:
        """Count. Takes some milliseconds."""
        gc.collect()
        proc = Path("/proc/self")
        objects = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else None
        if not (proc / "statm").exists():
            return cls(objects, None, threading.active_count(), None, None)
        return cls(
            objects,
            int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            len(os.listdir(proc / "task")),
            _descendants(os.getpid()),
            len(os.listdir(proc / "fd")),
        )


def _descendants(root: int) -> int:
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:  # it ended meanwhile
                continue
            parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    family = {root}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return len(family) - 1


def _settled(before: Resources, patience_s: float = 3.0) -> Resources:
    """Count, giving threads and processes that are ending time to end."""
    deadline = time.monotonic() + patience_s
    while True:
        now = Resources.now()
        calm = (
            now.threads <= before.threads
            and (now.processes or 0) <= (before.processes or 0)
            and (now.files or 0) <= (before.files or 0)
        )
        if calm or time.monotonic() > deadline:
            return now
        time.sleep(0.05)


@dataclass(frozen=True)
class Growth:
    """What grew.

    Attributes:
        cycles, resets: how many there were after the warm-up.
        least: for each resource, the smallest growth over one block; None where unknown.
        leaks: those that grew in every block by more than noise, in words.
    """

    cycles: int
    resets: int
    least: dict[str, int | None]
    leaks: tuple[str, ...]


def growth(cycle: Callable[[bool], None], *, cycles: int, limit_s: float) -> Growth:
    """Run create/close cycles and measure what they leave behind.

    Args:
        cycle: makes an environment, resets it if told to, closes it.
        cycles: how many, after a warm-up of a tenth of them. All of them reset where that fits into `limit_s`; of an
            environment that is slow to reset only every n-th does, the same number in every block and at least one.
    """
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        cycle(True)
        began = time.monotonic()
        cycle(True)
        each_s = time.monotonic() - began
        block = max(1, math.ceil(cycles / BLOCKS))
        every = min(block, max(1, math.ceil(cycles * each_s / limit_s)))
        for index in range(max(4, block // 2)):
            cycle(index % every == 0)
        marks = [Resources.now()]
        for _ in range(BLOCKS):
            for index in range(block):
                cycle(index % every == 0)
            marks.append(_settled(marks[-1]))
    finally:
        if not tracing:
            tracemalloc.stop()
    return _judge(marks, block, BLOCKS * math.ceil(block / every))


def _judge(marks: list[Resources], block: int, resets: int) -> Growth:
    # Bytes that a block may grow by: below that lies the noise of allocators and of a few long-lived small objects.
    noise = {"objects": max(16 * 1024, 256 * block), "memory": max(512 * 1024, 4096 * block)}
    least: dict[str, int | None] = {}
    leaks = []
    for name in (each.name for each in fields(Resources)):
        values = [getattr(mark, name) for mark in marks]
        if None in values:
            least[name] = None
            continue
        steps = [after - before for before, after in itertools.pairwise(values)]
        least[name] = min(steps)
        if min(steps) > noise.get(name, 0):
            unit = " bytes" if name in noise else ""
            leaks.append(f"{name} grew by {values[-1] - values[0]:,}{unit} over {block * BLOCKS} cycles")
    return Growth(block * BLOCKS, resets, least, tuple(leaks))

"""What a sandbox holds in memory, as its own control group says: with what no process can be measured or blamed for.

Files in memory without a name, shared memory that nobody has touched lately, bytes that lie in sockets and pipes: a
process that hoards these looks small, and when the group is full the kernel may well end the guest in its place.
"""

from __future__ import annotations

import os

_FOLDERS = (b"/sys/fs/cgroup", b"/sys/fs/cgroup/memory")  # version 2 and version 1, as container engines show them
_USAGE = (b"memory.current", b"memory.usage_in_bytes")
_CACHE = (b"inactive_file ", b"active_file ")


class Held:
    """The control group that all of the sandbox is in, where its files show it.

    Args:
        folders: tmpfs that are limited by themselves; what lies in them is not counted.
    """

    def __init__(self, folders: list[bytes]) -> None:
        self._folders = folders
        self._usage = self._stat = -1
        for folder, name in zip(_FOLDERS, _USAGE):  # noqa: B905  # Python 3.8
            try:
                self._usage = os.open(folder + b"/" + name, os.O_RDONLY | os.O_CLOEXEC)
                self._stat = os.open(folder + b"/memory.stat", os.O_RDONLY | os.O_CLOEXEC)
                break
            except OSError:
                continue
        self.known = self._stat >= 0
        self._own = self._all() if self.known else 0  # the guest's, before any command

    def memory(self, enough: int) -> int:
        """Bytes held beside the guest; counted exactly only where it may be more than `enough`."""
        usage = int(os.pread(self._usage, 64, 0))
        return usage if usage <= enough else self._all() - self._own

    def _all(self) -> int:
        """All but files of the disk, which the kernel drops when it needs their place, and those of the folders."""
        held = int(os.pread(self._usage, 64, 0))
        for line in os.pread(self._stat, 65536, 0).splitlines():
            if line.startswith(_CACHE):
                held -= int(line.split()[1])
        for folder in self._folders:
            state = os.statvfs(folder)
            held -= (state.f_blocks - state.f_bfree) * state.f_frsize
        return held

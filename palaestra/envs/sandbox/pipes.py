"""A guest that is a child process of ours: its pipes, its words on stderr, and its end."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time


class PipeWire:
    """The `Wire` over a child's stdin and stdout.

    Args:
        stdin, stdout: our ends of the pipes; whoever made them closes them.
    """

    def __init__(self, stdin: int, stdout: int) -> None:
        self._stdin, self._stdout = stdin, stdout
        for end in (stdin, stdout):
            os.set_blocking(end, False)

    def write(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                self._wait(self._stdin, select.POLLOUT, deadline)

    def read(self, size: int, deadline: float) -> bytes:
        while True:
            try:
                return os.read(self._stdout, size)
            except BlockingIOError:
                self._wait(self._stdout, select.POLLIN, deadline)

    @staticmethod
    def _wait(end: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(end, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError


class Words:
    """What a child says on stderr: kept in memory, read once it has died."""

    def __init__(self) -> None:
        self.file = os.memfd_create("stderr", os.MFD_CLOEXEC)

    def text(self) -> str:
        """The last of it."""
        try:
            size = os.fstat(self.file).st_size
            return os.pread(self.file, 4096, max(0, size - 4096)).decode("utf-8", "replace")
        except OSError:  # closed
            return ""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.file)


def end(child: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """Kill a child and reap it."""
    with contextlib.suppress(OSError):
        child.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(patience)

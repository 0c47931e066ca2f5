"""A sandbox that an ordinary user starts, for tests that run as root: in a process that has become one.

As a program: reads calls from the pipe it was started with, and answers them. The project and its interpreter may lie
where that user cannot read, so all is imported before the change.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

UID = 61184  # of nobody in particular


class OrdinarySandbox:
    """Stands for a `BubblewrapSandbox` in another process: calls and attributes go there."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        theirs, ours = os.pipe(), os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(theirs[0]), str(ours[1])], pass_fds=[theirs[0], ours[1]]
        )
        os.close(theirs[0])
        os.close(ours[1])
        self._to = Connection(theirs[1], readable=False)
        self._from = Connection(ours[0], writable=False)
        self._ask(args, settings)

    def _ask(self, *what: Any) -> Any:
        self._to.send_bytes(pickle.dumps(what))
        answer = pickle.loads(self._from.recv_bytes())
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def __getattr__(self, name: str) -> Any:
        if name in ("measured", "limits"):
            return self._ask("get", name)
        return lambda *args, **settings: self._ask("call", name, args, settings)

    def __enter__(self) -> OrdinarySandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._to.close()
        self._from.close()
        self.process.wait(30)


def serve(reading: int, writing: int) -> None:
    """In the other process."""
    from palaestra.envs.sandbox import cgroups, program, seccomp  # noqa: F401
    from palaestra.envs.sandbox.bwrap import BubblewrapSandbox

    program.program(importlib.util.MAGIC_NUMBER)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(UID)
        os.setuid(UID)
    os.chdir("/")
    os.environ.clear()
    hearing, saying = Connection(reading, writable=False), Connection(writing, readable=False)
    box: Any = None
    while True:
        try:
            what = pickle.loads(hearing.recv_bytes())
        except EOFError:
            return
        try:
            answer: Any = None
            if box is None:
                box = BubblewrapSandbox(*what[0], **what[1])
            elif what[0] == "get":
                answer = getattr(box, what[1])
            else:
                answer = getattr(box, what[1])(*what[2], **what[3])
        except Exception as error:
            answer = error
        saying.send_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))

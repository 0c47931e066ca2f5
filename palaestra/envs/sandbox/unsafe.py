"""Backend "unsafe": the guest as a bare process. No isolation at all: for code that you would run yourself.

Commands run as you, read what you read and reach what you reach. Of the limits only output, file size, time and memory
hold, and only against code that does not try. It is never chosen by itself, and says so when it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from typing import ClassVar

from palaestra.envs.sandbox.client import PATH, GuestSandbox
from palaestra.envs.sandbox.interface import Limits
from palaestra.envs.sandbox.pipes import PipeWire, Words, end
from palaestra.envs.sandbox.program import STUB, Setup

WARNING = "sandbox backend 'unsafe': code runs without any isolation, as you, with your files and your network"
_warned = False


class UnsafeSandbox(GuestSandbox):
    """No sandbox at all."""

    backend: ClassVar[str] = "unsafe"

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        _warn()
        self._folder, self._words = "", Words()
        self._child: subprocess.Popen[bytes] | None = None
        try:
            self._launch(self._run)
            assert self._child is not None
            stdin, stdout = self._child.stdin, self._child.stdout
            assert stdin is not None
            assert stdout is not None
            wire = PipeWire(stdin.fileno(), stdout.fileno())
            self._begin(wire, Setup(limits, work=self._folder, scratch=(), orphans=True))
        except BaseException:
            self._abandon()
            raise

    def _run(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="palaestra-unsafe-")
        self.env = {
            "PATH": f"{sys.base_prefix}/bin:{PATH}",
            "HOME": self._folder,
            "LANG": "C.UTF-8",
            "TMPDIR": self._folder,
        }
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", STUB],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words.file,
            env=self.env,
            start_new_session=True,
            bufsize=0,
        )

    def _last_words(self) -> str:
        return self._words.text()

    def _end(self) -> None:
        if os.getpid() != self._process:
            for pipe in (self._child.stdin, self._child.stdout) if self._child is not None else ():
                if pipe is not None:
                    pipe.close()
            self._words.close()
            return
        if (child := self._child) is not None:
            if child.stdin is not None:
                child.stdin.close()  # the guest ends its processes, and itself
            try:
                child.wait(5.0)
            except subprocess.TimeoutExpired:
                end(child)
            self._quiet()
            if child.stdout is not None:
                child.stdout.close()
        self._words.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def _warn() -> None:
    """Once a process, for people and for programs."""
    global _warned
    if not _warned:
        _warned = True
        print(f"palaestra: {WARNING}", file=sys.stderr, flush=True)
        warnings.warn(WARNING, RuntimeWarning, stacklevel=4)

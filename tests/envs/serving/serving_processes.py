"""Servers for the tests: real ones, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

ODD = Path(__file__).with_name("odd_served.py")
OPENENV = Path(sys.prefix) / "openenv"
"""Where `python3 dev.py setup` puts OpenEnv."""


@dataclass
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[str]
    errors: IO[str]

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def said(self) -> str:
        """What it wrote to stderr."""
        self.errors.seek(0)
        return self.errors.read()

    def memory(self) -> int:
        """Bytes of its resident set."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def threads(self) -> int:
        """How many threads it has."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def serving(env: str, *options: str, environ: Mapping[str, str] | None = None) -> Iterator[Server]:
    """`palaestra serve ENV` at a free port."""
    command = [sys.executable, "-m", "palaestra", "serve", env, "--port", "0", *options]
    clean = {key: value for key, value in os.environ.items() if key != "PALAESTRA_TOKEN"}
    with started(command, {**clean, **(environ or {})}) as (process, errors):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "; Ctrl-C stops" in line, line + (errors.seek(0), errors.read())[1]
        yield Server(line.split(" at ")[1].split(";")[0].replace("0.0.0.0", "127.0.0.1"), process, errors)


@contextmanager
def started(
    command: list[str], environ: Mapping[str, str], cwd: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A process that is gone afterwards, and the file that its stderr goes to."""
    with TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=dict(environ), cwd=cwd
        )
        try:
            yield process, errors
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def until(condition: object, seconds: float = 30.0) -> bool:
    """Wait for a condition that another process brings about; False if it has not within `seconds`."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())

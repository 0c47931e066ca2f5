"""One process at a time: a lock that goes with the process that holds it, and leaves no file behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Only one process (and thread) at a time is inside; others wait. The file is made, and gone afterwards.

    Raises:
        OSError: the file cannot be made.
    """
    while True:
        with path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_at(lock.fileno(), path):  # whoever held it before took the file away; so wait at the new one
                continue
            try:
                yield
                return
            finally:
                with contextlib.suppress(OSError):
                    path.unlink()


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False

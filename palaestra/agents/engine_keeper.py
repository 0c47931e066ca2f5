"""Keeps one engine: a small process of its own, so that nothing of the engine outlives whoever started it.

vLLM's API server starts further processes, and those survive it when it is killed. The keeper becomes the parent of
whatever loses its own (a subreaper) and waits until its standard input ends: that happens when the owner closes it, and
also when the owner is killed. Then it ends the engine and all that is below it. It imports nothing of Palaestra:

    python -I engine_keeper.py FOLDER COMMAND ...
    python -I engine_keeper.py --guard PID ...

In the second form it only waits, for an engine that its owner started itself.

The engine's output goes to FOLDER/engine.log. The folder is removed, unless the engine ended by itself: then the owner,
if there still is one, reads the log first.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_GRACE = 5.0  # seconds that the engine has to end by itself
_PATIENCE = 20.0  # seconds until what cannot be killed is given up


def keep(folder: Path, command: list[str]) -> int:
    """Run the engine until it ends, or until standard input does. Returns the process's exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who tells us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    owner = os.getppid()
    engine: subprocess.Popen[bytes] | None = None
    by_itself = False
    try:
        with (folder / "engine.log").open("ab") as log:
            engine = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
            )
        print(engine.pid, flush=True)
        while not (by_itself := engine.poll() is not None):
            told, _, _ = select.select([sys.stdin], [], [], 0.2)
            # A pipe's end does not come while another child of the owner, forked, still holds it.
            if (told and not os.read(sys.stdin.fileno(), 1)) or os.getppid() != owner:
                break
    finally:
        if engine is not None:
            _end(engine)
        if not by_itself or os.getppid() != owner:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if by_itself else 0


def _end(engine: subprocess.Popen[bytes]) -> None:
    """Ask the engine to stop, then kill what is left of all that it started."""
    if engine.poll() is None:
        engine.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            engine.wait(timeout=_GRACE)
    until = time.monotonic() + _PATIENCE
    while (left := list(descendants(os.getpid()))) and time.monotonic() < until:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def guard(pids: list[int]) -> int:
    """End these processes, with all below them, when standard input or the owner does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    owner, known = os.getppid(), {pid: started(pid) for pid in pids}
    while os.getppid() == owner:
        told, _, _ = select.select([sys.stdin], [], [], 0.2)
        if told and not os.read(sys.stdin.fileno(), 1):
            break
    for pid, since in known.items():
        if since and started(pid) == since:
            for left in [*descendants(pid), pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)
    return 0


def started(pid: int) -> str:
    """When a process started, in clock ticks since boot; nothing where it is over. Ids come again, both do not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def descendants(root: int) -> Iterator[int]:
    """All processes below one, as they are now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        yield from below
        todo += below


if __name__ == "__main__":
    guards = sys.argv[1] == "--guard"
    raise SystemExit(guard([int(pid) for pid in sys.argv[2:]]) if guards else keep(Path(sys.argv[1]), sys.argv[2:]))

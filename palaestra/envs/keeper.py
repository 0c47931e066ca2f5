"""Keeps one program: a small process of its own, so that nothing of the program outlives whoever started it.

A server starts further processes, and those survive it when it is killed. The keeper becomes the parent of whatever
loses its own (a subreaper) and waits until its standard input ends: that happens when the owner closes it, and also
when the owner is killed. Then it ends the program and all that is below it. It is two processes, one below the other:
where one of them is killed, the other one does that. It imports nothing of Palaestra:

    python -I keeper.py FOLDER COMMAND ...
    python -I keeper.py --guard PID ...

In the second form it only waits, for processes that its owner started itself. Who keeps something that takes more to
start or to clear away builds on the functions here.

The program's output goes to FOLDER/engine.log. The folder is removed, unless the program ended by itself: then the
owner, if there still is one, reads the log first.
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
_PATIENCE = 20.0  # seconds until what cannot be killed is given up


def keep(folder: Path, command: list[str]) -> int:
    """Run the program until it ends, or until standard input does. Returns the process's exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who tells us
    adopt()
    owner, told = os.getppid(), False
    ends, held = os.pipe()  # its end comes with that of the inner process
    inner = os.fork()
    if inner == 0:
        os.close(ends)
        return _run(folder, command)
    os.close(held)
    while not select.select([ends], [], [], 0.2)[0]:
        # A pipe's end does not come while another child of the owner, forked, still holds it.
        if os.getppid() != owner and not told:
            told = True
            os.kill(inner, signal.SIGTERM)
    status = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    _clear()  # something is left where the inner process was killed
    if os.getppid() != owner:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if status else 0


def _run(folder: Path, command: list[str]) -> int:
    """What the inner process does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    adopt()
    outer = os.getppid()
    program: subprocess.Popen[bytes] | None = None
    by_itself = False
    try:
        program = start(command, folder / "engine.log", signal.SIGKILL)
        print(program.pid, flush=True)
        while not (by_itself := program.poll() is not None):
            told, _, _ = select.select([sys.stdin], [], [], 0.2)
            if (told and not os.read(sys.stdin.fileno(), 1)) or os.getppid() != outer:
                break
    finally:
        if program is not None:
            end(program, grace=5.0)
        if not by_itself or os.getppid() != outer:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if by_itself else 0


def adopt() -> None:
    """From now on whatever loses its parent below this process becomes its child."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(command: list[str], log: Path, orphaned: signal.Signals) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own. It gets the signal `orphaned` where this process is killed.

    Args:
        log: what it says is added to this file.

    Raises:
        OSError: there is no such program.
    """
    libc = ctypes.CDLL(None)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, orphaned, 0, 0, 0),
        )


def end(program: subprocess.Popen[bytes], grace: float) -> None:
    """Ask a program to stop, then kill all that is left below this process, which has adopted it.

    Args:
        grace: seconds that it has to end by itself.
    """
    if program.poll() is None:
        program.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(timeout=grace)
    _clear()


def _clear() -> None:
    """Kill all that is below this process."""
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

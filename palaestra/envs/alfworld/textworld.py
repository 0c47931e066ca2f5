"""The original ALFWorld engine (TextWorld and its planner) behind the same seam as the native one: the referee.

It is the extra `alfworld`, whose planner is licensed under the GPL; the native engine needs none of it. The original
runs in a child process (see `referee.py`), so that neither its leaks nor a crash of its C library reach this one.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import IO, Any

from palaestra.envs.alfworld.engine import Answer
from palaestra.envs.alfworld.game import GameFile, World
from palaestra.envs.errors import BadInput, EnvFault, MissingExtra

LICENCES = (
    "engine='textworld' runs the original: alfworld (MIT), textworld (MIT) and its planner "
    "fast-downward-textworld (GPL-3.0), in a process of their own; engine='native' needs none of them"
)

START_SECONDS = 120
BEGIN_SECONDS = 180
"""Loading takes the original some 2 s on an idle core."""
ACT_SECONDS = 120
BEGINS = 60
"""Games that one child plays before it is replaced: the original leaks some 2 MB a reset."""


@dataclass(frozen=True)
class Said:
    """All that the original says after a reset or a step.

    Attributes:
        text: the observation.
        admissible: its admissible commands, sorted and without duplicates.
        won: is the goal reached.
        valid: was the command one of the admissible ones.
        score, done: as the original sets them; None after a reset.
    """

    text: str
    admissible: tuple[str, ...]
    won: bool
    valid: bool
    score: float | None
    done: bool | None


class Child:
    """The process with the original in it. One thread at a time may ask; `kill` may be called from any thread.

    Raises:
        MissingExtra: the original is not installed. EnvFault: the process did not start.
    """

    def __init__(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        script = Path(__file__).with_name("referee.py")
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                cwd=tempfile.gettempdir(),
                env={**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONIOENCODING": "utf-8"},
                start_new_session=True,  # Ctrl-C at the terminal stops the run, which then closes its children in order
            )
        except OSError as error:
            self._errors.close()
            raise EnvFault(f"cannot start the original ALFWorld: {error}") from error
        self.owner, self.begins, self._unread, self._killed = os.getpid(), 0, b"", False
        self._end = weakref.finalize(self, _end, self.process, self._errors, self.owner)
        LIVE.add(self)
        greeting = self._read(START_SECONDS, "start")
        if "missing" in greeting:
            self.close()
            missing = greeting["missing"]
            what = f"the original ALFWorld (MIT, its planner GPL-3.0) needs the Python module {missing!r}, which"
            raise MissingExtra(what, "alfworld")
        self.versions: dict[str, str] = greeting["versions"]

    @property
    def alive(self) -> bool:
        """Is it running and not being killed, and is it this process that started it."""
        here = self.owner == os.getpid() and self._end.alive
        return here and not self._killed and self.process.poll() is None

    def ask(self, request: dict[str, Any], seconds: float, what: str) -> Said:
        """One request and its answer. Raises BadInput where the original refuses, EnvFault when the process is gone."""
        if not self.alive:
            raise EnvFault(f"the process of the original ALFWorld is gone (at {what})")
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except (OSError, ValueError) as error:
            self.kill()
            raise EnvFault(f"the process of the original ALFWorld is gone (at {what}): {error}") from error
        answer = self._read(seconds, what)
        if "error" in answer:
            raise BadInput(f"the original ALFWorld refuses {what}: {answer['error']}")
        return Said(**{**answer, "admissible": tuple(answer["admissible"])})

    def _read(self, seconds: float, what: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        pipe, deadline = self.process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._unread:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(pipe, 1 << 16) if ready else b""
            if not more:
                self.kill()
                why = f"died: {self.last_words()}" if ready else f"did not answer within {seconds:.0f} s"
                raise EnvFault(f"the process of the original ALFWorld {why} (at {what})")
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def last_words(self) -> str:
        """The last line that the process wrote to its standard error."""
        with contextlib.suppress(OSError, ValueError):
            size = os.fstat(self._errors.fileno()).st_size
            tail = os.pread(self._errors.fileno(), 4096, max(0, size - 4096)).decode(errors="replace")
            return next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "no message")
        return "no message"

    def kill(self) -> None:
        """End the process at once. From any thread: a call that waits for it in another one then raises EnvFault."""
        if self.owner == os.getpid():
            self._killed = True  # from now on, though the process may take a while to go
            with contextlib.suppress(OSError):
                self.process.kill()

    def close(self) -> None:
        """End the process and give everything back. May be called twice."""
        self._end()


def _end(process: subprocess.Popen[bytes], errors: IO[bytes], owner: int) -> None:
    if owner == os.getpid():
        with contextlib.suppress(OSError):
            process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
    else:
        process.returncode = 0  # a forked copy of this object: not this process's child
    for stream in (process.stdin, process.stdout, errors):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.close()


LIVE: weakref.WeakSet[Child] = weakref.WeakSet()
"""The processes that this one has started."""


def _forked() -> None:
    """In a forked child: let go of the parent's processes, so that they end with the parent."""
    for child in list(LIVE):
        child.close()
    LIVE.clear()


os.register_at_fork(after_in_child=_forked)


class TextWorldEngine:
    """The original, one running game at a time. Construction starts nothing; the first game starts the process.

    Attributes:
        exact: False: its state cannot be copied, so an environment on it rewinds by replay.
        said: all that the original said last (score and done as it sets them).
    """

    exact = False

    def __init__(self) -> None:
        self.said: Said | None = None
        self._child: Child | None = None
        self._digest: str | None = None

    def begin(self, file: GameFile) -> Answer:
        """Load a game and say its first text.

        Raises:
            MissingExtra: the original is not installed. BadInput: it refuses the game. EnvFault: its process broke.
        """
        child = self._running()
        child.begins += 1
        texts = {"pddl_domain": file.domain, "grammar": file.grammar, "pddl_problem": file.problem}
        same = self._digest == file.digest
        self._digest = None
        answer = self._note(child.ask({"begin": None if same else texts}, BEGIN_SECONDS, file.where))
        self._digest = file.digest
        return answer

    def act(self, file: GameFile, world: World | None, command: str) -> Answer:
        """Take a step in the running game. Raises EnvFault when the process broke or runs another game."""
        child = self._child
        if child is None or self._digest != file.digest:
            raise EnvFault(f"the original ALFWorld is not playing {file.where}; reset or restore first")
        try:
            return self._note(child.ask({"act": command}, ACT_SECONDS, f"{file.where}, {command[:80]!r}"))
        except BadInput as error:  # a command is never what is wrong: it has broken inside
            self._digest = None
            child.kill()
            raise EnvFault(str(error)) from error

    def admissible(self, file: GameFile, world: World | None) -> Sequence[str]:
        """What the original listed after the last step."""
        return self.said.admissible if self.said is not None else ()

    @property
    def alive(self) -> bool:
        """Is a process running."""
        return self._child is not None and self._child.alive

    def kill(self) -> None:
        """End the process at once, from any thread; the next `begin` starts another."""
        if self._child is not None:
            self._child.kill()

    def close(self) -> None:
        """End the process. May be called twice."""
        child, self._child, self._digest = self._child, None, None
        if child is not None:
            child.close()

    def _running(self) -> Child:
        if self._child is not None and (not self._child.alive or self._child.begins >= BEGINS):
            self.close()
        if self._child is None:
            self._child = Child()
        return self._child

    def _note(self, said: Said) -> Answer:
        self.said = said
        return Answer(world=None, text=said.text, valid=said.valid, won=said.won)


def why_not_ready() -> str | None:
    """Why the original cannot run here, in one line; None if its packages are there."""
    for module in ("alfworld", "textworld", "fast_downward"):
        if util.find_spec(module) is None:
            return f"the original ALFWorld needs the Python module {module!r}; pip install 'palaestra[alfworld]'"
    return None

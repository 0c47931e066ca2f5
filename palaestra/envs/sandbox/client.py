"""The host's side of a sandbox: every method of `Sandbox`, over two streams of bytes to a guest.

A backend subclasses `GuestSandbox`, makes its isolation with `python3 -I -S -c STUB` in it, and hands over a `Wire`.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox import errors, given
from palaestra.envs.sandbox.errors import SandboxDied, TooLarge
from palaestra.envs.sandbox.guest.frames import CHUNK, HEADER, HELLO, KEY, MAGIC, Forged, Seal
from palaestra.envs.sandbox.interface import Entry, ExecResult, Limits, Sandbox, WorkCopy
from palaestra.envs.sandbox.program import Setup, program
from palaestra.envs.sandbox.uninterrupted import uninterrupted

PATH = "/usr/local/bin:/usr/bin:/bin"
GRACE = 30.0  # seconds that a guest may be late with an answer, on a machine that is short of everything
_BESIDE = 9  # bytes beside those of an argument: in a frame, and where the kernel keeps them
_KINDS = {
    kind.__name__: kind for kind in (errors.OutsideWork, errors.NotAFile, errors.TooLarge, BadInput)
}  # what a guest may answer; anything else is a guest gone mad


class Wire(Protocol):
    """Two streams of bytes to a guest."""

    def write(self, data: bytes, deadline: float) -> None:
        """Write all of it. Raises TimeoutError (`time.monotonic()` is past the deadline), OSError where it is gone."""

    def read(self, size: int, deadline: float) -> bytes:
        """At least one byte and at most `size`; none at the end. Raises TimeoutError, OSError."""


class GuestSandbox(Sandbox):
    """A sandbox whose work is done by a guest.

    Subclasses set `backend`, call `_begin` once their guest has started, and say how all of it ends in `_end`.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.on_close: Callable[[], None] | None = None  # called once it has ended: a pool counts its places so
        self.env: dict[str, str] = {"PATH": PATH, "HOME": "/work", "LANG": "C.UTF-8", "TMPDIR": "/tmp"}
        self._wire: Wire | None = None
        self._why_gone = "it has not started"
        self._mine = self._theirs = Seal(b"", b"")
        self._process = os.getpid()
        self._sending = threading.RLock()
        self._talking = threading.Lock()  # held from a request to the end of its answer
        self._talker = 0  # the thread that holds it
        self._refused: Exception | None = None  # what the guest answered last with `fail`
        self._running = self._cancelled = False
        self._launching = self._ended = False
        _all.add(self)

    # What a backend does.

    @abstractmethod
    def _end(self) -> None:
        """End everything in the sandbox and give back what it took. Called once, and never raises.

        In a fork of the process that started it, where this is called too: let go of the files, and end nothing."""

    def _last_words(self) -> str:
        """What the guest, or what should have started it, said on stderr."""
        return ""

    def _launch(self, launch: Callable[[], None]) -> None:
        """Start what isolates, and the guest in it. Whatever is raised meanwhile, `_end` takes it back: it is to go
        by what has been noted of it so far."""
        self._launching = True

        def work() -> None:
            try:
                launch()
            finally:
                self._launching = False

        uninterrupted(work, self._abandon)

    def _abandon(self) -> None:
        """End it, once; where it is still being launched, as soon as that is done."""
        with self._sending:
            if self._launching or self._ended:
                return
            self._ended, self._wire = True, None
        self._end()

    def _begin(self, wire: Wire, setup: Setup, patience: float = GRACE) -> None:
        """Send the guest its program, the session's key and its configuration. Raises SandboxDied."""
        self._wire = wire
        deadline = time.monotonic() + patience
        try:
            hello = self._read_exactly(len(HELLO) + MAGIC, deadline)
            if not hello.startswith(HELLO):
                raise Forged(f"it does not begin as a guest does, but with {hello[:40]!r}")
            key = secrets.token_bytes(KEY)
            wire.write(program(hello[len(HELLO) :]) + key, deadline)
        except (Forged, TimeoutError, OSError, EOFError) as error:
            raise self._died(error) from error
        self._mine, self._theirs = Seal(key, b"host"), Seal(key, b"guest")
        self._say(deadline, b"config", *setup.fields())
        if (answer := self._hear(deadline))[0] != b"ready":
            raise self._died(Forged(f"it said {answer[0]!r}"))

    # Frames.

    @contextmanager
    def _talk(self) -> Iterator[None]:
        """A request and its whole answer.

        What breaks in between, as an exception that a signal's handler raises, would leave the rest of the answer to be
        taken for that of the next request: it ends the sandbox.

        Raises:
            SandboxDied: it is gone.
            BadInput: another thread is talking to it, or this process is a fork of the one that started it.
        """
        self._check_process()
        if not self._talking.acquire(blocking=False):
            raise BadInput(
                f"this {self.backend} sandbox is in use by another thread; only `cancel` and `close` may be called"
                " then: give each thread a sandbox of its own"
            )
        try:
            self._talker = threading.get_ident()
            yield
        except SandboxDied:
            raise
        except BaseException as error:
            if error is not self._refused:
                self._died(f"a call was interrupted by {type(error).__name__}")
            raise
        finally:
            self._refused, self._talker = None, 0
            self._talking.release()

    def _check_process(self) -> None:
        """Raise BadInput in a fork, which has the sandbox's files, but not its place in the conversation."""
        if os.getpid() != self._process:
            raise BadInput(
                f"this {self.backend} sandbox belongs to process {self._process}, of which this one is a fork: start"
                " one of its own here"
            )

    def _let_go(self) -> None:
        """In a fork: it has our files, which would keep the guest alive when its owner is gone, and no business here.

        The locks may be held by threads that do not exist here."""
        self._sending, self._talking, self._talker = threading.RLock(), threading.Lock(), 0
        self._launching, self._wire, self.on_close = False, None, None
        self._abandon()

    def _quiet(self, patience: float = 5.0) -> None:
        """For `_end`, once the guest is gone: wait until no other thread waits for its answer any more."""
        if self._talker != threading.get_ident() and self._talking.acquire(timeout=patience):
            self._talking.release()

    def _died(self, error: Exception | str) -> SandboxDied:
        """End what is left; from now on every call says why."""
        if self._wire is None:  # somebody else has ended it, which is why
            return SandboxDied(f"the {self.backend} sandbox is gone: {self._why_gone}")
        words = self._last_words().strip()[-500:]
        self.close()
        text = str(error) or {"EOFError": "its guest is gone"}.get(type(error).__name__, type(error).__name__)
        self._why_gone = f"{text}{f' ({words})' if words else ''}"
        return SandboxDied(f"the {self.backend} sandbox died: {self._why_gone}")

    def _read_exactly(self, size: int, deadline: float) -> bytes:
        if (wire := self._wire) is None:
            raise SandboxDied(f"the {self.backend} sandbox is gone: {self._why_gone}")
        parts = []
        while size:
            part = wire.read(size, deadline)
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _say(self, deadline: float, *fields: bytes) -> None:
        self._check_process()
        with self._sending:
            if (wire := self._wire) is None:
                raise SandboxDied(f"the {self.backend} sandbox is gone: {self._why_gone}")
            try:
                wire.write(self._mine.seal(*fields), deadline)
                return
            except (TimeoutError, OSError) as error:
                failed = error
            except BaseException as error:  # half a frame may have been written
                self._died(f"a call was interrupted by {type(error).__name__}")
                raise
        raise self._died(failed) from failed

    def _hear(self, deadline: float) -> list[bytes]:
        """The guest's next frame. Raises what it answers with `fail`, and SandboxDied."""
        try:
            header = self._read_exactly(HEADER, deadline)
            fields = self._theirs.open(header, self._read_exactly(Seal.size(header), deadline))
        except TimeoutError as error:
            raise self._died("its guest does not answer") from error
        except (Forged, OSError, EOFError, ValueError) as error:
            raise self._died(error) from error
        if fields[0] == b"fail":
            kind, text = fields[1].decode(), fields[2].decode()
            if kind not in _KINDS:
                raise self._died(text)
            self._refused = _KINDS[kind](text)
            raise self._refused
        return fields

    def _stream(self, deadline: float) -> Iterator[list[bytes]]:
        """The fields of `data` frames; last those of `end`, after its name."""
        while (fields := self._hear(deadline))[0] == b"data":
            yield fields[1:]
        if fields[0] != b"end":
            raise self._died(Forged(f"it said {fields[0]!r}"))
        yield fields

    def _send(self, deadline: float, request: Sequence[bytes], content: bytes) -> None:
        self._say(deadline, *request)
        view = memoryview(content)
        for at in range(0, len(view), CHUNK):
            self._say(deadline, b"data", bytes(view[at : at + CHUNK]))
        self._say(deadline, b"end")

    def _due(self, size: int = 0) -> float:
        """When an answer that moves so many bytes is overdue: at 1 MiB a second, and the grace."""
        return time.monotonic() + GRACE + size / 2**20

    # Sandbox.

    def exec(
        self,
        command: Sequence[str] | str,
        *,
        input: bytes | str = b"",
        cwd: str = ".",
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        timeout: float | None = None,
        background: bool = False,
    ) -> ExecResult:
        seconds = float(self.limits.wall) if timeout is None else given.seconds(timeout)
        texts, variables = given.argv(command), {**self.env, **given.variables(env)}
        pairs = [
            given.raw(f"{name}={value}", f"the environment variable {name!r}") for name, value in variables.items()
        ]
        if sum(len(text) + _BESIDE for text in (*texts, *pairs)) > CHUNK * 8:
            raise TooLarge("the command and its variables are longer than 2 MiB; write a file and run that")
        feed = given.content(input, "the input")
        self._fits(len(feed), "the input")
        if len(feed) > self.limits.memory // 2:  # all of it waits inside until the command has read it
            raise TooLarge(
                f"the input has {len(feed)} bytes; at most half of the limit memory, {self.limits.memory // 2}, is fed"
                " to a command: write a file and let it read that"
            )
        flag = b"1" if given.flag(background, "background") else b"0"
        head = [b"exec", given.folder(cwd, "cwd"), given.user(user), repr(seconds).encode(), flag]
        due = self._due(len(feed)) + seconds
        with self._talk():
            self._cancelled = False
            try:
                self._send(due, [*head, *pairs, b"--", *texts], feed)
                with self._sending:
                    self._running = True
                    if self._cancelled:
                        self._say(due, b"cancel")
                return self._result(due)
            finally:
                with self._sending:
                    self._running = False

    def _result(self, due: float) -> ExecResult:
        streams: dict[bytes, list[bytes]] = {b"out": [], b"err": []}
        while (fields := self._hear(due))[0] in streams:
            streams[fields[0]].append(fields[1])
        if fields[0] != b"done":
            raise self._died(Forged(f"it said {fields[0]!r}"))
        rc, timed_out, truncated, taken = fields[1:]
        out, err = (b"".join(streams[name]) for name in (b"out", b"err"))
        return ExecResult(int(rc), out, err, timed_out == b"1", truncated == b"1", float(taken))

    def cancel(self) -> None:
        """End the command that another thread is running here, which then returns as if it had been killed."""
        with self._sending:
            self._cancelled = True  # where the command is still being sent, `exec` looks here once it is
            if self._running:
                self._say(self._due(), b"cancel")

    def write_file(self, path: str, content: bytes | str, *, executable: bool = False) -> None:
        name, mode = given.file(path), b"755" if given.flag(executable, "executable") else b"644"
        raw = given.content(content, f"the file {path}")
        self._fits(len(raw), path)
        due, request = self._due(len(raw)), [b"put", name, mode]
        with self._talk():
            self._send(due, request, raw)
            list(self._stream(due))

    def read_bytes(self, path: str) -> bytes:
        most = int(self.limits.file)
        due, name = self._due(most), given.file(path)
        with self._talk():
            self._say(due, b"get", name, b"%d" % most)
            *parts, _ = self._stream(due)
        return b"".join(part[0] for part in parts)

    def list(self, path: str = ".") -> Sequence[Entry]:
        due, name = self._due(), given.folder(path)
        with self._talk():
            self._say(due, b"list", name)
            *parts, _ = self._stream(due)
        flat = [field for part in parts for field in part]
        above = "" if os.path.normpath(path) == "." else os.path.normpath(path) + "/"
        return [
            Entry(above + os.fsdecode(flat[at + 2]), flat[at].decode(), int(flat[at + 1]))
            for at in range(0, len(flat), 3)
        ]

    def snapshot(self, most: int | None = None) -> WorkCopy:
        # Beside the contents: two headers for each entry, and room for long names and the maps of sparse files.
        usual = int(self.limits.disk) * 2 + self.limits.files * 4096 + 2**20
        most = usual if most is None else min(usual, given.count(most, "most"))
        due = self._due(int(self.limits.disk) + self.limits.files * 1024)
        with self._talk():
            self._say(due, b"snapshot", b"%d" % most)
            *parts, (_, digest) = self._stream(due)
        return WorkCopy(b"".join(part[0] for part in parts), digest.decode())

    def restore(self, copy: WorkCopy) -> None:
        archive = given.archive(copy)
        digest = given.raw(copy.digest, "the digest of a WorkCopy")
        due = self._due(len(archive) + self.limits.files * 1024)
        with self._talk():
            self._send(due, [b"restore", digest], archive)
            list(self._stream(due))

    def alive(self) -> bool:
        self._check_process()
        if self._wire is None:
            return False
        try:
            with self._talk():
                self._say(time.monotonic() + 1.0, b"ping")
                return self._hear(time.monotonic() + 1.0) == [b"pong"]
        except SandboxDied:
            return False

    def close(self) -> None:
        with self._sending:
            wire, self._wire, self._why_gone = self._wire, None, "it was closed"
        if wire is not None:
            self._abandon()
            if self.on_close is not None:
                self.on_close()

    def _fits(self, size: int, what: str) -> None:
        if size > self.limits.file:
            raise TooLarge(f"{what} has {size} bytes; at most {int(self.limits.file)} are put in")


_all: weakref.WeakSet[GuestSandbox] = weakref.WeakSet()


def _let_go_of_all() -> None:
    for box in list(_all):
        box._let_go()


os.register_at_fork(after_in_child=_let_go_of_all)

"""What a sandbox is, whatever wall it is made of: files in a work directory, and commands that run beside them.

    with palaestra.envs.sandbox.start("bwrap", Limits(memory="256MiB")) as box:
        box.write_file("main.py", "print(6 * 7)")
        print(box.exec(["python3", "main.py"]).stdout)

Paths are relative to the work directory, which is what `snapshot` and `restore` copy. Beside it only /tmp and /dev/shm
can be written: scratch, part of no snapshot, counted as memory, and emptied by `restore`. Every `exec` ends with all of
its processes dead, however far they have forked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox.errors import BinaryOutput

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MIB = 1024 * 1024


class Limits(BaseModel):
    """What a sandbox may use. Sizes are bytes or texts such as "256MiB"; times are seconds.

    Attributes:
        memory: of all processes together.
        pids: processes and threads at once.
        cpu: cores; at least 0.01, which is the least that the kernel divides.
        disk: size of the work directory.
        files: files and folders in the work directory.
        wall: seconds of an `exec` that names no timeout of its own.
        output: bytes kept of stdout, and of stderr; the rest is read and dropped.
        file: the largest file that is put in or taken out.
        network: may it reach anything but itself.

    Raises:
        BadInput: a limit that is out of range, of another kind, or none of these. Names it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory: ByteSize = Field(default=ByteSize(512 * MIB), ge=32 * MIB, le=1024 * 1024 * MIB)
    pids: int = Field(default=64, ge=4, le=32768)
    cpu: float = Field(default=1.0, ge=0.01, le=1024.0)
    disk: ByteSize = Field(default=ByteSize(64 * MIB), ge=MIB, le=1024 * 1024 * MIB)
    files: int = Field(default=20_000, ge=16, le=10_000_000)
    wall: float = Field(default=30.0, gt=0.0, le=86_400.0)
    output: ByteSize = Field(default=ByteSize(MIB), ge=1024, le=1024 * MIB)
    file: ByteSize = Field(default=ByteSize(16 * MIB), ge=1024, le=1024 * MIB)
    network: bool = False

    @model_validator(mode="wrap")
    @classmethod
    def _named(cls, given: object, check: ModelWrapValidatorHandler[Self]) -> Self:
        """Say in one line which limit is wrong, and why."""
        try:
            return check(given)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            name = ".".join(map(str, wrong["loc"])) or "limits"
            if wrong["type"] == "extra_forbidden":
                raise BadInput(f"there is no limit {name!r}; there are: {', '.join(cls.model_fields)}") from None
            raise BadInput(f"limit {name}: {_range(wrong)}, got {wrong['input']!r}") from None


def _range(wrong: ErrorDetails) -> str:
    """What pydantic would have, with sizes as people write them."""
    if wrong["type"].startswith("byte_size"):
        return 'a size is a number of bytes or a text such as "256MiB"'
    context = wrong.get("ctx", {})
    for kind, says in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if kind in context:
            size = wrong["loc"][0] in ("memory", "disk", "output", "file")
            return f"{says} {ByteSize(context[kind]).human_readable() if size else context[kind]}"
    return wrong["msg"][:1].lower() + wrong["msg"][1:]


@dataclass(frozen=True)
class ExecResult:
    """How a command ended.

    Attributes:
        rc: its exit status; minus the signal's number where a signal ended it.
        raw_stdout, raw_stderr: what it wrote, cut at `Limits.output`.
        timed_out: was it killed for its timeout.
        truncated: did it write more than was kept.
        seconds: wall time inside the sandbox.
    """

    rc: int
    raw_stdout: bytes
    raw_stderr: bytes
    timed_out: bool = False
    truncated: bool = False
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Did it end by itself with status 0."""
        return self.rc == 0 and not self.timed_out

    @property
    def stdout(self) -> str:
        """As text. Raises BinaryOutput where it is not UTF-8 (see `raw_stdout` and `shown`)."""
        return _text(self.raw_stdout, "stdout", self.truncated)

    @property
    def stderr(self) -> str:
        """As text. Raises BinaryOutput where it is not UTF-8 (see `raw_stderr` and `shown`)."""
        return _text(self.raw_stderr, "stderr", self.truncated)

    def shown(self) -> str:
        """Both streams for an agent to read, stdout first; bytes that are not UTF-8 are shown as backslash escapes."""
        return "".join(raw.decode("utf-8", "backslashreplace") for raw in (self.raw_stdout, self.raw_stderr))


def _text(raw: bytes, stream: str, cut: bool) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if cut and error.start >= len(raw) - 3:  # the cut fell into a character
            return raw[: error.start].decode("utf-8")
        raise BinaryOutput(
            f"{stream} is not UTF-8 text: byte {raw[error.start]:#04x} at {error.start}; read raw_{stream}"
        ) from None


@dataclass(frozen=True)
class WorkCopy:
    """A copy of the work directory: what `snapshot` gives and `restore` takes. Picklable; fits any backend.

    Attributes:
        archive: a tar of the work directory: files, folders, links, permissions, times; names as bytes.
        digest: of the contents, names and modes, not of the times: equal directories have equal digests. `restore`
            compares it; empty: not known.
    """

    archive: bytes
    digest: str


@dataclass(frozen=True)
class Entry:
    """One entry of a listed folder.

    Attributes:
        path: relative to the work directory; bytes that are not UTF-8 stand as surrogate escapes.
        kind: "file", "folder", "link" or "other".
        size: bytes of a file, else 0.
    """

    path: str
    kind: str
    size: int


class Sandbox(ABC):
    """An isolated place with a work directory. One command runs at a time; not to be shared by threads.

    Every method raises SandboxDied when the sandbox is gone, and a closed one says so.
    """

    backend: ClassVar[str]
    limits: Limits

    @abstractmethod
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
        """Run a command to its end, or to its timeout.

        Args:
            command: arguments, or a script for `/bin/sh -c`.
            input: what it reads on stdin, at most `limits.file` and half of `limits.memory`; then the end of file.
            cwd: where it starts, relative to the work directory.
            env: variables beside PATH, HOME, LANG and TMPDIR; nothing of the host's environment is there.
            user: None for the sandbox's ordinary user, or "nobody": another one, who owns nothing in it.
            timeout: seconds; None for `limits.wall`.
            background: leave what it started running after it ended, until the next `exec` without this ends, `restore`
                or `close`.

        Raises:
            OutsideWork, NotAFile: `cwd`.
            TooLarge: `input`, or the command with its variables.
            BadInput: an empty command, a NUL byte, a timeout that is not above 0, an unknown user.
        """

    @abstractmethod
    def cancel(self) -> None:
        """End the command that another thread is running here; its `exec` returns at once, as if it had been killed."""

    @abstractmethod
    def write_file(self, path: str, content: bytes | str, *, executable: bool = False) -> None:
        """Write a file, and the folders above it. Raises OutsideWork, NotAFile (a folder is there), TooLarge."""

    @abstractmethod
    def read_bytes(self, path: str) -> bytes:
        """Read a file. Raises OutsideWork, NotAFile, TooLarge (beyond `limits.file`)."""

    def read_file(self, path: str) -> str:
        """Read a file as text. Raises OutsideWork, NotAFile, TooLarge, BinaryOutput."""
        raw = self.read_bytes(path)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BinaryOutput(
                f"{path} is not UTF-8 text: byte {raw[error.start]:#04x} at {error.start}; use read_bytes"
            ) from None

    @abstractmethod
    def list(self, path: str = ".") -> Sequence[Entry]:
        """What lies in a folder, not below it, sorted by path. Raises OutsideWork, NotAFile (no such folder)."""

    @abstractmethod
    def snapshot(self, most: int | None = None) -> WorkCopy:
        """Copy the work directory. Processes are not part of it.

        Args:
            most: bytes that the archive may have; None: what a work directory that is within its limits needs.

        Raises:
            TooLarge: beyond `most`, or nested deeper than can be walked.
        """

    @abstractmethod
    def restore(self, copy: WorkCopy) -> None:
        """Kill all processes and make the work directory what it was, in this sandbox or another one.

        Raises:
            TooLarge: it does not fit here.
            BadInput: it is not the archive of a snapshot, or damaged. The work directory then holds a part of it.
        """

    @abstractmethod
    def alive(self) -> bool:
        """Does its agent still answer (within a second)."""

    @abstractmethod
    def close(self) -> None:
        """End it and everything in it. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

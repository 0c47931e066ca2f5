"""One small JVM with a gateway in it, spoken to over one socket.

The JVM is started by py4j's own gateway server, with a token, and reads its standard input: when the process that
started it ends, however it ends (`kill -9` included), the pipe closes and the JVM exits. Children that were forked
from that process close their copies of the pipe, so they do not keep it alive. There are no threads on this side.

The client is a few lines of py4j's wire format (its `JavaGateway` sends a call again when the answer is lost, which
would take a step twice).
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import tempfile
import time
import unicodedata
from collections.abc import Sequence
from typing import IO

from palaestra.envs.errors import BadInput, EnvFault
from palaestra.envs.jdk import Java, quiet_environment

HASH_FLAG = "-XX:hashCode=2"
"""Makes every identity hash 1, so that orders in the engine no longer depend on where objects lie in memory."""

FLAGS = ("-Xmx256m", "-Xss4m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError")
START_SECONDS = 120
CALL_SECONDS = 600

LONGEST_ACTION = 400
"""Characters; the longest action that an engine lists has some 150."""

Value = str | int | float | bool | None


class Ref(str):
    """A Java object that lives in the JVM."""

    __slots__ = ()


class JavaError(Exception):
    """A call ended in a Java exception. The JVM goes on."""


class Jvm:
    """A running JVM. One thread at a time may call it; `kill` may be called from any thread.

    Args:
        java: which Java to run.
        classpath: jar files; py4j's own is added.
        what: what runs in it, for messages ("ScienceWorld").
        fixed_hash: start with `HASH_FLAG` and make sure that it works. Only the proof of its need turns it off.

    Raises:
        BadInput: this Java does not know the flags.
        EnvFault: it did not start.
    """

    def __init__(
        self, java: Java, classpath: Sequence[str], what: str, *, fixed_hash: bool = True, cwd: str | None = None
    ) -> None:
        from py4j.java_gateway import find_jar_path

        self.java, self.what, self.owner, self._killed = java, what, os.getpid(), False
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the JVM
        flags = [*FLAGS, *(["-XX:+UnlockExperimentalVMOptions", HASH_FLAG] if fixed_hash else [])]
        command = [java.path, *flags, "-cp", os.pathsep.join([find_jar_path(), *classpath]), "py4j.GatewayServer"]
        try:
            self.process = subprocess.Popen(
                [*command, "--die-on-broken-pipe", "--enable-auth", "0"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                cwd=cwd or tempfile.gettempdir(),
                env=quiet_environment(),
                start_new_session=True,  # Ctrl-C at the terminal stops the run, which then closes the JVMs in order
            )
        except OSError as error:
            self._errors.close()
            raise EnvFault(f"cannot start {java}: {error}") from error
        LIVE[id(self)] = self
        self._socket: socket.socket | None = None
        self._stream: IO[bytes] | None = None
        try:
            self._connect()
            if fixed_hash and self.call("z:java.lang.System", "identityHashCode", self.new("java.lang.Object")) != 1:
                raise BadInput(f"{java} ignores {HASH_FLAG}, without which {what} does not replay; {_USE}")
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        port, token = self._greeting()
        self._socket = socket.create_connection(("127.0.0.1", int(port)), timeout=CALL_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb")
        self._exchange(f"A\n{token}\n")
        # The engine prints every step. Nothing would read it, so it must not be written.
        nowhere = self.new("java.io.PrintStream", self.reference("z:java.io.OutputStream", "nullOutputStream"))
        for stream in ("setOut", "setErr"):
            self.call("z:java.lang.System", stream, nowhere)

    def _greeting(self) -> tuple[str, str]:
        """Port and token, as the gateway prints them; waits no longer than START_SECONDS."""
        assert self.process.stdout is not None
        pipe, text, deadline = self.process.stdout.fileno(), b"", time.monotonic() + START_SECONDS
        while text.count(b"\n") < 2:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(pipe, 4096) if ready else b""
            if not more:
                self._did_not_start(bool(ready))
            text += more
        port, token = text.decode().split("\n")[:2]
        return port, token.strip()

    def _did_not_start(self, ended: bool) -> None:
        if not ended:
            raise EnvFault(f"{self.java} did not start within {START_SECONDS} s")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        words = self.last_words()
        if "Unrecognized" in words or "hashCode" in words or "must be enabled" in words:
            raise BadInput(f"{self.java} does not know a flag that {self.what} needs ({words}); {_USE}")
        raise EnvFault(f"{self.java} did not start: {words or f'status {self.process.returncode}'}")

    def last_words(self) -> str:
        """The first line that the JVM itself wrote to its standard error; empty if none."""
        with contextlib.suppress(OSError, ValueError):
            size = os.fstat(self._errors.fileno()).st_size
            lines = os.pread(self._errors.fileno(), min(size, 4096), 0).decode(errors="replace").splitlines()
            return next((line.strip() for line in lines if line.strip()), "")
        return ""

    # -- calls -------------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Is it running and not being killed, and is it this process that started it."""
        here = self._socket is not None and self.owner == os.getpid()
        return here and not self._killed and self.process.poll() is None

    def call(self, target: str, method: str, *arguments: Value) -> Value:
        """Call a method. Raises JavaError for an exception in Java, EnvFault when the JVM is gone."""
        answer = self._exchange(_request("c", target, method, *arguments))
        if not answer.startswith("!y"):
            raise JavaError(self._explain(answer))
        return _value(answer[2:])

    def reference(self, target: str, method: str, *arguments: Value) -> Ref:
        """Call a method that answers with an object. Raises EnvFault when it does not."""
        answer = self.call(target, method, *arguments)
        if not isinstance(answer, Ref):
            raise EnvFault(f"the engine's {method} gave {answer!r} instead of an object")
        return answer

    def new(self, name: str, *arguments: Value) -> Ref:
        """A new object of a Java class."""
        answer = self._exchange(_request("i", name, *arguments))
        if not answer.startswith("!y"):
            raise JavaError(self._explain(answer))
        return Ref(answer[3:])

    def free(self, *references: str) -> None:
        """Let the JVM forget objects that were handed out."""
        for reference in references:
            self._exchange(f"m\nd\n{reference}\ne\n")

    def lines(self, target: str, method: str) -> list[str]:
        """Call a method that answers with a list of strings."""
        items = self.reference(target, method)
        text = self.call("z:java.lang.String", "join", "\n", items)
        self.free(items)
        return str(text).split("\n") if text else []

    def _explain(self, answer: str) -> str:
        if answer[2:3] == "r":
            said = str(self.call(answer[3:], "toString"))
            self.free(answer[3:])
            return said
        return str(_value(answer[2:]) or "unknown Java error").splitlines()[0]

    def _exchange(self, request: str) -> str:
        """One request and its answer. Never two requests at once: Nagle's algorithm would hold back the second answer
        of the Java side for some 40 ms."""
        if self._socket is None or self._stream is None or self.owner != os.getpid():
            raise EnvFault(f"the {self.what} JVM of this instance is closed")
        try:
            self._socket.sendall(request.encode("utf-8", "replace"))
            answer = self._stream.readline().decode("utf-8", "replace").rstrip("\n")
        except (OSError, ValueError) as error:
            self.kill()
            raise EnvFault(f"the {self.what} JVM does not answer: {error}") from error
        if not answer:
            self.kill()
            words = self.last_words()
            raise EnvFault(f"the {self.what} JVM (pid {self.process.pid}) died{f': {words}' if words else ''}")
        return answer

    # -- end ---------------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """End the process at once. From any thread: a call that hangs in another one then raises EnvFault."""
        if self.owner == os.getpid():
            self._killed = True  # from now on, though the process may take a while to go
            with contextlib.suppress(OSError):
                self.process.kill()

    def close(self) -> None:
        """End the process and give everything back. May be called twice."""
        if self.owner != os.getpid():
            return
        LIVE.pop(id(self), None)
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self._let_go()

    def _let_go(self) -> None:
        for thing in (self._stream, self._socket, self.process.stdin, self.process.stdout, self._errors):
            if thing is not None:
                with contextlib.suppress(OSError, ValueError):
                    thing.close()
        self._socket = self._stream = None


def clean(action: str) -> str | None:
    """An action as one line that the engine can read; None if it is too long.

    Control characters, line ends and halves of surrogate pairs become blanks.
    """
    if len(action) > 4 * LONGEST_ACTION:
        return None
    seen = "".join(" " if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") else letter for letter in action)
    line = " ".join(seen.split())
    return line if len(line) <= LONGEST_ACTION else None


_USE = "use a HotSpot JDK 17, 21 or 25 (pip install 'palaestra[jdk]', or set PALAESTRA_JAVA)"

LIVE: dict[int, Jvm] = {}
"""All JVMs that this process has started and not closed."""


def _forked() -> None:
    """In a forked child: let go of the parent's JVMs, so that they end with the parent."""
    for jvm in list(LIVE.values()):
        jvm._let_go()
        jvm.process.returncode = 0  # not this process's child: never wait for it
    LIVE.clear()


os.register_at_fork(after_in_child=_forked)


def _request(command: str, *parts: Value) -> str:
    head, arguments = (parts[:2], parts[2:]) if command == "c" else (parts[:1], parts[1:])
    lines = [command, *(str(part) for part in head), *(_argument(part) for part in arguments), "e"]
    return "\n".join(lines) + "\n"


def _argument(value: Value) -> str:
    if isinstance(value, Ref):
        return f"r{value}"
    if isinstance(value, bool):
        return f"b{value}"
    if isinstance(value, int):
        return f"i{value}"
    if isinstance(value, float):
        return f"d{value!r}"
    if value is None:
        return "n"
    return "s" + value.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")


_ESCAPES = {"\\": "\\", "r": "\r", "n": "\n"}


def _value(text: str) -> Value:
    kind, rest = text[:1], text[1:]
    if kind == "s":
        if "\\" not in rest:
            return rest
        pieces = iter(rest)
        return "".join(_ESCAPES.get(next(pieces, ""), "") if letter == "\\" else letter for letter in pieces)
    if kind in ("i", "L"):
        return int(rest)
    if kind == "d":
        return float(rest)
    if kind == "b":
        return rest.lower() == "true"
    return None if kind in ("v", "n", "") else Ref(rest)

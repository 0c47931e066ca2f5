"""Runs one command: starts it without a shell, feeds it, keeps what it writes, ends it with all it started."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import signal
import time

from palaestra.envs.sandbox.guest.frames import CHUNK
from palaestra.envs.sandbox.guest.processes import Processes

TYPE_CHECKING = False  # typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_READ = select.POLLIN
_GIVEN_BACK = 2.0
"""Seconds at most that are waited for memory of ended processes."""


class Rules:
    """What the host's configuration says about commands.

    Attributes:
        memory: bytes of all processes together; 0: the host sees to it.
        measure: how much they hold, counted exactly only where it may be more than its argument.
        pause: seconds between two looks at that.
        output: bytes kept of stdout, and of stderr.
        rlimits: resource, soft limit, hard limit.
        users: name -> (uid, gid), where the guest can become them.
        niceness: what commands are nicer by than the guest, which has to end them.
        score: what the kernel ends first.
    """

    def __init__(self) -> None:
        self.score = Score()
        self.memory = 0
        self.measure: Callable[[int], int] | None = None  # None: process by process
        self.pause = 0.03
        self.output = 1024 * 1024
        self.rlimits: list[tuple[int, tuple[int, int]]] = []
        self.users: dict[bytes, tuple[int, int]] = {}
        self.niceness = 0


class Command:
    """What to run: `argv`, `env` as the kernel takes it, an open folder to start in, who as, for how long."""

    def __init__(
        self, argv: Sequence[bytes], env: Mapping[bytes, bytes], cwd: int, user: tuple[int, int] | None, timeout: float
    ) -> None:
        self.argv, self.env, self.cwd, self.user, self.timeout = argv, env, cwd, user, timeout


class NotStarted(Exception):
    """A command that could not be started: `number` is the kernel's error."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class Ending:
    """How it ended; the fields are those of the host's ExecResult."""

    def __init__(self, rc: int, timed_out: bool, truncated: bool, seconds: float) -> None:
        self.rc, self.timed_out, self.truncated, self.seconds = rc, timed_out, truncated, seconds


class Runner:
    """Runs commands, one at a time.

    Args:
        rules: how they are limited.
        processes: those in the sandbox.
        woken: a pipe's end that can be read when a child has died.
    """

    def __init__(self, rules: Rules, processes: Processes, woken: int) -> None:
        self._rules, self._processes, self._woken = rules, processes, woken
        self._leaks: list[int] = []  # the output of commands whose background processes run on: read and dropped
        self._lingering = False  # may something be running between two commands
        self._stays = 0  # bytes that may stay counted when nothing runs

    def run(
        self,
        command: Command,
        feed: list[bytes],
        background: bool,
        out: Callable[[bytes, bytes], None],
        cancelled: Callable[[], bool],
        channel: int,
    ) -> Ending:
        """Run it to its end.

        Args:
            command: what to run.
            feed: its stdin, in pieces; what it has taken is gone from there.
            background: leave what it started running.
            out: takes b"out" or b"err" and what was written.
            cancelled: looks at what the host said, once `channel` can be read.
            channel: the file descriptor that the host is heard on.

        Raises:
            NotStarted: why it could not be.
        """
        started = time.monotonic()
        pid, into, streams = self._begin(command, background)
        run = _Run(self, pid, into, feed, streams, out)
        timed_out = stopped = False
        watched = started + self._rules.pause / 2
        try:
            while not run.ended:
                now = time.monotonic()
                if now >= started + command.timeout or stopped:
                    timed_out = not stopped
                    break
                if self._rules.memory and now >= watched:
                    self.watch()
                    watched = time.monotonic() + self._rules.pause
                until = min(started + command.timeout, watched if self._rules.memory else now + 60)
                heard = run.step(until - now, self._woken, channel)
                if heard:
                    stopped = cancelled()
            if not (background and run.ended):
                self.end()
            run.finish(keep=background and run.ended)
        finally:
            left = run.close()
        if background and run.ended:
            self._leaks.extend(left)
            self._lingering = True
        else:
            for end in left:
                os.close(end)
        return Ending(run.rc, timed_out, run.truncated, time.monotonic() - started)

    def end(self) -> None:
        """End all processes."""
        if not self._processes.end():
            raise RuntimeError("processes of the command cannot be ended")
        for end in self._leaks:
            os.close(end)
        self._leaks.clear()
        self._lingering = False
        self._settle()

    def _settle(self) -> None:
        """Wait until the kernel has taken back what ended processes held.

        A control group counts large page tables for a while after their process was reaped: by that count the next
        command would be ended for what the one before it took.
        """
        measure, until = self._rules.measure, time.monotonic() + _GIVEN_BACK
        if measure is None:  # process by process: those that ended do not count
            return
        enough = max(self._rules.memory // 2, self._stays)
        while (held := measure(enough)) > enough:
            if time.monotonic() > until:  # it is the kernel's own, of files for example; not waited for again
                self._stays = held + self._rules.memory // 8
                return
            time.sleep(0.002)

    def watch(self) -> None:
        """End all processes where they hold too much memory together."""
        most, measure = self._rules.memory, self._rules.measure or self._processes.memory
        if most and measure(most) > most:
            self._processes.signal(9)

    def idle(self, channel: int) -> None:
        """Wait for the host; meanwhile read and drop what background processes write, reap and watch them."""
        while True:
            poll = select.poll()
            for end in (channel, self._woken, *self._leaks):
                poll.register(end, _READ)
            ready = dict(poll.poll(self._rules.pause * 3000 if self._lingering else None))
            self._processes.reap()
            clear(self._woken, ready)
            self.drop(ready)
            if self._lingering:
                self.watch()
            if channel in ready:
                return

    @property
    def leaks(self) -> list[int]:
        """The ends that background processes may write to."""
        return self._leaks

    def drop(self, ready: Mapping[int, int]) -> None:
        """Read what background processes have written, so that they can go on, and forget it."""
        for end in [end for end in self._leaks if end in ready]:
            if _read(end) == b"":
                os.close(end)
                self._leaks.remove(end)

    def _begin(self, command: Command, background: bool) -> tuple[int, int, dict[int, bytes]]:
        """Start it; what earlier ones left running, and ends with it anyway, does not keep it from that."""
        try:
            try:
                return self._start(command)
            except OSError as error:
                if background or error.errno not in (errno.EAGAIN, errno.ENOMEM):
                    raise
                self.end()
                return self._start(command)
        except OSError as error:
            if not background:
                self.end()
            raise NotStarted(error.errno or errno.EIO) from None

    def _start(self, command: Command) -> tuple[int, int, dict[int, bytes]]:
        """Fork and execute: process id, the end that writes to its stdin, the ends that read its output."""
        pipes = [os.pipe() for _ in range(4)]  # stdin, stdout, stderr, and one that says why it did not start
        (inner_in, into), (out, inner_out), (err, inner_err), (why, inner_why) = pipes
        inside = (inner_in, inner_out, inner_err, inner_why)
        try:
            pid = self._rules.score.fork()
        except OSError:
            for pair in pipes:
                for end in pair:
                    os.close(end)
            raise
        if pid == 0:
            self._become(command, inner_in, inner_out, inner_err, inner_why)
        for end in inside:
            os.close(end)
        failed = os.read(why, 16)
        os.close(why)
        if failed:
            for end in (into, out, err):
                os.close(end)
            os.waitpid(pid, 0)
            raise OSError(int(failed), os.strerror(int(failed)))
        for end in (into, out, err):
            os.set_blocking(end, False)
        return pid, into, {out: b"out", err: b"err"}

    def _become(self, command: Command, stdin: int, stdout: int, stderr: int, why: int) -> None:
        """In the child: never returns."""
        try:
            os.setsid()
            os.fchdir(command.cwd)
            for number, end in enumerate((stdin, stdout, stderr)):
                # Above the three first, so that none is overwritten before it is moved.
                os.dup2(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10), number)
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            if self._rules.niceness:
                os.nice(self._rules.niceness)
            for limit, values in self._rules.rlimits:
                resource.setrlimit(limit, values)
            if command.user is not None:
                uid, gid = command.user
                os.setgroups([])
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
            execute(command.argv, command.env)
        except OSError as error:
            os.write(why, b"%d" % (error.errno or errno.EIO))
        finally:
            os._exit(127)


class _Run:
    """A command under way."""

    def __init__(
        self,
        runner: Runner,
        pid: int,
        into: int,
        feed: list[bytes],
        streams: dict[int, bytes],
        out: Callable[[bytes, bytes], None],
    ) -> None:
        self._runner, self._pid, self._into, self._out = runner, pid, into, out
        self._feed, self._streams = feed, streams
        self._feed.reverse()  # the next piece is the last
        self._room = {b"out": runner._rules.output, b"err": runner._rules.output}
        self.rc, self.ended, self.truncated, self._feeding = -9, False, False, False
        self._poll = select.poll()
        for end in streams:
            self._poll.register(end, _READ)
        self._write()

    def step(self, seconds: float, woken: int, channel: int) -> bool:
        """Wait for something to happen, and deal with it. Did the host say something?"""
        self._poll.register(woken, _READ)
        self._poll.register(channel, _READ)
        leaks = list(self._runner.leaks)
        for end in leaks:
            self._poll.register(end, _READ)
        ready = dict(self._poll.poll(max(0.0, seconds) * 1000 + 1))
        for end in leaks:
            self._poll.unregister(end)
        self._runner.drop(ready)
        clear(woken, ready)
        if self._into in ready:
            self._write()
        for end in [end for end in self._streams if end in ready]:
            self._take(end)
        if woken in ready:
            self._reaped()
        return channel in ready

    def _reaped(self) -> None:
        status = self._runner._processes.reap().get(self._pid)
        if status is not None:
            self.ended, self.rc = True, waited(status)

    def finish(self, keep: bool) -> None:
        """Take what is left in the pipes: to their end where all writers are dead, else what is there now."""
        for end in list(self._streams):
            budget = 64 if keep else 4096  # a background process that never stops writing does not hold us up
            while end in self._streams and budget and self._take(end):
                budget -= 1

    def close(self) -> list[int]:
        """Close stdin; the ends that can still be read from."""
        self._stop_feeding()
        return list(self._streams)

    def _write(self) -> None:
        """Write as much of stdin as it takes now; once all is written, or it does not want to read on, close."""
        try:
            while self._feed:
                piece = self._feed.pop()
                try:
                    taken = os.write(self._into, piece)
                except BlockingIOError:
                    taken = 0
                if taken < len(piece):
                    self._feed.append(piece[taken:])
                if not taken and piece:
                    self._poll.register(self._into, select.POLLOUT)
                    self._feeding = True
                    return
        except BrokenPipeError:
            pass
        self._stop_feeding()

    def _stop_feeding(self) -> None:
        self._feed.clear()
        if self._into >= 0:
            if self._feeding:
                self._poll.unregister(self._into)
            os.close(self._into)
            self._into = -1

    def _take(self, end: int) -> bool:
        """Read once from a stream, keep what there is room for. False where nothing is there now, or never again."""
        data = _read(end)
        if data is None:
            return False
        if data == b"":
            self._poll.unregister(end)
            del self._streams[end]
            os.close(end)
            return False
        name = self._streams[end]
        kept = data[: self._room[name]]
        self._room[name] -= len(kept)
        self.truncated = self.truncated or len(kept) < len(data)
        if kept:
            self._out(name, kept)
        return True


def _read(end: int) -> bytes | None:
    try:
        return os.read(end, CHUNK)
    except BlockingIOError:
        return None


def clear(woken: int, ready: Mapping[int, int]) -> None:
    """Forget that a child died, before looking which."""
    if woken in ready:
        os.read(woken, 4096)


def waited(status: int) -> int:
    """A wait status as ExecResult says it."""
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


class Score:
    """Who is ended first where memory runs out, as the kernel orders it (`oom_score_adj`): commands before the guest.

    Without it the guest, which holds little, is still the largest where commands hoard what no process is measured by.
    To be made before the guest hides, as then neither it nor what it forks can open the file.
    """

    def __init__(self) -> None:
        self._file, self._own = -1, b"0"
        try:
            self._file = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            self._own = os.pread(self._file, 16, 0).strip()
        except OSError:
            return

    def own(self, score: bytes) -> None:
        """What the guest has from now on, but while it forks."""
        if self._write(score):
            self._own = score

    def fork(self) -> int:
        """As os.fork, with a child that the kernel ends before all else."""
        self._write(b"1000")
        try:
            return os.fork()
        finally:  # in the child too: the file is the guest's, wherever it is written
            self._write(self._own)

    def _write(self, score: bytes) -> bool:
        if self._file < 0:
            return False
        try:
            return bool(os.pwrite(self._file, score, 0))
        except OSError:  # not allowed here, or not known, as to some runtimes
            return False


def execute(argv: Sequence[bytes], env: Mapping[bytes, bytes]) -> None:
    """Become a program, looked up in the PATH it is given. Raises the OSError that says most."""
    name = argv[0]
    folders = [b""] if b"/" in name else env.get(b"PATH", b"/usr/bin:/bin").split(b":")
    worst: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for folder in folders:
        try:
            os.execve(folder + b"/" + name if folder else name, list(argv), dict(env))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            worst = error
    raise worst

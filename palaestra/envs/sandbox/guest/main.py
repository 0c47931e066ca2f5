"""The guest's loop: one frame from the host, one answer, until the host is gone.

It dies with its host: the end of its stdin ends it, and as pid 1 it takes all other processes with it.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import sys

from palaestra.envs.sandbox.guest import confine, paths
from palaestra.envs.sandbox.guest.commands import Command, NotStarted, Rules, Runner
from palaestra.envs.sandbox.guest.frames import CHUNK, HEADER, KEY, Forged, Seal
from palaestra.envs.sandbox.guest.held import Held
from palaestra.envs.sandbox.guest.packer import Packer
from palaestra.envs.sandbox.guest.paths import Refused, shown
from palaestra.envs.sandbox.guest.processes import Processes
from palaestra.envs.sandbox.guest.unpacker import Unpacker, clear

TYPE_CHECKING = False  # typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {stat.S_IFREG: b"file", stat.S_IFDIR: b"folder", stat.S_IFLNK: b"link"}


class Guest:
    """Answers the host.

    Args:
        stdin, stdout: file descriptors of the channel, out of reach of commands.
        key: the session's secret.
    """

    def __init__(self, stdin: int, stdout: int, key: bytes) -> None:
        self._stdin, self._stdout = stdin, stdout
        self._mine, self._theirs = Seal(key, b"guest"), Seal(key, b"host")
        self.work, self.rules, self.processes = b"/work", Rules(), Processes()
        self.scratch: list[bytes] = []  # other folders that can be written; a restore empties them
        self.roots: list[paths.Root] = []  # all of them
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the only other one that Python itself handles, by raising
        self._runner = Runner(self.rules, self.processes, woken)

    def serve(self) -> None:
        """Answer until the host is gone."""
        answers = {
            b"config": self._config,
            b"ping": self._ping,
            b"exec": self._exec,
            b"cancel": lambda fields: None,  # what it meant has ended already
            b"put": self._put,
            b"get": self._get,
            b"list": self._list,
            b"snapshot": self._snapshot,
            b"restore": self._restore,
        }
        while True:
            self._runner.idle(self._stdin)
            what, *fields = self._hear()
            self._unlock()
            try:
                answers[what](fields)
            except Refused as error:
                self._say(b"fail", error.kind.encode(), str(error).encode("utf-8", "backslashreplace"))

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self._stdin, min(size, CHUNK * 4))
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _hear(self) -> list[bytes]:
        header = self._read(HEADER)
        return self._theirs.open(header, self._read(self._theirs.size(header)))

    def _say(self, *fields: bytes) -> None:
        frame = memoryview(self._mine.seal(*fields))
        while frame:
            frame = frame[os.write(self._stdout, frame) :]

    def _data(self) -> Iterator[bytes]:
        """The pieces that follow a request, to their end."""
        while True:
            what, *fields = self._hear()
            if what == b"end":
                return
            if what != b"data":
                raise Forged("data was due")
            yield fields[0]

    def _unlock(self) -> None:
        """What commands did to the permissions of the folders they write to does not lock us out, or the next one."""
        for root in self.roots:
            root.unlock()

    def _config(self, fields: list[bytes]) -> None:
        configure(fields, self)
        self._say(b"ready", b"python=%d.%d" % sys.version_info[:2])

    def _ping(self, fields: list[bytes]) -> None:
        self._say(b"pong")

    def _exec(self, fields: list[bytes]) -> None:
        cwd, user, timeout, background, *rest = fields
        feed = list(self._data())  # in pieces, each let go of once the command has it
        at = rest.index(b"--")
        env = dict(pair.split(b"=", 1) for pair in rest[:at])
        if user and user not in self.rules.users:
            known = b", ".join(self.rules.users) or b"the ordinary one"
            raise Refused("BadInput", f"this sandbox has no user {shown(user)}; it has {shown(known)}")
        who = self.rules.users.get(user or b"user")
        folder = paths.open_folder(self.work, cwd)
        try:
            command = Command(rest[at + 1 :], env, folder, who, float(timeout))
            try:
                ending = self._runner.run(command, feed, background == b"1", self._say, self._cancelled, self._stdin)
            except NotStarted as error:
                # As a shell says it: the command is at fault, not the sandbox.
                self._say(b"err", b"%s: %s\n" % (rest[at + 1][:200], str(error).encode()))
                missing = error.number in (errno.ENOENT, errno.ENOTDIR)
                self._say(b"done", b"127" if missing else b"126", b"0", b"0", b"0")
                return
        finally:
            os.close(folder)
        flags = (ending.timed_out, ending.truncated)
        self._say(b"done", b"%d" % ending.rc, *(b"%d" % flag for flag in flags), b"%.6f" % ending.seconds)

    def _cancelled(self) -> bool:
        what = self._hear()[0]
        if what not in (b"cancel", b"ping"):
            raise Forged("one request at a time")
        return what == b"cancel"

    def _put(self, fields: list[bytes]) -> None:
        path, mode = fields
        data = self._data()
        try:
            self._write_file(path, int(mode, 8), data)
        finally:
            for _ in data:  # read on to the end, or what comes next is not understood
                pass
        self._say(b"end")

    def _write_file(self, path: bytes, mode: int, data: Iterator[bytes]) -> None:
        """What is refused or does not fit leaves nothing behind, no folder either."""
        with paths.resolve(self.work, path, make=True) as place:
            try:
                place.make(path)
                self._write(place, path, mode, data)
            except OSError as error:
                place.unmake()
                raise paths.refusal(path, error) from None
            except Refused:
                place.unmake()
                raise

    def _write(self, place: paths.Place, path: bytes, mode: int, data: Iterator[bytes]) -> None:
        try:
            there = os.lstat(place.name, dir_fd=place.folder).st_mode
        except FileNotFoundError:
            there = stat.S_IFREG
        if not stat.S_ISREG(there):
            raise Refused("NotAFile", f"{shown(path)} is {paths.kind_text(there)}")
        # Beside it first: the old file stays whole until the new one is.
        beside = b".palaestra-" + os.urandom(8).hex().encode()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(beside, flags, 0o600, dir_fd=place.folder)
            try:
                for part in data:
                    view = memoryview(part)
                    while view:
                        view = view[os.write(file, view) :]
                paths.own(place.folder, beside)
                os.fchmod(file, mode)
            finally:
                os.close(file)
            os.rename(beside, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
        except OSError:
            _forget(place.folder, beside)
            raise

    def _get(self, fields: list[bytes]) -> None:
        path, most = fields[0], int(fields[1])
        file, found = paths.open_file(self.work, path)
        try:
            left = most
            while part := os.read(file, CHUNK):
                left -= len(part)
                if left < 0:
                    size = max(found.st_size, most + 1)
                    raise Refused("TooLarge", f"{shown(path)} has {size} bytes; at most {most} are taken out")
                self._say(b"data", part)
        except OSError as error:
            raise paths.refusal(path, error) from None
        finally:
            os.close(file)
        self._say(b"end")

    def _list(self, fields: list[bytes]) -> None:
        folder = paths.open_folder(self.work, fields[0])
        entries: list[bytes] = []
        try:
            for name in sorted(map(os.fsencode, os.listdir(folder))):
                try:
                    found = os.lstat(name, dir_fd=folder)
                except FileNotFoundError:
                    continue
                kind = _KINDS.get(stat.S_IFMT(found.st_mode), b"other")
                entries += (kind, b"%d" % (found.st_size if kind == b"file" else 0), name)
                if len(entries) >= 1500:
                    self._say(b"data", *entries)
                    entries.clear()
        except OSError as error:
            raise paths.refusal(fields[0], error) from None
        finally:
            os.close(folder)
        if entries:
            self._say(b"data", *entries)
        self._say(b"end")

    def _snapshot(self, fields: list[bytes]) -> None:
        packer = Packer(lambda data: self._say(b"data", data), int(fields[0]))
        self.processes.freeze()
        try:
            self._unlock()
            packer.pack(self.work)
        except OSError as error:
            raise paths.refusal(b"the work directory", error) from None
        finally:
            self.processes.thaw()
        self._say(b"end", packer.contents.digest())

    def _restore(self, fields: list[bytes]) -> None:
        self._runner.end()
        data = self._data()
        try:
            for root in self.roots:
                root.reset()
                clear(root.path)
            buffer = bytearray()

            def read(size: int) -> bytes:
                while len(buffer) < size:
                    part = next(data, None)
                    if part is None:
                        raise EOFError
                    buffer.extend(part)
                taken = bytes(buffer[:size])
                del buffer[:size]
                return taken

            unpacker = Unpacker(self.work, read)
            unpacker.unpack()
            if fields[0] not in (b"", unpacker.contents.digest()):
                raise Refused("BadInput", "the archive of the snapshot is damaged: its contents are not its digest's")
        except OSError as error:
            raise paths.refusal(b"the work directory", error) from None
        finally:
            for _ in data:
                pass
        self._say(b"end")


def _forget(folder: int, name: bytes) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return


def configure(fields: list[bytes], guest: Guest) -> None:
    """Take the host's configuration, in its order, and lock in what it asks for. Names and values: `program.Setup`."""
    rules = guest.rules
    keep: tuple[int, ...] = ()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for trees of folders; commands get their own limit
    for field in fields:
        name, _, value = field.partition(b"=")
        if name == b"work":
            guest.work = value
        elif name == b"scratch":
            guest.scratch.append(value)
        elif name == b"memory":
            rules.memory = int(value)
        elif name == b"group":
            held = Held([guest.work])
            if held.known:
                rules.measure, rules.pause = held.memory, 0.01
        elif name == b"output":
            rules.output = int(value)
        elif name == b"nice":
            rules.niceness = int(value)
        elif name == b"rlimit":
            number, soft = value.split(b" ")
            rules.rlimits.append(_rlimit(int(number), int(soft)))
        elif name == b"user":
            who, uid, gid = value.split(b" ")
            rules.users[who] = (int(uid), int(gid))
        elif name == b"mount":
            path, _, options = value.partition(b" ")
            confine.limit_mount(path, options)
        elif name == b"namespaces":
            confine.refuse_namespaces(value)
        elif name == b"watches":
            confine.limit_watches(value)
        elif name == b"sockets":
            confine.limit_tcp(int(value))
            guest.processes.charge_sockets(int(value))
        elif name == b"readonly":
            confine.make_read_only(value)
        elif name == b"become":
            confine.become(*map(int, value.split(b" ")))
        elif name == b"own":
            paths.owner = rules.users[b"user"]
            os.chown(guest.work, *paths.owner)
            keep = confine.KEPT
        elif name == b"drop":
            confine.drop_capabilities(keep)
        elif name == b"filter":
            confine.filter_calls(value)
        elif name == b"orphans":
            confine.adopt_orphans()
        elif name == b"oom":
            rules.score.own(value)
        elif name == b"pdeath":
            confine.die_with_parent()
        else:
            raise Forged("an unknown setting: " + shown(name))
    confine.hide()
    guest.roots = [paths.Root(folder) for folder in (guest.work, *guest.scratch)]


def _rlimit(number: int, soft: int) -> tuple[int, tuple[int, int]]:
    hard = resource.getrlimit(number)[1]
    value = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    return number, (value, value)


def main() -> None:
    """Speak on what were stdin and stdout; put nothing else there, and hand nothing on to commands."""
    for name in os.listdir("/proc/self/fd"):  # bubblewrap leaves one of its own open
        try:
            os.set_inheritable(int(name), False)
        except OSError:  # that of the listing
            continue
    stdin, stdout = (os.dup(number) for number in (0, 1))  # closed on exec, out of the way of prints
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    os.umask(0o022)
    key = b""
    while len(key) < KEY:
        part = os.read(stdin, KEY - len(key))
        if not part:
            return
        key += part
    guest = Guest(stdin, stdout, key)
    try:
        guest.serve()
    except (EOFError, BrokenPipeError):
        pass
    finally:
        if not guest.processes.is_init:
            guest.processes.end()

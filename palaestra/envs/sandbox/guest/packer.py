"""The work directory as a tar (`tar.py` says which)."""

from __future__ import annotations

import errno
import os
import stat

from palaestra.envs.sandbox.guest import paths
from palaestra.envs.sandbox.guest.frames import CHUNK
from palaestra.envs.sandbox.guest.paths import Refused
from palaestra.envs.sandbox.guest.tar import BLOCK, FOLDER, KINDS, Contents, header

TYPE_CHECKING = False  # typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LONGEST = 4096  # bytes of a path


class Packer:
    """Writes the archive of a work directory.

    Args:
        send: takes the archive's bytes, piece by piece.
        most: bytes of archive that the host takes.

    Attributes:
        contents: complete after `pack`.
    """

    def __init__(self, send: Callable[[bytes], None], most: int) -> None:
        self._send, self._most = send, most
        self._buffer = bytearray()
        self._links: dict[int, bytes] = {}
        self._at = (0, b"")
        self.contents = Contents()

    def pack(self, work: bytes) -> None:
        """Raises Refused (TooLarge)."""
        # Open folders from the top to where we are, their paths (None where that is too long), what is to do in each,
        # and how its permissions were: a tree of any depth works.
        top: bytes | None = b""
        stack = [(os.open(work, FOLDER), top, iter([b"."]), -1)]
        try:
            while stack:
                folder, prefix, names, _ = stack[-1]
                name = next(names, None)
                if name is None:
                    _left(*stack.pop()[::3])
                elif (found := self._entry(folder, prefix, name, len(stack) - 1)) is not None:
                    below, mode = _walkable(folder, name, found)
                    inner = _inner(prefix, name)
                    stack.append((below, inner, iter(sorted(map(os.fsencode, os.listdir(below)))), mode))
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise Refused("TooLarge", f"folders are nested deeper than {len(stack)}") from None
            raise
        finally:
            for folder, _, _, mode in stack[::-1]:
                _left(folder, mode)
        self._put(b"\0" * 2 * BLOCK)
        self._flush()

    def _entry(self, folder: int, prefix: bytes | None, name: bytes, depth: int) -> os.stat_result | None:
        """Write one entry; what it is, where it is a folder."""
        found = os.lstat(name, dir_fd=folder)
        kind = KINDS.get(stat.S_IFMT(found.st_mode))
        path = name if prefix is None else prefix + name
        far = depth if prefix is None else 0
        if kind is None:  # a socket: it means nothing without the process behind it
            return None
        self._at = (depth, name)
        if kind != b"5" and found.st_nlink > 1:
            if far:
                raise Refused("TooLarge", f"a file with several names has a path longer than {_LONGEST}")
            if (first := self._links.setdefault(found.st_ino, path)) != path:
                self._say(b"1", found, first)
                self._put(header(path, b"1", 0, found, first))
                return None
        if kind == b"0":
            self._file(folder, name, path, found, far)
            return None
        target = os.readlink(name, dir_fd=folder) if kind == b"2" else b""
        self._say(kind, found, target)
        self._put(header(path + b"/" if kind == b"5" else path, kind, 0, found, target, depth=far))
        return found if kind == b"5" else None

    def _file(self, folder: int, name: bytes, path: bytes, found: os.stat_result, depth: int) -> None:
        file = _opened(folder, name, found)
        try:
            found = os.fstat(file)
            if found.st_blocks * 512 < found.st_size:
                extents = [*_data(file, found.st_size), (found.st_size, 0)]
                size = sum(length for _, length in extents)
                self._put(header(path, b"S", size, found, extents=extents, depth=depth))
            else:
                extents, size = [(0, found.st_size)], found.st_size
                self._put(header(path, b"0", size, found, depth=depth))
            self._say(b"0", found, b"%d" % found.st_size)
            for offset, length in extents:
                self._extent(file, offset, length)
            self._put(b"\0" * (-size % BLOCK))
        finally:
            os.close(file)

    def _extent(self, file: int, offset: int, length: int) -> None:
        """Copy one run of data."""
        end = offset + length
        while offset < end:
            data = os.pread(file, min(CHUNK, end - offset), offset) or b"\0" * min(CHUNK, end - offset)
            self._put(data)
            self.contents.data(offset, data)
            offset += len(data)

    def _say(self, kind: bytes, found: os.stat_result, more: bytes) -> None:
        self.contents.entry(*self._at, kind, stat.S_IMODE(found.st_mode), more)

    def _put(self, data: bytes) -> None:
        self._most -= len(data)
        if self._most < 0:
            raise Refused("TooLarge", "the work directory is larger than a snapshot may be")
        self._buffer += data
        if len(self._buffer) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        data = bytes(self._buffer)
        self._buffer.clear()
        for at in range(0, len(data), CHUNK):
            self._send(data[at : at + CHUNK])


def _inner(prefix: bytes | None, name: bytes) -> bytes | None:
    """The path of a folder, as that of its entries begins; None where it is too long."""
    if prefix == b"" and name == b".":
        return b""
    return None if prefix is None or len(prefix) + len(name) > _LONGEST else prefix + name + b"/"


def _opened(folder: int, name: bytes, found: os.stat_result) -> int:
    """Open a file that one owns even where its permissions forbid that, and leave them as they were."""
    try:
        return os.open(name, _READ, dir_fd=folder)
    except PermissionError:
        mode = stat.S_IMODE(found.st_mode)
        os.chmod(name, mode | stat.S_IRUSR, dir_fd=folder)
        try:
            return os.open(name, _READ, dir_fd=folder)
        finally:
            os.chmod(name, mode, dir_fd=folder)


def _walkable(folder: int, name: bytes, found: os.stat_result) -> tuple[int, int]:
    """Open a folder so that what is in it can be reached; the permissions to give it back, or -1."""
    mode, needed = stat.S_IMODE(found.st_mode), stat.S_IRUSR | stat.S_IXUSR
    change = paths.owner is None and mode & needed != needed
    if change:
        os.chmod(name, mode | needed, dir_fd=folder)
    return os.open(name, FOLDER, dir_fd=folder), mode if change else -1


def _left(folder: int, mode: int) -> None:
    if mode >= 0:
        os.fchmod(folder, mode)
    os.close(folder)


def _data(file: int, size: int) -> Iterator[tuple[int, int]]:
    """The runs of data between the holes of a sparse file."""
    at = 0
    while at < size:
        try:
            start = os.lseek(file, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        at = min(os.lseek(file, start, os.SEEK_HOLE), size)
        if at > start:
            yield start, at - start

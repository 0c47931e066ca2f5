"""The work directory as a tar, and back: GNU format, names as bytes, sparse files stay sparse, links stay links.

Written by hand because tarfile takes longer to import than a whole exec, holds names as text and reads holes as zeros.
Nanoseconds of the times stand in the last 12 bytes of a header, which tar leaves unused; every tar can read the rest.
Entries whose path is longer than any that the kernel takes have no path but their depth, in a field that is unused too,
and their name: they are in the folder of that depth that came last. So the work is linear however deep a tree is.
"""

from __future__ import annotations

import errno
import os
import stat

from palaestra.envs.sandbox.guest import paths
from palaestra.envs.sandbox.guest.frames import CHUNK, blake2b
from palaestra.envs.sandbox.guest.paths import Refused, own, shown

TYPE_CHECKING = False  # typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Extents = list[tuple[int, int]]  # offset and length, in bytes

_BLOCK = 512
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST = 4096  # bytes of a path
_LARGEST = 2**63 - 1  # bytes of a file
_DEPTH = slice(345, 357)  # of a header; in GNU tar's own it is the time of the last access
_KINDS = {stat.S_IFREG: b"0", stat.S_IFLNK: b"2", stat.S_IFDIR: b"5", stat.S_IFIFO: b"6"}


def _octal(value: int, width: int) -> bytes:
    """A number field; base 256 where octal digits do not suffice (times before 1970, large files)."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return bytes([0x80 if value >= 0 else 0xFF]) + value.to_bytes(width - 1, "big", signed=True)


def _number(field: bytes) -> int:
    if field[:1] in (b"\x80", b"\xff"):
        return int.from_bytes(field[1:], "big", signed=True)
    return int(field.rstrip(b"\0 ") or b"0", 8)


def _size(field: bytes) -> int:
    """A number of bytes. Raises ValueError."""
    size = _number(field)
    if not 0 <= size <= _LARGEST:
        raise ValueError("a size that nothing has")
    return size


def _mode(block: bytes) -> int:
    return _number(block[100:108]) & 0o7777


def _header(
    name: bytes,
    kind: bytes,
    size: int = 0,
    found: os.stat_result | None = None,
    link: bytes = b"",
    extents: Extents | None = None,
    depth: int = 0,
) -> bytes:
    """One header block, before it the blocks of a long name or link, behind it those of many extents."""
    before = b"".join(
        _header(b"././@LongLink", mark, len(text) + 1) + _padded(text + b"\0")
        for mark, text in ((b"L", name), (b"K", link))
        if len(text) > 100
    )
    mode, uid, gid, time = (
        (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns) if found else (0o644, 0, 0, 0)
    )
    block = bytearray(_BLOCK)
    fields = ((mode, 8), (uid, 8), (gid, 8), (size, 12), (time // 10**9, 12))
    block[:157] = b"".join(
        (name[:100].ljust(100, b"\0"), *(_octal(value, width) for value, width in fields), b" " * 8, kind)
    )
    block[157:257] = link[:100].ljust(100, b"\0")
    block[257:265] = b"ustar  \0"
    block[500:512] = b"%09dns\0" % (time % 10**9)
    if depth:
        block[_DEPTH] = _octal(depth, 12)
    after = b""
    if extents is not None and found is not None:
        block[386:482], block[482:483], block[483:495] = _extents(extents[:4], 4), b"\0", _octal(found.st_size, 12)
        rest = extents[4:]
        if rest:
            block[482:483] = b"\1"
        for at in range(0, len(rest), 21):
            more = b"\1" if len(rest) > at + 21 else b"\0"
            after += _extents(rest[at : at + 21], 21) + more + b"\0" * 7
    block[148:156] = b"%06o\0 " % sum(block)
    return before + bytes(block) + after


def _extents(extents: Extents, most: int) -> bytes:
    return b"".join(_octal(value, 12) for extent in extents for value in extent).ljust(24 * most, b"\0")


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _BLOCK)


class Packer:
    """Writes the archive of a work directory.

    Args:
        send: takes the archive's bytes, piece by piece.
        most: bytes of archive that the host takes.

    Attributes:
        digest: BLAKE2b of paths, kinds, permissions, link targets and contents; complete after `pack`.
    """

    def __init__(self, send: Callable[[bytes], None], most: int) -> None:
        self._send, self._most = send, most
        self._buffer = bytearray()
        self._links: dict[int, bytes] = {}
        self._at = b""
        self.digest = blake2b(digest_size=16)

    def pack(self, work: bytes) -> None:
        """Raises Refused (TooLarge)."""
        # Open folders from the top to where we are, their paths (None where that is too long), what is to do in each,
        # and how its permissions were: a tree of any depth works.
        top: bytes | None = b""
        stack = [(os.open(work, _FOLDER), top, iter([b"."]), -1)]
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
        self._put(b"\0" * 2 * _BLOCK)
        self._flush()

    def _entry(self, folder: int, prefix: bytes | None, name: bytes, depth: int) -> os.stat_result | None:
        """Write one entry; what it is, where it is a folder."""
        found = os.lstat(name, dir_fd=folder)
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        path = name if prefix is None else prefix + name
        far = depth if prefix is None else 0
        if kind is None:  # a socket: it means nothing without the process behind it
            return None
        self._at = b"%d:%s" % (depth, name)  # and what came before say where an entry is
        if kind != b"5" and found.st_nlink > 1:
            if far:
                raise Refused("TooLarge", f"a file with several names has a path longer than {_LONGEST}")
            if (first := self._links.setdefault(found.st_ino, path)) != path:
                self._say(b"1", found, first)
                self._put(_header(path, b"1", 0, found, first))
                return None
        if kind == b"0":
            self._file(folder, name, path, found, far)
            return None
        target = os.readlink(name, dir_fd=folder) if kind == b"2" else b""
        self._say(kind, found, target)
        self._put(_header(path + b"/" if kind == b"5" else path, kind, 0, found, target, depth=far))
        return found if kind == b"5" else None

    def _file(self, folder: int, name: bytes, path: bytes, found: os.stat_result, depth: int) -> None:
        file = _opened(folder, name, found)
        try:
            found = os.fstat(file)
            if found.st_blocks * 512 < found.st_size:
                extents = [*_data(file, found.st_size), (found.st_size, 0)]
                size = sum(length for _, length in extents)
                self._put(_header(path, b"S", size, found, extents=extents, depth=depth))
            else:
                extents, size = [(0, found.st_size)], found.st_size
                self._put(_header(path, b"0", size, found, depth=depth))
            self._say(b"0", found, b"%d" % found.st_size)
            for offset, length in extents:
                self._extent(file, offset, length)
            self._put(b"\0" * (-size % _BLOCK))
        finally:
            os.close(file)

    def _extent(self, file: int, offset: int, length: int) -> None:
        """Copy one run of data. Zeros are no part of the digest: whether they are a hole is not the contents."""
        end = offset + length
        while offset < end:
            data = os.pread(file, min(CHUNK, end - offset), offset) or b"\0" * min(CHUNK, end - offset)
            self._put(data)
            for at in range(0, len(data), 4096):
                page = data[at : at + 4096]
                if page.count(0) != len(page):
                    held = page.rstrip(b"\0")
                    self.digest.update(b"page %d %d:" % (offset + at, len(held)))
                    self.digest.update(held)
            offset += len(data)

    def _say(self, kind: bytes, found: os.stat_result, more: bytes) -> None:
        mode = b"%o" % stat.S_IMODE(found.st_mode)
        fields = (self._at, kind, mode, more)
        self.digest.update(b"entry " + b"".join(b"%d:%s" % (len(field), field) for field in fields))

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
    return os.open(name, _FOLDER, dir_fd=folder), mode if change else -1


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


def clear(work: bytes) -> None:
    """Empty a folder, however deep it is: folders inside are moved up before they are emptied, so nothing recurses."""
    root = os.open(work, _FOLDER)
    prefix, number = b".palaestra-" + os.urandom(8).hex().encode(), 0
    try:
        todo = list(_unlinked(root))
        while todo:
            name = todo.pop()
            folder = _entered(root, name)
            try:
                for entry in _unlinked(folder):
                    number += 1
                    up = b"%s-%d" % (prefix, number)
                    _movable(folder, entry)
                    os.rename(entry, up, src_dir_fd=folder, dst_dir_fd=root)
                    todo.append(up)
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=root)
    finally:
        os.close(root)


def _unlinked(folder: int) -> Iterator[bytes]:
    """Unlink all that can be; the names of the rest, which are folders."""
    for entry in map(os.fsencode, os.listdir(folder)):
        try:
            os.unlink(entry, dir_fd=folder)
        except (IsADirectoryError, PermissionError):
            yield entry


def _movable(folder: int, name: bytes) -> None:
    """Moving a folder writes its `..`, for which it must be writable."""
    os.chmod(name, 0o700, dir_fd=folder)


def _entered(root: int, name: bytes) -> int:
    """Open a folder to empty it, with the permissions that takes."""
    os.chmod(name, 0o700, dir_fd=root)
    return os.open(name, _FOLDER, dir_fd=root)


class Unpacker:
    """Reads an archive, piece by piece, into an empty work directory.

    Nothing is followed: an entry below a link, with `..`, or twice is refused.

    Args:
        work: the work directory.
        read: gives exactly that many bytes of the archive, or raises EOFError.
    """

    def __init__(self, work: bytes, read: Callable[[int], bytes]) -> None:
        self._read = read
        # Folders from the top to where we are: name, open folder, and what to set once all below is there.
        self._way: list[tuple[bytes, int, bytes]] = [(b"", os.open(work, _FOLDER), b"")]

    def unpack(self) -> None:
        """Raises Refused (TooLarge where it does not fit, BadInput where it is no archive of ours)."""
        name = link = None
        path = b""
        try:
            while True:
                block = self._read(_BLOCK)
                if block == b"\0" * _BLOCK:
                    break
                if block[257:262] != b"ustar":
                    raise Refused("BadInput", "this is not the archive of a snapshot")
                kind, size = block[156:157], _size(block[124:136])
                if kind == b"L":
                    name = self._text(size)
                elif kind == b"K":
                    link = self._text(size)
                else:
                    path = name or block[:100].rstrip(b"\0")
                    self._entry(path, kind, size, block, link or block[157:257].rstrip(b"\0"))
                    name = link = None
            self._leave(0)
        except (ValueError, OverflowError, EOFError):
            raise Refused("BadInput", "the archive of the snapshot is cut off or damaged") from None
        except OSError as error:
            raise paths.refusal(path, error) from None
        finally:
            for _, folder, _ in self._way:
                os.close(folder)

    def _text(self, size: int) -> bytes:
        if size > 2**20:  # those of before had the whole path of each entry
            raise ValueError("a path that no work directory has")
        text = self._read(size)[:-1]
        self._read(-size % _BLOCK)
        return text

    def _leave(self, depth: int) -> None:
        """Close folders until `depth` are left; their permissions and times are set last, when nothing is added."""
        while len(self._way) > depth:
            _, folder, block = self._way.pop()
            try:
                if block:
                    os.fchmod(folder, _mode(block))
                    os.utime(folder, ns=_times(block))
            finally:
                os.close(folder)

    def _folder(self, parts: list[bytes]) -> int:
        """Go to the folder, from where we are."""
        same = 0
        while same < min(len(parts), len(self._way) - 1) and self._way[same + 1][0] == parts[same]:
            same += 1
        self._leave(same + 1)
        for part in parts[same:]:
            self._way.append((part, os.open(part, _FOLDER, dir_fd=self._way[-1][1]), b""))
        return self._way[-1][1]

    def _entry(self, path: bytes, kind: bytes, size: int, block: bytes, link: bytes) -> None:
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise Refused("OutsideWork", f"the archive holds {shown(path)}")
        if not parts:  # the work directory itself
            self._leave(1)
            self._way[0] = (b"", self._way[0][1], block)
            return
        depth = _number(block[_DEPTH])
        if depth:  # it is where the last folder of that depth was
            if not 0 < depth <= len(self._way) or len(parts) != 1:
                raise ValueError("an entry at a depth that nothing has")
            self._leave(depth)
            folder, name = self._way[-1][1], parts[0]
        else:
            folder, name = self._folder(parts[:-1]), parts[-1]
        if kind in (b"0", b"S"):
            self._file(folder, name, kind, size, block)
        elif kind == b"5":
            os.mkdir(name, 0o700, dir_fd=folder)
            _given(folder, name, block)
            self._way.append((name, os.open(name, _FOLDER, dir_fd=folder), block))
        elif kind == b"1":
            with _place(self._way[0][1], link) as first:
                os.link(first.name, name, src_dir_fd=first.folder, dst_dir_fd=folder, follow_symlinks=False)
        else:
            if kind == b"2":
                os.symlink(link, name, dir_fd=folder)
            elif kind == b"6":
                os.mkfifo(name, 0o600, dir_fd=folder)
            else:
                raise Refused("BadInput", f"{shown(path)}: an entry of kind {kind!r}")
            _given(folder, name, block)
            if kind == b"6":
                os.chmod(name, _mode(block), dir_fd=folder)
            os.utime(name, ns=_times(block), dir_fd=folder, follow_symlinks=False)

    def _file(self, folder: int, name: bytes, kind: bytes, size: int, block: bytes) -> None:
        extents = [(0, size)] if kind == b"0" else list(self._sparse(block))
        file = os.open(name, _CREATE, 0o600, dir_fd=folder)
        try:
            for offset, length in extents:
                os.lseek(file, offset, os.SEEK_SET)
                while length:
                    data = self._read(min(length, CHUNK))
                    length -= len(data)
                    view = memoryview(data)
                    while view:
                        view = view[os.write(file, view) :]
            if kind == b"S":
                os.ftruncate(file, _size(block[483:495]))
            self._read(-size % _BLOCK)
            _given(folder, name, block)
            os.fchmod(file, _mode(block))
            os.utime(file, ns=_times(block))
        finally:
            os.close(file)

    def _sparse(self, block: bytes) -> Iterator[tuple[int, int]]:
        fields, more = block[386:482], block[482:483]
        while True:
            for at in range(0, len(fields), 24):
                if fields[at : at + 12].strip(b"\0"):
                    yield _size(fields[at : at + 12]), _size(fields[at + 12 : at + 24])
            if more != b"\1":
                return
            fields = self._read(_BLOCK)
            fields, more = fields[:504], fields[504:505]


def _place(root: int, path: bytes) -> paths.Place:
    """The folder and name of an entry that is there already, without following links."""
    *above, name = parts = path.split(b"/")
    if any(part in (b"", b".", b"..") for part in parts):
        raise Refused("BadInput", f"the archive links to {shown(path)}")
    folder = os.dup(root)
    for part in above:
        try:
            below = os.open(part, _FOLDER, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return paths.Place(folder, name, [])


def _times(block: bytes) -> tuple[int, int]:
    parts = block[500:509]
    when = _number(block[136:148]) * 10**9 + (int(parts) if parts.isdigit() else 0)
    return when, when


def _given(folder: int, name: bytes, block: bytes) -> None:
    """Give an entry to the user it belonged to, where the guest can."""
    if paths.owner is None:
        return
    try:
        os.chown(name, _number(block[108:116]), _number(block[116:124]), dir_fd=folder, follow_symlinks=False)
    except OSError:  # a user of another backend
        own(folder, name)

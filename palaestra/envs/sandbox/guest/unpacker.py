"""A tar of `packer.py` as the work directory again, after it was emptied.

Nothing in an archive is believed: the host may have it from anywhere.
"""

from __future__ import annotations

import os

from palaestra.envs.sandbox.guest import paths
from palaestra.envs.sandbox.guest.frames import CHUNK
from palaestra.envs.sandbox.guest.paths import Refused, own, shown
from palaestra.envs.sandbox.guest.tar import BLOCK, DEPTH, FOLDER, Contents, check, mode_of, number, size_of

TYPE_CHECKING = False  # typing itself takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def clear(work: bytes) -> None:
    """Empty a folder, however deep it is: folders inside are moved up before they are emptied, so nothing recurses."""
    root = os.open(work, FOLDER)
    prefix, count = b".palaestra-" + os.urandom(8).hex().encode(), 0
    try:
        todo = list(_unlinked(root))
        while todo:
            name = todo.pop()
            folder = _entered(root, name)
            try:
                for entry in _unlinked(folder):
                    count += 1
                    up = b"%s-%d" % (prefix, count)
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
    return os.open(name, FOLDER, dir_fd=root)


class Unpacker:
    """Reads an archive, piece by piece, into an empty work directory.

    Nothing is followed: an entry below a link, with `..`, or twice is refused.

    Args:
        work: the work directory.
        read: gives exactly that many bytes of the archive, or raises EOFError.

    Attributes:
        contents: what the archive says that there is; complete after `unpack`.
    """

    def __init__(self, work: bytes, read: Callable[[int], bytes]) -> None:
        self._read = read
        self.contents = Contents()
        # Folders from the top to where we are: name, open folder, and what to set once all below is there.
        self._way: list[tuple[bytes, int, bytes]] = [(b"", os.open(work, FOLDER), b"")]

    def unpack(self) -> None:
        """Raises Refused (TooLarge where it does not fit, BadInput where it is no archive of ours)."""
        name = link = None
        path = b""
        try:
            while True:
                block = self._read(BLOCK)
                if block == b"\0" * BLOCK:
                    break
                if block[257:262] != b"ustar":
                    raise Refused("BadInput", "this is not the archive of a snapshot")
                check(block)
                kind, size = block[156:157], size_of(block[124:136])
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
        self._read(-size % BLOCK)
        return text

    def _leave(self, depth: int) -> None:
        """Close folders until `depth` are left; their permissions and times are set last, when nothing is added."""
        while len(self._way) > depth:
            _, folder, block = self._way.pop()
            try:
                if block:
                    os.fchmod(folder, mode_of(block))
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
            self._way.append((part, os.open(part, FOLDER, dir_fd=self._way[-1][1]), b""))
        return self._way[-1][1]

    def _entry(self, path: bytes, kind: bytes, size: int, block: bytes, link: bytes) -> None:
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise Refused("OutsideWork", f"the archive holds {shown(path)}")
        if not parts:  # the work directory itself
            self._leave(1)
            self._way[0] = (b"", self._way[0][1], block)
            self.contents.entry(0, b".", kind, mode_of(block), b"")
            return
        depth = number(block[DEPTH])
        if depth:  # it is where the last folder of that depth was
            if not 0 < depth <= len(self._way) or len(parts) != 1:
                raise ValueError("an entry at a depth that nothing has")
            self._leave(depth)
            folder, name = self._way[-1][1], parts[0]
        else:
            folder, name = self._folder(parts[:-1]), parts[-1]
        file, real = kind in (b"0", b"S"), size_of(block[483:495]) if kind == b"S" else size
        more = b"%d" % real if file else link if kind in (b"1", b"2") else b""
        self.contents.entry(depth or len(parts), name, b"0" if file else kind, mode_of(block), more)
        if file:
            self._file(folder, name, kind, size, block)
        elif kind == b"5":
            os.mkdir(name, 0o700, dir_fd=folder)
            _given(folder, name, block)
            self._way.append((name, os.open(name, FOLDER, dir_fd=folder), block))
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
                os.chmod(name, mode_of(block), dir_fd=folder)
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
                    self.contents.data(offset, data)
                    offset += len(data)
                    view = memoryview(data)
                    while view:
                        view = view[os.write(file, view) :]
            if kind == b"S":
                os.ftruncate(file, size_of(block[483:495]))
            self._read(-size % BLOCK)
            _given(folder, name, block)
            os.fchmod(file, mode_of(block))
            os.utime(file, ns=_times(block))
        finally:
            os.close(file)

    def _sparse(self, block: bytes) -> Iterator[tuple[int, int]]:
        fields, more = block[386:482], block[482:483]
        while True:
            for at in range(0, len(fields), 24):
                if fields[at : at + 12].strip(b"\0"):
                    yield size_of(fields[at : at + 12]), size_of(fields[at + 12 : at + 24])
            if more != b"\1":
                return
            fields = self._read(BLOCK)
            fields, more = fields[:504], fields[504:505]


def _place(root: int, path: bytes) -> paths.Place:
    """The folder and name of an entry that is there already, without following links."""
    *above, name = parts = path.split(b"/")
    if any(part in (b"", b".", b"..") for part in parts):
        raise Refused("BadInput", f"the archive links to {shown(path)}")
    folder = os.dup(root)
    for part in above:
        try:
            below = os.open(part, FOLDER, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return paths.Place(folder, name, [])


def _times(block: bytes) -> tuple[int, int]:
    parts = block[500:509]
    when = number(block[136:148]) * 10**9 + (int(parts) if parts.isdigit() else 0)
    return when, when


def _given(folder: int, name: bytes, block: bytes) -> None:
    """Give an entry to the user it belonged to, where the guest can."""
    if paths.owner is None:
        return
    try:
        os.chown(name, number(block[108:116]), number(block[116:124]), dir_fd=folder, follow_symlinks=False)
    except OSError:  # a user of another backend
        own(folder, name)

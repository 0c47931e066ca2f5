"""Paths inside the work directory, resolved so that no link, `..` or race leads out of it.

Every folder is opened component by component without following links; links are read and resolved here, `..` goes
back on our own way and never asks the kernel. So a path can be moved about while it is walked and still ends inside.
"""

from __future__ import annotations

import errno
import os
import stat

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LINKS = 40


class Refused(Exception):
    """What the host asked for cannot be done: `kind` is the name of the host's error, the text says why."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Place:
    """A name in an open folder: where a resolved path ends. Close it.

    Args:
        folder: the last folder on the way that is there.
        name: the path's last part; b"." for the folder itself.
        missing: folders between the two that are not there.
    """

    def __init__(self, folder: int, name: bytes, missing: list[bytes]) -> None:
        self.folder, self.name = folder, name
        self._missing = missing
        self._made: list[tuple[int, bytes]] = []

    def make(self, path: bytes) -> None:
        """Make the folders that are missing. Raises Refused, OSError; then `unmake`."""
        for name in self._missing:
            try:
                os.mkdir(name, 0o755, dir_fd=self.folder)
                self._made.append((os.dup(self.folder), name))
                own(self.folder, name)
            except FileExistsError:  # somebody else made it meanwhile
                pass
            above, self.folder = self.folder, _enter(self.folder, name, path)
            os.close(above)

    def unmake(self) -> None:
        """Remove what `make` made, as far as nobody has put anything into it."""
        while self._made:
            folder, name = self._made.pop()
            _remove_empty(folder, name)
            os.close(folder)

    def close(self) -> None:
        for folder, _ in self._made:
            os.close(folder)
        os.close(self.folder)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _remove_empty(folder: int, name: bytes) -> None:
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError:  # somebody uses it
        return


class Root:
    """A folder that commands write to, held open: they may take all permissions from it, and it gets them back.

    Args:
        path: where it is.
    """

    def __init__(self, path: bytes) -> None:
        self.path = path
        self._file = os.open(path, _FOLDER)
        self._mode = stat.S_IMODE(os.fstat(self._file).st_mode)

    def unlock(self) -> None:
        """Let its owner in again."""
        mode = stat.S_IMODE(os.fstat(self._file).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            os.fchmod(self._file, mode | stat.S_IRWXU)

    def reset(self) -> None:
        """Give it the permissions that it had at first."""
        os.fchmod(self._file, self._mode)


def refusal(path: bytes, error: OSError) -> Refused:
    """The host's name for what the kernel said."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return Refused("TooLarge" if full else "NotAFile", f"{shown(path)}: {os.strerror(error.errno or 0)}")


def shown(path: bytes) -> str:
    """A path for a message, in one line."""
    text = path.decode("utf-8", "backslashreplace")[:200]
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def resolve(work: bytes, path: bytes, make: bool = False) -> Place:
    """Where the path ends, with no link left in it.

    Args:
        work: the work directory.
        path: relative to it.
        make: folders may be missing on the way; `Place.make` makes them.

    Raises:
        Refused: OutsideWork, or NotAFile where a folder on the way is missing or none.
    """
    if path.startswith(b"/"):
        raise Refused("OutsideWork", f"{shown(path)} is absolute; paths are relative to the work directory")
    todo = path.split(b"/")[::-1]
    way: list[int] = []
    missing: list[bytes] = []  # below the way; in what is not there are no links
    links = 0
    name = b"."
    try:
        way.append(os.open(work, _FOLDER))
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b".." and missing:
                missing.pop()
                continue
            if part == b"..":
                if len(way) == 1:
                    raise Refused("OutsideWork", f"{shown(path)} leads outside the work directory")
                os.close(way.pop())
                continue
            target = _link(way[-1], part) if not missing else None
            if target is not None:
                links += 1
                if links > _LINKS:
                    raise Refused("NotAFile", f"{shown(path)}: too many links")
                if target.startswith(b"/"):
                    if target != work and not target.startswith(work + b"/"):
                        raise Refused("OutsideWork", f"{shown(path)} leads through a link to {shown(target)}")
                    target = target[len(work) :]
                    while len(way) > 1:
                        os.close(way.pop())
                todo.extend(target.split(b"/")[::-1])
            elif not any(rest not in (b"", b".") for rest in todo):
                name = part
                break
            elif missing or (make and not _there(way[-1], part)):
                missing.append(part)
            else:
                way.append(_enter(way[-1], part, path))
        return Place(way.pop(), name, missing)
    except OSError as error:
        raise refusal(path, error) from None
    finally:
        for folder in way:
            os.close(folder)


def _link(folder: int, name: bytes) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def _there(folder: int, name: bytes) -> bool:
    try:
        os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def _enter(folder: int, name: bytes, path: bytes) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError as error:
        raise Refused("NotAFile", f"{shown(path)}: {shown(name)}: {os.strerror(error.errno or 0)}") from None


owner: tuple[int, int] | None = None  # who owns what is put in, where the guest is another user


def own(folder: int, name: bytes) -> None:
    """Hand what was just made to the sandbox's user."""
    if owner is not None:
        os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)


def open_file(work: bytes, path: bytes) -> tuple[int, os.stat_result]:
    """Open a regular file for reading; a pipe or a device in its place neither hangs nor is opened."""
    with resolve(work, path) as place:
        try:
            found = os.lstat(place.name, dir_fd=place.folder)
            if not stat.S_ISREG(found.st_mode):
                raise Refused("NotAFile", f"{shown(path)} is {kind_text(found.st_mode)}")
            file = os.open(place.name, _FILE, dir_fd=place.folder)
        except OSError as error:
            raise refusal(path, error) from None
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):  # it was swapped between the two looks
        os.close(file)
        raise Refused("NotAFile", f"{shown(path)} is {kind_text(found.st_mode)}")
    return file, found


def open_folder(work: bytes, path: bytes) -> int:
    """Open a folder."""
    with resolve(work, path) as place:
        try:
            return os.open(place.name, _FOLDER, dir_fd=place.folder)
        except OSError as error:
            raise refusal(path, error) from None


def kind_text(mode: int) -> str:
    """What a mode says it is, for a message."""
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISLNK(mode):
        return "a link"
    return "a regular file" if stat.S_ISREG(mode) else "a pipe, socket or device"

"""The form of a snapshot's archive: GNU tar, names as bytes, sparse files stay sparse, links stay links.

Written by hand because tarfile takes longer to import than a whole exec, holds names as text and reads holes as zeros.
Nanoseconds of the times stand in the last 12 bytes of a header, which tar leaves unused; every tar can read the rest.
Entries whose path is longer than any that the kernel takes have no path but their depth, in a field that is unused too,
and their name: they are in the folder of that depth that came last. So the work is linear however deep a tree is.
"""

from __future__ import annotations

import os
import stat

from palaestra.envs.sandbox.guest.frames import blake2b

TYPE_CHECKING = False  # typing itself takes long to import
if TYPE_CHECKING:
    Extents = list[tuple[int, int]]  # offset and length, in bytes

BLOCK = 512
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC  # how folders are opened to walk them
_LARGEST = 2**63 - 1  # bytes of a file
DEPTH = slice(345, 357)  # of a header; in GNU tar's own it is the time of the last access
KINDS = {stat.S_IFREG: b"0", stat.S_IFLNK: b"2", stat.S_IFDIR: b"5", stat.S_IFIFO: b"6"}


def octal(value: int, width: int) -> bytes:
    """A number field; base 256 where octal digits do not suffice (times before 1970, large files)."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return bytes([0x80 if value >= 0 else 0xFF]) + value.to_bytes(width - 1, "big", signed=True)


def number(field: bytes) -> int:
    if field[:1] in (b"\x80", b"\xff"):
        return int.from_bytes(field[1:], "big", signed=True)
    return int(field.rstrip(b"\0 ") or b"0", 8)


def size_of(field: bytes) -> int:
    """A number of bytes. Raises ValueError."""
    size = number(field)
    if not 0 <= size <= _LARGEST:
        raise ValueError("a size that nothing has")
    return size


def mode_of(block: bytes) -> int:
    return number(block[100:108]) & 0o7777


def check(block: bytes) -> None:
    """A header holds the sum of its bytes. Raises ValueError where it does not."""
    if sum(block) - sum(block[148:156]) + 8 * 32 != number(block[148:156]):
        raise ValueError("a header that is damaged")


class Contents:
    """BLAKE2b of paths, kinds, permissions, link targets and contents: the same of a folder and of its archive."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)

    def entry(self, depth: int, name: bytes, kind: bytes, mode: int, more: bytes) -> None:
        """An entry: depth, name and what came before say where. `more`: a link's target, a file's size."""
        fields = (b"%d:%s" % (depth, name), kind, b"%o" % mode, more)
        self._hash.update(b"entry " + b"".join(b"%d:%s" % (len(field), field) for field in fields))

    def data(self, offset: int, data: bytes) -> None:
        """What a file holds there. Zeros are no part of it: whether they are a hole is not the contents."""
        for at in range(0, len(data), 4096):
            page = data[at : at + 4096]
            if page.count(0) != len(page):
                held = page.rstrip(b"\0")
                self._hash.update(b"page %d %d:" % (offset + at, len(held)))
                self._hash.update(held)

    def digest(self) -> bytes:
        return self._hash.hexdigest().encode()


def header(
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
        header(b"././@LongLink", mark, len(text) + 1) + padded(text + b"\0")
        for mark, text in ((b"L", name), (b"K", link))
        if len(text) > 100
    )
    mode, uid, gid, time = (
        (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns) if found else (0o644, 0, 0, 0)
    )
    block = bytearray(BLOCK)
    fields = ((mode, 8), (uid, 8), (gid, 8), (size, 12), (time // 10**9, 12))
    block[:157] = b"".join(
        (name[:100].ljust(100, b"\0"), *(octal(value, width) for value, width in fields), b" " * 8, kind)
    )
    block[157:257] = link[:100].ljust(100, b"\0")
    block[257:265] = b"ustar  \0"
    block[500:512] = b"%09dns\0" % (time % 10**9)
    if depth:
        block[DEPTH] = octal(depth, 12)
    after = b""
    if extents is not None and found is not None:
        block[386:482], block[482:483], block[483:495] = _extents(extents[:4], 4), b"\0", octal(found.st_size, 12)
        rest = extents[4:]
        if rest:
            block[482:483] = b"\1"
        for at in range(0, len(rest), 21):
            more = b"\1" if len(rest) > at + 21 else b"\0"
            after += _extents(rest[at : at + 21], 21) + more + b"\0" * 7
    block[148:156] = b"%06o\0 " % sum(block)
    return before + bytes(block) + after


def _extents(extents: Extents, most: int) -> bytes:
    return b"".join(octal(value, 12) for extent in extents for value in extent).ljust(24 * most, b"\0")


def padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % BLOCK)

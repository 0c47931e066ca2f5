"""The work directory out of what a coding environment kept of a step (`Coding.to_bytes`), to be read by people.

Nothing is unpacked to a disk and nothing of it is believed: names are texts, sizes and numbers of entries are bounded.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass

MOST_FILES, MOST_BYTES = 500, 1 << 20


@dataclass(frozen=True)
class WorkFile:
    """An entry of a work directory.

    Attributes:
        path: relative to the work directory; bytes that are not UTF-8 stand as surrogate escapes.
        kind: "file", "folder", "link" or "other".
        size: bytes of a file, else 0.
        content: of a file, at most `MOST_BYTES` of it; of a link, where it points.
    """

    path: str
    kind: str
    size: int
    content: bytes

    @property
    def text(self) -> str | None:
        """The content as text; None for what is none."""
        if b"\0" in self.content[:8000]:
            return None
        try:
            return self.content.decode("utf-8")
        except UnicodeDecodeError as error:  # a cut may have fallen into a character
            cut = len(self.content) < self.size and error.start >= len(self.content) - 3
            return self.content[: error.start].decode("utf-8") if cut else None


def files_of(kept: bytes) -> dict[str, WorkFile] | None:
    """The work directory by path, at most `MOST_FILES` entries of it.

    Returns:
        None where `kept` is of another kind of environment, or damaged.
    """
    head, _, rest = kept.partition(b"\n")
    steps, _, archive = rest.partition(b"\n")
    try:
        flags = json.loads(head)
        if not isinstance(flags, dict) or not steps.partition(b" ")[0].isdigit():
            return None
        found: dict[str, WorkFile] = {}
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                entry = _entry(tar, member)
                if entry.path:
                    found[entry.path] = entry
                if len(found) >= MOST_FILES:
                    break
        return dict(sorted(found.items()))
    except (ValueError, OSError, EOFError, tarfile.TarError, RecursionError):
        return None


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> WorkFile:
    path = member.name.removeprefix("./").strip("/")
    path = "" if path == "." else path
    if member.isfile():
        opened = tar.extractfile(member)
        return WorkFile(path, "file", member.size, opened.read(MOST_BYTES) if opened is not None else b"")
    if member.issym() or member.islnk():
        return WorkFile(path, "link", 0, member.linkname.encode("utf-8", "surrogateescape"))
    return WorkFile(path, "folder" if member.isdir() else "other", 0, b"")

"""Reads one big JSON array or object piece by piece, so that memory does not grow with the file.

The official product file is an array of 1.18 million objects in 5 GB. The pieces are decoded by the standard library's
decoder; only where one ends is found here. An error names file and line.
"""

from __future__ import annotations

import codecs
import gzip
import json
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from palaestra.envs.errors import BadInput

CHUNK = 1 << 20
"""Bytes read at a time."""

LONGEST_PIECE = 1 << 26
"""Characters; more than this for one piece means that the file is damaged."""

_NEAR_THE_END = 16
_BLANKS = " \t\r\n"


def elements(path: Path) -> Iterator[tuple[int, object]]:
    """The elements of a file that holds one JSON array, each with the line that it begins in (from 1).

    Raises:
        BadInput: it cannot be read, is damaged, cut off, or holds something else.
    """
    text = _Text(path)
    text.expect("[", "a JSON array")
    if text.peek() == "]":
        text.expect("]", "the end")
        return text.finish()
    while True:
        text.skip()
        text.number += 1
        yield text.line, text.value()
        if text.expect(",]", "',' or ']'") == "]":
            return text.finish()


def members(path: Path) -> Iterator[tuple[int, str, object]]:
    """The members of a file that holds one JSON object: line, key, value. Raises BadInput as `elements` does."""
    text = _Text(path)
    text.expect("{", "a JSON object")
    if text.peek() == "}":
        text.expect("}", "the end")
        return text.finish()
    while True:
        text.skip()
        text.number += 1
        line, key = text.line, text.value()
        if not isinstance(key, str):
            raise text.error("a key is not a string")
        text.expect(":", "':'")
        text.skip()
        yield line, key, text.value()
        if text.expect(",}", "',' or '}'") == "}":
            return text.finish()


class _Text:
    """The text of a file from where it was read up to; counts lines and products."""

    def __init__(self, path: Path) -> None:
        self.path, self.line, self.number = path, 1, 0
        self._buffer, self._at, self._over = "", 0, False
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._scan = json.JSONDecoder().raw_decode
        try:
            self._file = _open(path)
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror or error}") from None

    def error(self, problem: str, line: int | None = None) -> BadInput:
        which = f" (product {self.number})" if self.number else ""  # all of them may stand in one line
        return BadInput(f"{self.path}, line {line or self.line}: {problem}{which}; the file is damaged, get it again")

    def skip(self) -> None:
        """Go past blanks."""
        while True:
            start, buffer = self._at, self._buffer
            at = start
            while at < len(buffer) and buffer[at] in _BLANKS:
                at += 1
            self.line += buffer.count("\n", start, at)
            self._at = at
            if at < len(buffer) or not self._more():
                return

    def peek(self) -> str:
        """The next letter that is no blank; empty at the end."""
        self.skip()
        return self._buffer[self._at : self._at + 1]

    def expect(self, letters: str, what: str) -> str:
        """Read one of these letters. Raises BadInput for another."""
        found = self.peek()
        if not found:
            raise self.error(f"the file ends where {what} should be")
        if found not in letters:
            raise self.error(f"{what} expected, found {found!r}")
        self._at += 1
        return found

    def value(self) -> object:
        """Read one whole value."""
        while True:
            try:
                value, end = self._scan(self._buffer, self._at)
            except json.JSONDecodeError as error:
                self._incomplete(error)
                continue
            except RecursionError:
                raise self.error("it is nested too deeply") from None
            except ValueError:  # Python reads no longer ones
                raise self.error("a number has thousands of digits") from None
            cut = isinstance(value, int | float) and len(self._buffer) - end < _NEAR_THE_END
            if cut and self._more():  # a number may go on in the next chunk
                continue
            self.line += self._buffer.count("\n", self._at, end)
            self._at = end
            return cast(object, value)

    def finish(self) -> None:
        """Nothing may follow. Closes the file."""
        found = self.peek()
        self._file.close()
        if found:
            raise self.error(f"there is more behind the end: {found!r}")

    def _incomplete(self, error: json.JSONDecodeError) -> None:
        """Read on if that may mend the error, raise if not."""
        open_end = error.msg.startswith("Unterminated string") or error.pos >= len(self._buffer) - _NEAR_THE_END
        line = self.line + self._buffer.count("\n", self._at, error.pos)
        if not open_end or len(self._buffer) - self._at > LONGEST_PIECE:
            raise self.error(error.msg, line)
        if not self._more():
            raise self.error(f"the file ends in the middle of a value ({error.msg})", line)

    def _more(self) -> bool:
        """Read another chunk behind what is left. False at the end of the file."""
        if self._over:
            return False
        try:
            chunk = self._file.read(CHUNK)
            text = self._decode(chunk, final=not chunk)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise self.error(f"it cannot be unpacked ({error})") from None
        except UnicodeDecodeError as error:
            before = self._buffer.count("\n", self._at) + error.object[: error.start].count(b"\n")
            raise self.error(f"it is not UTF-8 ({error.reason})", self.line + before) from None
        self._over = not chunk
        if chunk:
            self._buffer, self._at = self._buffer[self._at :] + text, 0
        return not self._over


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".xz":
        return cast(BinaryIO, lzma.open(path, "rb"))
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")

"""Files of records: JSON lines that are read with the number of each line and written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from palaestra.envs.errors import BadInput

Record = dict[str, Any]


Broken = Callable[[BadInput], None]
"""Told what is wrong with a record, which is then left out."""


def read_records(file: FilePath, broken: Broken | None = None) -> Iterator[tuple[str, Record]]:
    """The JSON objects of a file, each with where it is ("FILE, line 3"): JSON lines, or one JSON array of objects.

    Args:
        broken: told of each line that is no JSON object; None raises at the first one.

    Raises:
        BadInput: the file cannot be read, or the first line that is no JSON object, with its number.
    """
    try:
        with file.open("rb") as lines:
            if lines.read(1) == b"[" and not _is_line(b"[" + lines.readline(), lines.readline()):
                lines.seek(0)
                yield from _read_array(file, lines.read())
                return
            lines.seek(0)
            for number, raw in enumerate(lines, 1):
                if line := raw.strip():
                    try:
                        found = _record(f"{file}, line {number}", line)
                    except BadInput as error:
                        if broken is None:
                            raise
                        broken(error)
                        continue
                    yield found
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror or error}") from None


def _is_line(first: bytes, second: bytes) -> bool:
    """Is a first line that opens an array only a malformed record, as it is closed there and other lines follow."""
    try:
        return bool(second.strip()) and isinstance(json.loads(first), list)
    except (ValueError, RecursionError):
        return False


def _read_array(file: FilePath, raw: bytes) -> Iterator[tuple[str, Record]]:
    values = _parse(str(file), raw)
    for number, value in enumerate(values, 1):
        where = f"{file}, record {number}"
        if not isinstance(value, dict):
            raise BadInput(f"{where}: a JSON object is expected, not {type(value).__name__}")
        yield where, value


def _record(where: str, line: bytes) -> tuple[str, Record]:
    value = _parse(where, line)
    if not isinstance(value, dict):
        raise BadInput(f"{where}: a JSON object is expected, not {type(value).__name__}")
    return where, value


def _parse(where: str, raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadInput(f"{where}: not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, character {error.colno}" if error.lineno > 1 else f"character {error.colno}"
        raise BadInput(f"{where}: not JSON ({error.msg} at {place}); mend or remove it") from None
    except RecursionError:
        raise BadInput(f"{where}: JSON nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise BadInput(f"{where}: not JSON that can be read ({error})") from None


def line_of(record: Mapping[str, object]) -> str:
    """A record as a line. Lone surrogates, which UTF-8 has no place for, are written as JSON escapes."""
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(record, separators=(",", ":"))
    return text + "\n"


def what_is_wrong(error: ValidationError) -> str:
    """The first problem that pydantic found, in one line."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


@contextmanager
def whole_file(file: FilePath) -> Iterator[FilePath]:
    """A place to write to; it becomes `file` when all went well, and is removed when not.

    Raises:
        BadInput: the place cannot be written, or the disk is full.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            with draft.open("rb") as written:
                os.fsync(written.fileno())
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror or error}; nothing was left there") from None

"""Downloads one file so that a broken download goes on where it stopped: plain HTTP with ranges, nothing to install.

Until its size and sum are right a file is called `NAME.part`; what it was begun with (`ETag`, `Last-Modified`) is kept
beside it, so that a file that changed meanwhile is begun anew instead of patched together.
"""

from __future__ import annotations

import contextlib
import email.message
import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from palaestra.envs.datasets.catalogue import Upstream
from palaestra.envs.errors import BadInput

Progress = Callable[[Upstream, int, int | None], None]
"""Called with the file, the bytes that are here, and the bytes it has (None where the server does not say)."""

_CHUNK = 1 << 18
_SECONDS = 60.0
_TRIES = 4


@dataclass(frozen=True)
class _Answer:
    """How a server answered: from which byte on, how many the file has, and what identifies this version of it."""

    start: int
    total: int | None
    version: str


class _Broken(Exception):
    """The connection broke; what came is kept."""


def download(file: Upstream, folder: Path, progress: Progress | None = None, *, wait_s: float = 2.0) -> Path:
    """Fetch a file into a folder, going on from what an earlier call left there.

    Args:
        wait_s: seconds before the second try; twice as many before each further one. A try that brought something
            does not count.

    Returns:
        Its path, once its size and its sum are right.

    Raises:
        BadInput: no connection, not found, not the file that was asked for, or another size or sum than known. One
            that broke off leaves its part, one with a wrong sum leaves nothing.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.is_file():
        return target
    failures = 0
    while True:
        before = _size(part)
        try:
            _go_on(file, part, progress)
            break
        except _Broken as error:
            here = _size(part)
            failures = 1 if here > before else failures + 1
            if failures >= _TRIES:
                total = f" of {file.size:,}" if file.size else ""
                raise BadInput(
                    f"the download of {file.name} broke off after {here:,}{total} bytes ({error}); "
                    "run the same command again, it goes on from there"
                ) from None
            time.sleep(wait_s * 2 ** (failures - 1))
    check(file, part)
    _version_file(part).unlink(missing_ok=True)
    part.replace(target)
    return target


def check(file: Upstream, path: Path, origin: str | None = None) -> str:
    """The sha256 of a fetched file, whose size and sum must be the known ones; otherwise it is deleted.

    Args:
        origin: where it comes from, for the message; None is its address.

    Raises:
        BadInput: another size or sum.
    """
    size, sha256 = path.stat().st_size, sum_of(path)
    if file.size is not None and size != file.size:
        problem = f"{size:,} bytes instead of {file.size:,}"
    elif file.sha256 is not None and sha256 != file.sha256:
        problem = f"sha256 {sha256} instead of {file.sha256}"
    else:
        return sha256
    path.unlink()
    _version_file(path).unlink(missing_ok=True)
    raise BadInput(
        f"{file.name} from {origin or file.url} is not the file that it should be ({problem}); nothing was kept"
    )


def sum_of(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _go_on(file: Upstream, part: Path, progress: Progress | None) -> None:
    """Fetch what is missing of a part. Raises _Broken when the connection ends before the file does."""
    here = _size(part)
    if file.size is not None and here >= file.size:
        return
    with contextlib.ExitStack() as stack:
        try:
            response = stack.enter_context(_open(file.url, here, _version(part)))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and _total(error.headers) == here:
                    return  # all of it is here
                if error.code == 416:  # what is here is longer than the file: begin anew
                    part.unlink(missing_ok=True)
                if error.code in (408, 416, 429) or error.code >= 500:
                    raise _Broken(f"the server says {error.code} {error.reason}") from None
                raise BadInput(f"{file.name}: {file.url} says {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            raise _Broken(_words(error)) from error
        answer = _read(response, here, file)
        _version_file(part).write_text(json.dumps(answer.version), encoding="utf-8")
        with part.open("r+b" if answer.start else "wb") as out:
            out.seek(answer.start)
            got = answer.start
            while chunk := _chunk(response):
                out.write(chunk)
                got += len(chunk)
                if progress is not None:
                    progress(file, got, answer.total)
    if answer.total is not None and got < answer.total:
        raise _Broken("the connection was closed")


def _open(url: str, here: int, version: str) -> http.client.HTTPResponse:
    headers = {"User-Agent": "palaestra", "Accept-Encoding": "identity"}
    if here:
        headers["Range"] = f"bytes={here}-"
        if version:
            headers["If-Range"] = version
    request = urllib.request.Request(url, headers=headers)
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_SECONDS)
    return response


def _read(response: http.client.HTTPResponse, here: int, file: Upstream) -> _Answer:
    headers = response.headers
    if headers.get_content_type() == "text/html":
        raise BadInput(
            f"{file.name}: {file.url} answers with a web page instead of the file (moved, or a limit of the host); try "
            "again later, or fetch it in a browser and use --from FOLDER"
        )
    # Only a strong ETag may be used with If-Range (RFC 9110, 13.1.5).
    tag = headers.get("ETag", "")
    version = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
    if response.status == 206:
        found = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
        if found is None or int(found[1]) != here:
            raise BadInput(f"{file.name}: {file.url} answers with another part than was asked for")
        return _Answer(here, _total(headers), version)
    length = headers.get("Content-Length")
    return _Answer(0, int(length) if length and length.isdigit() else file.size, version)


def _chunk(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_words(error)) from error


def _total(headers: email.message.Message) -> int | None:
    found = re.fullmatch(r"bytes .*/(\d+)", headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _version(part: Path) -> str:
    try:
        return str(json.loads(_version_file(part).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return ""


def _words(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(reason or type(error).__name__).split())[:200]

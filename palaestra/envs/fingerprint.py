"""Digests: of an observation, and of the code and data that an environment is made of."""

from __future__ import annotations

import hashlib
import inspect
from functools import lru_cache
from pathlib import Path


def digest(text: str) -> str:
    """Digest of an observation: 16 hexadecimal digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@lru_cache(maxsize=256)
def code_fingerprint(cls: type, *data: str) -> str:
    """Fingerprint of an environment: its package's version, its source, and the hashes of its `data`.

    The source is the file that the class stands in, and inside a package all of that folder's files: what decides a
    success often stands beside the class.
    """
    from importlib import metadata

    package = cls.__module__.split(".")[0].replace("__mp_main__", "__main__")  # a script's name in its child processes
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        version = "unpackaged"
    try:
        file = Path(inspect.getfile(cls))
        inside = "." in cls.__module__
        files = sorted(file.parent.glob("*.py")) + sorted(file.parent.glob("*.json")) if inside else [file]
        source = "|".join(digest(each.read_text(encoding="utf-8")) for each in files)
    except (OSError, TypeError):
        source = cls.__qualname__
    return f"{package} {version} {cls.__qualname__} {digest(source + '|'.join(data))}"

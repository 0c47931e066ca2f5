"""Where data sets and everything else that is fetched lie on this machine: `cache_dir`, `data_folder`, `read_data`.

A data set is a folder with a name (`webshop`, `alfworld`, `humaneval`, ...). It is looked for in `$PALAESTRA_DATA`
first, then in the cache, where `palaestra data get NAME` puts it. Nothing here fetches anything.
"""

from __future__ import annotations

import gzip
import lzma
import os
import tempfile
import zlib
from pathlib import Path

from palaestra.envs.errors import BadInput

_ENDINGS = ("", ".xz", ".gz")


def cache_dir() -> Path:
    """Where what is fetched is kept: $PALAESTRA_CACHE, else $XDG_CACHE_HOME/palaestra, else ~/.cache/palaestra."""
    if own := os.environ.get("PALAESTRA_CACHE"):
        return _at_home(own)
    return _at_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "palaestra"


def cache_folder(*parts: str) -> Path:
    """A folder in the cache, made if it is not there, in which files can be made.

    Raises:
        BadInput: it cannot be made or written to; names the variable that says where the cache is.
    """
    folder = cache_dir().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # permissions alone say nothing on a read-only disk
            return folder
    except OSError as error:
        raise BadInput(
            f"the cache {folder} cannot be written to ({error.strerror or error}); "
            "set PALAESTRA_CACHE to a folder that can be"
        ) from None


def data_places(name: str) -> tuple[Path, ...]:
    """The folders in which the data set `name` is looked for, in this order; they need not exist."""
    shared = os.environ.get("PALAESTRA_DATA")
    return (*([_at_home(shared) / name] if shared else []), cache_dir() / "data" / name)


def data_folder(name: str, *needed: str) -> Path:
    """The folder of a data set: $PALAESTRA_DATA/NAME, else NAME in the cache.

    Args:
        name: of the data set, as `palaestra data list` calls it.
        needed: files that must be in it, without the `.xz` or `.gz` that they may be stored with.

    Raises:
        BadInput: it is in neither place, or files are missing; says which, and names the command that fetches it.
    """
    places = data_places(name)
    lacking: list[str] = []
    for folder in places:
        if os.path.isdir(folder):  # unlike `Path.is_dir`, False also where nobody may look
            missing = [file for file in needed if _stored(folder, file) is None]
            if not missing:
                return folder
            lacking.append(f"{folder} has no {missing[0]}")
    where = "; ".join(lacking) or f"looked in {' and '.join(map(str, places))}"
    hint = "" if os.environ.get("PALAESTRA_DATA") else ", or set PALAESTRA_DATA to a folder that holds it"
    raise BadInput(f"the data set {name!r} is not here ({where}); run: palaestra data get {name}{hint}")


def data_file(folder: Path, name: str) -> Path:
    """The file `name` of a data folder, as it is stored: as it is, or with `.xz` or `.gz`. Raises BadInput."""
    found = _stored(folder, name)
    if found is None:
        raise BadInput(f"{folder} has no {name} (nor {name}.xz, {name}.gz); run: palaestra data get {folder.name}")
    return found


def read_data(path: Path) -> bytes:
    """The content of a file, decompressed where its name ends in `.xz` or `.gz`.

    Raises:
        BadInput: it cannot be read, or is cut off or damaged.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".xz":
            return lzma.decompress(content)
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (lzma.LZMAError, EOFError, zlib.error, OSError) as error:  # gzip's BadGzipFile is an OSError
        ours = path.parent in data_places(path.parent.name)  # a folder of the user's own is nothing to be fetched
        hint = f": palaestra data get {path.parent.name}" if ours else ""
        raise BadInput(f"{path} cannot be read ({error}); get it again{hint}") from None


def _stored(folder: Path, name: str) -> Path | None:
    return next((path for ending in _ENDINGS if os.path.isfile(path := folder / f"{name}{ending}")), None)


def _at_home(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise BadInput(f"the folder {text!r} cannot be found: {error}") from None

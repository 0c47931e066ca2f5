"""Puts a whole data set where `data_folder` finds it: fetched or copied, checked, converted, then moved there at once.

Until all of it is right it lies in `.partial` beside the data sets, where nothing looks; what was fetched stays there
for the next try, so that a download of hours is not lost. Files without a known sum have theirs recorded in
`sums.json` once the data set was made of them; a later download that differs is refused. What no data set can be made
of is deleted, unless its sum says that it is the right file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from palaestra.envs.data import cache_dir, cache_folder, data_file, data_folder, data_places, read_data
from palaestra.envs.datasets.catalogue import DataSet, Upstream
from palaestra.envs.datasets.fetch import Progress, check, download, sum_of
from palaestra.envs.errors import BadInput

SOURCE = "SOURCE.json"
"""In every folder that was made here: where its files come from, their sums, the licence, and when."""


@dataclass(frozen=True)
class Got:
    """What `get` did: the folder of the data set, and whether it was there already."""

    folder: Path
    was_here: bool


def where(dataset: DataSet) -> Path | None:
    """The folder in which a data set lies complete, or None."""
    try:
        return data_folder(dataset.name, *dataset.provides)
    except BadInput:
        return None


def lacking(dataset: DataSet) -> tuple[Path, tuple[str, ...]] | None:
    """The first folder of that name, and which of the files it lacks; None where there is no such folder."""
    for folder in data_places(dataset.name):
        if os.path.isdir(folder):
            return folder, tuple(name for name in dataset.provides if _lacks(folder, name))
    return None


def get(
    dataset: DataSet,
    *,
    agree: Callable[[DataSet], bool],
    source: Path | None = None,
    progress: Progress | None = None,
    wait_s: float = 2.0,
) -> Got:
    """Fetch a data set, unless it is here.

    Args:
        agree: asked before anything is fetched: are the terms accepted.
        source: copy the files from this folder instead: named as here (`.xz` or `.gz` may follow), or a clone of the
            project that distributes them.
        progress: called while bytes come.
        wait_s: see `fetch.download`.

    Raises:
        BadInput: the terms were not accepted, a file cannot be had or is not the one it should be, a folder of that
            name is in the way, or another process fetches it. Nothing half is ever found by `data_folder`.
    """
    found = where(dataset)
    if found is not None:
        return Got(found, was_here=True)
    target = data_places(dataset.name)[-1]
    if os.path.lexists(target):
        missing = next(name for name in dataset.provides if _lacks(target, name))
        raise BadInput(f"{target} is in the way (it has no {missing}); move it elsewhere, then run this again")
    if not agree(dataset):
        raise BadInput(f"the terms of {dataset.name} were not accepted; nothing was fetched")
    partial = cache_folder("data", ".partial", dataset.name)
    with _alone(partial, dataset.name), _written(partial):
        fetched, ready = partial / "fetched", partial / "ready"
        shutil.rmtree(ready, ignore_errors=True)
        fetched.mkdir(exist_ok=True)
        ready.mkdir()
        try:
            sums = {}
            for file in dataset.files:
                if source is None:
                    path, origin = download(file, fetched, progress, wait_s=wait_s), file.url
                else:
                    path, origin = _copy(file, source, fetched)
                sums[file.name] = _sum(dataset, file, path, origin)
            _make(dataset, fetched, ready, sums)
            _record(dataset, sums)
            ready.replace(target)
        finally:
            shutil.rmtree(ready, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)
    return Got(target, was_here=False)


def _make(dataset: DataSet, fetched: Path, ready: Path, sums: dict[str, str]) -> None:
    unknown = [fetched / file.name for file in dataset.files if file.sha256 is None]
    try:
        for path in unknown:
            _looked_at(path)
        if dataset.convert is not None:
            dataset.convert(fetched, ready)
    except BadInput as error:
        for path in unknown:
            path.unlink(missing_ok=True)
        raise BadInput(f"{error}; nothing was kept, get it anew") from None
    if dataset.convert is None:
        for file in dataset.files:
            (fetched / file.name).replace(ready / file.name)
    missing = [name for name in dataset.provides if _lacks(ready, name)]
    if missing:
        raise BadInput(f"{dataset.name} was fetched, but gave no {missing[0]}; please report this")
    record = {
        "data set": dataset.name,
        "licence": dataset.licence,
        "fetched": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": [{"name": file.name, "url": file.url, "sha256": sums[file.name]} for file in dataset.files],
    }
    (ready / SOURCE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _looked_at(path: Path) -> None:
    """Raise BadInput for a file of JSON that is none: without a sum, nothing else would tell that it is damaged."""
    if path.suffix == ".json":
        try:
            json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path.name} is damaged: it is not JSON ({error})") from None


def _lacks(folder: Path, name: str) -> bool:
    try:
        data_file(folder, name)
    except BadInput:
        return True
    return False


def _copy(file: Upstream, source: Path, fetched: Path) -> tuple[Path, str]:
    """A file of a local folder, decompressed where it is stored so, after the same checks as a fetched one.

    Returns:
        The copy, and where it comes from.
    """
    if not os.path.isdir(source):
        raise BadInput(f"{source} is not a folder; --from takes a folder that holds {file.name}")
    places = (*([source / file.path] if file.path else []), source / file.name)
    found = next((place for place in places if os.path.isfile(place)), None)
    try:
        found = found or data_file(source, file.name)
    except BadInput:
        also = f", nor {file.path}" if file.path else ""
        raise BadInput(f"{source} has no {file.name}{also}") from None
    target = fetched / file.name
    target.unlink(missing_ok=True)
    try:
        if found in places:
            found.open("rb").close()  # what cannot be read is told from what cannot be written
            shutil.copyfile(found, target)
        else:
            target.write_bytes(read_data(found))
    except PermissionError as error:
        raise BadInput(f"{found} cannot be read ({error.strerror})") from None
    except BadInput as error:
        raise BadInput(f"{found} cannot be unpacked: it is cut off or damaged") from error
    check(file, target, str(found))
    return target, str(found)


def _sum(dataset: DataSet, file: Upstream, path: Path, origin: str) -> str:
    """The sum of a file; one that is not pinned must be the one of its first download."""
    if file.sha256 is not None:
        return file.sha256
    place, key, sha256 = _sums(), f"{dataset.name}/{file.name}", sum_of(path)
    known = _recorded(place).get(key, sha256)
    if known != sha256:
        path.unlink()
        raise BadInput(
            f"{file.name} from {origin} is not the file of the first download (sha256 {sha256} instead of "
            f"{known}); nothing was kept. To accept it, delete {key!r} in {place}"
        )
    return sha256


def _record(dataset: DataSet, sums: dict[str, str]) -> None:
    """Remember the sums of the files that are not pinned."""
    place = _sums()
    new = {f"{dataset.name}/{file.name}": sums[file.name] for file in dataset.files if file.sha256 is None}
    if not new:
        return
    half = place.with_suffix(".half")
    half.write_text(json.dumps(_recorded(place) | new, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    half.replace(place)


def _sums() -> Path:
    return cache_dir() / "data" / "sums.json"


def _recorded(place: Path) -> dict[str, str]:
    try:
        known = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
        return {str(key): str(known[key]) for key in known}
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise BadInput(f"{place} is damaged ({error}); move it away to record new sums") from None


@contextlib.contextmanager
def _written(partial: Path) -> Iterator[None]:
    """What cannot be written is one line; the rest of a download stays, so that it goes on when there is room."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{error.filename or partial} cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def _alone(partial: Path, name: str) -> Iterator[None]:
    """Nobody else fetches this data set meanwhile; the lock goes with the process, however that ends."""
    import fcntl

    with (partial.parent / f"{name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(f"another process is fetching {name}; wait until it is done") from None
        partial.mkdir(parents=True, exist_ok=True)  # a process that ended just now removed it
        yield

"""Puts a whole data set where `data_folder` finds it: fetched or copied, checked, converted, then moved there at once.

Until all of it is right it lies in `.partial` beside the data sets, where nothing looks; what was fetched stays there
for the next try, so that a download of hours is not lost. Files without a known sum have theirs recorded in
`sums.json`; a later download that differs is refused.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from palaestra.envs.data import cache_dir, data_file, data_folder, data_places, read_data
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
        if folder.is_dir():
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
    if target.exists():
        missing = next(name for name in dataset.provides if _lacks(target, name))
        raise BadInput(f"{target} is in the way (it has no {missing}); move it elsewhere, then run this again")
    if not agree(dataset):
        raise BadInput(f"the terms of {dataset.name} were not accepted; nothing was fetched")
    partial = target.parent / ".partial" / dataset.name
    partial.mkdir(parents=True, exist_ok=True)
    with _alone(partial, dataset.name):
        fetched, ready = partial / "fetched", partial / "ready"
        shutil.rmtree(ready, ignore_errors=True)
        fetched.mkdir(exist_ok=True)
        ready.mkdir()
        sums = {}
        for file in dataset.files:
            path = download(file, fetched, progress, wait_s=wait_s) if source is None else _copy(file, source, fetched)
            sums[file.name] = _recorded(dataset, file, path)
        _make(dataset, fetched, ready, sums)
        ready.replace(target)
        shutil.rmtree(partial, ignore_errors=True)
    return Got(target, was_here=False)


def _make(dataset: DataSet, fetched: Path, ready: Path, sums: dict[str, str]) -> None:
    if dataset.convert is not None:
        dataset.convert(fetched, ready)
    else:
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


def _lacks(folder: Path, name: str) -> bool:
    try:
        data_file(folder, name)
    except BadInput:
        return True
    return False


def _copy(file: Upstream, source: Path, fetched: Path) -> Path:
    """A file of a local folder, decompressed where it is stored so, after the same checks as a fetched one."""
    if not source.is_dir():
        raise BadInput(f"{source} is not a folder; --from takes a folder that holds {file.name}")
    target = fetched / file.name
    target.unlink(missing_ok=True)
    clone = source / file.path
    if file.path and clone.is_file():
        shutil.copyfile(clone, target)
    elif (source / file.name).is_file():
        shutil.copyfile(source / file.name, target)
    else:
        try:
            found = data_file(source, file.name)
        except BadInput:
            also = f", nor {file.path}" if file.path else ""
            raise BadInput(f"{source} has no {file.name}{also}") from None
        target.write_bytes(read_data(found))
    check(file, target)
    return target


def _recorded(dataset: DataSet, file: Upstream, path: Path) -> str:
    """The sum of a file; one that is not pinned must be the one of its first download."""
    if file.sha256 is not None:
        return file.sha256
    place, key, sha256 = cache_dir() / "data" / "sums.json", f"{dataset.name}/{file.name}", sum_of(path)
    try:
        known = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
    except ValueError as error:
        raise BadInput(f"{place} is damaged ({error}); move it away to record new sums") from error
    if known.setdefault(key, sha256) != sha256:
        path.unlink()
        raise BadInput(
            f"{file.name} from {file.url} is not the file of the first download (sha256 {sha256} instead of "
            f"{known[key]}); nothing was kept. To accept it, delete {key!r} in {place}"
        )
    half = place.with_suffix(".half")
    half.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    half.replace(place)
    return sha256


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

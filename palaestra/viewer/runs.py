"""What `palaestra view` was pointed at: the runs, evaluations and comparisons that lie there."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from palaestra.envs.errors import BadInput
from palaestra.trainers.live import LIVE
from palaestra.trainers.rundir import read_run
from palaestra.viewer.table import Shown, mark_of

STORE, DEEPEST, MOST_RUNS, OPEN_STORES, SPARK = "episodes.sqlite", 3, 1000, 8, 24
LOOK_AGAIN = 2.0
"""Seconds for which the list of runs is believed, so that a page that asks often does not walk a large folder often."""


class Runs:
    """The runs under a place.

    Args:
        place: a run, a store's file, what `palaestra compare` or `eval` wrote, or a folder of such.

    Raises:
        BadInput: it is none of these, or the store of a single run cannot be read.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._open: OrderedDict[str, Shown] = OrderedDict()
        self._lock = threading.Lock()
        self._names: tuple[float, list[str]] = (-LOOK_AGAIN, [])
        self._lines: dict[str, tuple[object, dict[str, Any]]] = {}
        if not place.exists():
            raise BadInput(f"there is nothing at {place}; name a run directory, or a folder of runs")
        self.root = place.parent if place.is_file() else place
        if place.is_file() and place.name != STORE:
            raise BadInput(f"{place} is not a run directory; name one, its {STORE}, or a folder of runs")
        if not self.names():
            raise BadInput(
                f"{place} is not a run directory: no run.json or {STORE} is in it or up to {DEEPEST} folders below"
            )
        if self.names() == ["."]:
            if (self.root / "run.json").exists():
                read_run(self.root)
            if (self.root / STORE).exists():
                self.store(".")

    def names(self) -> list[str]:
        """Paths of the runs below the place; `.` is the place itself."""
        when, known = self._names
        if time.monotonic() - when < LOOK_AGAIN and known:
            return known
        found: list[str] = []
        for folder in _folders(self.root, DEEPEST):
            if _is_run(folder):
                found.append(folder.relative_to(self.root).as_posix())
            if len(found) >= MOST_RUNS:
                break
        self._names = (time.monotonic(), found)
        return found

    def folder(self, name: str) -> Path:
        """The directory of a run. Only what `names` gives is opened, whatever was asked. Raises BadInput."""
        folder = self.root if name == "." else self.root / name
        depth = len(Path(name).parts)
        odd = Path(name).is_absolute() or ".." in Path(name).parts or depth > DEEPEST
        if odd or not name or "\0" in name or not _is_run(folder):
            raise BadInput(f"there is no run {name!r} here")
        return folder

    def store(self, name: str) -> Shown:
        """A run's episodes, opened when first asked for; anew where another file lies in the place by now.

        Raises:
            BadInput: no such run, or no store that can be read; nor one that another version is writing.
        """
        file = self.folder(name) / STORE
        with self._lock:
            opened = self._open.get(name)
            if opened is not None and opened.mark != mark_of(file):
                self._open.pop(name)  # closed when the last thread that reads there is done with it
                opened = None
            if opened is None:
                opened = self._open[name] = Shown(file)
            self._open.move_to_end(name)
            while len(self._open) > OPEN_STORES:
                self._open.popitem(last=False)
        opened.check_version()
        return opened

    def close(self) -> None:
        """Close all stores."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def listed(self) -> list[dict[str, Any]]:
        """All runs in a line each; one that cannot be read says why."""
        held = locks()
        return [self.line(name, held) for name in self.names()]

    def line(self, name: str, held: frozenset[str] | None) -> dict[str, Any]:
        """A run in a line: what it is, how much is there, a small curve of its success. Never raises for its files.

        Args:
            held: what `locks` gives.
        """
        folder = self.folder(name)
        stamp = _stamp(folder)
        before = self._lines.get(name)
        if before is None or before[0] != stamp:
            before = self._lines[name] = (stamp, self._line(name, folder))
        return {**before[1], "working": _working(folder, held)}

    def _line(self, name: str, folder: Path) -> dict[str, Any]:
        line: dict[str, Any] = {"name": name, "title": self.root.resolve().name if name == "." else name}
        line["comparison"] = (folder / "comparison.json").exists()
        try:
            line["updated"] = _updated(folder)
            if (folder / "run.json").exists():
                record = read_run(folder)
                config = record["config"]
                line |= {"recipe": record["recipe"], "env": config.get("env"), "model": config.get("model")}
                line |= {"iterations": config.get("iterations"), "budget": config.get("budget")}
            if (folder / STORE).exists():
                with contextlib.closing(Shown(folder / STORE)) as store:
                    line |= {"episodes": store.last(), "faults": store.n_faults, "spark": store.spark(SPARK)}
                    if "recipe" not in line:
                        measured = (folder / "evaluation.json").exists()
                        line["made"] = "eval" if measured else "collect"
                    line["env"] = store.played() or line.get("env")  # a configuration may hold a short name
        except (BadInput, OSError, ValueError) as error:
            line["error"] = " ".join(str(error).split())
        return line

    def run_record(self, name: str) -> dict[str, Any]:
        """`run.json` of a run; empty for what has none. Raises BadInput for a damaged one."""
        folder = self.folder(name)
        return read_run(folder) if (folder / "run.json").exists() else {}

    def model_of(self, folder: Path) -> Path | None:
        """The folder of a run's start model, if it is one on this machine."""
        try:
            model = Path(str(read_run(folder)["config"].get("model")))
        except BadInput:
            return None
        return model if model.is_dir() else None


def _folders(root: Path, depth: int) -> Iterator[Path]:
    yield root
    if depth:
        with contextlib.suppress(OSError):
            for entry in sorted(os.scandir(root), key=lambda each: each.name):
                inner = entry.name.startswith((".", "iteration-")) or entry.name in ("start", "model")
                if entry.is_dir(follow_symlinks=False) and not inner:
                    yield from _folders(Path(entry.path), depth - 1)


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("run.json", STORE, "comparison.json"))


def _updated(folder: Path) -> float:
    """When a run last wrote: what readers leave beside a store (an empty log, its index) does not count."""
    files = (folder / name for name in ("run.json", "log.jsonl", "comparison.json", STORE, STORE + "-wal"))
    found = [file.stat() for file in files if file.exists()]
    return max((each.st_mtime for each in found if each.st_size), default=0.0)


def _stamp(folder: Path) -> object:
    """Changes when anything of a run changes that its line tells."""
    found = []
    for name in ("run.json", "comparison.json", "log.jsonl", LIVE, STORE, STORE + "-wal"):
        try:
            stat = (folder / name).stat()
        except OSError:
            continue
        found.append((name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def locks() -> frozenset[str] | None:
    """The numbers of the files that some process holds a lock of; None where the system does not tell."""
    try:
        lines = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except OSError:
        return None
    return frozenset(word.rpartition(":")[2] for line in lines if "FLOCK" in line for word in line if ":" in word)


def _working(folder: Path, held: frozenset[str] | None) -> bool | None:
    """Does a process hold the run's lock, or of what is no run the lock of how it is getting on.

    None where the system does not tell. No lock is ever tried: a try could win.
    """
    for name in ("run.lock", LIVE):
        try:
            inode = (folder / name).stat().st_ino
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return None if held is None else str(inode) in held
    return None if held is None else False

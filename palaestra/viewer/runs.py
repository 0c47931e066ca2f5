"""What `palaestra view` was pointed at: the runs, evaluations and comparisons that lie there, each with its figures."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from palaestra.envs.errors import BadInput
from palaestra.trainers.comparison import Standing
from palaestra.trainers.objective import FitReport
from palaestra.trainers.report import rounds
from palaestra.trainers.rundir import read_run
from palaestra.viewer.table import Shown

STORE, DEEPEST, MOST_RUNS, OPEN_STORES, LOG_BYTES, LOSSES = "episodes.sqlite", 3, 1000, 8, 64_000, 400


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
        found: list[str] = []
        for folder in _folders(self.root, DEEPEST):
            if _is_run(folder):
                found.append(folder.relative_to(self.root).as_posix())
            if len(found) >= MOST_RUNS:
                break
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
        """A run's episodes, opened when first asked for. Raises BadInput: no such run, or no store that can be read."""
        folder = self.folder(name)
        with self._lock:
            if name not in self._open:
                self._open[name] = Shown(folder / STORE)
            self._open.move_to_end(name)
            while len(self._open) > OPEN_STORES:  # closed when the last thread that reads there is done with it
                self._open.popitem(last=False)
            return self._open[name]

    def close(self) -> None:
        """Close all stores."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def listed(self) -> list[dict[str, Any]]:
        """All runs in a line each; one that cannot be read says why."""
        return [self._line(name) for name in self.names()]

    def _line(self, name: str) -> dict[str, Any]:
        folder = self.folder(name)
        line: dict[str, Any] = {"name": name, "title": self.root.resolve().name if name == "." else name}
        line["comparison"] = (folder / "comparison.json").exists()
        try:
            line["updated"] = _updated(folder)
            if (folder / "run.json").exists():
                record = read_run(folder)
                config = record["config"]
                line |= {"recipe": record["recipe"], "env": config.get("env"), "model": config.get("model")}
                line["working"] = _working(folder)
            if (folder / STORE).exists():
                with contextlib.closing(Shown(folder / STORE)) as store:
                    line |= {"episodes": store.last(), "faults": store.n_faults}
        except (BadInput, OSError, ValueError) as error:
            line["error"] = " ".join(str(error).split())
        return line

    def run(self, name: str) -> dict[str, Any]:
        """A run with its figures: configuration, curve of episodes, evaluations, losses, the end of its log."""
        folder = self.folder(name)
        found: dict[str, Any] = {**self._line(name), "curve": [], "evaluations": [], "fits": [], "log": []}
        if (folder / STORE).exists():
            store = self.store(name)
            found |= {"curve": [asdict(point) for point in store.curve()], "summary": asdict(store.figures())}
        if (folder / "run.json").exists():
            found["record"] = read_run(folder)
            found["evaluations"] = [_evaluated(each) for each in rounds(folder)]
            found["log"] = _log(folder / "log.jsonl")
            found["fits"] = sorted(_fits(folder), key=lambda fit: int(fit["iteration"]))
        found["sampled"] = self.sampled(name)
        found["standings"] = self.standings(name)
        return found

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

    def sampled(self, name: str) -> list[int]:
        """The iterations whose training samples are stored."""
        files = self.folder(name).glob("iteration-[0-9]*/samples.jsonl.gz")
        numbers = (file.parent.name.removeprefix("iteration-") for file in files)
        return sorted(int(number) for number in numbers if number.isdecimal())

    def standings(self, name: str) -> list[dict[str, Any]]:
        """What a comparison found, a method each; empty where none was written. Raises BadInput for a damaged file."""
        file = self.folder(name) / "comparison.json"
        if not file.exists():
            return []
        try:
            return [each.model_dump() for each in TypeAdapter(list[Standing]).validate_json(file.read_bytes())]
        except (OSError, ValidationError) as error:
            raise BadInput(f"{file} is damaged: {str(error).splitlines()[0]}") from error


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


def _working(folder: Path) -> bool | None:
    """Does a process hold the run's lock; None where the system does not tell. It is never tried: a try could win."""
    try:
        inode = (folder / "run.lock").stat().st_ino
        held = Path("/proc/locks").read_text(encoding="ascii")
    except FileNotFoundError:
        return False if Path("/proc/locks").exists() else None
    except OSError:
        return None
    lines = [line.split() for line in held.splitlines()]
    return any("FLOCK" in line and any(word.endswith(f":{inode}") for word in line) for line in lines)


def _evaluated(each: Any) -> dict[str, Any]:
    evaluation = each.evaluation
    kept = ("label", "success", "score", "episodes", "missing", "outcomes", "steps", "invalid", "minutes", "card")
    done: dict[str, Any] = {"iteration": each.number, **evaluation.model_dump(include=set(kept))}
    if each.collected is not None:
        done["collected"] = {
            "episodes": len(each.collected.episodes),
            "successes": each.collected.successes,
            "faults": each.collected.faults,
        }
    return done


def _fits(folder: Path) -> Iterator[dict[str, Any]]:
    """The loss curves of a run, each thinned to `LOSSES` points."""
    for file in folder.glob("iteration-[0-9]*/fit.json"):
        try:
            report = json.loads(file.read_bytes())["report"]
            fit = FitReport.model_validate(report) if report else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{file} is damaged: {str(error).splitlines()[0]}") from error
        if fit is not None:
            about = fit.model_dump(exclude={"losses"})
            losses = [[step, fit.losses[step]] for step in _thinned(len(fit.losses), LOSSES)]
            yield {"iteration": int(file.parent.name.removeprefix("iteration-")), "losses": losses, **about}


def _thinned(count: int, most: int) -> Sequence[int]:
    if count <= most:
        return range(count)
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def _log(file: Path) -> list[dict[str, Any]]:
    """The last lines of a log that may be being written; what is no whole line yet is left out."""
    try:
        with open(file, "rb") as lines:
            lines.seek(0, os.SEEK_END)
            lines.seek(max(0, lines.tell() - LOG_BYTES))
            text = lines.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                found.append(event)
    return found[-100:]

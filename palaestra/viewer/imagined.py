"""World models of a run: how far they can be trusted, and every page they imagined beside the real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from palaestra.envs.errors import BadInput
from palaestra.trainers.rundir import read_record
from palaestra.viewer.differences import by_words
from palaestra.viewer.runs import Runs
from palaestra.worldmodel.compared import PAGES, Compared, read
from palaestra.worldmodel.fidelity import Fidelity
from palaestra.worldmodel.loading import FIDELITY

LONGEST, MOST_ROWS = 40_000, 500
_ORDERS: dict[str, Callable[[Compared], tuple[str | int, ...] | float]] = {
    "place": lambda each: (each.task, each.episode, each.origin, each.steps),
    "steps": lambda each: (each.steps, each.task, each.episode, each.origin),
    "similarity": lambda each: each.similarity,
    "gain": lambda each: each.similarity - each.copying,
}


class Worlds:
    """The world models of runs."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._read: dict[tuple[Path, int], list[Compared]] = {}

    def listed(self, run: str) -> list[dict[str, Any]]:
        """The world models of a run, oldest first, each with its figures and the number of pages. Raises BadInput."""
        found = []
        for name, folder in self._folders(run).items():
            about = read_record(folder / FIDELITY, Fidelity).model_dump()
            found.append({"name": name, "fidelity": about, "pages": len(self._pages(folder))})
        return found

    def synthesis(self, run: str) -> list[dict[str, Any]]:
        """What was imagined to learn from, by iteration. What cannot be read is left out."""
        found = []
        for file in sorted(self._runs.folder(run).glob("iteration-[0-9]*/synthesis.json")):
            try:
                record = json.loads(file.read_bytes())
            except (OSError, ValueError):
                continue
            if isinstance(record, dict):
                number = file.parent.name.removeprefix("iteration-")
                found.append({"iteration": int(number) if number.isdecimal() else number, **record})
        return found

    def page(self, run: str, world: str, order: str, first: int, count: int) -> dict[str, Any]:
        """Some of the pages that were compared, a line each.

        Args:
            world: its name, as `listed` gives it.
            order: "place", "steps", "similarity" or "gain", with "-" before it for the largest first.

        Raises:
            BadInput: no such world model or order, or a damaged file.
        """
        by = _ORDERS.get(order.removeprefix("-"))
        if by is None:
            raise BadInput(f"pages have no order {order[:40]!r}; there are: {', '.join(_ORDERS)}")
        pages = self._pages(self._folder(run, world))
        worth: list[Any] = [by(each) for each in pages]
        numbers = sorted(range(len(pages)), key=worth.__getitem__, reverse=order.startswith("-"))
        part = numbers[max(0, first) : max(0, first) + min(MOST_ROWS, max(1, count))]
        return {
            "total": len(pages),
            "rows": [{"number": number, **pages[number].model_dump(exclude={"imagined", "real"})} for number in part],
        }

    def one(self, run: str, world: str, number: int) -> dict[str, Any]:
        """One imagined page beside the real one, with the words that differ. Raises BadInput: there is none."""
        pages = self._pages(self._folder(run, world))
        if not 0 <= number < len(pages):
            raise BadInput(f"world model {world!r} of {run!r} has no page {number}")
        page = pages[number]
        cut = max(len(page.imagined), len(page.real)) > LONGEST
        about = page.model_dump(exclude={"imagined", "real"})
        parts = by_words(page.imagined[:LONGEST], page.real[:LONGEST]) if not page.problem else None
        store = (self._runs.folder(run) / "episodes.sqlite").exists()
        texts = {"imagined": page.imagined[:LONGEST], "real": page.real[:LONGEST]}
        near = {"before": number - 1 if number else None, "after": number + 1 if number + 1 < len(pages) else None}
        return {**about, **texts, **near, "number": number, "parts": parts, "cut": cut, "store": store}

    def _folders(self, run: str) -> dict[str, Path]:
        """The folders with a measured world model, by name: a run's own is "world"."""
        folder = self._runs.folder(run)
        found = {"world": folder} if (folder / FIDELITY).is_file() else {}
        rounds = [file.parent for file in folder.glob(f"iteration-[0-9]*/world/{FIDELITY}")]
        rounds.sort(key=lambda each: (len(each.parent.name), each.parent.name))
        return {**found, **{each.parent.name: each for each in rounds}}

    def _folder(self, run: str, world: str) -> Path:
        folder = self._folders(run).get(world)
        if folder is None:
            raise BadInput(f"run {run!r} has no measured world model {world[:80]!r}")
        return folder

    def _pages(self, folder: Path) -> list[Compared]:
        file = folder / PAGES
        if not file.is_file():
            return []  # measured by an earlier version
        key = (file, file.stat().st_mtime_ns)
        if key not in self._read:
            self._read = {key: read(file)}
        return self._read[key]

"""How a run is getting on, written while it is: `live.jsonl`, which the viewer draws and nothing else reads.

A line is a moment of a stage: `time` (seconds since 1970), `stage`, `unit`, `done`, `total`, `ended`, and the figures
that the stage has: `success` (or `judged_success`), `faults`, `tokens_per_second`, `loss`. A stage tells every second
at first, and ever less often the longer it takes, so that a day of it is some thousand lines. While a stage goes on its
process holds a lock of the file, which tells one that is at work from one that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from palaestra.agents.counted import Fits
from palaestra.agents.progress import Progress, Shown, progress_of
from palaestra.agents.stage import Stage

LIVE = "live.jsonl"
_SECONDS, _SHARE = 1.0, 0.01
"""A stage tells when this long has passed since it last did: so many seconds, or this share of all its time."""

Fitting = Callable[[str, int, int, float], None]


class _File:
    """Appends the moments of stages to a file. What the file system refuses is not written: nothing depends on it."""

    def __init__(self, path: Path) -> None:
        self._path, self._next = path, 0.0
        self._held: IO[str] | None = None

    def begin(self, stage: Stage) -> None:
        self._write(stage, False)
        with contextlib.suppress(OSError):
            self._held = open(self._path, "a", encoding="utf-8")  # noqa: SIM115  # held until the stage ends
            fcntl.flock(self._held, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def update(self, stage: Stage) -> None:
        if time.monotonic() >= self._next:
            self._write(stage, False)

    def end(self, stage: Stage) -> None:
        self._write(stage, True)
        if self._held is not None:
            self._held.close()
            self._held = None

    def _write(self, stage: Stage, ended: bool) -> None:
        self._next = time.monotonic() + max(_SECONDS, _SHARE * stage.seconds)
        moment: dict[str, object] = {"time": round(time.time(), 3), "stage": stage.what, "unit": stage.unit}
        moment |= {"done": stage.done, "total": stage.total, "ended": ended}
        for name, value in stage.figures().items():
            if value is not None:
                key = name.replace("/s", "_per_second").replace(" ", "_")
                moment[key] = round(value, 6) if isinstance(value, float) else value
        with contextlib.suppress(OSError), open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(moment) + "\n")


class Live:
    """A way to show progress that also writes it into a run's directory.

    Args:
        run: the directory.
        shown: how people see it besides; `fitting`: who else is called after every optimiser step.
    """

    def __init__(self, run: Path, shown: Shown, fitting: Fitting | None = None) -> None:
        self.shown, self.fitting = shown, fitting
        self._ways: tuple[Progress, ...] = (progress_of(shown), _File(run / LIVE))
        self._fits = Fits(self._ways[1])

    def begin(self, stage: Stage) -> None:
        """The stage starts."""
        for way in self._ways:
            way.begin(stage)

    def update(self, stage: Stage) -> None:
        """Something happened."""
        for way in self._ways:
            way.update(stage)

    def end(self, stage: Stage) -> None:
        """The stage is over, however it ended."""
        for way in self._ways:
            way.end(stage)

    def fitted(self, name: str, done: int, total: int, loss: float) -> None:
        """Called after every optimiser step."""
        self._fits.step(name, done, total, loss)
        if self.fitting is not None:
            self.fitting(name, done, total, loss)


def watched(store: Path, shown: Shown) -> Progress:
    """A way to show what fills a store: a store in a directory of its own has its moments beside it.

    Args:
        store: its file. shown: how people see it besides.
    """
    return Live(store.parent, shown) if store.name == "episodes.sqlite" else progress_of(shown)

"""Stages that are counted by hand: what is imported, checked or fetched, and the fits of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from palaestra.agents.progress import Shown, progress_of
from palaestra.agents.stage import Figure


class Counted:
    """A stage that is counted by hand. As a context it begins and ends; it is shown after every `step`.

    Args:
        shown: how.
        what, unit, total, before: see `Stage`.
        figures: those that are known at the beginning.
    """

    def __init__(
        self, shown: Shown, what: str, unit: str, total: int | None = None, *, before: int = 0, **figures: Figure
    ) -> None:
        self.what, self.total, self.done, self.before = what, total, before, before
        self._unit, self._shown, self._figures, self._open = unit, progress_of(shown), dict(figures), False
        self._started = time.monotonic()

    @property
    def unit(self) -> str:
        """See `Stage`."""
        return self._unit

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    def figures(self) -> Mapping[str, Figure]:
        """The newest ones."""
        return self._figures

    def step(self, count: int = 1, **figures: Figure) -> None:
        """So many more are done; the figures are these now."""
        self.reach(self.done + count, **figures)

    def reach(self, done: int, **figures: Figure) -> None:
        """So many are done; the figures are these now."""
        self.done = done
        self._figures |= figures
        self._shown.update(self)

    def __enter__(self) -> Counted:
        self._started, self._open = time.monotonic(), True
        self._shown.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            self._open = False
            self._shown.end(self)


class Fits:
    """Shows the fits of a run one after the other; `step` is what a trainer calls after every optimiser step."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._now: Counted | None = None

    def step(self, name: str, done: int, total: int, loss: float) -> None:
        """So many steps of a fit are done; the loss is that of the last one."""
        what = f"fit {name}"
        if self._now is None or self._now.what.rpartition(", ")[2] != what:
            self.close()
            self._now = Counted(self._shown, what, "steps", total, loss=loss).__enter__()
        self._now.reach(done, loss=loss)
        if done >= total:
            self.close()

    def close(self) -> None:
        """End the stage that is open, as after a Ctrl-C."""
        if self._now is not None:
            self._now.__exit__(None, None, None)
            self._now = None

    def __enter__(self) -> Fits:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

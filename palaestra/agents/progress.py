"""What a collection has done so far, and how a person sees it: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from palaestra.envs import BadInput

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class Tally:
    """The counts of one collection, growing while it runs.

    Attributes:
        total: episodes that are planned, if the starts can be counted.
        episodes: made and stored, faults not among them.
        successes: of these.
        scores: sum of their final scores.
        skipped: planned, but already in the store (or planned twice).
        faults: attempts that ended in a fault, each stored as one.
        given_up: planned episodes whose every attempt ended in a fault.
        out_of_context: episodes that were truncated because the next prompt would not fit into the model's context.
        prompt_tokens, completion_tokens, model_calls, env_steps, replayed_steps: spent, faults included.
    """

    total: int | None = None
    episodes: int = 0
    successes: int = 0
    scores: float = 0.0
    skipped: int = 0
    faults: int = 0
    given_up: int = 0
    out_of_context: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    model_calls: int = 0
    env_steps: int = 0
    replayed_steps: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Planned episodes that need no more work in this run."""
        return self.episodes + self.skipped + self.given_up

    @property
    def attempts(self) -> int:
        """Attempts that ended, in a fault or not."""
        return self.episodes + self.faults

    @property
    def seconds(self) -> float:
        """Since the collection began."""
        return time.monotonic() - self.started

    def line(self) -> str:
        """One line for a log."""
        of = f"/{self.total}" if self.total is not None else ""
        rate = f"{self.successes / self.episodes:.1%}" if self.episodes else "no"
        speed = self.completion_tokens / max(self.seconds, 1e-9)
        parts = [f"{self.done}{of} episodes", f"{rate} success", f"{self.faults} faults", f"{self.seconds:.0f} s"]
        if self.skipped:
            parts.insert(1, f"{self.skipped} of them stored before")
        if self.completion_tokens:
            parts.append(f"{speed:.0f} tokens/s")
        return ", ".join(parts)


class Progress(Protocol):
    """Shows a collection. `update` is called after every event, so it must be cheap."""

    def begin(self, tally: Tally) -> None:
        """The collection starts."""
        ...

    def update(self, tally: Tally) -> None:
        """Something happened."""
        ...

    def end(self, tally: Tally) -> None:
        """The collection is over, however it ended."""
        ...


class Quiet:
    """Shows nothing."""

    def begin(self, tally: Tally) -> None: ...
    def update(self, tally: Tally) -> None: ...
    def end(self, tally: Tally) -> None: ...


class Lines:
    """Prints a line to stderr every `seconds`, and one at the end: for logs and pipes."""

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds
        self._next = 0.0

    def begin(self, tally: Tally) -> None:
        self._next = time.monotonic() + self.seconds

    def update(self, tally: Tally) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self.seconds
            self._print(tally)

    def end(self, tally: Tally) -> None:
        self._print(tally)

    def _print(self, tally: Tally) -> None:
        print(f"collect: {tally.line()}", file=sys.stderr, flush=True)


class Bar:
    """A bar on the terminal: episodes, success so far, faults, tokens a second, time left."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("[bold]collect"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[success]} success"),
            TextColumn("{task.fields[faults]} faults"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console or Console(stderr=True),
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("collect", total=None, success="-", faults=0, speed="")

    def begin(self, tally: Tally) -> None:
        self._bar.start()
        self.update(tally)

    def update(self, tally: Tally) -> None:
        speed = tally.completion_tokens / max(tally.seconds, 1e-9)
        self._bar.update(
            self._task,
            total=tally.total,
            completed=tally.done,
            success=f"{tally.successes / tally.episodes:.0%}" if tally.episodes else "-",
            faults=tally.faults,
            speed=f"{speed:.0f} tokens/s" if tally.completion_tokens else "",
        )

    def end(self, tally: Tally) -> None:
        self.update(tally)
        self._bar.stop()


def progress_of(kind: Progress | Literal["auto", "bar", "lines", "quiet"]) -> Progress:
    """A way to show progress by name. `auto` is a bar where stderr is a terminal, and lines elsewhere.

    Raises:
        BadInput: no such way.
    """
    if not isinstance(kind, str):
        return kind
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "lines"
    ways: dict[str, Callable[[], Progress]] = {"bar": Bar, "lines": Lines, "quiet": Quiet}
    if kind not in ways:
        raise BadInput(f"progress is one of auto, bar, lines, quiet, not {kind!r}")
    return ways[kind]()

"""How a person or a script sees how far a long command is: a bar on a terminal, lines in a log, JSON Lines, nothing.

    shown = progress_of("auto")
    with Counted(shown, "import", "episodes", total=100) as count:
        for episode in episodes:
            count.step(faults=0)

What is shown is a `Stage` (`stage`): a collection's `Tally` here, `Counted` for everything else (`counted`).
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Literal, Protocol

from palaestra.agents.plain import plain
from palaestra.agents.stage import Figure, Stage, brief, left, line, rate
from palaestra.envs import BadInput

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

Way = Literal["auto", "bar", "lines", "json", "quiet"]


@dataclass
class Tally:
    """The counts of one collection, growing while it runs.

    Attributes:
        total: episodes that are planned, if the starts can be counted.
        episodes: made and stored, faults not among them.
        successes: of these. judged: of these, imagined ones whose success and score are a judge's word.
        scores: sum of their final scores.
        skipped: planned, but already in the store (or planned twice).
        faults: attempts that ended in a fault, each stored as one.
        given_up: planned episodes whose every attempt ended in a fault.
        out_of_context: episodes that were truncated because the next prompt would not fit into the model's context.
        prompt_tokens, completion_tokens, model_calls, env_steps, replayed_steps: spent, faults included.
        what: see `Stage`.
    """

    total: int | None = None
    episodes: int = 0
    successes: int = 0
    judged: int = 0
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
    what: str = ""

    @property
    def unit(self) -> str:
        """See `Stage`."""
        return "episodes"

    @property
    def done(self) -> int:
        """Planned episodes that need no more work in this run."""
        return self.episodes + self.skipped + self.given_up

    @property
    def before(self) -> int:
        """See `Stage`."""
        return self.skipped

    @property
    def attempts(self) -> int:
        """Attempts that ended, in a fault or not."""
        return self.episodes + self.faults

    @property
    def seconds(self) -> float:
        """Since the collection began."""
        return time.monotonic() - self.started

    def figures(self) -> Mapping[str, Figure]:
        """Success so far, faults, tokens a second."""
        success = "judged success" if self.judged else "success"
        found: dict[str, Figure] = {success: self.successes / self.episodes if self.episodes else None}
        found["faults"] = self.faults
        if self.skipped:
            found["stored before"] = self.skipped
        if self.completion_tokens:
            found["tokens/s"] = self.completion_tokens / max(self.seconds, 1e-9)
        return found

    def line(self) -> str:
        """One line for a log."""
        return line(self)


class Progress(Protocol):
    """Shows one stage after the other. `update` is called after every event, so it must be cheap."""

    def begin(self, stage: Stage) -> None:
        """A stage starts."""
        ...

    def update(self, stage: Stage) -> None:
        """Something happened."""
        ...

    def end(self, stage: Stage) -> None:
        """The stage is over, however it ended."""
        ...


Shown = Progress | Way


class Quiet:
    """Shows nothing."""

    def begin(self, stage: Stage) -> None: ...
    def update(self, stage: Stage) -> None: ...
    def end(self, stage: Stage) -> None: ...


class _NowAndThen:
    """Calls `tell` at most every `seconds`, and at the end of a stage."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._next = 0.0

    def begin(self, stage: Stage) -> None:
        self._next = time.monotonic() + self.seconds

    def update(self, stage: Stage) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self.seconds
            self.tell(stage, False)

    def end(self, stage: Stage) -> None:
        self.tell(stage, True)

    def tell(self, stage: Stage, over: bool) -> None:
        raise NotImplementedError


class Lines(_NowAndThen):
    """Prints a line to stderr every `seconds`, and one at the end: for logs and pipes."""

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__(seconds)

    def end(self, stage: Stage) -> None:
        if not isinstance(sys.exc_info()[1], BadInput):  # the line that says what is wrong is all that is left to say
            super().end(stage)

    def tell(self, stage: Stage, over: bool) -> None:
        print(f"{plain(stage.what) or 'collect'}: {line(stage)}", file=sys.stderr, flush=True)


class JsonLines(_NowAndThen):
    """Prints one JSON object a line to stdout at the beginning of a stage, every `seconds`, and at its end.

    Keys: `event` ("progress"), `stage`, `unit`, `done`, `total` (null: unknown), `seconds`, `rate` (units a second) and
    `left` (seconds), both null before they are known, `ended`, and the stage's figures: `success` (a share;
    `judged_success` where it is a judge's word), `faults`, `stored_before`, `tokens_per_second`, `loss`, `broken`.
    """

    def __init__(self, seconds: float = 1.0, out: IO[str] | None = None) -> None:
        super().__init__(seconds)
        self._out = out

    def begin(self, stage: Stage) -> None:
        super().begin(stage)
        self.tell(stage, False)

    def tell(self, stage: Stage, over: bool) -> None:
        speed, ahead = rate(stage), left(stage)
        event: dict[str, object] = {
            "event": "progress",
            "stage": stage.what or "collect",
            "unit": stage.unit,
            "done": stage.done,
            "total": stage.total,
            "seconds": round(stage.seconds, 3),
            "rate": None if speed is None else round(speed, 4),
            "left": None if ahead is None else round(ahead, 1),
            "ended": over,
        }
        for name, value in stage.figures().items():
            key = name.replace("/s", "_per_second").replace(" ", "_")
            whole = value is None or math.isfinite(value)  # JSON has no other numbers, and a loss may be none
            event[key] = (round(value, 6) if isinstance(value, float) else value) if whole else None
        print(json.dumps(event), file=self._out or sys.stdout, flush=True)


class Bar:
    """A bar on the terminal, one a stage: what, how many, success so far, faults, rate, time left."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self._console = console or Console(stderr=True)
        self._bar: RichProgress | None = None
        self._next = 0.0

    def begin(self, stage: Stage) -> None:
        from rich.markup import escape
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        one_line = Column(no_wrap=True)
        self._bar = RichProgress(
            TextColumn("[bold]{task.description}", table_column=one_line),
            BarColumn(bar_width=24 if self._console.width - len(stage.what) >= 95 else 10),
            TextColumn("{task.fields[figures]}", markup=False, table_column=one_line),
            console=self._console,
            refresh_per_second=4,
        )
        self._bar.add_task(escape(plain(stage.what) or "collect"), total=stage.total, figures="")
        self._bar.start()
        self._show(stage, False)

    def update(self, stage: Stage) -> None:
        if time.monotonic() >= self._next:  # nobody sees more than a few a second, and each costs some 50 microseconds
            self._next = time.monotonic() + 0.1
            self._show(stage, False)

    def end(self, stage: Stage) -> None:
        if self._bar is not None:
            self._show(stage, True)
            self._bar.stop()
            self._bar = None

    def _show(self, stage: Stage, over: bool) -> None:
        if self._bar is not None:
            known = stage.done if stage.total is None and over else stage.total
            task = self._bar.task_ids[0]
            self._bar.update(task, total=known, completed=stage.done, figures=brief(stage, over=over))


class _Under:
    """Another way to show, with names of the stages that say where they belong."""

    def __init__(self, inner: Progress, name: str) -> None:
        self._inner, self._name = inner, name

    def begin(self, stage: Stage) -> None:
        stage.what = f"{self._name}, {stage.what}" if stage.what else self._name
        self._inner.begin(stage)

    def update(self, stage: Stage) -> None:
        self._inner.update(stage)

    def end(self, stage: Stage) -> None:
        self._inner.end(stage)


def under(shown: Shown, *names: str) -> Progress:
    """The same way to show, the stages' names beginning with these; empty ones are left out."""
    name = ", ".join(name for name in names if name)
    return _Under(progress_of(shown), name) if name else progress_of(shown)


def progress_of(kind: Shown) -> Progress:
    """A way to show progress by name. `auto` is a bar where stderr is a terminal, and lines elsewhere.

    Raises:
        BadInput: no such way.
    """
    if not isinstance(kind, str):
        return kind
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "lines"
    ways: dict[str, Callable[[], Progress]] = {"bar": Bar, "lines": Lines, "json": JsonLines, "quiet": Quiet}
    if kind not in ways:
        raise BadInput(f"progress is one of auto, bar, lines, quiet, json, not {kind!r}")
    return ways[kind]()

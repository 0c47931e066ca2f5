"""What the promises of one environment are tried on: its tasks, the walked episodes, new instances, a share of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from palaestra.envs.check.walk import Trace
from palaestra.envs.core import Fidelity, Snapshot, Task, TextEnv
from palaestra.envs.registry import EnvSpec, make


class Broken(Exception):
    """A promise is not kept; says how."""


@dataclass
class Bench:
    """What the checks of one environment share: its spec, the chosen tasks, the walked episodes."""

    spec: EnvSpec
    settings: dict[str, Any]
    tasks: Sequence[Task]
    fast: bool
    seed: int
    cycles: int
    fidelity: Fidelity
    load: str | None = None
    traces: list[Trace] = field(default_factory=list)
    _envs: list[TextEnv[Any]] = field(default_factory=list)

    @property
    def limit_s(self) -> float:
        """Seconds after which a promise is tried on no further task, once each split had one."""
        return 3.0 if self.fast else 45.0

    @property
    def exact(self) -> bool:
        """Is rewinding cheap."""
        return self.fidelity is Fidelity.EXACT

    def make(self, **further: Any) -> TextEnv[Any]:
        """A new instance; closed when the check is over."""
        env = make(self.spec.id, **{**self.settings, **further})
        self._envs.append(env)
        return env

    def close(self) -> None:
        """Close all instances that are still open."""
        while self._envs:
            self._envs.pop().close()

    def rewinds(self, trace: Trace) -> list[tuple[int, Snapshot]]:
        """The snapshots to try of a trace: all where that is cheap, else the latest. Raises Broken if there is none."""
        for snapshot in trace.snapshots.values():
            if isinstance(snapshot, str):
                raise Broken(snapshot)
        found = [(step, snapshot) for step, snapshot in trace.snapshots.items() if isinstance(snapshot, Snapshot)]
        return found if self.exact or not self.fast else found[-1:]

    def each(self, items: Iterable[Any], one: Callable[[Any], str | None], what: str = "episodes") -> str:
        """Try one thing after another until the time is over; all are tried, so that the share of bad ones is known."""
        began, tried, wrong = time.monotonic(), 0, []
        for item in items:
            if tried >= len(self.spec.splits) and time.monotonic() - began > self.limit_s:
                break
            tried += 1
            try:
                problem = one(item)
            except Broken as broken:
                problem = str(broken)
            except Exception as error:
                problem = f"raised {type(error).__name__}: {error}"
            if problem:
                name = f"{item.task.split}:{item.task.name}: " if isinstance(item, Trace) else ""
                wrong.append(name + problem)
        if not tried:
            raise Broken("there is no episode to try it on; see 'five-tuple'")
        if wrong:
            raise Broken(f"{len(wrong)} of {tried} {what}; first {wrong[0]}")
        return f"{tried} {what}"

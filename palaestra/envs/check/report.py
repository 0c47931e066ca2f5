"""What the conformance check found: one `Result` a promise."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, computed_field

from palaestra.envs.core import Fidelity


class Result(BaseModel):
    """Is one promise kept.

    Attributes:
        name: of the promise, such as "rewind".
        passed: is it kept.
        detail: what was tried, or what was found wrong first and how often.
        seconds: how long it took.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    detail: str
    seconds: float

    def __str__(self) -> str:
        return f"{'ok    ' if self.passed else 'FAILED'} {self.name:<15} {self.detail} ({self.seconds:.1f} s)"


class Report(BaseModel):
    """Are the promises of one environment kept.

    Attributes:
        env, settings, fidelity: which environment, made with what, and how it says it rewinds.
        fast, seed: how it was checked.
        tasks: number of tasks that episodes were walked in.
        results: one a promise.
    """

    model_config = ConfigDict(frozen=True)

    env: str
    settings: dict[str, Any]
    fidelity: Fidelity
    fast: bool
    seed: int
    tasks: int
    results: tuple[Result, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Are all of them kept."""
        return all(result.passed for result in self.results)

    @property
    def failures(self) -> tuple[Result, ...]:
        """Those that are not."""
        return tuple(result for result in self.results if not result.passed)

    def result(self, name: str) -> Result:
        """The result of a promise. Raises KeyError for an unknown name."""
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(name)

    def to_json(self) -> str:
        """The report as JSON; settings that JSON does not know are written as their `repr`."""
        return self.model_dump_json(indent=2, fallback=repr)

    def __str__(self) -> str:
        return "\n".join([f"{self.env} ({self.fidelity}, {self.tasks} tasks)", *map(str, self.results)])

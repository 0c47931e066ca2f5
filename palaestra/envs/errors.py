"""Every error that Palaestra raises on purpose.

`BadInput` is what a person can mend: the command line prints its one line and exits with status 2. `EnvFault` is what
no policy can be blamed for: the collector turns it into a fault, never into a reward.
"""

from __future__ import annotations


class PalaestraError(Exception):
    """Base of all errors that Palaestra raises on purpose."""


class BadInput(PalaestraError):
    """Something that was handed in cannot be used. The message says what, where and what to do, in one line."""


class MissingExtra(BadInput):
    """An optional part is not installed. Names the extra that brings it.

    Args:
        what: the part that is missing, as a person calls it ("ScienceWorld", "torch").
        extra: the name of Palaestra's extra that installs it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed; run: pip install 'palaestra[{extra}]'")
        self.extra = extra


class NoOracle(BadInput):
    """There is no oracle for this task, or for what the environment was told to be."""


class NoWay(BadInput):
    """From where an episode stands, the oracle knows no way on. That episode alone cannot go on with it."""


class EnvFault(PalaestraError):
    """The environment itself broke (a dead process, a closed browser). Never the agent's doing, never a reward."""


class ReplayDiverged(EnvFault):
    """Replaying an episode's actions gave another observation than the one recorded.

    Attributes:
        step: number of actions replayed when the texts first differed (0 is the observation of `reset`).
        expected: the recorded observation, or its digest where only that was kept.
        actual: what the environment said this time.
    """

    def __init__(self, where: str, step: int, expected: str, actual: str) -> None:
        super().__init__(
            f"replay of {where} diverged at step {step}: expected {_short(expected)!r}, got {_short(actual)!r}"
        )
        self.where, self.step, self.expected, self.actual = where, step, expected, actual

    def __reduce__(self) -> tuple[type[ReplayDiverged], tuple[str, int, str, str]]:
        return type(self), (self.where, self.step, self.expected, self.actual)


def _short(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"

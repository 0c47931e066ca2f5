"""Many threads, one engine: what several callers ask at the same time goes to the model together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from palaestra.agents.policy import Completion, Request


class Together:
    """Callers in several threads, one engine: whoever finds it free asks for all who wait.

    It does not hold the engine: its owner would then hold itself, and a model's weights and prefixes would stay in
    memory after their last use until the garbage collector looks at what has lived long.
    """

    def __init__(self) -> None:
        self._engine, self._list = threading.Lock(), threading.Lock()
        self._waiting: list[_Turn] = []

    def ask(
        self, requests: Sequence[Request], act: Callable[[Sequence[Request]], Sequence[Completion]]
    ) -> list[Completion]:
        """Answers to these requests by `act`, the same engine for all. Raises what it raised when they were asked."""
        mine = _Turn(list(requests))
        with self._list:
            self._waiting.append(mine)
        with self._engine:
            if mine.answers is None and mine.error is None:
                with self._list:
                    group, self._waiting = self._waiting, []
                try:
                    answers = list(act([request for turn in group for request in turn.requests]))
                    for turn in group:
                        turn.answers, answers = answers[: len(turn.requests)], answers[len(turn.requests) :]
                except Exception as error:
                    for turn in group:
                        turn.error = error
        if mine.error is not None:
            raise mine.error
        assert mine.answers is not None
        return mine.answers


class _Turn:
    def __init__(self, requests: list[Request]) -> None:
        self.requests = requests
        self.answers: list[Completion] | None = None
        self.error: Exception | None = None

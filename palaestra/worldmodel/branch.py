"""A branch that is imagined: where it left, what was done since, what the page is now."""

from __future__ import annotations

from dataclasses import dataclass

from palaestra.envs import Task
from palaestra.worldmodel.judging import Case
from palaestra.worldmodel.page import Asked, Prediction, Problem


@dataclass
class Branch:
    """Grows by one step at a time: ask what `asked` says, then `take` the answer.

    Attributes:
        task, instructions, first: of the episode; see `Asked`.
        done: all actions since the episode's start. page: what is seen now.
        steps: of them, how many were imagined here.
        lately: digests of the imagined pages before.
        over: does nothing come after. problem: why it was cut, if it was.
        actions: the admissible actions now, where they are known. score: likewise.
    """

    task: Task
    instructions: str
    first: str
    done: tuple[str, ...]
    page: str
    steps: int = 0
    lately: tuple[str, ...] = ()
    over: bool = False
    problem: Problem | None = None
    actions: tuple[str, ...] | None = None
    score: float | None = None

    def asked(self, action: str, seed: int = 0) -> Asked:
        """This action as a question to a world."""
        told = (self.task, self.instructions, self.first, self.done, self.page, action)
        return Asked(*told, lately=self.lately, seed=seed)

    def take(self, action: str, found: Prediction) -> None:
        """The world has answered."""
        self.done = (*self.done, action)
        self.steps += 1
        self.over = found.over
        self.problem = found.problem
        self.actions, self.score = found.actions, found.score
        if found.problem is None:
            self.page, self.lately = found.page, found.lately

    def case(self) -> Case:
        """Where it stands, to be judged. A branch that was cut is worth nothing and is not judged."""
        return Case(self.task, self.instructions, self.first, self.done, self.page, self.over, self.score)

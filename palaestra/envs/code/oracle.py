"""The oracle: writes the canonical solution, tries the examples, submits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from palaestra.envs.code.problem import Problem
from palaestra.envs.core import TextEnv
from palaestra.envs.errors import NoOracle

if TYPE_CHECKING:
    from palaestra.envs.code.env import State


def canonical(env: TextEnv[State]) -> str:
    """The first of its steps that has not been taken. Where others slipped in between, it goes on.

    Raises:
        NoOracle: the task says no solution; for one answer alone, no solution in its main file.
    """
    problem = env.state.problem
    alone = getattr(env, "alone", False)
    if not (problem.main in problem.solution if alone else problem.solution or problem.commands):
        raise NoOracle(f"the task {env.task.name} brings no solution ([solution], commands), so it has no oracle")
    if alone:
        return block(problem.solution[problem.main], "python")
    taken = set(env.history)
    return next((step for step in steps(problem) if step not in taken), "submit")


def steps(problem: Problem) -> list[str]:
    """What solves a problem: files, commands, the examples where there are any, submit."""
    written = "\n".join(f"write {path}\n{block(text)}" for path, text in problem.solution.items())
    found = [written] if written else []
    found += [f"run {command}" for command in problem.commands]
    return [*found, *(["test"] if problem.visible else []), "submit"]


def block(text: str, language: str = "") -> str:
    """A text in a fenced block that nothing in it closes."""
    ticks = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", text))])
    return f"{ticks}{language}\n{text.rstrip(chr(10))}\n{ticks}"

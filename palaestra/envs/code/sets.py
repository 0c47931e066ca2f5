"""The sets of problems as environments: HumanEval, MBPP, and tasks in folders."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping, Sequence
from typing import ClassVar

from palaestra.envs.code import folder as folders
from palaestra.envs.code import humaneval, mbpp
from palaestra.envs.code.env import Coding, defines, python_in
from palaestra.envs.code.problem import Problem
from palaestra.envs.core import Task
from palaestra.envs.errors import BadInput


class HumanEval(Coding):
    """HumanEval (Chen et al., arXiv 2107.03374): complete a Python function; its hidden `check` decides.

    Under the protocol `single` an answer may be the whole file, a block with the function, or what follows the
    statement, as a model that only completes text writes it.
    """

    def problems(self) -> Mapping[str, Problem]:
        """All 164."""
        return humaneval.problems()

    def whole(self, problem: Problem, answer: str) -> str:
        """The file: the statement's imports and helpers before the answer's function, or the statement completed."""
        prompt = problem.files[problem.main].decode()
        code = python_in(answer, problem.entry)
        if defines(code, problem.entry):
            before = [
                ast.unparse(node)
                for node in ast.parse(prompt).body
                if not (isinstance(node, ast.FunctionDef) and node.name == problem.entry)
            ]
            return "\n".join([*before, code])
        lines = code.splitlines()
        first = next((line for line in lines if line.strip()), "")
        return prompt + (code if first.startswith((" ", "\t")) else textwrap.indent(code, "    "))


class MBPP(Coding):
    """MBPP (Austin et al., arXiv 2108.07732): write a short Python function from a sentence; three asserts decide."""

    sanitized: ClassVar[bool] = False

    def problems(self) -> Mapping[str, Problem]:
        """All 974, or the 427 sanitized."""
        return mbpp.problems(self.sanitized)

    def told(self, problem: Problem) -> str:
        """The sentence and the first assert; under the protocol `single` all of them, as in the field."""
        return "\n".join([problem.statement, *(problem.hidden[1:] if self.alone else ())])


class MBPPSanitized(MBPP):
    """The 427 problems of MBPP that its authors checked by hand; three to seven asserts decide."""

    sanitized: ClassVar[bool] = True


class CodeTasks(Coding):
    """Programming tasks in folders: the package's own, or any (see `palaestra.envs.code.folder` for the files).

    Args:
        folder: a folder of tasks; None for the package's own.
    """

    own: ClassVar[str] = "tasks"

    def __init__(
        self, sandbox: str | None = None, timeout: float = 10.0, protocol: str | None = None, folder: str | None = None
    ) -> None:
        super().__init__(sandbox, timeout, protocol)
        if folder is not None and not isinstance(folder, str):
            raise BadInput(f"folder is a path, got {folder!r}")
        self.folder = folder
        self._read = folders.read(folder) if folder is not None else None

    def problems(self) -> Mapping[str, Problem]:
        """All tasks of the folder."""
        return (self._read or folders.own(self.own)).problems

    def splits(self) -> Sequence[str]:
        """Those that the folder's tasks name; "train" first and "test" last."""
        return tuple(self._read.splits) if self._read is not None else super().splits()

    def tasks(self, split: str) -> Sequence[Task]:
        """The folder's tasks of a split."""
        if self._read is None or self.registration is None:
            return super().tasks(split)
        if split not in self._read.splits:
            raise BadInput(f"{self.folder} has no split {split!r}; it has: {', '.join(self._read.splits)}")
        return [Task(env=self.registration.id, name=name, split=split) for name in self._read.splits[split]]


class Shell(CodeTasks):
    """Tasks in a shell: bring files and programs into the state that a hidden check script wants.

    Args:
        folder: a folder of tasks; None for the package's own.
    """

    own: ClassVar[str] = "shell_tasks"
    shell: ClassVar[bool] = True
    rules: ClassVar[str] = """\
You do a task in a shell (sh, Python 3, no network). The folder you are in is what counts; nothing else is kept.
Actions:
run COMMAND
read PATH
list
write PATH  and below it the whole file between two lines of ```
submit  (ends the task: a hidden check decides)
What is none of these is run as a command."""

    def __init__(self, sandbox: str | None = None, timeout: float = 10.0, folder: str | None = None) -> None:
        super().__init__(sandbox, timeout, None, folder)

"""Folders of tasks: one `NAME.toml` a task, or `NAME/task.toml` with the starting files in `NAME/files/`.

statement = "Write a function double(n) in solution.py."
split = "test"                      # "test" where it says nothing
main = "solution.py"                # the file that the tests mean
entry = "double"                    # the function asked for, if it is one
visible = "assert double(2) == 4"   # Python: asserts and functions test_...; shown, and run by `test`
tests = "assert double(-3) == -6"   # Python: hidden, decides; or in its place:
check = "test -f out.txt"           # a shell script: hidden, status 0 is success
judge = "apart"                     # or "data": plain data alone passes between tests and solution, and decides
                                    # or "together": tests run in the solution's own process. They may then do
                                    # all that Python can, and a solution that wants to cheat passes
image = ""                          # container image, for --sandbox docker alone
commands = ["sort in > out"]        # canonical solution: commands, after its files
[files]                             # starting files
"data.txt" = "3\\n1\\n"
[solution]                          # canonical solution: files
"solution.py" = "def double(n): return 2 * n"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palaestra.envs.code.problem import Problem, cut
from palaestra.envs.errors import BadInput


class TaskFile(BaseModel):
    """What a task file may say; see above."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    statement: str = Field(min_length=1)
    split: str = Field(default="test", min_length=1)
    main: str = "solution.py"
    entry: str = ""
    visible: str = ""
    tests: str = ""
    check: str = ""
    judge: Literal["data", "apart", "together"] = "apart"
    image: str = ""
    commands: tuple[str, ...] = ()
    files: dict[str, str] = {}
    solution: dict[str, str] = {}


@dataclass(frozen=True)
class Folder:
    """The tasks of a folder.

    Attributes:
        problems: by name, sorted.
        splits: names by split: "train" first, "test" last.
    """

    problems: Mapping[str, Problem]
    splits: Mapping[str, tuple[str, ...]]


def read(folder: str | Path) -> Folder:
    """Read all tasks of a folder. Raises BadInput that names the file, and what is wrong with it."""
    try:
        place = Path(folder).expanduser()
        there = place.is_dir()
    except (RuntimeError, ValueError):  # the home of nobody; halves of surrogate pairs
        there = False
    if not there:
        raise BadInput(f"there is no folder {folder}")
    files: dict[str, Path] = {}
    for path in (*place.glob("*.toml"), *place.glob("*/task.toml")):
        name = path.parent.name if path.name == "task.toml" and path.parent != place else path.stem
        if name in files:
            raise BadInput(f"two task files have the name {name!r}: {files[name]} and {path}")
        files[name] = path
    if not files:
        raise BadInput(f"{folder} holds no tasks: neither NAME.toml nor NAME/task.toml")
    problems: dict[str, Problem] = {}
    splits: dict[str, list[str]] = {}
    for name in sorted(files):
        task = _task(files[name])
        problems[name] = _problem(task, files[name])
        splits.setdefault(task.split, []).append(name)
    order = sorted(splits, key=lambda split: (split != "train", split == "test", split))
    return Folder(problems, {split: tuple(splits[split]) for split in order})


@lru_cache(maxsize=4)
def own(name: str) -> Folder:
    """A folder of tasks of this package."""
    return read(Path(__file__).parent / name)


def _task(path: Path) -> TaskFile:
    try:
        return TaskFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"task file {path} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise BadInput(
                f"task file {path}: unknown key {where!r}; there are: {', '.join(TaskFile.model_fields)}"
            ) from error
        raise BadInput(f"task file {path}: {where}: {first['msg']}") from error


def _problem(task: TaskFile, path: Path) -> Problem:
    if bool(task.tests) == bool(task.check):
        raise BadInput(f"task file {path} needs either 'tests' (Python) or 'check' (a shell script)")
    visible, hidden = cut(task.visible, f"'visible' of {path}"), cut(task.tests, f"'tests' of {path}")
    if task.tests and not hidden.tests:
        raise BadInput(f"'tests' of {path} hold neither an assert nor a function test_...")
    files = {name: text.encode() for name, text in task.files.items()}
    beside = path.parent / "files"
    if path.name == "task.toml" and beside.is_dir():
        found = [each for each in sorted(beside.rglob("*")) if each.is_file()]
        files |= {each.relative_to(beside).as_posix(): each.read_bytes() for each in found}
    for name in [*files, *task.solution, task.main]:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or not name:
            raise BadInput(f"task file {path}: {name!r} is no path inside the work directory")
    examples = "\n\nExamples that it must pass (`test` runs them):\n" + task.visible.strip() if task.visible else ""
    return Problem(
        statement=task.statement.strip() + examples,
        files=files,
        main=task.main,
        entry=task.entry,
        visible=visible.tests,
        hidden=hidden.tests,
        prelude="\n".join(part for part in (visible.prelude, hidden.prelude) if part),
        check=task.check,
        solution=task.solution,
        commands=task.commands,
        image=task.image,
        judge=task.judge,
    )

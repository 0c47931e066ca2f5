"""What a coding problem is, wherever it comes from, and how test code is cut into single tests."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

from palaestra.envs.errors import BadInput


@dataclass(frozen=True)
class Problem:
    """A task for a coder.

    Attributes:
        statement: what is asked for.
        files: the starting files, by path.
        main: the file that the tests mean when they name no module, and that a block without a path goes to.
        entry: the function that is asked for, where there is one.
        visible: tests that the agent may run with `test`, each a piece of Python.
        hidden: tests that decide, each a piece of Python.
        prelude: Python that stands before each test, in the tests' process.
        setup: Python that runs in the solution's module after it was loaded.
        check: a shell script that decides in place of tests: status 0 is success.
        solution: files of the canonical solution, by path.
        commands: commands of the canonical solution, run after its files are written.
        image: container image, where the sandbox has images; "" for the sandbox's own.
        judge: "data": plain data alone decides; "apart": classes, functions and exceptions of the solution's pass, too,
            and are believed in part; "together": the tests run in the solution's own process, which can then make them
            say what it likes.
    """

    statement: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    main: str = "solution.py"
    entry: str = ""
    visible: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    prelude: str = ""
    setup: str = ""
    check: str = ""
    solution: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    image: str = ""
    judge: str = "apart"


@dataclass(frozen=True)
class Tests:
    """Test code, cut: what stands before every test, and the tests."""

    prelude: str
    tests: tuple[str, ...]


def cut(code: str, where: str) -> Tests:
    """Cut test code into single tests: each `assert` at its top and each function `test_...`; the rest is prelude.

    Raises:
        BadInput: it is not Python.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{where} is not Python: {error}") from error
    prelude, tests = [], []
    for node in tree.body:
        source = ast.unparse(node)
        if isinstance(node, ast.Assert):
            tests.append(source)
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            tests.append(f"{source}\n{node.name}()")
        else:
            prelude.append(source)
    return Tests("\n".join(prelude), tuple(tests))

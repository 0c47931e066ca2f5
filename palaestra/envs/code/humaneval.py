"""HumanEval (Chen et al., arXiv 2107.03374): 164 Python functions, each with a docstring and a hidden `check`.

All 164 are the test split: HumanEval has no training problems. What an agent may try are the doctests of the statement
whose answers are literals; where there are none, only that the function loads.
"""

from __future__ import annotations

import ast
import doctest
import json
from functools import lru_cache
from pathlib import Path

from palaestra.envs.code.problem import Problem
from palaestra.envs.data import data_file, data_folder, read_data
from palaestra.envs.errors import BadInput

COUNT = 164
FILE = "HumanEval.jsonl"
WRONG = {"HumanEval/47": "assert median([-10, 4, 6, 1000, 10, 20]) == 15.0"}
"""An example of a statement that its own canonical solution fails (the median is 8.0): not among those to try."""
NAMES = tuple(f"HumanEval/{number}" for number in range(COUNT))


def problems() -> dict[str, Problem]:
    """All problems by name. Raises BadInput where the data is not here or is not what it should be."""
    return _read(data_folder("humaneval", FILE))


@lru_cache(maxsize=2)
def _read(folder: Path) -> dict[str, Problem]:
    try:
        rows = [json.loads(line) for line in read_data(data_file(folder, FILE)).splitlines() if line.strip()]
        found = {row["task_id"]: _problem(row) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder}/{FILE} is not HumanEval: {type(error).__name__}: {error}") from error
    if sorted(found) != sorted(NAMES):
        raise BadInput(f"{folder}/{FILE} holds {len(found)} problems, not HumanEval's {COUNT}")
    return found


def _problem(row: dict[str, str]) -> Problem:
    entry, prompt = row["entry_point"], row["prompt"]
    return Problem(
        statement=f"Complete the function {entry} in solution.py:\n\n{prompt.strip()}",
        files={"solution.py": prompt.encode()},
        entry=entry,
        visible=tuple(test for test in _examples(prompt, entry) if test != WRONG.get(row["task_id"])),
        hidden=(f"check({entry})",),
        judge="data",
        prelude=f"{_helpers(prompt, entry)}\n{row['test']}",
        solution={"solution.py": prompt + row["canonical_solution"]},
    )


def _helpers(prompt: str, entry: str) -> str:
    """What the statement defines beside the function: imports, and other functions that the tests may use."""
    body = ast.parse(prompt).body
    return "\n".join(
        ast.unparse(node) for node in body if not (isinstance(node, ast.FunctionDef) and node.name == entry)
    )


def _examples(prompt: str, entry: str) -> tuple[str, ...]:
    function = next(node for node in ast.parse(prompt).body if isinstance(node, ast.FunctionDef) and node.name == entry)
    found = []
    try:
        examples = doctest.DocTestParser().get_examples(ast.get_docstring(function) or "")
    except ValueError:
        examples = []
    for example in examples:
        try:
            asked, wanted = ast.parse(example.source.strip(), mode="eval"), ast.parse(example.want.strip(), mode="eval")
            ast.literal_eval(wanted)
        except (SyntaxError, ValueError):
            continue
        if any(isinstance(node, ast.Name) and node.id == entry for node in ast.walk(asked)):
            found.append(f"assert {ast.unparse(asked)} == {ast.unparse(wanted)}")
    return tuple(found)

"""tau-bench's files, and how its Python files of data become JSON: by parsing, nothing of them is run.

`tau_bench.sums` beside this file lists what is fetched: sha256, bytes and path of each file at the fixed commit.
"""

from __future__ import annotations

import ast
import json
import shutil
from importlib import resources
from pathlib import Path

from palaestra.envs.errors import BadInput

REPOSITORY = "sierra-research/tau-bench/59a200c6d575d595120f1cb70fea53cef0632f6b"
_DOMAINS = ("airline", "retail")

PROVIDES = (
    *("airline_flights.json", "airline_reservations.json", "airline_users.json"),
    *("retail_orders.json", "retail_products.json", "retail_users.json"),
    *(f"{domain}_{what}" for domain in _DOMAINS for what in ("wiki.md", "rules.json", "tool_schemas.json")),
    *("airline_tasks_test.json", "retail_tasks_train.json", "retail_tasks_dev.json", "retail_tasks_test.json"),
)


def upstream_files() -> list[tuple[str, int, str]]:
    """Path in the repository, bytes and sha256 of every file that is fetched."""
    table = resources.files("palaestra.envs.datasets").joinpath("tau_bench.sums").read_text(encoding="utf-8")
    rows = [line.split(maxsplit=2) for line in table.splitlines()]
    return [(path, int(size), sha256) for sha256, size, path in rows]


def flat_name(path: str) -> str:
    """The name of an upstream file here: `tau_bench/envs/retail/data/users.json` is `retail_users.json`."""
    if path == "historical_trajectories/gpt-4o-airline.json":
        return "gpt-4o-airline_trajectories.json"
    parts = path.removeprefix("tau_bench/envs/").split("/")
    if parts[0] not in _DOMAINS:
        return parts[-1]
    tool = "tool_" if "tools" in parts else ""
    return f"{parts[0]}_{tool}{parts[-1]}"


def convert(fetched: Path, folder: Path) -> None:
    """Make the data folder: files of data as they are; tasks, rules and tool schemas as JSON.

    Raises:
        BadInput: a Python file holds something else than literals where data should be.
    """
    for file in sorted(fetched.iterdir()):
        if file.suffix != ".py":
            shutil.copyfile(file, folder / file.name)
        elif "_tool_" not in file.name:
            value = _assigned(file)
            (folder / f"{file.stem}.json").write_text(json.dumps(value), encoding="utf-8")
    for domain in _DOMAINS:
        schemas = [_returned(file, "get_info") for file in sorted(fetched.glob(f"{domain}_tool_*.py"))]
        (folder / f"{domain}_tool_schemas.json").write_text(json.dumps(schemas, indent=1), encoding="utf-8")


def _assigned(file: Path) -> object:
    """The value of the module's only assignment to a name in capitals."""
    for node in _parsed(file).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            return _literal(node.value, file)
    raise BadInput(f"{file.name} assigns no data")


def _returned(file: Path, function: str) -> object:
    """The value that a function of the module returns."""
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            for statement in node.body:
                if isinstance(statement, ast.Return) and statement.value is not None:
                    return _literal(statement.value, file)
    raise BadInput(f"{file.name} has no {function} that returns data")


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        raise BadInput(f"{file.name} is not Python: {error}") from error


def _literal(node: ast.expr, file: Path) -> object:
    """A literal; `Task(...)` and `Action(...)` stand for the dict of their keyword arguments."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Task", "Action"):
        return {each.arg: _literal(each.value, file) for each in node.keywords if each.arg is not None}
    if isinstance(node, ast.List):
        return [_literal(each, file) for each in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {ast.literal_eval(key): _literal(value, file) for key, value in pairs if key is not None}
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise BadInput(f"{file.name}, line {node.lineno}: {error}") from error

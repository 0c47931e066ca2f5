"""What is read out of a test's text, in whichever process it runs."""

from __future__ import annotations

import ast
import builtins
from typing import Any


def unknown(*codes: str) -> list[str]:
    """The names that code uses and neither makes nor has from Python."""
    used: set[str] = set()
    made = set(vars(builtins))
    for code in codes:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Name):
                (used if isinstance(node.ctx, ast.Load) else made).add(node.id)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                made.add(node.name)
            elif isinstance(node, ast.alias):
                made.add((node.asname or node.name).split(".")[0])
            elif isinstance(node, ast.arg):
                made.add(node.arg)
    return sorted(used - made)


def explain(code: str, scope: dict[str, Any]) -> str:
    """What stands on the left of a failed `assert A == B`, or "". Evaluated once more."""
    tree = ast.parse(code).body
    last = tree[-1] if tree else None
    if not (isinstance(last, ast.Assert) and isinstance(last.test, ast.Compare) and len(last.test.ops) == 1):
        return ""
    if not isinstance(last.test.ops[0], ast.Eq):
        return ""
    value = eval(compile(ast.Expression(last.test.left), "<example>", "eval"), scope)
    return f"got {value!r}"

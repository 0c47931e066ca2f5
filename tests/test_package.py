"""The wheel works outside the repository: built, installed into an empty environment, and used there.

What a user gets is `pip install palaestra` and nothing else: no torch, no Java, no file of the repository.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

import palaestra

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    ".py",
    ".typed",
    ".js",
    ".css",
    ".html",
    ".svg",
    ".json",
    ".jsonl",
    ".toml",
    ".sums",
    ".Dockerfile",
    ".WebShop",
}
LARGEST = 100_000  # bytes: our own shop of 120 products is the largest
"""What may be in the wheel: code, pages of the viewer, tasks and a shop of our own, a licence; no data of others."""

pytestmark = pytest.mark.xdist_group("package")


def build(target: str, out: Path, source: Path = ROOT) -> Path:
    """A wheel or an sdist of the checkout or of a package, by its own build backend, without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """A virtual environment with the wheel, what it depends on, and what the extra `serve` brings; no repository."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    wanted = [f"palaestra[serve] @ file://{wheel}", "--constraint", str(ROOT / "constraints.txt")]
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    done = subprocess.run([*install, *wanted], capture_output=True, text=True, timeout=400, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def in_empty(empty: Path, *command: str) -> str:
    """Run a program of the empty environment in an empty folder; what it prints."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PALAESTRA"))}
    environ |= {"PALAESTRA_CACHE": str(empty / "cache"), "COLUMNS": "200"}
    whole = [str(empty / "venv" / "bin" / command[0]), *command[1:]]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=120, cwd=empty, env=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def last_line(said: str) -> Any:
    """The result of a command that prints JSON."""
    return json.loads(said.splitlines()[-1])


def test_the_wheel_holds_our_files_and_no_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        files = {info.filename: info.file_size for info in packed.infolist()}
    ours = {name: size for name, size in files.items() if not name.split("/")[0].endswith(".dist-info")}
    for name, size in ours.items():
        assert name.startswith("palaestra/")
        suffix = Path(name).suffix
        assert suffix in KINDS, f"{name} is of a kind that the wheel does not hold"
        assert size <= LARGEST, f"{name} has {size:,} bytes"
        assert not re.search(r"(__pycache__|\.sqlite|\.env$|\.pem$)", name)
    tracked = subprocess.run(["git", "ls-files", "palaestra"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode == 0:  # a checkout, not an unpacked archive
        there = {name for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
        assert there <= set(ours)
    assert {"palaestra/py.typed", "palaestra/viewer/pages/index.html"} <= set(ours)
    assert sum(files.values()) < 6_000_000


def test_its_metadata_name_version_python_licence_and_every_extra(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        (name,) = [file for file in packed.namelist() if file.endswith(".dist-info/METADATA")]
        told = packed.read(name).decode()
        assert any(file.endswith("licenses/LICENSE") for file in packed.namelist())
        (points,) = [file for file in packed.namelist() if file.endswith("entry_points.txt")]
        assert "palaestra = palaestra.cli:main" in packed.read(points).decode()
    assert f"Version: {palaestra.__version__}\n" in told
    assert "Requires-Python: >=3.11" in told
    assert "License-Expression: Apache-2.0" in told
    assert "Classifier: Typing :: Typed" in told
    assert {"train", "serve", "sciworld", "webshop", "all"} <= set(re.findall(r"Provides-Extra: (\S+)", told))


def test_the_sdist_holds_what_builds_the_same_package(tmp_path: Path, wheel: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
        sizes = sum(member.size for member in packed.getmembers())
    assert {"pyproject.toml", "README.md", "LICENSE", "palaestra/__init__.py", "palaestra/py.typed"} <= names
    with zipfile.ZipFile(wheel) as built:
        assert {name for name in built.namelist() if name.startswith("palaestra/")} <= names
    assert not any(name.startswith(("tests/", "runs/", ".venv", "shared")) for name in names)
    assert sizes < 6_000_000


def test_it_imports_from_the_environment_and_needs_nothing_heavy(empty: Path) -> None:
    program = (
        "import sys, json, palaestra, palaestra.agents.collect, palaestra.agents.store\n"
        "heavy = [name for name in ('torch', 'transformers', 'scienceworld', 'pyarrow') if name in sys.modules]\n"
        "print(json.dumps([palaestra.__file__, palaestra.__version__, heavy]))"
    )
    where, version, heavy = json.loads(in_empty(empty, "python", "-c", program))
    assert Path(where).is_relative_to(empty)
    assert version == palaestra.__version__
    assert heavy == []


def test_it_lists_its_environments_and_names_the_extra_of_what_is_missing(empty: Path) -> None:
    rows = {row["id"]: row for row in json.loads(in_empty(empty, "palaestra", "envs", "--json"))}
    assert rows["palaestra/Bandit-v0"]["ready"] is True
    assert rows["palaestra/Crafting-v0"]["ready"] is True
    assert rows["palaestra/ScienceWorld-v0"]["ready"] is not True
    environ = {**os.environ, "PALAESTRA_CACHE": str(empty / "cache")}
    command = [str(empty / "venv" / "bin" / "palaestra"), "eval", "scienceworld", "--policy", "oracle", "--tasks", "1"]
    refused = subprocess.run(command, cwd=empty, capture_output=True, text=True, timeout=60, env=environ)
    assert refused.returncode == 2
    assert "palaestra[sciworld]" in refused.stderr


def test_a_bandit_is_played_stored_and_measured(empty: Path) -> None:
    collect = ("collect", "bandit", "--policy", "oracle", "--tasks", "3", "--out", "runs/bandit", "--json", "-q")
    assert last_line(in_empty(empty, "palaestra", *collect))["episodes"] == 3
    measured = last_line(
        in_empty(empty, "palaestra", "eval", "bandit", "--policy", "random", "--tasks", "3", "--json", "-q")
    )
    assert measured["card"]["env"] == "palaestra/Bandit-v0"
    assert "Bandit" in in_empty(empty, "palaestra", "show", "runs/bandit")


def test_an_installed_package_brings_its_environment(empty: Path) -> None:
    """The commands of docs/examples.md; the wheel that pip would have built in passing is built before."""
    page = (ROOT / "docs" / "examples.md").read_text()
    assert "$ pip install ./examples/own_package\n$ palaestra check towers\n" in page
    package = shutil.copytree(ROOT / "examples" / "own_package", empty / "own_package")
    wheel = build("wheel", empty / "own_wheel", package)
    command = [sys.executable, "-m", "pip", "--python", str(empty / "venv" / "bin" / "python"), "install", "--quiet"]
    done = subprocess.run(
        [*command, "--no-deps", "--no-index", str(wheel)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "towers" in in_empty(empty, "palaestra", "envs")
    assert "FAILED" not in in_empty(empty, "palaestra", "check", "towers", "--fast")


def test_the_viewer_starts_and_answers(empty: Path) -> None:
    in_empty(empty, "palaestra", "collect", "bandit", "--policy", "random", "--tasks", "1", "--out", "runs/seen", "-q")
    program = [str(empty / "venv" / "bin" / "palaestra"), "view", "runs", "--port", "0"]
    server = subprocess.Popen(program, cwd=empty, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address is not None, line
        page = fetched(address[0])
        assert "<!doctype html>" in page.lower()
        scripts = re.findall(r"(?:src|href)=\"([\w./-]+\.(?:js|css))\"", page)
        assert scripts
        for script in scripts:
            assert fetched(address[0] + script.lstrip("/"))
    finally:
        server.terminate()
        server.wait(30)


def fetched(address: str) -> str:
    """A page of a server that may still be starting."""
    for _ in range(200):
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                text: str = answer.read().decode()
                return text
        except ConnectionError:
            time.sleep(0.1)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
            time.sleep(0.1)
    raise AssertionError(f"{address} does not answer")


def test_another_project_is_type_checked_against_it(empty: Path) -> None:
    """`py.typed` is in its place: mypy sees the types of what is installed."""
    (empty / "user.py").write_text("import palaestra\n\nreveal_type(palaestra.make('bandit'))\n")
    command = [sys.executable, "-m", "mypy", "--python-executable", str(empty / "venv" / "bin" / "python"), "user.py"]
    done = subprocess.run(command, cwd=empty, capture_output=True, text=True, timeout=120)
    assert 'Revealed type is "palaestra.envs.core.TextEnv[Any]"' in done.stdout, done.stdout

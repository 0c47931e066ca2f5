"""The documents' code runs, and their commands are commands."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from palaestra.cli import run
from palaestra.envs.check import check

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(name: str, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall((ROOT / name).read_text()) if kind == language]


def commands(name: str) -> list[str]:
    """The lines of a document's shell blocks that call `palaestra`."""
    found = [*blocks(name, ""), *re.findall(r"^    (palaestra .*)$", (ROOT / name).read_text(), re.MULTILINE)]
    lines = [line.partition("#")[0].strip() for text in found for line in text.splitlines()]
    return [line for line in lines if line.startswith("palaestra ")]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/strategies.md"])
def test_python_blocks_run(name: str, tmp_path: Path) -> None:
    found = blocks(name, "python")
    assert found
    for text in found:
        done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr


def test_the_block_about_serving_plays_a_served_environment(tmp_path: Path) -> None:
    (block,) = blocks("docs/serving.md", "python")
    program = [sys.executable, "-c", "from palaestra.cli import main; main()", "serve", "crafting", "--port", "0"]
    with subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
            assert address is not None
            text = block.replace("http://127.0.0.1:8000", address[0])
            assert text != block
            done = subprocess.run(
                [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, done.stderr
        finally:
            server.terminate()


def test_the_environment_in_contributing_passes_the_check(tmp_path: Path) -> None:
    (block,) = blocks("CONTRIBUTING.md", "python")
    file = tmp_path / "guess_of_contributing.py"
    file.write_text(block.replace("mine/Guess-v0", "contributing/Guess-v0"))
    report = check("contributing/Guess-v0", load=str(file), fast=True, cycles=20)
    assert report.passed, str(report)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        *(("README.md", 12), ("docs/environments.md", 10), ("docs/security.md", 2), ("docs/serving.md", 5)),
        *(("docs/scale.md", 5), ("docs/world-model.md", 7), ("docs/strategies.md", 4)),
        *(("docs/vllm.md", 3), ("docs/viewer.md", 1)),
    ],
)
def test_every_command_of_a_document_parses(name: str, least: int, capsys: pytest.CaptureFixture[str]) -> None:
    """With an unknown option behind it a command is refused for that option and for nothing before it."""
    found = commands(name)
    assert len(found) >= least
    for line in found:
        words = shlex.split(line)[1:]
        assert run([*words, "--no-such-option"]) == 2
        told = capsys.readouterr().err
        assert "No such option: --no-such-option" in told, (line, told)
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        command = words[:2] if words[0] in ("data", "sandbox", "worldmodel") else words[:1]
        assert run([*command, "--help"]) == 0
        listed = capsys.readouterr().out
        assert all(option in listed for option in options), line


def test_the_table_of_environments_holds_what_the_bench_stored() -> None:
    """Every row of the results is in the table; `python bench/envs.py` writes both."""
    stored = json.loads((ROOT / "bench" / "results" / "envs.json").read_text())["rows"]
    page = (ROOT / "docs" / "environments.md").read_text()
    assert len(stored) >= 10
    for row in stored:
        assert f"| `{row['env']}` |" in page
        assert f"{row['steps_per_second']:,.0f}" in page

"""Every command of the documents runs, in small where it is large; those on Ray and vLLM in tests/agents."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import small

ROOT = small.ROOT
pytestmark = [pytest.mark.xdist_group("small"), pytest.mark.timeout(1500)]  # all commands run in the first test


def page(name: str) -> str:
    """A page of a document's commands that run here. What only asks runs once over all documents; servers go on."""
    before = [line for other in small.PAGES[: small.PAGES.index(name)] for line in small.commands(other)]
    lines = [*small.PREPARED.get(name, ())]
    for line in small.commands(name):
        if small.place(line) != "here":
            continue
        serves = re.search(r"\bpalaestra (serve|view) ", line) is not None
        if serves or " --out " in line or line not in before:
            said = small.small(line.removesuffix(" &"), model=small.TINY.get(name, "tiny"))
            lines.append(said + " &" * serves)
    return "\n".join(["```console", *(f"$ {line}" for line in lines), "```", ""])


HERE = [name for name in small.PAGES if "$ " in page(name)]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What went wrong with the commands of each document, by its name; see `play`."""
    folder = tmp_path_factory.mktemp("small")
    pages = {name: folder / f"{Path(name).stem}.md" for name in HERE}
    for name, file in pages.items():
        file.write_text(page(name))
    told = folder / "told.json"
    command = [sys.executable, "-m", "tests.docs.play", str(told), *map(str, pages.values())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1400)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(told.read_text())
    return {name: found[str(file)]["wrong"] for name, file in pages.items()}


@pytest.mark.parametrize("name", HERE)
def test_every_command_of_a_document_runs(name: str, played: dict[str, str]) -> None:
    assert played[name] == "", played[name]


def test_a_command_that_runs_nowhere_has_its_reason_and_the_test_that_it_names() -> None:
    places = {line: small.place(line) for name in small.PAGES for line in small.commands(name)}
    assert len(places) >= 50
    reasons = {told for told in places.values() if told not in ("here", "ray", "vllm")}
    assert reasons == set(small.NOT_RUN.values()), "none is out of date"
    for reason in reasons:
        assert all((ROOT / file).is_file() for file in re.findall(r"\b(?:tests|docs)/[\w./-]+\.\w+", reason)), reason
    ours = [told for line, told in places.items() if re.match(r"([A-Z_]+=.*)?palaestra ", line)]
    assert sum(told in ("here", "ray", "vllm") for told in ours) >= 0.8 * len(ours)

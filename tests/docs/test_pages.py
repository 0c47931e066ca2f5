"""The documents: every code block runs (or says above it why not), the site builds, tables and lists hold the code."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.blocks import blocks_of

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
READ = {"command-line", "design", "environments", "results", "scale", "security", "serving", "strategies", "viewer"}
READ |= {"vllm", "world-model"}
"""Pages whose commands run in small (`small`): they need data sets, browsers, engines, GPUs or hours."""
RUN = sorted(
    page.relative_to(DOCS).as_posix()
    for page in DOCS.rglob("*.md")
    if page.stem not in READ and re.search(r"^```(console|python)$", page.read_text(), re.MULTILINE)
)

pytestmark = pytest.mark.xdist_group("pages")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What went wrong on each page, by its path below docs; see `play`."""
    folder = tmp_path_factory.mktemp("pages")
    told = folder / "told.json"
    pages = [str(DOCS / page) for page in RUN]
    command = [sys.executable, "-m", "tests.docs.play", str(told), *pages]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(told.read_text())
    return {name: found[page]["wrong"] for name, page in zip(RUN, pages, strict=True)}


@pytest.mark.parametrize("page", RUN)
def test_every_block_of_a_page_keeps_its_promise(page: str, played: dict[str, str]) -> None:
    assert played[page] == "", played[page]


def test_python_blocks_of_the_other_pages_are_python() -> None:
    for name in READ:
        page = DOCS / f"{name}.md"
        for block in re.findall(r"^```py(?:thon)?\n(.*?)^```", page.read_text() if page.is_file() else "", re.M | re.S):
            compile(block, page.name, "exec")


def test_most_blocks_run() -> None:
    blocks = [block for page in RUN for block in blocks_of(DOCS / page) if block.language != "text"]
    assert len(blocks) >= 40
    assert sum(block.reason is None for block in blocks) >= 0.8 * len(blocks)


def test_the_first_hour_writes_the_environment_of_the_examples() -> None:
    (block,) = [block for block in blocks_of(DOCS / "first-hour.md") if block.file == "parcels.py"]
    assert block.text == (ROOT / "examples" / "parcels.py").read_text()


def options() -> ModuleType:
    """docs/options.py, which writes the tables."""
    spec = importlib.util.spec_from_file_location("docs_options", DOCS / "options.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_of_options_are_those_of_the_code() -> None:
    """`python docs/options.py` writes them."""
    module = options()
    found = 0
    for page in DOCS.rglob("*.md"):
        text = page.read_text()
        found += len(module.PLACE.findall(text))
        assert module.written(text) == text, f"{page.name}: run `python docs/options.py`"
    assert found >= 20


def test_what_is_said_of_an_option_is_not_cut_at_a_colon() -> None:
    from palaestra.agents.conversation import Conversation
    from palaestra.trainers.policy_gradient import PolicyGradient

    told = options().told
    assert '"Thought: ... Action: ..."' in told(Conversation)["style",]
    assert told(Conversation)["style",].endswith("hold files).")
    assert "None: " in told(PolicyGradient)["batch",]


def test_every_method_has_a_page_and_every_key_of_its_own_stands_there() -> None:
    from palaestra.worldmodel.methods import METHODS

    for name, method in METHODS.items():
        page = (DOCS / "methods" / ("controls.md" if name == "best-of-k" else f"{name}.md")).read_text()
        place = f"<!-- options: {method.config_type.__module__}:{method.config_type.__name__} -->"
        assert place in page
        assert "What differs" in page or name == "best-of-k"


NUMBER = re.compile(r"\b\d{4}\.\d{5}\b")
PAPER = re.compile(r"^\| .*\| \[(\d{4}\.\d{5})\]\(https://arxiv.org/abs/(\d{4}\.\d{5})\) \| (.*) \|$", re.MULTILINE)


def test_every_paper_leads_to_files_that_name_it() -> None:
    rows = PAPER.findall((DOCS / "papers.md").read_text())
    assert len(rows) >= 30
    for shown, linked, files in rows:
        assert shown == linked
        found = [(DOCS / link).resolve() for link in re.findall(r"\]\((\.\./[^)]+)\)", files)]
        assert found, shown
        assert all(file.is_file() for file in found), (shown, files)
        assert any(shown in file.read_text() for file in found), f"no file of {shown} names it"


def test_every_paper_that_the_code_names_is_in_the_index() -> None:
    known = {shown for shown, _, _ in PAPER.findall((DOCS / "papers.md").read_text())}
    for file in (ROOT / "palaestra").rglob("*.py"):
        for number in re.findall(r"arXiv:? (\d{4}\.\d{5})", file.read_text()):
            assert number in known, f"{file.relative_to(ROOT)} names arXiv {number}; docs/papers.md does not"


class Outside(HTMLParser):
    """Collects what a page would fetch from other hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "source"):
            values = [value or "" for name, value in attrs if name in ("src", "href")]
            self.found += [value for value in values if value.startswith(("http:", "https:", "//"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: any warning fails."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_site_builds_strictly_with_every_page_in_it(site: Path) -> None:
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS)).with_suffix(".html").is_file()
    assert "EEFConfig" in (site / "source" / "palaestra" / "trainers" / "eef.py.txt").read_text()


def test_the_site_fetches_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        reader = Outside()
        reader.feed(page.read_text())
        assert reader.found == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", style.read_text()), style.name


def test_every_page_is_reached_from_the_first(site: Path) -> None:
    first = (site / "index.html").read_text()
    for page in DOCS.rglob("*.md"):
        assert f'href="{page.relative_to(DOCS).with_suffix(".html").as_posix()}"' in first or page.stem == "index"

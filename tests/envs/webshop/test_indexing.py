"""An index is the same whoever makes it and however much is held meanwhile, and of a failure nothing is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.envs import BadInput
from palaestra.envs.errors import EnvFault
from palaestra.envs.webshop import build, postings_writer
from palaestra.envs.webshop.build import index_of
from palaestra.envs.webshop.helper import Helper
from palaestra.envs.webshop.postings import PostingsReader
from palaestra.envs.webshop.postings_merge import merge
from palaestra.envs.webshop.postings_writer import PostingsWriter
from palaestra.envs.webshop.sources import Source
from palaestra.envs.webshop.stocking import Given, Made
from tests.envs.webshop.stock import record, write

SAID = {"attributes": ["clay"], "instruction": "a mug", "instruction_attributes": ["clay"]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "webshop"


@pytest.fixture
def helped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes help with every catalogue, eleven products at a time."""
    monkeypatch.setattr(build, "_helpers", lambda size: 2)
    monkeypatch.setattr(build, "_AT_A_TIME", 11)


def stock(folder: Path, count: int = 120) -> Path:
    """Products with common and rare words, in several scripts, some of them there twice."""
    rng = random.Random(2)
    words = [f"word{number}" for number in range(300)] + ["Größe", "women's", "字", "a\u202fb", "x" * 300, "\u0130"]
    records = [
        record(
            f"B{rng.randrange(10 * count)}",
            name=" ".join(rng.choices(words, k=9)),
            query=rng.choice(("mugs", "cups")),
            full_description=" ".join(words[min(int(rng.paretovariate(0.5)) - 1, 305)] for _ in range(40)),
        )
        for _ in range(count)
    ]
    return write(folder, records, {each["asin"]: SAID for each in records[::3]})


def content(built: Path) -> dict[str, bytes]:
    return {str(path.relative_to(built)): path.read_bytes() for path in built.rglob("*") if path.is_file()}


def test_an_index_is_the_same_with_and_without_helping_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helped: None
) -> None:
    source = Source.find(stock(tmp_path / "shop"))
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / "helped"))
    helped_by_two, _ = index_of(source)
    monkeypatch.setattr(build, "_helpers", lambda size: 0)
    for place, run in (("alone", 2_000_000), ("bit by bit", 100)):
        monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / place))
        monkeypatch.setattr(postings_writer, "RUN", run)
        assert content(index_of(source)[0]) == content(helped_by_two)
    assert not [path for path in helped_by_two.rglob("*") if path.is_dir() and path.name not in ("search", "facets")]


def test_processes_help_with_large_files_alone() -> None:
    assert build._helpers(1 << 20) == 0
    assert build._helpers(1 << 33) == (2 if len(os.sched_getaffinity(0)) > 1 else 0)


def test_where_no_process_can_help_the_index_is_built_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helped: None
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    built, _ = index_of(Source.find(stock(tmp_path / "shop")))
    assert (built / "complete.json").is_file()


@pytest.mark.parametrize(("wrong", "damaged"), [(70, None), (70, 100), (None, 100), (95, 96)])
def test_with_helping_processes_the_first_mistake_is_named_and_nothing_kept(
    wrong: int | None, damaged: int | None, tmp_path: Path, cache: Path, helped: None
) -> None:
    records = [record(f"B{number}") for number in range(120)]
    if wrong is not None:
        records[wrong - 1]["pricing"] = "free"
    folder = write(tmp_path / "shop", records)
    text = (folder / "items_shuffle.json").read_text()
    if damaged is not None:
        text = text.replace(f'"B{damaged - 1}"', "nothing")
        (folder / "items_shuffle.json").write_text(text)
    says = "holds no price" if wrong is not None else "Expecting value"
    with pytest.raises(BadInput, match=rf"items_shuffle\.json, line \d+: .*{says}.*\(product {wrong or damaged}\)"):
        index_of(Source.find(folder))
    assert [left.name for left in cache.iterdir()] == []


def test_when_a_helping_process_dies_it_is_a_fault_and_nothing_is_kept(
    tmp_path: Path, cache: Path, helped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Helper.make

    def die(helper: Helper, given: list[Given]) -> object:
        helper._process.send_signal(signal.SIGKILL)
        helper._process.wait()
        return ask(helper, given)

    monkeypatch.setattr(Helper, "make", die)
    source = Source.find(stock(tmp_path / "shop"))
    with pytest.raises(EnvFault, match="ended before its time; start again"):
        index_of(source)
    assert [left.name for left in cache.iterdir()] == []
    monkeypatch.setattr(Helper, "make", ask)
    assert (index_of(source)[0] / "complete.json").is_file()


def test_a_helping_process_ends_when_its_parent_does(tmp_path: Path) -> None:
    code = (
        "import os, pathlib; from palaestra.envs.webshop.helper import Helper\n"
        f"Helper(pathlib.Path({str(tmp_path / 'runs')!r})); print('started', flush=True); os._exit(0)"
    )
    # The helper writes its errors where its parent does, so this comes back when both have ended.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")


def test_what_goes_wrong_in_a_helping_process_is_told(tmp_path: Path) -> None:
    helper = Helper(tmp_path / "runs")
    try:
        wrong = Given(1, 1, 0, {"asin": "B1"}, None, None)
        made: Made = helper.make([wrong]).result()
        assert made.wrong == (1, 1, "'name' should be a text, is None")
        with pytest.raises(RuntimeError, match="AttributeError"):
            helper.make([wrong._replace(record=None)]).result()  # type: ignore[arg-type]
    finally:
        helper.close()


_TEXT = st.lists(st.sampled_from(["a", "b", "b'", "cc", "d\n", "é", "\ud800", "zz" * 40]), max_size=12)


@given(documents=st.lists(_TEXT, max_size=30), run=st.integers(1, 40), writers=st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_postings_are_those_of_the_documents_however_they_were_written(
    documents: list[list[str]], run: int, writers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("postings")
    before, postings_writer.RUN = postings_writer.RUN, run
    try:
        several = [PostingsWriter(folder / str(number), lambda part: [part]) for number in range(writers)]
        for number, parts in enumerate(documents):
            assert several[number % writers].add(number, parts) == len(parts)
        for writer in several:
            writer.flush()
        merge([place for writer in several for place in writer.runs], folder / "merged")
    finally:
        postings_writer.RUN = before
    reader = PostingsReader(folder / "merged")
    terms = {part for parts in documents for part in parts}
    assert len(reader) == len(terms)
    assert reader.get("no such term") is None
    for term in terms:
        found = reader.get(term)
        assert found is not None
        holding = [number for number, parts in enumerate(documents) if term in parts]
        assert found.documents.tolist() == holding
        assert found.counts.tolist() == [documents[number].count(term) for number in holding]


def test_more_occurrences_than_are_told_apart_count_as_the_most(tmp_path: Path) -> None:
    writer = PostingsWriter(tmp_path / "runs", lambda part: ["x"] * 70_000)
    assert writer.add(0, ["part"]) == 70_000
    writer.flush()
    merge(writer.runs, tmp_path / "merged")
    found = PostingsReader(tmp_path / "merged").get("x")
    assert found is not None
    assert (found.documents.tolist(), found.counts.tolist()) == ([0], [np.iinfo(np.uint16).max])

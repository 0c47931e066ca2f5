"""Nouns are found once: they are kept beside the index, for each tagger its own, and no title is tagged again."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from palaestra.envs.webshop import nouns as module
from palaestra.envs.webshop.catalogue import Catalogue
from palaestra.envs.webshop.env import open_shop
from palaestra.envs.webshop.frozen import freeze
from palaestra.envs.webshop.goals import Benchmark
from palaestra.envs.webshop.kept_nouns import KeptNouns
from palaestra.envs.webshop.nouns import Nouns
from tests.envs.webshop.stock import record, write

SAID = {"attributes": ["clay"], "instruction": "a mug", "instruction_attributes": ["clay"]}
GREEN, BLUE = "Green Mug", "Blue Cup"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / "cache"))
    open_shop.cache_clear()
    return tmp_path / "cache" / "webshop"


@pytest.fixture
def tagged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles that were tagged, by a tagger `model 1` that takes the last word for the only noun."""
    asked: list[str] = []

    def tag(titles: Sequence[str]) -> list[tuple[str, ...]]:
        asked.extend(titles)
        return [(title.lower().split()[-1],) for title in titles]

    monkeypatch.setattr(module, "_tagger", lambda: tag)
    monkeypatch.setattr(module, "_versions", lambda: "model 1")
    return asked


def stock(folder: Path) -> Path:
    """Two products, each with a goal."""
    return write(folder, [record("B1"), record("B2", name=BLUE)], {"B1": SAID, "B2": SAID})


def test_all_titles_are_tagged_when_a_catalogue_is_opened_and_never_again(tmp_path: Path, tagged: list[str]) -> None:
    folder = str(stock(tmp_path / "shop"))
    assert open_shop(folder).benchmark.nouns(GREEN) == ("mug",)
    assert sorted(tagged) == [BLUE, GREEN]
    open_shop.cache_clear()
    again = open_shop(folder, price_seed=3).benchmark.nouns
    assert (again(GREEN), again(BLUE)) == (("mug",), ("cup",))
    assert len(tagged) == 2


def test_in_a_large_catalogue_a_title_is_tagged_when_it_is_asked_for_once_for_all_processes(
    tmp_path: Path, tagged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palaestra.envs.webshop.env.TAGGED_AHEAD", 1)
    folder = str(stock(tmp_path / "shop"))
    shop = open_shop(folder)
    assert tagged == []
    assert [shop.benchmark.nouns(GREEN) for _ in range(3)] == [("mug",)] * 3
    assert Nouns(None, shop.catalogue.path)(GREEN) == ("mug",)
    assert tagged == [GREEN]


def test_what_another_tagger_found_is_completed_and_not_trusted(
    tmp_path: Path, tagged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(stock(tmp_path / "shop"))
    first = open_shop(folder)
    monkeypatch.setattr(module, "_versions", lambda: "model 2")
    monkeypatch.setattr(module, "_tagger", lambda: lambda titles: [("newer",) for _ in titles])
    open_shop.cache_clear()
    assert open_shop(folder).benchmark.nouns(GREEN) == ("newer",)
    assert first.benchmark.nouns(GREEN) == ("mug",)
    assert len(list((first.catalogue.path / "nouns").glob("*.sqlite"))) == 2


def test_an_index_made_without_a_tagger_is_completed_when_there_is_one(
    tmp_path: Path, tagged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(stock(tmp_path / "shop"))
    with monkeypatch.context() as without:
        without.setattr(module, "_versions", lambda: None)
        without.setattr(module, "_tagger", lambda: lambda titles: [module.plain_nouns(title) for title in titles])
        shop = open_shop(folder)
        assert shop.benchmark.nouns(GREEN) == ("green", "mug")
        assert not (shop.catalogue.path / "nouns").exists()
    open_shop.cache_clear()
    assert open_shop(folder).benchmark.nouns(GREEN) == ("mug",)
    assert sorted(tagged) == [BLUE, GREEN]


def test_a_process_that_was_killed_while_tagging_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tagged: list[str]
) -> None:
    opened = Catalogue.open(stock(tmp_path / "shop"))
    KeptNouns(opened.path / "nouns", "model 1").put([(GREEN, ("kept",))])
    shop = open_shop(str(tmp_path / "shop"))
    assert (shop.benchmark.nouns(GREEN), shop.benchmark.nouns(BLUE)) == (("kept",), ("cup",))
    assert tagged == [BLUE]


def test_nouns_that_were_handed_in_win_and_spare_the_tagger(tmp_path: Path, tagged: list[str]) -> None:
    opened = Catalogue.open(stock(tmp_path / "shop"))
    freeze(tmp_path / "frozen", opened)
    nouns = tmp_path / "frozen" / "nouns.jsonl"
    (tmp_path / "frozen" / "frozen.json").unlink()
    nouns.write_text("".join(f"{json.dumps({'name': name, 'nouns': ['given']})}\n" for name in (GREEN, BLUE)))
    tagged.clear()
    shop = open_shop(str(tmp_path / "shop"), str(tmp_path / "frozen"))
    assert (shop.benchmark.nouns(GREEN), shop.benchmark.nouns.tagger) == (("given",), "given")
    nouns.write_text(json.dumps({"name": BLUE, "nouns": ["given"]}))
    some = Benchmark.load(tmp_path / "frozen", opened).nouns
    assert dict(some.each([BLUE, GREEN, BLUE])) == {BLUE: ("given",), GREEN: ("mug",)}
    assert tagged == []  # what `freeze` found was kept


def other_table(path: Path) -> None:
    """Still a database that says it is complete, but not of ours."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript("DROP TABLE kept; CREATE TABLE kept (a)")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"no database at all, but long enough to be looked into" * 99),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(path.read_bytes().replace(b'["mug"]', b'["cat"]')),
        lambda path: path.write_bytes(b""),
        other_table,
    ],
)
def test_damaged_nouns_are_found_anew(damage: Callable[[Path], object], tmp_path: Path, tagged: list[str]) -> None:
    folder = str(stock(tmp_path / "shop"))
    shop = open_shop(folder)
    (kept,) = (shop.catalogue.path / "nouns").glob("*.sqlite")
    damage(kept)
    open_shop.cache_clear()
    nouns = open_shop(folder).benchmark.nouns
    assert (nouns(GREEN), nouns(BLUE)) == (("mug",), ("cup",))
    assert tagged.count(GREEN) == 2
    assert KeptNouns(kept.parent, "model 1").get([GREEN, BLUE]) == {GREEN: ("mug",), BLUE: ("cup",)}


def test_where_nothing_can_be_kept_titles_are_tagged_all_the_same(tmp_path: Path, tagged: list[str]) -> None:
    opened = Catalogue.open(stock(tmp_path / "shop"))
    (opened.path / "nouns").write_text("a file where the folder would be")
    shop = open_shop(str(tmp_path / "shop"))
    assert tagged == []  # tagging all of them would be in vain
    assert (shop.benchmark.nouns(GREEN), shop.benchmark.nouns(BLUE)) == (("mug",), ("cup",))


def test_half_a_batch_is_never_kept(tmp_path: Path) -> None:
    kept = KeptNouns(tmp_path / "nouns", "model 1")

    def failing() -> object:
        yield GREEN, ("mug",)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.put(failing())  # type: ignore[arg-type]
    kept.put([(BLUE, ("cup",))])
    assert kept.get([GREEN, BLUE]) == {BLUE: ("cup",)}
    assert not kept.complete
    with sqlite3.connect(kept.path) as database:
        assert database.execute("SELECT count(*) FROM kept").fetchone() == (1,)


def test_titles_tagged_together_get_the_nouns_that_each_gets_alone() -> None:
    titles = [product.title for product in Catalogue.open("webshop")][:60]
    tag = module._tagger()
    assert tag(titles) == [found for title in titles for found in tag([title])]


def test_once_the_nouns_are_kept_nothing_loads_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the cache that all tests share
    open_shop("webshop")
    code = (
        "import sys; from palaestra.envs import make; from palaestra.envs.webshop.oracle import target\n"
        "env = make('webshop'); env.reset(options={'task': 'webshop-synthetic/0'})\n"
        "print(env.fingerprint().partition(' nouns ')[2])\n"
        "over = False\n"
        "while not over:\n"
        "    *_, over, _, info = env.step(target(env))\n"
        "print(info['score'], 'spacy' in sys.modules, env.shop.benchmark.nouns.tagger)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = done.stdout.split("\n")
    assert told[1] == f"1.0 False {told[0]}"
    assert told[0] == "words" or told[0].startswith("spacy en_core_web_sm ")

"""Goals, prices and nouns are the original's: drawn from a seed, or frozen and handed in."""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palaestra.cli import run
from palaestra.envs import BadInput
from palaestra.envs.webshop import OFFICIAL_GOALS, SMALL_GOALS
from palaestra.envs.webshop.catalogue import Catalogue
from palaestra.envs.webshop.frozen import freeze
from palaestra.envs.webshop.goals import NO_CEILING, Benchmark, Goal, Kind
from palaestra.envs.webshop.nouns import Nouns, _spacy_tagger, plain_nouns
from palaestra.envs.webshop.protocols import PROTOCOLS, protocol, split_ranges
from tests.envs.webshop.stock import record, write


@pytest.fixture(scope="module")
def shop() -> Catalogue:
    """The official 1,000 products."""
    return Catalogue.open("webshop")


@pytest.fixture(scope="module")
def small() -> Catalogue:
    """Our own catalogue."""
    return Catalogue.open()


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


@pytest.mark.parametrize(
    ("kind", "count", "original"),
    [
        ("synthetic", OFFICIAL_GOALS, "69ce66136a526b0c6f2f1f93184a608f"),
        ("human", 13, "c351e31c8c3a5db48d4399e1f6dac724"),
    ],
)
def test_goals_drawn_from_a_seed_are_the_original_s_byte_for_byte(
    kind: str, count: int, original: str, shop: Catalogue
) -> None:
    """The hashes are of the goal dicts that the original holds after random.seed(1) and loading, one JSON a line."""
    goals = Benchmark.draw(shop, 1, kind).goals
    assert len(goals) == count
    text = lines([goal.record() for goal in goals])
    assert hashlib.sha256(text.encode()).hexdigest()[:32] == original


def test_prices_drawn_from_a_seed_are_the_original_s(shop: Catalogue) -> None:
    price = Benchmark.draw(shop, 1).price
    text = lines([{"asin": product.asin, "price": price(product.asin)} for product in shop])
    assert hashlib.sha256(text.encode()).hexdigest()[:32] == "e24e7c75be1f27ba7244717ebc6bb0e7"
    with pytest.raises(KeyError):
        price("B0")


def test_a_synthetic_goal_is_made_for_every_combination_of_options(tmp_path: Path) -> None:
    options = {name: [{"value": value} for value in values] for name, values in {"Size": "SM", "Color": "RG"}.items()}
    said = {"B1": {"attributes": ["clay"], "instruction": "Find a mug", "instruction_attributes": ["clay"]}}
    opened = Catalogue.open(write(tmp_path / "shop", [record("B1", customization_options=options)], said))
    goals = Benchmark.draw(opened).goals
    assert sorted(tuple(goal.option_list) for goal in goals) == [
        (("color", color), ("size", size)) for color in "gr" for size in "ms"
    ]
    first = goals[0]
    chosen = ", and ".join(f"{name}: {value}" for name, value in first.option_list)
    assert first.instruction == f"Find a mug with {chosen}, and price lower than {first.price_upper:.2f} dollars"
    assert (first.attributes, first.weight, first.kind) == (("clay",), 0.25, Kind.SYNTHETIC)


@pytest.mark.parametrize(("pricing", "ceilings"), [("$5.50", {20.0, 30.0, 40.0}), ("$985", {NO_CEILING})])
def test_ceilings_lie_above_the_price_where_there_is_room(pricing: str, ceilings: set[float], tmp_path: Path) -> None:
    human = {"B1": [{"instruction": "a mug.", "instruction_attributes": ["clay"], "instruction_options": ["red"]}]}
    opened = Catalogue.open(write(tmp_path / "shop", [record("B1", pricing=pricing)], None, human))
    drawn = [Benchmark.draw(opened, seed, "human").goals[0] for seed in range(40)]
    assert {goal.price_upper for goal in drawn} == ceilings
    assert drawn[0].instruction.startswith("a mug, and price" if NO_CEILING not in ceilings else "a mug")
    assert (drawn[0].option_list, drawn[0].kind) == (("red",), Kind.HUMAN)


def test_human_instructions_without_attributes_are_passed_over(tmp_path: Path) -> None:
    said = [
        {"instruction": f"mug {n}", "instruction_attributes": ["clay"] * n, "instruction_options": []} for n in (0, 1)
    ]
    opened = Catalogue.open(write(tmp_path / "shop", [record("B1")], None, {"B1": said}))
    assert [goal.attributes for goal in Benchmark.draw(opened, 0, "human").goals] == [("clay",)]


def test_a_seed_draws_the_same_benchmark_each_time_and_another_seed_another(small: Catalogue) -> None:
    one, same, other = (Benchmark.draw(small, seed) for seed in (3, 3, 4))
    assert list(one.goals) == list(same.goals) != list(other.goals)
    assert [goal.asin for goal in one.goals] == [goal.asin for goal in other.goals]  # the order is not drawn
    assert (one.name, other.name) == ("synthetic seed 3", "synthetic seed 4")
    assert one.goals[2:5] == [one.goals[2], one.goals[3], one.goals[4]]
    assert one.goals[-1] == one.goals[len(one.goals) - 1]


def test_the_small_catalogue_has_the_goals_that_are_registered(small: Catalogue) -> None:
    assert len(Benchmark.draw(small).goals) == SMALL_GOALS
    assert len(Benchmark.draw(small, 0, "human").goals) == 40
    assert Benchmark.draw(small).nouns.tagger == "given"


# -- frozen --------------------------------------------------------------------------------------------------------


def test_a_frozen_benchmark_gives_back_what_was_frozen(small: Catalogue, tmp_path: Path) -> None:
    folder = tmp_path / "frozen"
    written = freeze(folder, small, 7)
    assert sorted(path.name for path in written) == sorted(path.name for path in folder.iterdir())
    for kind in Kind:
        drawn, loaded = Benchmark.draw(small, 7, kind), Benchmark.load(folder, small, kind)
        assert list(loaded.goals) == list(drawn.goals)
        assert all(loaded.price(product.asin) == drawn.price(product.asin) for product in small)
        assert all(loaded.nouns(product.title) == drawn.nouns(product.title) for product in small)
        assert loaded.name.startswith(f"{kind} frozen ")
        assert loaded.nouns.tagger == "given"
    with pytest.raises(BadInput, match="is not empty"):
        freeze(folder, small, 8)


def test_the_command_line_freezes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "frozen"
    assert run(["data", "freeze", "webshop", "--catalogue", "small", "--seed", "2", "--out", str(folder)]) == 0
    assert "goals_synthetic.jsonl" in capsys.readouterr().out
    assert json.loads((folder / "frozen.json").read_text())["seed"] == 2
    assert run(["data", "freeze", "alfworld", "--out", str(tmp_path / "other")]) == 2
    capsys.readouterr()
    for chosen, told in (
        (["--catalogue", "small", "--seed", "-3"], "from 0 on, got -3"),
        (["--catalogue", "nope"], "there is no catalogue 'nope'"),
        (["--catalogue", "small", "--out", "/dev/null/x"], "/dev/null/x"),
    ):
        assert run(["data", "freeze", "webshop", "--out", str(tmp_path / "other"), *chosen]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
    assert not (tmp_path / "other").exists()


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes | None], str]] = {
    "cut off in a line": ("nouns.jsonl", lambda whole: whole[:-10], r"nouns\.jsonl has 119 whole lines, .* says 120"),
    "cut off between lines": (
        "prices.jsonl",
        lambda whole: whole[: whole.rindex(b"\n", 0, -1) + 1],
        r"prices\.jsonl has 119 whole lines, frozen\.json says 120",
    ),
    "missing": ("nouns.jsonl", lambda whole: None, r"has no nouns\.jsonl, which its frozen\.json names"),
    "changed": ("prices.jsonl", lambda whole: whole.replace(b"1", b"2", 1), r"prices\.jsonl was changed"),
    "added": ("more_goals.jsonl", lambda whole: b"", r"has a file more_goals\.jsonl, which its frozen\.json does not"),
    "no record": ("frozen.json", lambda whole: whole[:-10], r"frozen\.json cannot be read"),
    "another record": ("frozen.json", lambda whole: b'{"files": [1]}', r"frozen\.json cannot be read"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_frozen_folder_that_is_not_what_was_written_is_refused(case: str, small: Catalogue, tmp_path: Path) -> None:
    file, damage, says = DAMAGES[case]
    folder = tmp_path / "frozen"
    freeze(folder, small, 1, [Kind.SYNTHETIC])
    place = folder / file
    damaged = damage(place.read_bytes() if place.exists() else b"")
    place.unlink(missing_ok=True)
    if damaged is not None:
        place.write_bytes(damaged)
    with pytest.raises(BadInput, match=says) as raised:
        Benchmark.load(folder, small)
    assert "\n" not in str(raised.value)
    assert "delete frozen.json" in str(raised.value)


def test_frozen_files_may_be_packed_afterwards(small: Catalogue, tmp_path: Path) -> None:
    folder = tmp_path / "frozen"
    freeze(folder, small, 1)
    before = Benchmark.load(folder, small).name
    plain = folder / "goals_synthetic.jsonl"
    (folder / "goals_synthetic.jsonl.xz").write_bytes(lzma.compress(plain.read_bytes()))
    plain.unlink()
    assert Benchmark.load(folder, small).name == before


def test_a_freeze_that_fails_half_way_leaves_nothing(
    small: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "frozen").mkdir()  # an empty one may be there
    with monkeypatch.context() as patched:
        patched.setattr("palaestra.envs.webshop.frozen.write_whole", full)
        with pytest.raises(BadInput, match="cannot be written: No space left") as raised:
            freeze(tmp_path / "frozen", small)
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["frozen"]
    assert freeze(tmp_path / "frozen", small)


def handed_in(folder: Path, **files: str) -> Path:
    """A folder of frozen files: two goals and a price for each, or what `files` says instead ("" for no file)."""
    folder.mkdir()
    goals = [goal("B1", {"color": "red"}), goal("B2", ["red", "large"])]
    texts = {
        "goals": lines(goals),
        "prices": lines([{"asin": asin, "price": 5.5} for asin in ("B1", "B2")]),
        "nouns": lines([{"name": "Green Mug", "nouns": ["mug"]}]),
        **files,
    }
    for name, text in texts.items():
        if text:
            (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def goal(asin: str, options: Any, **fields: Any) -> dict[str, object]:
    return {
        "asin": asin,
        "category": "garden",
        "query": "mugs",
        "name": "Green Mug",
        "product_category": "Home",
        "instruction_text": "Find a mug",
        "attributes": ["clay"],
        "price_upper": 20.0,
        "goal_options": options,
        **fields,
    }


@pytest.fixture
def two(tmp_path: Path) -> Catalogue:
    """A catalogue of two mugs."""
    return Catalogue.open(write(tmp_path / "shop", [record("B1"), record("B2", name="Blue Mug")]))


def test_one_file_may_hold_goals_of_both_kinds(two: Catalogue, tmp_path: Path) -> None:
    folder = handed_in(tmp_path / "frozen")
    assert [each.option_list for each in Benchmark.load(folder, two, "synthetic").goals] == [(("color", "red"),)]
    assert [each.option_list for each in Benchmark.load(folder, two, "human").goals] == [("red", "large")]
    assert Benchmark.load(folder, two, "human").nouns("Green Mug") == ("mug",)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("prices", '{"B1": 5.5, "B2": 5.5}\n'),
        ("prices", '["B1", 5.5]\n\n["B2", 5.5]\n'),
        ("nouns", '{"asin": "B1", "nouns": ["mug"]}'),
        ("nouns", '{"title": "Green Mug", "nouns": ["mug"]}'),
        ("nouns", '{"Green Mug": ["mug"]}\n'),
    ],
)
def test_other_forms_of_the_same_lines_are_understood(file: str, text: str, two: Catalogue, tmp_path: Path) -> None:
    plain = Benchmark.load(handed_in(tmp_path / "plain"), two)
    other = Benchmark.load(handed_in(tmp_path / "other", **{file: text}), two)
    assert list(other.goals) == list(plain.goals)
    assert (other.price("B1"), other.nouns("Green Mug")) == (plain.price("B1"), plain.nouns("Green Mug"))


def test_the_name_of_a_file_says_the_kind_and_files_may_be_packed(two: Catalogue, tmp_path: Path) -> None:
    folder = handed_in(tmp_path / "frozen", goals="")
    (folder / "synthetic_goals.jsonl").write_text(lines([goal("B1", [])]))
    (folder / "human_goals.jsonl.xz").write_bytes(lzma.compress(lines([goal("B2", [])]).encode()))
    assert [(each.asin, each.kind) for each in Benchmark.load(folder, two, "synthetic").goals] == [
        ("B1", Kind.SYNTHETIC)
    ]
    assert [(each.asin, each.kind) for each in Benchmark.load(folder, two, "human").goals] == [("B2", Kind.HUMAN)]


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "half a line": ({"goals": lines([goal("B1", {})]) + '{"asin": "B'}, r"goals\.jsonl, line 2: no JSON"),
    "no object": ({"goals": "[1]\n"}, r"goals\.jsonl, line 1: a goal should be an object"),
    "unknown product": ({"goals": lines([goal("B7", {})])}, r"goals\.jsonl, line 1: .* has no product 'B7'"),
    "no instruction": (
        {"goals": lines([goal("B1", {}, instruction_text=None)])},
        "line 1: 'instruction_text' should be",
    ),
    "no attributes": ({"goals": lines([goal("B1", {}, attributes=[])])}, "line 1: 'attributes' should be a list"),
    "ceiling": ({"goals": lines([goal("B1", {}, price_upper="20")])}, "line 1: 'price_upper' should be a number"),
    "options": ({"goals": lines([goal("B1", {"size": 3})])}, "line 1: 'goal_options' should be an object"),
    "no goals": ({"goals": ""}, "holds no goals"),
    "no prices": ({"prices": ""}, "holds no prices"),
    "price of nothing": ({"prices": '{"asin": "B7", "price": 1}'}, r"prices\.jsonl, line 1: .* has no product 'B7'"),
    "no number": ({"prices": '{"asin": "B1", "price": NaN}'}, r"prices\.jsonl, line 1: 'price' should be a number"),
    "not all prices": ({"prices": '{"asin": "B2", "price": 1}'}, r"prices\.jsonl has no price of B1"),
    "no price of a product that is no goal": (
        {"goals": lines([goal("B1", {})]), "prices": '{"asin": "B1", "price": 1}'},
        r"prices\.jsonl has no price of B2; every product",
    ),
    "nested too deeply": ({"goals": lines([goal("B1", {})]) + "[" * 200_000}, r"goals\.jsonl, line 2: nested too"),
    "a number without end": ({"prices": f'{{"B1": {"9" * 5000}}}'}, r"prices\.jsonl, line 1: a number has thousands"),
    "ceiling without end": ({"goals": lines([goal("B1", {}, price_upper=10**400)])}, r"line 1: 'price_upper' should"),
    "negative price": (
        {"prices": '\n{"asin": "B1", "price": -1}'},
        r"prices\.jsonl, line 2: 'price' should be a number",
    ),
    "half a surrogate pair": (
        {"goals": lines([goal("B1", {})]) + json.dumps(goal("B1", {}, instruction_text="\ud800"))},
        r"goals\.jsonl, line 2: a text holds half",
    ),
    "no nouns": ({"nouns": '\n{"name": "x", "nouns": "mug"}'}, r"nouns\.jsonl, line 2: 'nouns' should be a list"),
    "no name": ({"nouns": '{"nouns": ["mug"]}'}, r"nouns\.jsonl, line 1: should hold 'name' and 'nouns'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_frozen_file_is_one_line_with_file_and_line(case: str, two: Catalogue, tmp_path: Path) -> None:
    files, says = WRONG[case]
    with pytest.raises(BadInput, match=says) as raised:
        Benchmark.load(handed_in(tmp_path / "frozen", **files), two, "synthetic")
    assert "\n" not in str(raised.value)


def test_a_frozen_file_that_is_cut_off_is_named_and_nothing_is_to_be_fetched(two: Catalogue, tmp_path: Path) -> None:
    folder = handed_in(tmp_path / "frozen", goals="")
    (folder / "goals.jsonl.xz").write_bytes(lzma.compress(lines([goal("B1", {})]).encode())[:-20])
    with pytest.raises(BadInput, match=r"goals\.jsonl\.xz cannot be read") as raised:
        Benchmark.load(folder, two)
    assert "data get" not in str(raised.value)


def test_a_folder_that_is_not_there_and_a_kind_that_is_none_are_said(two: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="palaestra data freeze webshop"):
        Benchmark.load(tmp_path / "nowhere", two)
    with pytest.raises(BadInput, match="no goals 'robot'; it has: synthetic, human"):
        Benchmark.draw(two, 0, "robot")


# -- nouns ---------------------------------------------------------------------------------------------------------


def test_nouns_that_were_handed_in_are_taken_as_they_are() -> None:
    nouns = Nouns({"Green Mug": ("mug", "mug")})
    assert (nouns("Green Mug"), nouns.tagger) == (("mug", "mug"), "given")


def test_without_a_tagger_words_count_that_are_no_numbers_and_no_little_words() -> None:
    title = "The 2 Pack of Women's Easy-Care Mugs, 12oz, for Tea & Coffee (Green)"
    assert plain_nouns(title) == ("pack", "women's", "easy-care", "mugs", "tea", "coffee", "green")


def test_spacy_s_nouns_are_lower_case_in_order_and_with_repetitions(tmp_path: Path) -> None:
    import spacy

    model = spacy.blank("en")
    tags: Callable[..., Any] = model.add_pipe("attribute_ruler").add  # type: ignore[attr-defined]
    for word, tag in (("Mug", "NOUN"), ("Acme", "PROPN"), ("Green", "ADJ")):
        tags(patterns=[[{"ORTH": word}]], attrs={"POS": tag})
    model.to_disk(tmp_path / "model")
    assert _spacy_tagger(str(tmp_path / "model"))(["Acme Green Mug Mug set"]) == [("acme", "mug", "mug")]


# -- splits and protocols ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "test", "dev"), [(12_087, 500, 1000), (6910, 500, 1000), (3000, 500, 1000), (2999, 599, 599), (13, 2, 2)]
)
def test_splits_are_the_original_s_ranges_or_fifths(count: int, test: int, dev: int) -> None:
    splits = split_ranges(count)
    assert [len(splits[split]) for split in ("test", "dev", "train")] == [test, dev, count - test - dev]
    assert [*splits["test"], *splits["dev"], *splits["train"]] == list(range(count))
    assert next(iter(splits)) == "train"


def test_protocols_name_goals_and_step_caps() -> None:
    said = {name: (protocol(name).kind, protocol(name).max_steps) for name in PROTOCOLS}
    assert said == {"original": ("human", 100), "eto": ("human", 10), "agentgym": ("synthetic", 10)}
    assert protocol("original").splits(12_087)["dev"] == range(500, 1500)
    with pytest.raises(BadInput, match="no protocol 'webarena'; it has: original, eto, agentgym"):
        protocol("webarena")


def test_a_goal_goes_back_to_the_original_s_dict() -> None:
    made = Goal("B1", "garden", "mugs", "Green Mug", "Home", "Find a mug", ("clay",), 20.0, {"color": "red"}, 0.5)
    assert made.record() == goal("B1", {"color": "red"}, weight=0.5)

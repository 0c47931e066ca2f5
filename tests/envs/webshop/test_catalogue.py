"""The catalogue reads the official formats as the original's loader does, and keeps nothing of a damaged file."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.envs import BadInput
from palaestra.envs.webshop import json_stream, postings_writer
from palaestra.envs.webshop.build import index_of
from palaestra.envs.webshop.catalogue import Catalogue, Product
from palaestra.envs.webshop.json_stream import elements, members
from palaestra.envs.webshop.product import BadRecord, pack, read, unpack
from palaestra.envs.webshop.small import make
from palaestra.envs.webshop.sources import Source
from tests.envs.webshop.stock import record, write

SAID = {"attributes": ["clay"], "instruction": "a mug", "instruction_attributes": ["clay"]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "webshop"


def test_a_record_becomes_the_product_that_the_original_makes_of_it() -> None:
    assert read(record(), ["clay"]) == Product(
        asin="B000000001",
        title="Green Mug",
        description="Holds tea.",
        bullet_points=("Dishwasher safe", "Made of clay"),
        category="garden",
        query="mugs",
        product_category="Home › Kitchen › Mugs",
        pricing=(5.5,),
        price_tag="$5.5",
        options={"color": ("dark | green",)},
        option_images={"dark | green": "g.jpg"},
        attributes=("clay",),
        images=("a.jpg", "b.jpg"),
        rating="N.A.",
        reviews=(),
    )


@pytest.mark.parametrize(
    ("pricing", "prices", "tag"),
    [
        ("", (100.0,), "$100.0"),
        (None, (100.0,), "$100.0"),
        ("$1,299.00", (1299.0,), "$1299.0"),
        ("$5.99 - $12.50", (5.99, 12.5), "$5.99 to $12.5"),
        ("$5$6$7", (5.0, 6.0), "$5.0 to $6.0"),
    ],
)
def test_prices_are_read_as_the_original_reads_them(pricing: Any, prices: tuple[float, ...], tag: str) -> None:
    product = read(record(pricing=pricing), None)
    assert (product.pricing, product.price_tag, product.attributes) == (prices, tag, ("DUMMY_ATTR",))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": None}, "'name' should be a text"),
        ({"pricing": "$"}, "'pricing' cannot be read"),
        ({"pricing": "free"}, "'pricing' holds no price"),
        ({"pricing": 5}, "'pricing' should be a text"),
        ({"small_description": [1]}, "'small_description' should hold texts"),
        ({"customization_options": [1]}, "'customization_options' should be an object"),
        ({"pricing": 0}, "'pricing' should be a text, is 0"),
        ({"pricing": []}, "'pricing' should be a text"),
        ({"small_description": {}}, "'small_description' should hold texts"),
        ({"small_description": 0}, "'small_description' should hold texts"),
        ({"images": "a.jpg"}, "'images' should be a list, is 'a.jpg'"),
        ({"images": {}}, "'images' should be a list"),
        ({"images": ["a.jpg", 3]}, "'images' should hold texts, holds 3"),
        ({"customization_options": 0}, "'customization_options' should be an object"),
        ({"customization_options": False}, "'customization_options' should be an object"),
        ({"customization_options": {"Size": "small"}}, "'option Size' should be a list, is 'small'"),
        ({"customization_options": {"Size": {}}}, "'option Size' should be a list"),
        ({"customization_options": {"Size": [{"value": 3}]}}, "no text as its 'value'"),
        ({"customization_options": {"Size": [{"value": "s", "image": 3}]}}, "the 'image' of an option of 'Size'"),
    ],
)
def test_a_record_that_cannot_be_understood_says_why(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRecord, match=says):
        read(record(**fields), None)


@pytest.mark.parametrize(
    ("fields", "attribute", "found"),
    [
        ({"images": None}, "images", ()),
        ({"images": [None, "a.jpg"]}, "images", ("a.jpg",)),
        ({"small_description": None}, "bullet_points", ("",)),
        ({"small_description": ""}, "bullet_points", ("",)),
        ({"small_description": []}, "bullet_points", ()),
        ({"customization_options": ""}, "options", {}),
        ({"customization_options": None}, "options", {}),
        ({"customization_options": {"Size": None}}, "options", {}),
    ],
)
def test_what_official_files_leave_empty_is_empty(fields: dict[str, Any], attribute: str, found: object) -> None:
    assert getattr(read(record(**fields), None), attribute) == found


def test_products_are_found_by_number_and_keep_their_order(tmp_path: Path) -> None:
    asins = ["B9", "B1", "nan", "B5", "B1", "B12345678901", "b1"]
    records = [record(asin, name=f"Mug {place}") for place, asin in enumerate(asins)]
    shop = Catalogue.open(write(tmp_path / "shop", records))
    assert [(product.asin, product.title) for product in shop] == [
        ("B9", "Mug 0"),
        ("B1", "Mug 1"),
        ("B5", "Mug 3"),
        ("b1", "Mug 6"),
    ]
    assert shop.product("B5").title == "Mug 3"
    assert "B5" in shop
    assert not any(other in shop for other in ("", "B", "B55", "nan", "B12345678901", "B5\0", "Ü", 5))
    with pytest.raises(KeyError, match="B2"):
        shop.product("B2")


def test_plain_and_packed_files_give_the_same_catalogue(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", [record(), record("B2")])
    text = (plain / "items_shuffle.json").read_bytes()
    packed = {"xz": lzma.compress(text), "gz": gzip.compress(text)}
    for ending, content in packed.items():
        (tmp_path / ending).mkdir()
        (tmp_path / ending / f"items_shuffle.json.{ending}").write_bytes(content)
        assert list(Catalogue.open(tmp_path / ending)) == list(Catalogue.open(plain))


def test_an_index_is_built_once_and_again_when_a_file_changes(tmp_path: Path, cache: Path) -> None:
    folder = write(tmp_path / "shop", [record()])
    first, _ = index_of(Source.find(folder))
    made = (first / "complete.json").stat().st_mtime_ns
    again, _ = index_of(Source.find(folder))
    assert again == first
    assert (first / "complete.json").stat().st_mtime_ns == made
    write(folder, [record(name="Blue Mug")])
    assert Catalogue.open(folder).product("B000000001").title == "Blue Mug"


def test_an_index_that_a_killed_process_left_behind_is_built_anew(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop", [record()])
    built, content = index_of(Source.find(folder))
    half = built.with_name(f".{content}")
    built.rename(half)
    (half / "complete.json").unlink()
    assert len(Catalogue.open(folder)) == 1
    assert not half.exists()
    assert [path.name for path in built.parent.iterdir()] == [content]  # no lock either


@pytest.mark.parametrize("file", ["products", "search/terms.txt", "instructions.jsonl", "complete.json"])
def test_an_index_that_was_cut_off_later_is_built_anew(file: str, tmp_path: Path) -> None:
    source = Source.find(write(tmp_path / "shop", [record()]))
    built, _ = index_of(source)
    whole = {path.relative_to(built): path.read_bytes() for path in built.rglob("*") if path.is_file()}
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:-1]), Path.unlink):
        (built / file).write_bytes(whole[Path(file)] + b"{}")
        damage(built / file)
        assert index_of(source)[0] == built
        assert {path.relative_to(built): path.read_bytes() for path in built.rglob("*") if path.is_file()} == whole
    assert Catalogue.open(tmp_path / "shop").product("B000000001").title == "Green Mug"


@pytest.mark.parametrize("file", ["products", "products.ends", "instructions.jsonl", "search/documents", "asins"])
def test_an_index_that_was_damaged_later_is_built_anew(file: str, tmp_path: Path) -> None:
    source = Source.find(write(tmp_path / "shop", [record()], {"B000000001": SAID}))
    built, _ = index_of(source)
    whole = (built / file).read_bytes()
    (built / file).write_bytes(whole[:-1] + bytes([whole[-1] ^ 255]))
    assert index_of(source)[0] == built
    assert (built / file).read_bytes() == whole


def test_damage_to_an_index_too_large_to_be_compared_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palaestra.envs.webshop.build._CHECKED", 0)
    folder = write(tmp_path / "shop", [record()], {"B000000001": SAID})
    built, _ = index_of(Source.find(folder))
    for file, use in (
        ("products", lambda shop: shop.at(0)),
        ("instructions.jsonl", lambda shop: list(shop.told())),
        ("instructions.jsonl", lambda shop: shop.told_at(0)),
    ):
        whole = (built / file).read_bytes()
        (built / file).write_bytes(b"\xff" * len(whole))
        with pytest.raises(BadInput, match=r"is damaged .*; delete this folder, and it will be built again") as raised:
            use(Catalogue.open(folder))
        assert str(built) in str(raised.value)
        assert "\n" not in str(raised.value)
        (built / file).write_bytes(whole)


@pytest.mark.parametrize("cache_place", ["/proc/nope", "/dev/null"])
def test_a_cache_that_cannot_be_written_is_one_line_and_the_small_catalogue_works_all_the_same(
    cache_place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALAESTRA_CACHE", cache_place)
    with pytest.raises(BadInput, match="set PALAESTRA_CACHE to a folder that can be written") as raised:
        Catalogue.open(write(tmp_path / "shop", [record()]))
    assert "\n" not in str(raised.value)
    assert cache_place in str(raised.value)
    shop = Catalogue.open("small")
    assert shop.product(shop.asin(0)).title
    assert shop.search("mug lamp")
    assert not shop.path.is_relative_to(cache_place)


def test_the_temporary_index_of_the_small_catalogue_goes_with_the_process(tmp_path: Path) -> None:
    code = "from palaestra.envs.webshop.catalogue import Catalogue; print(Catalogue.open('small').path)"
    environment = {**os.environ, "PALAESTRA_CACHE": "/dev/null", "TMPDIR": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert Path(told.stdout.strip()).is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_processes_that_want_the_same_index_at_once_all_get_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop", [record(f"B{number}") for number in range(300)])
    code = f"from palaestra.envs.webshop.catalogue import Catalogue; print(len(Catalogue.open({str(folder)!r})))"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in running] == ["300"] * 3


def _second(found: str, instead: str) -> Callable[[str], str]:
    """Replaces what stands in the second product."""
    return lambda text: instead.join(text.rsplit(found, 1))


DAMAGED: dict[str, tuple[Callable[[str], str], int, str]] = {
    "cut off in a product": (lambda text: text[: text.index("Blue") + 2], 29, "ends in the middle"),
    "cut off before an option": (lambda text: text[: text.rindex("{")], 45, "ends in the middle"),
    "a comma is missing": (lambda text: text.replace('"Blue Mug",', '"Blue Mug"'), 30, "Expecting ',' delimiter"),
    "a letter too many": (lambda text: text.replace('"B2"', "'B2'"), 28, "Expecting value"),
    "more behind the end": (lambda text: text + "x", 52, "there is more behind the end"),
    "an object instead": (lambda text: "{}", 1, "a JSON array expected"),
    "empty": (lambda text: "", 1, "ends where a JSON array should be"),
    "nested too deeply": (lambda text: "[\n" + "[" * 200_000, 2, "nested too deeply"),
    "objects nested too deeply": (lambda text: text.replace('"Blue Mug"', '{"a":' * 100_000), 27, "nested too deeply"),
    "a number without end": (lambda text: text.replace('"Blue Mug"', "9" * 5000), 27, "thousands of digits"),
    "half of a surrogate pair in a number": (lambda text: text.replace('"B2"', '"B\\ud800"'), 27, "'asin' should be"),
    "half of a surrogate pair in a text": (lambda text: text.replace("Blue", "\\udfff"), 27, "half of a surrogate"),
    "half of a surrogate pair in an option": (_second('"Color"', '"\\ud800"'), 27, "half of a surrogate"),
    "no number": (lambda text: text.replace('"B2"', '""'), 27, "'asin' should be one to ten"),
    "a price without end": (_second('"$5.50"', f'"${"9" * 400}"'), 27, "'pricing' cannot be read"),
    "a product without name": (lambda text: text.replace('"name": "Blue Mug"', '"nam": ""'), 27, "'name' should be"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_product_file_is_one_line_with_file_and_line_and_nothing_is_kept(
    case: str, tmp_path: Path, cache: Path
) -> None:
    damage, line, says = DAMAGED[case]
    folder = write(tmp_path / "shop", [record(), record("B2", name="Blue Mug")])
    path = folder / "items_shuffle.json"
    path.write_text(damage(path.read_text("utf-8")), encoding="utf-8")
    with pytest.raises(BadInput) as raised:
        Catalogue.open(folder)
    message = str(raised.value)
    assert message.startswith(f"{path}, line ")
    assert says in message
    assert int(message.split("line ")[1].split(":")[0]) == line
    assert "\n" not in message
    assert [left.name for left in cache.iterdir() if left.is_dir()] == []


@pytest.mark.parametrize("ending", ["xz", "gz"])
def test_a_packed_file_that_is_cut_off_is_named(ending: str, tmp_path: Path) -> None:
    text = (write(tmp_path / "plain", [record()]) / "items_shuffle.json").read_bytes() * 50
    content = lzma.compress(text) if ending == "xz" else gzip.compress(text)
    path = tmp_path / f"items_shuffle.json.{ending}"
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(BadInput, match=rf"items_shuffle\.json\.{ending}, line \d+"):
        Catalogue.open(path)


@pytest.mark.parametrize("file", ["items_shuffle.json", "items_ins_v2.json"])
def test_damage_in_a_file_of_one_line_names_the_product(file: str, tmp_path: Path) -> None:
    asins = [f"B{number}" for number in range(9)]
    folder = write(tmp_path / "shop", [record(asin) for asin in asins], dict.fromkeys(asins, SAID))
    whole = json.dumps(json.loads((folder / file).read_text()))
    at = whole.index('"B6"')
    for damaged in (whole[:at] + whole[at:].replace(": ", " ", 2), whole[: at + 30]):
        (folder / file).write_text(damaged)
        with pytest.raises(BadInput, match=rf"{file}, line 1: .* \(product 7\); the file is damaged"):
            Catalogue.open(folder)


def test_text_that_is_no_utf_8_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "items_shuffle.json"
    path.write_bytes(b'[{"asin": "B\xff"}]')
    with pytest.raises(BadInput, match="line 1: it is not UTF-8"):
        Catalogue.open(path)
    for chunk in (1 << 20, 5):
        monkeypatch.setattr(json_stream, "CHUNK", chunk)
        path.write_bytes(b'[\n{"asin": "B1"},\n{"asin":\n "B\xff"}]')
        with pytest.raises(BadInput, match="line 4: it is not UTF-8"):
            list(elements(path))


def test_more_choices_of_options_than_goals_can_be_numbered_are_one_line_and_nothing_is_kept(
    tmp_path: Path, cache: Path
) -> None:
    options = {f"o{each}": [{"value": f"v{value}"} for value in range(50)] for each in range(40)}
    said = {"B2": {"attributes": ["x"], "instruction": "a mug", "instruction_attributes": ["x"]}}
    folder = write(tmp_path / "shop", [record("B1"), record("B2", customization_options=options)], said)
    with pytest.raises(BadInput, match=r"items_shuffle\.json, line 27: there is a goal for every choice of options"):
        Catalogue.open(folder)
    assert [left.name for left in cache.iterdir() if left.is_dir()] == []


@pytest.mark.parametrize(
    ("said", "human", "says"),
    [
        ({"B1": []}, None, r"items_ins_v2\.json, line 2: product 'B1': its entry should be an object"),
        ({"B1": {}, "B2": {"attributes": "red"}}, None, r"items_ins_v2\.json, line 3: product 'B2': 'attributes'"),
        ({"B1": {"attributes": [], "instruction": "x"}}, None, "'instruction_attributes' should be a list"),
        ({"B\ud800": {}}, None, r"items_ins_v2\.json, line 2: product 'B\\ud800': a text holds half"),
        (
            {"B1": {"instruction": "\udfff", "instruction_attributes": ["x"]}},
            None,
            r"items_ins_v2\.json, line 2: product 'B1': a text holds half",
        ),
        (None, {"B1": {}}, r"items_human_ins\.json, line 2: product 'B1': its entry should be a list"),
        (None, {"B1": [{"instruction": "x", "instruction_attributes": []}]}, "'instruction_options' of an instruction"),
    ],
)
def test_a_wrong_attribute_file_is_named(said: Any, human: Any, says: str, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(BadInput, match=says) as raised:
        Catalogue.open(write(tmp_path / "shop", [record("B1")], said, human))
    assert str(raised.value).encode()
    assert [left.name for left in cache.iterdir() if left.is_dir()] == []


def test_what_is_not_there_or_not_clear_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no product file"):
        Catalogue.open(tmp_path)
    for size in ("", "_1000"):
        (tmp_path / f"items_shuffle{size}.json").write_text("[]")
        (tmp_path / f"items_ins_v2{size}.json").write_text("{}")
    with pytest.raises(BadInput, match="several product files"):
        Catalogue.open(tmp_path)
    assert Source.find(tmp_path / "items_shuffle_1000.json").attributes == tmp_path / "items_ins_v2_1000.json"
    assert Source.find(tmp_path / "items_shuffle.json").attributes == tmp_path / "items_ins_v2.json"
    with pytest.raises(BadInput, match="there is no catalogue 'no/where'"):
        Catalogue.open("no/where")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=st.lists(_JSON, max_size=6), indent=st.sampled_from([None, 1]), chunk=st.integers(1, 40))
@settings(deadline=None, max_examples=150)
def test_reading_in_pieces_gives_what_reading_at_once_gives(
    value: list[Any], indent: int | None, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "pieces.json"
    before, json_stream.CHUNK = json_stream.CHUNK, chunk
    try:
        path.write_text(json.dumps(value, indent=indent, ensure_ascii=False), encoding="utf-8", errors="surrogatepass")
        if any("\ud800" <= letter <= "\udfff" for letter in json.dumps(value, ensure_ascii=False)):
            return
        assert [element for _, element in elements(path)] == value
        named = {str(place): element for place, element in enumerate(value)}
        path.write_text(json.dumps(named, indent=indent), encoding="utf-8")
        assert {key: element for _, key, element in members(path)} == named
    finally:
        json_stream.CHUNK = before


def test_an_index_does_not_depend_on_how_much_is_held_while_it_is_built(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source.find("small")
    built, _ = index_of(source)
    whole = {path.relative_to(built): path.read_bytes() for path in built.rglob("*") if path.is_file()}
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(postings_writer, "RUN", 500)
    again, _ = index_of(source)
    assert again != built
    assert {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()} == whole


def test_memory_does_not_grow_with_the_products_while_indexing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postings_writer, "RUN", 5_000)
    monkeypatch.setattr(json_stream, "CHUNK", 1 << 14)
    texts = [" ".join(f"word{(number * 7 + place) % 500}" for place in range(60)) for number in range(100)]
    peaks = []
    for count in (100, 800):
        records = [record(f"B{number}", full_description=texts[number % 100]) for number in range(count)]
        folder = write(tmp_path / str(count), records)
        del records
        tracemalloc.start()
        index_of(Source.find(folder))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_a_packed_product_comes_out_as_it_went_in() -> None:
    product = read(record(customization_options=None, images=[], small_description="One"), ["a", "b"])
    assert unpack(pack(product)) == product
    assert unpack(pack(read(record(), None))) == read(record(), None)


def test_the_official_thousand_products_are_all_there() -> None:
    shop = Catalogue.open("webshop")
    assert len(shop) == 1000
    assert {shop.at(position).asin for position in range(1000)} == {shop.asin(position) for position in range(1000)}
    assert sum(told.synthetic is not None for told in shop.told()) == 415
    assert sum(len(told.human) for told in shop.told()) == 13


def test_the_small_catalogue_is_what_its_script_writes() -> None:
    folder = Path(make.__file__).parent
    assert {name: (folder / name).read_text("utf-8") for name in make.files()} == make.files()
    shop = Catalogue.open()
    assert (len(shop), len({product.category for product in shop})) == (120, 6)
    assert len({product.asin for product in shop}) == len({product.title for product in shop}) == 120

"""Search finds what the original's Lucene finds, in the same order."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.webshop import search
from palaestra.envs.webshop.analysis import parts, terms, words
from palaestra.envs.webshop.catalogue import Catalogue
from palaestra.envs.webshop.product import searchable
from palaestra.envs.webshop.search import Search, length, norm
from palaestra.envs.webshop.stemmer import stem
from tests.envs.webshop.stock import record, write

RANKINGS: dict[str, str] = json.loads((Path(__file__).parent / "rankings.json").read_text("utf-8"))
"""Query -> how many of the 1,000 products the original (Lucene 8.11) found, and a hash of their numbers in order."""


@pytest.fixture(scope="module")
def shop() -> Catalogue:
    """The official 1,000 products."""
    return Catalogue.open("webshop")


@pytest.fixture(scope="module")
def small() -> Catalogue:
    """Our own catalogue."""
    return Catalogue.open()


def test_rankings_equal_the_original_s_to_the_last_place(shop: Catalogue) -> None:
    assert len(RANKINGS) > 250
    for query, expected in RANKINGS.items():
        found = shop.search(query)
        assert f"{len(found)} {hashlib.sha256(' '.join(found).encode()).hexdigest()[:12]}" == expected, query


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Men's wi-fi U.S.A. usb_c 2.5", ["Men's", "wi", "fi", "U.S.A", "usb_c", "2.5"]),
        ("color:red size: 10,000 and/or", ["color:red", "size", "10,000", "and", "or"]),
        ("★ quality ✔ 【new】", ["★", "quality", "✔", "new"]),
        ("👍🏽 👩‍👩‍👧 🇩🇪 ❤️!", ["👍🏽", "👩‍👩‍👧", "🇩🇪", "❤️"]),
        ("字ひカナ ไทยไทย café", ["字", "ひ", "カナ", "ไทยไทย", "café"]),
        ("x" * 300, ["x" * 255, "x" * 45]),
        ("-- ... ' \" ___", []),
    ],
)
def test_texts_are_cut_into_words_as_lucene_cuts_them(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The women's shoes are not for running", ["women", "shoe", "run"]),
        ("women’s assembly technologies trekking", ["women", "assembl", "technolog", "trek"]),
        ("Possibly relational conditional hopping falling", ["possibl", "relat", "condit", "hop", "fall"]),
        ("İstanbul ΣΣ", ["istanbul", "σσ"]),
        ("s's 's", ["s", "s"]),
    ],
)
def test_words_are_reduced_to_terms(text: str, found: list[str]) -> None:
    assert terms(text) == found


@given(
    st.text(
        st.characters() | st.sampled_from("aB1'_.:,-\u202f \u200d\ufe0f👩🏽🇩字ひカไ\u0301\u3000\x1c\x85"), max_size=40
    )
)
def test_no_word_goes_over_the_blanks_at_which_texts_are_cut(text: str) -> None:
    assert [word for part in parts(text) for word in words(part)] == words(text)


@pytest.mark.parametrize(
    ("word", "stemmed"),
    [
        ("caresses", "caress"), ("ponies", "poni"), ("cats", "cat"), ("agreed", "agre"), ("feed", "feed"),
        ("plastered", "plaster"), ("bled", "bled"), ("sing", "sing"), ("conflated", "conflat"), ("sized", "size"),
        ("hissing", "hiss"), ("fizzed", "fizz"), ("filing", "file"), ("happy", "happi"), ("sky", "sky"),
        ("vietnamization", "vietnam"), ("electricity", "electr"), ("adoption", "adopt"), ("rate", "rate"),
        ("cease", "ceas"), ("controlling", "control"), ("roll", "roll"), ("is", "is"), ("", ""),
    ],
)  # fmt: skip
def test_stems_are_porter_s(word: str, stemmed: str) -> None:
    assert stem(word) == stemmed


@given(st.integers(0, 1_000_000))
def test_lengths_are_rounded_down_to_four_bits(number: int) -> None:
    rounded = length(norm(number))
    assert rounded == number if number < 40 else number * 8 / 9 - 24 < rounded <= number
    assert norm(rounded) == norm(number)


def test_scores_order_products_as_the_formula_does(small: Catalogue) -> None:
    texts = {product.asin: Counter(terms(searchable(product))) for product in small}
    lengths = {asin: length(norm(counts.total())) for asin, counts in texts.items()}
    mean = sum(counts.total() for counts in texts.values()) / len(texts)
    rng = random.Random(4)
    stable = sorted(term for term in set().union(*texts.values()) if terms(term) == [term])
    for _ in range(60):
        query = Counter(rng.choices(stable, k=5))
        scores: dict[str, float] = {}
        for term, times in query.items():
            holding = [asin for asin, counts in texts.items() if term in counts]
            weight = times * math.log(1 + (len(texts) - len(holding) + 0.5) / (len(holding) + 0.5))
            for asin in holding:
                norms = 0.9 * (1 - 0.4 + 0.4 * lengths[asin] / mean)
                scores[asin] = scores.get(asin, 0) + weight * (1 - 1 / (1 + texts[asin][term] / norms))
        found = small.search(" ".join(query.elements()))
        assert len(found) == min(50, len(scores))
        assert [round(scores[asin], 5) for asin in found] == sorted(
            (round(s, 5) for s in scores.values()), reverse=True
        )[:50]


def test_looking_only_at_what_can_be_among_the_best_finds_what_looking_at_all_finds(
    shop: Catalogue, small: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(7)
    for catalogue in (shop, small):
        all_of_them = Search(catalogue.path / "search")
        queries = []
        for _ in range(200):
            title = catalogue.at(rng.randrange(len(catalogue))).title.split()
            queries.append(
                " ".join(rng.choices([*title, "for", "women", "black", "xyzzy"], k=rng.choice((1, 2, 4, 9))))
            )
        tops = [rng.choice((1, 5, 50, 5000)) for _ in queries]
        expected = [all_of_them(query, top) for query, top in zip(queries, tops, strict=True)]
        monkeypatch.setattr(search, "_FEW", 0)
        for at_a_time, look_up in ((7, 0), (1 << 15, 0), (1 << 15, 16), (7, 1_000_000)):
            monkeypatch.setattr(search, "_AT_A_TIME", at_a_time)
            monkeypatch.setattr(search, "_LOOK_UP", look_up)
            best = Search(catalogue.path / "search")
            assert [best(query, top) for query, top in zip(queries, tops, strict=True)] == expected
        monkeypatch.undo()


def test_products_with_equal_scores_are_ordered_by_number(tmp_path: Path) -> None:
    asins = [f"B{number:02d}" for number in range(70)]
    shuffled = random.Random(0).sample(asins, len(asins))
    shop = Catalogue.open(write(tmp_path / "shop", [record(asin) for asin in shuffled]))
    assert shop.search("mug") == tuple(asins[:50])


def test_searches_that_begin_with_a_kind_go_past_the_ranking(small: Catalogue) -> None:
    beauty = tuple(product.asin for product in small if product.category == "beauty")
    assert small.find(["<c>", "beauty"]) == small.find(["<c>", "beauty", "ignored"]) == beauty
    lamps = tuple(product.asin for product in small if product.query == "table lamps")
    assert small.find(["<q>", "table", "lamps"]) == lamps
    soft = tuple(product.asin for product in small if "super soft" in product.attributes)
    assert small.find(["<a>", "super", "soft"]) == soft
    assert soft
    drawn = small.find(["<r>"], random.Random(1))
    assert drawn is not None
    assert len(set(drawn)) == 50
    assert drawn == small.find(["<r>"], random.Random(1)) != small.find(["<r>"], random.Random(2))


@pytest.mark.parametrize(
    "keywords", [["<c>"], ["<c>", ""], ["<q>"], ["<a>"], ["<a>", "no", "such"], ["<r>", "x"], [""]]
)
def test_malformed_searches_find_nothing_or_are_refused_but_never_raise(keywords: list[str], small: Catalogue) -> None:
    found = small.find(keywords)
    assert (found is None) == (keywords == ["<c>"])
    assert found is None or len(found) == (50 if keywords[0] == "<r>" else 0)


def test_stop_words_and_unknown_words_find_nothing(small: Catalogue) -> None:
    assert small.search("the of and") == small.search("xyzzy") == small.search("") == ()


@given(st.text(max_size=200))
def test_any_text_can_be_searched_for(text: str) -> None:
    assert len(Catalogue.open().search(text)) <= 50


def test_a_catalogue_without_products_finds_nothing(tmp_path: Path) -> None:
    shop = Catalogue.open(write(tmp_path / "shop", []))
    assert (len(shop), shop.search("mug"), shop.find(["<c>", "x"]), shop.find(["<r>"])) == (0, (), (), ())

"""The reward and its parts, by the rules of the paper and the oddities of the original."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.webshop.goals import Goal
from palaestra.envs.webshop.reward import (
    Reward,
    matched_options,
    reduce_colour,
    reward,
    similarity,
    title_score,
    type_reward,
)

from .odd_shop import odd_shop

LAMP = "ODDLAMP003"


def lamp_goal() -> Goal:
    """Buy the desk lamp number 3 in navy blue and small: two attributes, two options, a ceiling."""
    product = odd_shop().product(LAMP)
    return Goal(
        asin=LAMP,
        category=product.category,
        query=product.query,
        title=product.title,
        product_category=product.product_category,
        instruction="i need a desk lamp",
        attributes=("easy to use", "bright"),
        price_upper=40.0,
        options={"color": "navy blue", "size": "small"},
    )


def bought(goal: Goal, chosen: dict[str, str], price: float = 23.5, asin: str = LAMP, nouns: str = "") -> Reward:
    return reward(odd_shop().product(asin), goal, price, chosen, (nouns or "desk lamp").split(), ("desk", "lamp"))


def test_the_whole_of_what_was_wanted_is_worth_one() -> None:
    got = bought(lamp_goal(), {"color": "navy blue", "size": "small"})
    assert got.total == 1.0
    assert (got.r_type, got.r_att, got.r_option, got.r_price) == (1.0, 1.0, 1.0, True)
    assert (got.w_att, got.w_option, got.w_price) == (0.4, 0.4, 0.2)


@pytest.mark.parametrize(
    ("chosen", "price", "total"),
    [
        ({}, 23.5, 3 / 5),
        ({"size": "small"}, 23.5, 4 / 5),
        ({"color": "black", "size": "small"}, 23.5, 4 / 5),
        ({"color": "navy blue", "size": "small"}, 40.0, 1.0),
        ({"color": "navy blue", "size": "small"}, 40.01, 4 / 5),
    ],
)
def test_each_attribute_option_and_the_price_weigh_the_same(chosen: dict[str, str], price: float, total: float) -> None:
    assert bought(lamp_goal(), chosen, price).total == pytest.approx(total)


def test_an_attribute_counts_if_it_is_listed_alike_or_stands_in_the_texts() -> None:
    goal = replace(lamp_goal(), options={})
    for attribute, found in (("easy use", 1.0), ("lamp 3", 1.0), ("for a des", 1.0), ("waterproof", 0.0)):
        got = bought(replace(goal, attributes=(attribute,)), {})
        assert got.r_att == found, attribute
    described = replace(goal, attributes=("for a des",))
    assert bought(described, {}, asin="ODDLAMP004").r_att == 0.0


def test_without_wanted_options_nothing_is_weighed_for_them() -> None:
    got = bought(replace(lamp_goal(), options={}), {"color": "black"})
    assert (got.r_option, got.w_option, got.total) == (None, 0.0, 1.0)


@pytest.mark.parametrize(
    ("match", "title", "worth"),
    [
        (True, 1.0, 1.0),
        (False, 0.21, 1.0),
        (False, 0.2, 0.5),
        (False, 0.1, 0.5),
        (True, 0.1, 1.0),
        (True, 0.09, 0.1),
        (False, 0.09, 0.1),
        (True, 0.0, 0.0),
        (False, 0.0, 0.0),
    ],
)
def test_the_kind_of_product(match: bool, title: float, worth: float) -> None:
    assert type_reward(match, title) == worth


def test_the_title_score_divides_distinct_nouns_by_all_of_the_goals() -> None:
    assert title_score(("lamp", "desk", "lamp"), ("lamp", "lamp", "shade", "desk")) == 2 / 4
    assert title_score(("lamp",), ("mug",)) == 0.0
    assert title_score(("lamp",), ()) == 0.2


def test_query_or_two_category_levels_make_a_match() -> None:
    goal = lamp_goal()
    other = replace(goal, query="mugs", product_category="Home › Lamps › Wall Lamps")
    got = bought(other, {}, nouns="shade x lamp")
    assert (got.query_match, got.category_match) == (False, True)
    apart = replace(other, product_category="Lamps")
    assert not bought(apart, {}).category_match


def test_options_of_synthetic_goals_are_compared_with_their_names() -> None:
    assert matched_options(["navy blue"], [("color", "navy blue")]) == 1
    assert matched_options(["color"], [("color", "navy blue")]) == 1
    assert matched_options(["navy"], [("color", "black")]) == 0


def test_options_are_reduced_to_the_first_colour_of_the_list() -> None:
    assert reduce_colour("dark blue") == "blue"
    assert reduce_colour("wine red") == "red"
    assert reduce_colour("small") == "small"
    assert reduce_colour(("color", "black")) == "black"
    assert reduce_colour(("color", "jet black")) == "('color', 'jet black')"
    assert matched_options(["blue/white"], ["black and blue"]) == 0
    assert matched_options(["sky blue"], ["navy blue"]) == 1


def test_phrases_are_compared_by_words_in_any_order_without_latin_1_letters() -> None:
    assert similarity("easy to use", "use easy") == 100
    assert similarity("caf", "café") == 100
    assert similarity("", "easy") == 0
    assert similarity("中文", "中文") == 100
    assert similarity("machine washable", "machine wash") == 86


@given(st.lists(st.text(max_size=8), max_size=4), st.lists(st.text(max_size=8), max_size=4))
def test_never_are_more_options_matched_than_wanted(chosen: list[str], wanted: list[str]) -> None:
    assert 0 <= matched_options(chosen, wanted) <= len(wanted)
    assert matched_options([*chosen, *wanted], wanted) >= matched_options(chosen, wanted)


@given(
    st.sets(st.sampled_from(["black", "small", "large", "navy blue"])),
    st.floats(0, 100),
    st.lists(st.sampled_from(["desk", "lamp", "shade", "mug"])),
)
def test_a_reward_lies_between_nothing_and_one(values: set[str], price: float, nouns: list[str]) -> None:
    goal = lamp_goal()
    got = reward(odd_shop().product(LAMP), goal, price, {value: value for value in values}, nouns, ("desk", "lamp"))
    assert 0.0 <= got.total <= 1.0
    weighed = got.w_att * got.r_att + got.w_option * (got.r_option or 0) + got.w_price * bool(got.r_price)
    assert got.total == pytest.approx(got.r_type * weighed)

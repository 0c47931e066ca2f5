"""What differs is marked, all of both texts is there, and no texts make it slow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from palaestra.viewer.differences import CONTEXT, LONGEST, by_lines, by_words

TEXTS = st.text(alphabet="ab \n", max_size=60)


@given(TEXTS, TEXTS)
def test_the_parts_of_a_difference_are_the_two_texts(one: str, other: str) -> None:
    parts = by_words(one, other)
    assert "".join(left for _, left, _ in parts) == one
    assert "".join(right for _, _, right in parts) == other
    assert all(left == right for code, left, right in parts if code == "equal")
    assert all(left != right for code, left, right in parts if code != "equal")


@given(st.lists(st.sampled_from("abcd"), max_size=30), st.lists(st.sampled_from("abcd"), max_size=30))
def test_the_lines_of_a_difference_are_those_of_the_two_files_but_for_the_equal_ones_left_out(
    one: list[str], other: list[str]
) -> None:
    found = by_lines("\n".join(one), "\n".join(other))
    left_out = sum(int(line) for mark, line in found if mark == "@")
    for mark, lines in (("-", one), ("+", other)):
        shown = [line for each, line in found if each in (" ", mark)]
        assert len(shown) + left_out == len(lines) or found == []
    assert (found == []) == (one == other)


def test_only_the_words_that_differ_are_marked_in_a_long_page() -> None:
    page = "".join(f"You see room {n} with a door to the north.\n" for n in range(200))
    parts = by_words(page, page.replace("room 7 with a door", "room 7 with two doors"))
    changed = [(left, right) for code, left, right in parts if code != "equal"]
    assert changed == [("a door", "two doors")] or changed == [("a", "two"), ("door", "doors")]


def test_a_change_far_down_a_file_stands_with_the_lines_around_it_alone() -> None:
    lines = [f"line {n}" for n in range(100)]
    found = by_lines("\n".join(lines), "\n".join([*lines[:50], "new", *lines[51:]]))
    assert [mark for mark, _ in found] == ["@", *" " * CONTEXT, "-", "+", *" " * CONTEXT, "@"]
    assert found[0][1] == "47"


def test_huge_texts_are_compared_at_their_beginnings() -> None:
    parts = by_words("a " * 10**6, "b " * 10**6)
    assert sum(len(left) for _, left, _ in parts) == LONGEST

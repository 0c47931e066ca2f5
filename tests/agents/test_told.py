"""What people read of a fault is its last line, without the path to a class."""

from __future__ import annotations

import traceback

import pytest

from palaestra.agents.told import last_line
from palaestra.envs.errors import BadInput, EnvFault, ReplayDiverged


def trace(error: Exception) -> str:
    try:
        raise error
    except type(error):
        return traceback.format_exc()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (EnvFault("the page http://a.test/ did not load: HTTP status 500"),
         "the page http://a.test/ did not load: HTTP status 500"),
        (ReplayDiverged("a", 1, "b", "c"), "replay of a diverged at step 1: expected 'b', got 'c'"),
        (EnvFault(), "EnvFault"),
        (BadInput("3 of 4: no"), "3 of 4: no"),
        (ValueError("a bug"), "ValueError: a bug"),
    ],
)  # fmt: skip
def test_an_error_of_ours_is_its_sentence_and_another_keeps_its_name(error: Exception, line: str) -> None:
    assert last_line(trace(error)) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "Traceback (most recent call last):\npy4j.protocol.Py4JNetworkError: no answer",
            "Py4JNetworkError: no answer",
        ),
        ("zlib.error: Error -3", "zlib.error: Error -3"),
        ("http://a.test/ is away", "http://a.test/ is away"),
        ("a.test.B is away", "a.test.B is away"),
        ("\n \n", ""),
        ("", ""),
    ],
)
def test_what_is_no_class_stands_as_it_is(text: str, line: str) -> None:
    assert last_line(text) == line

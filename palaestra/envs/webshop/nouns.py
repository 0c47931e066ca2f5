"""The nouns of product titles, which the title score compares.

The original finds them with spaCy's `en_core_web_sm`: lower-case texts of the tokens tagged NOUN or PROPN, in order and
with repetitions. Which ones they are depends on the model's version, so they are data that can be handed in (a frozen
benchmark holds them). Without both, spaCy is used if it is installed with that model; without spaCy every word of the
title that is no number, no stop word and no unit counts as a noun. On the titles of WebShop's first 1,000 products that
gives the same `r_type` in most but not all purchases; the environment's fingerprint names what was used.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

MODEL = "en_core_web_sm"
_NOUNS = ("NOUN", "PROPN")
_WORD = re.compile(r"(?<!\w)[^\W\d_][\w'’-]*")
_OTHER_WORDS = """
a an the and or nor but if of for to in on at by with without from into over under up down out off as per via vs than
is are was were be been being it its this that these those your you our we us they them their his her he she i my me not
no non so very more most less much many all any each every both such only own same other great good best perfect
new easy soft high low big large small medium long short mini extra super ultra fit fits made make makes used use
using ideal
"""
_OTHERS = frozenset(_OTHER_WORDS.split())


class Nouns:
    """The nouns of titles, from what was handed in or found in them.

    Args:
        known: title -> nouns, lower-case, in order, with repetitions.
    """

    def __init__(self, known: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._known = known or {}
        self._cached = lru_cache(maxsize=1 << 14)(self._find)

    @property
    def tagger(self) -> str:
        """Where the nouns come from: "given", or what finds them, with its version."""
        return "given" if self._known else _tagger_name()

    def __call__(self, title: str) -> tuple[str, ...]:
        """The nouns of a title. Titles that were not handed in are tagged."""
        known = self._known.get(title)
        return known if known is not None else self._cached(title)

    def _find(self, title: str) -> tuple[str, ...]:
        return _tagger()(title)


def plain_nouns(title: str) -> tuple[str, ...]:
    """Nouns without a tagger: the words of a title that are no numbers, stop words or units."""
    words = (word.lower() for word in _WORD.findall(title))
    return tuple(word for word in words if len(word) > 1 and word not in _OTHERS)


def shipped_nouns() -> Mapping[str, tuple[str, ...]]:
    """The nouns of the titles in our own small catalogue."""
    lines = (Path(__file__).parent / "small" / "nouns.jsonl").read_text("utf-8").splitlines()
    return {row["name"]: tuple(row["nouns"]) for row in map(json.loads, lines)}


@lru_cache(maxsize=1)
def _installed() -> EntryPoint | None:
    """spaCy's model if it is installed, found without importing spaCy, which takes seconds."""
    if find_spec("spacy") is None:
        return None
    models = sorted(entry_points(group="spacy_models"), key=lambda point: point.name)
    return next((point for point in models if point.name == MODEL or point.name.startswith(f"{MODEL}_")), None)


def _tagger_name() -> str:
    model = _installed()
    if model is None:
        return "words"
    return f"spacy {MODEL} {model.dist.version if model.dist is not None else 'of unknown version'}"


@lru_cache(maxsize=1)
def _tagger() -> Callable[[str], tuple[str, ...]]:
    """The best tagger that is installed. Loads spaCy, so it waits for the first title that has no nouns yet."""
    model = _installed()
    return _spacy_tagger(model.name) if model is not None else plain_nouns


def _spacy_tagger(name: str) -> Callable[[str], tuple[str, ...]]:
    from spacy.util import load_model

    model = load_model(name, exclude=["parser", "ner", "lemmatizer", "senter"])  # the tags do not need them
    alone = threading.Lock()

    def tag(title: str) -> tuple[str, ...]:
        with alone:  # a pipeline is not made for several threads
            return tuple(token.text.lower() for token in model(title) if token.pos_ in _NOUNS)

    return tag

"""The nouns of product titles, which the title score compares.

The original finds them with spaCy's `en_core_web_sm`: lower-case texts of the tokens tagged NOUN or PROPN, in order and
with repetitions. Which ones they are depends on the model's version, so they are data that can be handed in (a frozen
benchmark holds them). Otherwise spaCy is used if it is installed with that model, and what it finds is kept beside the
catalogue's index; without spaCy every word of the title that is no number, no stop word and no unit counts as a noun.
On the titles of WebShop's first 1,000 products that gives the same `r_type` in most but not all purchases; the
environment's fingerprint names what was used.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from palaestra.envs.lock import alone
from palaestra.envs.webshop.kept_nouns import KeptNouns

MODEL = "en_core_web_sm"

TAGGED_AHEAD = 5_000
"""Products of a catalogue whose titles are all tagged when it is first opened, which takes seconds; in a larger one a
title is tagged when it is first asked for."""

_AT_A_TIME = 256
_TAGGED_TOGETHER = 64
_WORTH_A_WORD = 500  # titles to be tagged from which on that is announced
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
    """The nouns of titles, from what was handed in, kept from before, or found in them.

    Args:
        known: title -> nouns, lower-case, in order, with repetitions.
        index: the folder of a catalogue's index, beside which what spaCy finds is kept; None for nowhere.
    """

    def __init__(self, known: Mapping[str, tuple[str, ...]] | None = None, index: Path | None = None) -> None:
        self._known = known or {}
        self._index = index
        self._cached = lru_cache(maxsize=1 << 14)(self._find)

    @property
    def tagger(self) -> str:
        """Where the nouns come from: "given", or what finds them, with its version."""
        return "given" if self._known else _tagger_name()

    def __call__(self, title: str) -> tuple[str, ...]:
        """The nouns of a title. Titles that were not handed in are tagged, once for all processes."""
        known = self._known.get(title)
        return known if known is not None else self._cached(title)

    def each(self, titles: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Titles with their nouns; those that must be tagged several at a time, which is twice as fast."""
        waiting = iter(titles)
        while some := list(islice(waiting, _AT_A_TIME)):
            found = {title: self._known[title] for title in some if title in self._known}
            found.update(self._found([title for title in some if title not in found]))
            yield from ((title, found[title]) for title in some)

    def complete(self, titles: Callable[[], Iterable[str]]) -> None:
        """Find and keep the nouns of all titles of the catalogue, unless that was done or they are handed in.

        Other processes wait meanwhile. Nothing is done where nothing can be kept, or without spaCy.
        """
        if self._known or self._kept is None or self._kept.complete:
            return
        self._kept.put(())
        if not self._kept.usable:
            return
        with alone(self._kept.path.with_suffix(".lock")):
            if self._kept.complete:
                return
            different = dict.fromkeys(titles())
            if len(different) >= _WORTH_A_WORD:
                print(f"finding the nouns of {len(different):,} titles, once", file=sys.stderr)
            for _ in self.each(different):
                pass
            self._kept.put((), complete=True)

    @cached_property
    def _kept(self) -> KeptNouns | None:
        versions = _versions() if self._index is not None else None
        return KeptNouns(self._index / "nouns", versions) if self._index is not None and versions is not None else None

    def _find(self, title: str) -> tuple[str, ...]:
        return self._found([title])[title]

    def _found(self, titles: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """Titles with the nouns that were kept, or else are tagged now."""
        found = dict(self._kept.get(titles)) if self._kept is not None else {}
        unknown = [title for title in dict.fromkeys(titles) if title not in found]
        if unknown:
            tagged = dict(zip(unknown, _tagger()(unknown), strict=True))
            if self._kept is not None:
                self._kept.put(tagged.items())
            found.update(tagged)
        return found


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


def _versions() -> str | None:
    """The installed model and spaCy with their versions, on which the nouns depend; None without both, or unknown."""
    model = _installed()
    if model is None or model.dist is None:
        return None
    return f"{model.name} {model.dist.version} spacy {version('spacy')}"


@lru_cache(maxsize=1)
def _tagger() -> Callable[[Sequence[str]], list[tuple[str, ...]]]:
    """The best tagger that is installed. Loads spaCy, so it waits for the first title that has no nouns yet."""
    model = _installed()
    return _spacy_tagger(model.name) if model is not None else lambda titles: list(map(plain_nouns, titles))


def _spacy_tagger(name: str) -> Callable[[Sequence[str]], list[tuple[str, ...]]]:
    from spacy.util import load_model

    model = load_model(name, exclude=["parser", "ner", "lemmatizer", "senter"])  # the tags do not need them
    one_at_a_time = threading.Lock()

    def tag(titles: Sequence[str]) -> list[tuple[str, ...]]:
        with one_at_a_time:  # a pipeline is not made for several threads
            return [
                tuple(token.text.lower() for token in tagged if token.pos_ in _NOUNS)
                for tagged in model.pipe(titles, batch_size=_TAGGED_TOGETHER)
            ]

    return tag

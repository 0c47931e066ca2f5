"""Words of a text as the original's search engine sees them (Lucene 8.11's English analysis, as WebShop uses it).

Word boundaries of Unicode (UAX #29), emoji included -> possessives off -> lower case -> 33 stop words out -> Porter's
stemmer. Checked against the original's analyser on every code point in several surroundings and on the texts of all
products.

The words come from one regular expression over the Word_Break classes (`regex` knows Unicode's properties), not from a
library's word boundaries of today: since then the colon no longer joins letters, but here "color:red" is one word.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Protocol

from palaestra.envs.errors import MissingExtra
from palaestra.envs.webshop.stemmer import stem
from palaestra.envs.webshop.unicode9 import NO_WORD_THEN, PASSED_OVER_THEN, PICTURES_THEN

_STOP_WORDS = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they
this to was will with
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

LONGEST_WORD = 255
"""UTF-16 units; a longer word is cut into pieces of this length, as Lucene does."""

_WORTH = 32
"""Letters of a word or a part whose terms are remembered."""

_JOINING_BLANK = "\u202f"
"""The one blank of Unicode's that stands inside words."""

_SKIN = r"\U0001F3FB-\U0001F3FF"
_PASSED_OVER = rf"[[[\p{{WB=Extend}}\p{{WB=Format}}\p{{WB=ZWJ}}]--[{_SKIN}]][{PASSED_OVER_THEN}]]*+"


def _class(inside: str) -> str:
    """One code point of these classes, and what does not count behind it (rule WB4)."""
    return rf"(?:[[{inside}]--[{PASSED_OVER_THEN}]]{_PASSED_OVER})"


_MID_LETTER = _class(r"\p{WB=MidLetter}:\u02D7\uFE13\uFE55\uFF1A\p{WB=MidNumLet}'")  # today the colon joins no letters
_MID_NUM = _class(r"\p{WB=MidNum}\uFE10\uFE14\p{WB=MidNumLet}'")
_JOINT = _class(r"\p{WB=ExtendNumLet}")
_LETTER = _class(r"\p{WB=ALetter}\p{WB=Hebrew_Letter}")
_HEBREW = _class(r"\p{WB=Hebrew_Letter}")
_DIGIT = _class(r"\p{WB=Numeric}")
_KATAKANA = _class(r"\p{WB=Katakana}")
_SOUTH_EAST_ASIAN = _class(r"\p{LB=SA}")
_SINGLE = _class(r"\p{Script=Han}\p{Script=Hiragana}")
_FLAG_LETTER = _class(r"\p{WB=Regional_Indicator}")
_CLOSE = rf"[[\p{{WB=Extend}}\p{{WB=Format}}\p{{WB=ZWJ}}]--[\uFE0E\uFE0F\u20E3{_SKIN}]]*+"
_PICTURE = rf"[[\p{{Extended_Pictographic}}{PICTURES_THEN}]--[{_SKIN}]]"
_EMOJI = rf"""(?:
      \u200D*+ \p{{Emoji_Modifier_Base}} {_CLOSE} [{_SKIN}] {_CLOSE}
    | \u200D*+ {_PICTURE} {_CLOSE} \uFE0F?
    | [{_SKIN}] {_CLOSE}
)"""
_ELEMENT = rf"""(?: {_HEBREW} (?: '{_PASSED_OVER} | "{_PASSED_OVER} {_HEBREW} ) | {_LETTER} )"""
_RUN = rf"""(?:
      {_KATAKANA} (?: {_JOINT}*+ {_KATAKANA} )*
    | (?: {_ELEMENT} (?: (?: {_JOINT}*+ | {_MID_LETTER} ) {_ELEMENT} )*
        | {_DIGIT} (?: (?: {_JOINT}*+ | {_MID_NUM} ) {_DIGIT} )*
      )+
)"""
_WORDS = rf"""
  (?: (?<!\p{{WB=ExtendNumLet}}) {_JOINT}++ )? {_RUN} (?: {_JOINT}++ {_RUN} )* {_JOINT}*+
| {_SOUTH_EAST_ASIAN}+
| {_SINGLE}
| {_FLAG_LETTER} {{2}}
| [#*] {_CLOSE} \uFE0F? \u20E3 {_CLOSE}
| {_EMOJI} (?: (?: (?<=\u200D) | (?=\u200D) ) {_EMOJI} | [\U000E0020-\U000E007E]+ \U000E007F )*
"""


_PLAIN_RUN = "(?:[A-Za-z](?:(?:_*+|[:.'])[A-Za-z])*|[0-9](?:(?:_*+|[.,;'])[0-9])*)+"
_PLAIN_WORDS = re.compile(f"(?:(?<!_)_++)?{_PLAIN_RUN}(?:_++{_PLAIN_RUN})*_*+")
"""The same for ASCII, where most texts are: several times as fast, and there at once."""


def words(text: str) -> list[str]:
    """The words of a text in order, as they stand in it; a word of more than 255 UTF-16 units is cut.

    Raises:
        MissingExtra: `regex` is not installed.
    """
    found: list[str] = []
    if text.isascii():
        cut = _PLAIN_WORDS.findall(text)
    else:
        pattern, no_word = _patterns()
        cut = pattern.findall(no_word.sub(" ", text))
    for word in cut:
        if len(word) <= LONGEST_WORD // 2:
            found.append(word)
        else:
            found += _pieces(word)
    return found


def parts(text: str) -> list[str]:
    """The text cut at its blanks: no word goes over one, so the words of the parts are the words of the text.

    Texts repeat their parts far more often than they repeat themselves, so what a part makes is worth remembering.
    """
    return [text] if _JOINING_BLANK in text else text.split()


def terms(text: str) -> list[str]:
    """What a text is searched by: its words without stop words, lower-case and stemmed, in order."""
    return [term for part in parts(text) for term in (_terms(part) if len(part) <= _WORTH else terms_of(part))]


def terms_of(part: str) -> tuple[str, ...]:
    """The terms of one of the `parts` of a text, or of a whole text."""
    return tuple(term for word in words(part) if (term := _term(word)) is not None)


_terms = lru_cache(maxsize=1 << 16)(terms_of)


class _Pattern(Protocol):
    def findall(self, string: str) -> list[str]: ...
    def sub(self, repl: str, string: str) -> str: ...


@cache
def _patterns() -> tuple[_Pattern, _Pattern]:
    """What finds words, and what finds the code points that are in none."""
    try:
        import regex
    except ModuleNotFoundError:
        raise MissingExtra("regex (the search of WebShop)", "webshop") from None
    pattern: _Pattern = regex.compile(_WORDS, regex.VERBOSE | regex.VERSION1)
    no_word: _Pattern = regex.compile(f"[{NO_WORD_THEN}]", regex.VERSION1)
    return pattern, no_word


def _pieces(word: str) -> list[str]:
    pieces, start, units = [], 0, 0
    for at, letter in enumerate(word):
        wide = 2 if letter > "\uffff" else 1
        if units + wide > LONGEST_WORD:
            pieces.append(word[start:at])
            start, units = at, 0
        units += wide
    return [*pieces, word[start:]]


def _term(word: str) -> str | None:
    return _kept(word) if len(word) <= _WORTH else _made(word)


@lru_cache(maxsize=1 << 16)
def _kept(word: str) -> str | None:
    return _made(word)


def _made(word: str) -> str | None:
    if len(word) >= 2 and word[-1] in "sS" and word[-2] in "'\u2019\uff07":
        word = word[:-2]
    word = word.lower() if word.isascii() else "".join(map(_lower, word))
    return None if word in STOP_WORDS else stem(word)


def _lower(letter: str) -> str:
    """Lower case letter by letter: of the two letters that a dotted capital I becomes, Java keeps the first."""
    return letter.lower()[0]

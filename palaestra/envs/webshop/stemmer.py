"""Porter's stemmer as its author's program has it, which is the one that Lucene uses (Porter, 1980, "An algorithm for
suffix stripping", and the notes on its author's page).

The stemmers of the libraries are not this one: snowballstemmer's `porter` undoes fewer double letters ("trekking") and
lacks the program's two departures from the paper, `-bli` ("assembly") and `-logi` ("technology"); NLTK's has them, but
brings all of NLTK. Checked word by word against Lucene's.
"""

from __future__ import annotations

_STEP_2 = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "bli": "ble",
    "alli": "al",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
    "logi": "log",
}
_STEP_3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_ENDINGS_4 = "al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize"
_STEP_4 = frozenset(_ENDINGS_4.split())


def stem(word: str) -> str:
    """The stem of a lower-case word; words of one or two letters stay as they are."""
    if len(word) <= 2:
        return word
    word = _step_1(word)
    word = _replaced(word, _STEP_2)
    word = _replaced(word, _STEP_3)
    word = _step_4(word)
    return _step_5(word)


def _form(word: str) -> str:
    """The word in "v" (vowel) and "c" (everything else). A y is a vowel behind a consonant."""
    form = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and form[-1:] == "c")
        form += "v" if vowel else "c"
    return form


def _measure(stem: str) -> int:
    return _form(stem).count("vc")


def _short(word: str) -> bool:
    """Does it end in consonant, vowel, consonant, the last of them none of w, x, y."""
    return _form(word)[-3:] == "cvc" and word[-1] not in "wxy"


def _doubled(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _form(word)[-1] == "c"


def _step_1(word: str) -> str:
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("eed"):
        word = word[:-1] if _measure(word[:-3]) > 0 else word
    else:
        for ending in ("ed", "ing"):
            if word.endswith(ending):
                before = word[: -len(ending)]
                word = _mended(before) if "v" in _form(before) else word
                break
    if word.endswith("y") and "v" in _form(word[:-1]):
        word = word[:-1] + "i"
    return word


def _mended(stem: str) -> str:
    """What stood before `-ed` or `-ing`, as a word."""
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if _doubled(stem):
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if _measure(stem) == 1 and _short(stem) else stem


def _replaced(word: str, endings: dict[str, str]) -> str:
    """The longest ending that there is replaced, if what is before it has a measure above 0."""
    for length in range(min(7, len(word)), 2, -1):
        ending = word[-length:]
        if ending in endings:
            before = word[:-length]
            return before + endings[ending] if _measure(before) > 0 else word
    return word


def _step_4(word: str) -> str:
    for length in range(min(5, len(word)), 1, -1):
        ending = word[-length:]
        if ending in _STEP_4 and (ending != "ion" or word[-4:-3] in ("s", "t")):
            before = word[:-length]
            return before if _measure(before) > 1 else word
    return word


def _step_5(word: str) -> str:
    measure = _measure(word)
    if word.endswith("e") and (measure > 1 or (measure == 1 and not _short(word[:-1]))):
        word = word[:-1]
    if word.endswith("ll") and measure > 1:
        word = word[:-1]
    return word

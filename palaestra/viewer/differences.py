"""What differs between two texts: by words for pages, by lines for files. Bounded, whatever the texts are."""

from __future__ import annotations

from difflib import SequenceMatcher

Part = list[str]
"""[code, left, right]: code is "equal", "replace", "delete" or "insert"."""

LONGEST, MOST_LINES, MOST_WORDS, CONTEXT = 40_000, 4000, 400, 3


def by_words(one: str, other: str) -> list[Part]:
    """Two texts as parts that are equal or differ: lines first, then the words of the lines that differ.

    Only the first `LONGEST` characters are compared.
    """
    left, right = _lines(one[:LONGEST]), _lines(other[:LONGEST])
    found: list[Part] = []
    for code, i, j, k, m in SequenceMatcher(None, left, right).get_opcodes():
        if code == "replace" and j - i == m - k:
            found += [part for pair in zip(left[i:j], right[k:m], strict=True) for part in _in_lines(*pair)]
        elif code == "replace":
            found += _in_lines("".join(left[i:j]), "".join(right[k:m]))
        else:
            found.append([code, "".join(left[i:j]), "".join(right[k:m])])
    return _joined(found)


def effort(one: str, other: str) -> int:
    """About how much work `by_words` is at the worst, in comparisons of lines and words."""
    sizes = [min(len(text), LONGEST) for text in (one, other)]
    lines = [text[:LONGEST].count("\n") + 1 for text in (one, other)]
    return lines[0] * lines[1] + min(sizes) * MOST_WORDS // 16


def by_lines(one: str, other: str) -> list[list[str]]:
    """The lines of two texts that differ, with some around them: [mark, line] with the mark " ", "+", "-" or "@".

    "@" stands where equal lines are left out, with their number.
    """
    left, right = one.splitlines()[:MOST_LINES], other.splitlines()[:MOST_LINES]
    found: list[list[str]] = []
    reached = 0
    for group in SequenceMatcher(None, left, right).get_grouped_opcodes(CONTEXT):
        if skipped := group[0][1] - reached:
            found.append(["@", str(skipped)])
        for code, i, j, k, m in group:
            if code == "equal":
                found += [[" ", line] for line in left[i:j]]
                continue
            found += [["-", line] for line in left[i:j]]
            found += [["+", line] for line in right[k:m]]
        reached = group[-1][2]
    if found and reached < len(left):
        found.append(["@", str(len(left) - reached)])
    return found


def _in_lines(before: str, after: str) -> list[Part]:
    left, right = _words(before), _words(after)
    if len(left) > MOST_WORDS or len(right) > MOST_WORDS:
        return [["replace", before, after]]
    codes = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    return [[code, "".join(left[i:j]), "".join(right[k:m])] for code, i, j, k, m in codes]


def _joined(parts: list[Part]) -> list[Part]:
    """Neighbours of one code as one part."""
    found: list[Part] = []
    for code, left, right in parts:
        if found and found[-1][0] == code:
            found[-1] = [code, found[-1][1] + left, found[-1][2] + right]
        else:
            found.append([code, left, right])
    return found


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _words(text: str) -> list[str]:
    """A text cut into words and the blanks between them."""
    words: list[str] = []
    for line in _lines(text):
        for word in line.split(" "):
            words += [word, " "]
        words.pop()
    return [word for word in words if word]

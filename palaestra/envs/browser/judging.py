"""What an answer to a web task is worth: by a reference answer, or by any judge that is handed in."""

from __future__ import annotations

import importlib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from palaestra.envs.errors import BadInput

FILLING = frozenset(("a", "an", "the", "it", "is", "they", "are", "answer"))
"""Words around an answer that change nothing of it."""


@dataclass(frozen=True)
class Case:
    """What a judge is told.

    Attributes:
        question: of the task.
        answer: what the agent said.
        references: answers that are right; empty where none is known.
        actions: all that the agent did, the answer left out.
        page: the last page that it saw, as text.
    """

    question: str
    answer: str
    references: tuple[str, ...]
    actions: tuple[str, ...]
    page: str


Judge = Callable[[Case], float]
"""Says what an answer is worth, from 0 to 1; 1 is success. Its `repr` names it in snapshots and provenance."""


def by_reference(case: Case) -> float:
    """1 if the answer is a reference, word for word, and says nothing else.

    Capitals, accents' forms, punctuation and the words of `FILLING` do not count, so "It is 12 crowns." is "12 crowns".
    An answer that holds a reference among others is wrong: else a list of all that may be right would pass each task.

    Raises:
        BadInput: the task has no reference.
    """
    if not case.references:
        raise BadInput(f"the task {case.question[:80]!r} has no reference answer; hand in a judge")
    said, signs = _bare(case.answer), "".join(case.answer.split())
    return float(
        any(
            said == wanted if (wanted := _bare(reference)) else signs == "".join(reference.split())
            for reference in case.references
        )
    )


def find_judge(judge: Judge | str) -> Judge:
    """A judge by itself, by "reference", or by "module:name".

    Raises:
        BadInput: there is no such judge.
    """
    if callable(judge):
        return judge
    if judge == "reference":
        return by_reference
    module, _, name = str(judge).partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # of a name that is none, and whatever somebody's module raises
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"judge={judge!r:.80} is neither 'reference' nor 'module:name' ({why})") from None
    if not callable(found):
        raise BadInput(f"judge={judge!r} names no function")
    kept: Judge = found
    return kept


def words(text: str) -> tuple[str, ...]:
    """The words of a text, in small letters; a sign between digits, as in 3.5, stays."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    kept = (
        letter
        if letter.isalnum() or (letter in ".,:/-%" and plain[i - 1 : i].isdigit() and plain[i + 1 : i + 2].isdigit())
        else " "
        for i, letter in enumerate(plain)
    )
    return tuple("".join(kept).split())


def _bare(text: str) -> tuple[str, ...]:
    """The words that count; all of them where a text has no others."""
    found = words(text)
    return tuple(word for word in found if word not in FILLING) or found

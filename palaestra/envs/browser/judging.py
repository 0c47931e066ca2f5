"""What an answer to a web task is worth: by a reference answer, or by any judge that is handed in."""

from __future__ import annotations

import importlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from palaestra.envs.errors import BadInput


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
    """1 if a reference stands in the answer, word for word; capitals, accents' forms and punctuation do not count.

    Raises:
        BadInput: the task has no reference.
    """
    if not case.references:
        raise BadInput(f"the task {case.question[:80]!r} has no reference answer; hand in a judge")
    said = words(case.answer)
    return float(any(_within(words(reference), said) for reference in case.references))


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
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"judge={judge!r} is neither 'reference' nor 'module:name' ({error})") from None
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


def _within(wanted: Sequence[str], said: Sequence[str]) -> bool:
    size = len(wanted)
    return size > 0 and any(tuple(said[i : i + size]) == tuple(wanted) for i in range(len(said) - size + 1))

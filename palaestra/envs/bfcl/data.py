"""BFCL's multi-turn entries as the package `bfcl-eval` ships them: requests, worlds, ground truth, function docs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

from palaestra.envs.errors import BadInput, MissingExtra
from palaestra.envs.tools.calls import Call, read

VERSION = "2026.3.23"
INSTALL = f"pip install 'palaestra[bfcl]' && pip install --no-deps bfcl-eval=={VERSION}"

CATEGORIES = ("base", "miss_func", "miss_param", "long_context")
ENTRIES = 200
NAMES: Mapping[str, tuple[str, ...]] = {
    category: tuple(f"{category}/{number}" for number in range(ENTRIES)) for category in CATEGORIES
}
"""The task names of each category: `base/0` is the package's `multi_turn_base_0`."""


class NotInstalled(MissingExtra):
    """`bfcl-eval` is missing; its own dependency list is not to be installed, which no extra can say."""

    def __init__(self) -> None:
        BadInput.__init__(
            self,
            "bfcl-eval is not installed; it has to be without the thirty packages that it lists and that its API "
            f"classes do not use, so run: {INSTALL}",
        )
        self.extra = "bfcl"

    def __reduce__(self) -> tuple[type[NotInstalled], tuple[()]]:
        return type(self), ()


@dataclass(frozen=True)
class Entry:
    """One entry of the benchmark.

    Attributes:
        category, number: `base`, 0 for `multi_turn_base_0`.
        requests: what the user says in each turn; empty where functions are handed in later instead.
        classes: names of the API classes, in the package's order.
        config: class name -> what its instance is loaded with.
        truth: the calls of the ground truth, turn by turn.
        withheld: turn -> names of the functions that the agent is told of in that turn only. As in the package's runner
            they can be called before, by who guesses them; the ground truth of miss_func/49 does.
    """

    category: str
    number: int
    requests: tuple[str, ...]
    classes: tuple[str, ...]
    config: Mapping[str, Any]
    truth: tuple[tuple[Call, ...], ...]
    withheld: Mapping[int, tuple[str, ...]]

    @property
    def name(self) -> str:
        """As a task is called."""
        return f"{self.category}/{self.number}"

    @property
    def long(self) -> bool:
        """Are the worlds filled up with what nobody asks for."""
        return self.category == "long_context"

    def functions(self, turn: int) -> dict[str, dict[str, Any]]:
        """Name -> documentation (JSON schema) of every function that the agent knows of in this turn."""
        hidden = {name for opened, names in self.withheld.items() if opened > turn for name in names}
        docs = (doc for name in self.classes for doc in documentation(name))
        return {doc["name"]: doc for doc in docs if doc["name"] not in hidden}


def folder() -> Path:
    """Where the package lies. Raises NotInstalled."""
    try:
        found = util.find_spec("bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker")
        ready = util.find_spec("mpmath") is not None
    except ModuleNotFoundError:
        found, ready = None, False
    if found is None or found.origin is None or not ready:
        raise NotInstalled()
    return Path(found.origin).parents[2]


def version() -> str:
    """The version that is installed. Raises NotInstalled."""
    folder()
    return metadata.version("bfcl-eval")


def why_not_ready() -> str | None:
    """Why BFCL cannot run on this machine, or None."""
    try:
        folder()
    except BadInput as error:
        return str(error)
    return None


def entry(name: str) -> Entry:
    """An entry by the name of its task. Raises BadInput for a name that is none, NotInstalled."""
    found = re.fullmatch(r"([a-z_]+)/(0|[1-9][0-9]{0,2})", name)
    if found is None or found[1] not in CATEGORIES or int(found[2]) >= ENTRIES:
        raise BadInput(
            f"{name!r} is no BFCL task; they look like 'base/17' with a category of {', '.join(CATEGORIES)} and a "
            f"number of 0 to {ENTRIES - 1}"
        )
    return _entries(found[1])[int(found[2])]


@lru_cache(maxsize=len(CATEGORIES))
def _entries(category: str) -> tuple[Entry, ...]:
    data, file = folder() / "data", f"BFCL_v4_multi_turn_{category}.json"
    rows, answers = _lines(data / file), _lines(data / "possible_answer" / file)
    try:
        truths = {answer["id"]: answer["ground_truth"] for answer in answers}
        entries = tuple(_entry(category, number, row, truths[row["id"]]) for number, row in enumerate(rows))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadInput(f"{data / file} is not as in bfcl-eval {VERSION}: {error!r}; run: {INSTALL}") from None
    if len(entries) != ENTRIES:
        raise BadInput(f"{data / file} has {len(entries)} entries, not {ENTRIES}; run: {INSTALL}")
    return entries


def _entry(category: str, number: int, row: Mapping[str, Any], truth: Sequence[Sequence[str]]) -> Entry:
    if row["id"] != f"multi_turn_{category}_{number}" or len(truth) != len(row["question"]):
        raise ValueError(row["id"])
    return Entry(
        category=category,
        number=number,
        requests=tuple("\n".join(message["content"] for message in turn) for turn in row["question"]),
        classes=tuple(row["involved_classes"]),
        config=row["initial_config"],
        truth=tuple(tuple(_truth(text) for text in turn) for turn in truth),
        withheld={int(turn): tuple(names) for turn, names in row.get("missed_function", {}).items()},
    )


def _truth(text: str) -> Call:
    (call,) = read(text).calls
    return call


@lru_cache(maxsize=16)
def documentation(class_name: str) -> tuple[dict[str, Any], ...]:
    """What the benchmark tells about the functions of an API class. Raises NotInstalled."""
    root = folder()
    from bfcl_eval.constants.executable_backend_config import MULTI_TURN_FUNC_DOC_FILE_MAPPING as files

    return tuple(_lines(root / "data" / "multi_turn_func_doc" / files[class_name]))


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}); run: {INSTALL}") from None

"""MBPP (Austin et al., arXiv 2108.07732): 974 short problems of three asserts each; 427 are sanitized.

The official splits by task id: 1 to 10 are for prompts, 11 to 510 test, 511 to 600 validation, 601 to 974 train. The
agent is shown the first assert (without it nobody could know the function's name); all of them decide. The field shows
all asserts in the prompt, and so does the protocol `single`.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from palaestra.envs.code.problem import Problem
from palaestra.envs.data import data_file, data_folder, read_data
from palaestra.envs.errors import BadInput

FILE, SANITIZED = "mbpp.jsonl", "sanitized-mbpp.json"

RANGES = {"train": (601, 974), "validation": (511, 600), "test": (11, 510), "prompt": (1, 10)}

_SANITIZED_IDS = """\
2-4 6-9 11-12 14 16-20 56-59 61-72 74-75 77 79-80 82-106 108-109 111 113 115-120 123-133 135 137-143 145 160-168
170-172 222-224 226-230 232-235 237-240 242 244-253 255-257 259-262 264-274 276-287 290-297 299-301 304-312
388-401 404-415 417-422 424-448 450-465 468 470-479 554-560 562-569 572-574 576-600 602-608 610-612 614-620
622-633 635 637-641 643-644 720-726 728 730-760 762-767 769-773 775-788 790-794 796-809"""


def _ids() -> list[int]:
    """Of the sanitized problems: numbers and ranges of them."""
    found: list[int] = []
    for part in _SANITIZED_IDS.split():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def splits(sanitized: bool) -> dict[str, tuple[str, ...]]:
    """Names of the problems by official split, without the data."""
    ids = _ids() if sanitized else range(1, 975)
    return {
        split: tuple(f"MBPP/{number}" for number in ids if first <= number <= last)
        for split, (first, last) in RANGES.items()
    }


def problems(sanitized: bool) -> dict[str, Problem]:
    """All problems by name. Raises BadInput where the data is not here or is not what it should be."""
    return _read(data_folder("mbpp", SANITIZED if sanitized else FILE), sanitized)


@lru_cache(maxsize=2)
def _read(folder: Path, sanitized: bool) -> dict[str, Problem]:
    file = SANITIZED if sanitized else FILE
    try:
        raw = read_data(data_file(folder, file))
        rows = json.loads(raw) if sanitized else [json.loads(line) for line in raw.splitlines() if line.strip()]
        found = {f"MBPP/{row['task_id']}": _problem(row) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder}/{file} is not MBPP: {type(error).__name__}: {error}") from error
    wanted = [name for names in splits(sanitized).values() for name in names]
    if sorted(found) != sorted(wanted):
        raise BadInput(f"{folder}/{file} holds {len(found)} problems, not MBPP's {len(wanted)}")
    return found


def _problem(row: dict[str, Any]) -> Problem:
    tests = tuple(test.strip() for test in row["test_list"])
    text = (row.get("prompt") or row["text"]).strip()
    code = row["code"].replace("\r\n", "\n").rstrip() + "\n"
    return Problem(
        statement=f"{text}\nPut it into solution.py. An example that it must pass:\n\n{tests[0]}",
        entry=_entry(code, tests),
        visible=tests[:1],
        hidden=tests,
        judge="data",
        prelude="\n".join(row.get("test_imports", [])),
        setup=row.get("test_setup_code", "").replace("\r\n", "\n"),
        solution={"solution.py": code},
    )


def _entry(code: str, tests: tuple[str, ...]) -> str:
    """The function that the tests are about: the first that the solution defines and they call."""
    defined = set(re.findall(r"^[ \t]*(?:def|class)[ \t]+(\w+)", code, re.MULTILINE))
    return next((name for test in tests for name in re.findall(r"\w+", test) if name in defined), "")

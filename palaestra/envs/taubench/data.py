"""tau-bench's files: databases, policies, tool schemas and tasks of a domain, read once and never changed."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from palaestra.envs.data import data_file, data_folder, read_data
from palaestra.envs.errors import BadInput
from palaestra.envs.tools.calls import Call

Record = dict[str, Any]
"""One row of a table: a user, an order, a reservation, ... What JSON holds."""

Tables = Mapping[str, Mapping[str, Record]]
"""Table -> id -> row. Shared by all episodes: only `World` may make changed rows."""

NAME = "tau_bench"
TABLES = {"airline": ("flights", "reservations", "users"), "retail": ("orders", "products", "users")}
SIZES = {"airline": {"test": 50}, "retail": {"train": 500, "dev": 20, "test": 115}}
"""Tasks of each split."""

_lock = threading.Lock()

RELEASES = ("current", "recorded")
RECORDINGS = "gpt-4o-airline_trajectories.json"


@dataclass(frozen=True)
class TauTask:
    """One task.

    Attributes:
        user: id of the user who calls.
        instruction: what the user is told to want and how to behave. The agent never sees it.
        actions: the calls of the ground truth, in order.
        outputs: what the agent must have told the user, somewhere.
    """

    user: str
    instruction: str
    actions: tuple[Call, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Domain:
    """All of a domain.

    Attributes:
        name: `airline` or `retail`.
        tables: the databases.
        policy: what the agent must follow, Markdown.
        schemas: of the tools, as chat APIs take them: name, description, parameters.
        tasks: split of the files -> its tasks.
        digest: of the files' content.
    """

    name: str
    tables: Tables
    policy: str
    schemas: tuple[Mapping[str, Any], ...]
    tasks: Mapping[str, tuple[TauTask, ...]]
    digest: str


def names(domain: str, split: str) -> tuple[str, ...]:
    """The task names of a split of the files: numbers, with the split before them where there are several."""
    mark = "" if len(SIZES[domain]) == 1 else f"{split}/"
    return tuple(f"{mark}{number}" for number in range(SIZES[domain][split]))


def why_not_ready() -> str | None:
    """Why tau-bench cannot run on this machine, or None."""
    try:
        for domain in TABLES:
            _folder(domain)
    except BadInput as error:
        return str(error)
    return None


def load(domain: str, release: str = "current") -> Domain:
    """A domain.

    Args:
        domain: `airline` or `retail`.
        release: `current`, or `recorded`: the databases as they were when the GPT-4o episodes were recorded, when
            users' addresses said `province` instead of `state`. Nothing else differs.

    Raises:
        BadInput: the data set is not here, or a file is not as it should be; says which, and what to do.
    """
    folder = _folder(domain)
    with _lock:  # many instances start at once, and one copy is enough
        return _load(domain, release, folder)


def task(domain: Domain, name: str) -> TauTask:
    """A task by name. Raises BadInput for a name that is none."""
    for split, tasks in domain.tasks.items():
        if name in (known := _numbers(domain.name, split)):
            return tasks[known[name]]
    first = names(domain.name, next(iter(SIZES[domain.name])))
    raise BadInput(f"{name!r} is no task of tau-bench's {domain.name}; they look like {first[0]!r} or {first[-1]!r}")


@lru_cache(maxsize=8)
def _numbers(domain: str, split: str) -> dict[str, int]:
    return {name: number for number, name in enumerate(names(domain, split))}


def _folder(domain: str) -> Path:
    files = [f"{domain}_{table}.json" for table in TABLES[domain]]
    files += [f"{domain}_tasks_{split}.json" for split in SIZES[domain]]
    return data_folder(NAME, *files, f"{domain}_wiki.md", f"{domain}_tool_schemas.json")


@lru_cache(maxsize=4)
def _load(domain: str, release: str, folder: Path) -> Domain:
    seen = hashlib.sha256(release.encode())

    def content(name: str) -> bytes:
        raw = read_data(data_file(folder, f"{domain}_{name}"))
        seen.update(raw)
        return raw

    tables = {table: _table(folder, f"{domain}_{table}.json", content(f"{table}.json")) for table in TABLES[domain]}
    if release == "recorded":
        for user in tables["users"].values():
            user["address"] = {("province" if key == "state" else key): at for key, at in user["address"].items()}
    schemas = _json(folder, f"{domain}_tool_schemas.json", content("tool_schemas.json"))
    try:
        functions = tuple(each["function"] for each in schemas)
        for each in functions:
            each["name"], each["description"], each["parameters"]["properties"], each["parameters"]["required"]
    except (KeyError, TypeError) as error:
        raise _damaged(folder, f"{domain}_tool_schemas.json", f"a tool lacks {error}") from None
    tasks = {split: _tasks(folder, domain, split, content(f"tasks_{split}.json")) for split in SIZES[domain]}
    policy = content("wiki.md").decode("utf-8", "replace").strip()
    return Domain(domain, tables, policy, functions, tasks, seen.hexdigest()[:16])


def _table(folder: Path, name: str, raw: bytes) -> dict[str, Record]:
    table = _json(folder, name, raw)
    if not isinstance(table, dict) or not table or not all(isinstance(row, dict) for row in table.values()):
        raise _damaged(folder, name, "it is no object of objects")
    return table


def _tasks(folder: Path, domain: str, split: str, raw: bytes) -> tuple[TauTask, ...]:
    name = f"{domain}_tasks_{split}.json"
    rows = _json(folder, name, raw)
    if not isinstance(rows, list) or len(rows) != SIZES[domain][split]:
        found = f"{len(rows)} tasks" if isinstance(rows, list) else "no list of tasks"
        raise _damaged(folder, name, f"it holds {found}, not {SIZES[domain][split]}")
    tasks = []
    for number, row in enumerate(rows):
        try:
            tasks.append(task_of(row))
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(folder, name, f"task {number}: {error!r}") from None
    return tuple(tasks)


def task_of(row: Mapping[str, Any]) -> TauTask:
    """A task as the files have it. Raises KeyError, TypeError or ValueError for what is none."""
    calls = tuple(Call(action["name"], dict(action["kwargs"])) for action in row["actions"])
    texts = [row["user_id"], row["instruction"], *row["outputs"], *(call.name for call in calls)]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("user_id, instruction, outputs and the names of actions are texts")
    return TauTask(row["user_id"], row["instruction"], calls, tuple(row["outputs"]))


def recordings() -> Sequence[Record]:
    """The recorded GPT-4o episodes of airline. Raises BadInput where they are not here or cannot be read."""
    folder = data_folder(NAME, RECORDINGS)
    rows = _json(folder, RECORDINGS, read_data(data_file(folder, RECORDINGS)))
    if not isinstance(rows, list):
        raise _damaged(folder, RECORDINGS, "it is no list")
    return rows


def _json(folder: Path, name: str, raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, name, str(error)) from None


def _damaged(folder: Path, name: str, what: str) -> BadInput:
    return BadInput(
        f"{data_file(folder, name)} is not as tau-bench has it ({what}); get it again: palaestra data get {NAME}"
    )

"""Task files in WebVoyager's form (arXiv 2401.13919): JSON Lines with `web_name`, `id`, `ques` and `web`.

Beside these a line may have `answer` (a text or several, any of which is right), `split` ("test" where it is missing),
`hosts` (further hosts that may be visited) and `via` (how an oracle gets to the answer, see `web_tasks.gold`). What
else it has is left alone. WebVoyager keeps reference answers in a file of their own, which is read, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePath
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palaestra.envs.browser import given
from palaestra.envs.browser.gate import Allowed
from palaestra.envs.errors import BadInput
from palaestra.envs.fingerprint import digest


class WebTask(BaseModel):
    """A line of a task file; see above."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    web_name: str = ""
    id: str = Field(min_length=1, max_length=200)
    ques: str = Field(min_length=1)
    web: str
    answer: str | tuple[str, ...] = ()
    split: str = Field(default="test", min_length=1)
    hosts: tuple[str, ...] = ()
    via: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """The answers that are right; one without a character is none."""
        given = (self.answer,) if isinstance(self.answer, str) else self.answer
        return tuple(answer for answer in given if answer.strip())

    @property
    def allowed(self) -> tuple[str, ...]:
        """The page's own host with its sub-domains (and that without a leading www), and `hosts`."""
        parts = urlsplit(self.web)
        host = (parts.hostname or "").removeprefix("www.")
        number = host.replace(".", "").isdigit() or ":" in host  # an address of a machine has no sub-domains
        host = f"[{host}]" if ":" in host else host
        own = f"{host}:{parts.port}" if parts.port else host
        return (own if number else f"*.{own}", *self.hosts)


class TaskFile:
    """The tasks of a file.

    Attributes:
        tasks: by id, in the order of the file.
        splits: names by split, "train" first.
        hash: of the content.
    """

    def __init__(self, tasks: Mapping[str, WebTask], content_hash: str) -> None:
        self.tasks, self.hash = tasks, content_hash
        found = list(dict.fromkeys(task.split for task in tasks.values()))
        found.sort(key=lambda split: (split != "train", split == "test"))
        self.splits = {split: tuple(n for n, task in tasks.items() if task.split == split) for split in found}


def read(path: str | PurePath, references: str | PurePath | None = None) -> TaskFile:
    """Read a task file, once for as long as it is not changed.

    Args:
        references: a file of reference answers in WebVoyager's form; answers in the lines themselves go first.

    Raises:
        BadInput: it cannot be read; a line is no task, names an address or a host that is none, or an id twice. Says
            which line.
    """
    answers = str(given.path("references", references)) if references is not None else None
    tasks = str(given.path("file", path))
    return _read(tasks, answers, _stamp(tasks), _stamp(answers) if answers is not None else None)


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        about = os.stat(path)
        return about.st_mtime_ns, about.st_size
    except OSError:
        return None


@lru_cache(maxsize=32)
def _read(path: str, references: str | None, *_stamps: tuple[int, int] | None) -> TaskFile:
    text = _content(path)
    answers = _references(references) if references is not None else {}
    tasks: dict[str, WebTask] = {}
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: U+2028 may stand inside of JSON
        if not line.strip():
            continue
        task = _task(line, f"{path}, line {number}")
        if task.id in tasks:
            raise BadInput(f"{path}, line {number}: the id {task.id!r} stands there twice")
        if not task.references and task.id in answers:
            task = task.model_copy(update={"answer": answers[task.id]})
        tasks[task.id] = task
    if not tasks:
        raise BadInput(f"{path} holds no task; a line is {{'web_name', 'id', 'ques', 'web'}} in JSON")
    return TaskFile(tasks, digest(text + repr(sorted(answers.items()))))


def _task(line: str, where: str) -> WebTask:
    try:
        task = WebTask.model_validate_json(line)
        parts = urlsplit(task.web)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{where}: {name + ': ' if name else ''}{first['msg']}") from None
    except ValueError:  # a port that is no number
        good = False
    if not good:
        raise BadInput(f"{where}: web: {task.web!r} is no address that begins with http:// or https://")
    try:
        Allowed(task.allowed)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
    return task


def _references(path: str) -> dict[str, tuple[str, ...]]:
    """WebVoyager's `reference_answer.json`: {site: {"answers": [{"id": 0, "ans": "..."}]}}."""
    try:
        sites = json.loads(_content(path))
        return {
            f"{site}--{entry['id']}": (str(entry["ans"]),)
            for site, known in sites.items()
            for entry in known["answers"]
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        form = '{"SITE": {"answers": [{"id": 0, "ans": "..."}]}}'
        raise BadInput(f"{path} does not hold reference answers as {form} ({error!r})") from None


def _content(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None

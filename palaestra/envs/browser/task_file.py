"""Task files in WebVoyager's form (arXiv 2401.13919): JSON Lines with `web_name`, `id`, `ques` and `web`.

Beside these a line may have `answer` (a text or several, any of which is right), `split` ("test" where it is missing),
`hosts` (further hosts that may be visited) and `via` (how an oracle gets to the answer, see `web_tasks.gold`). What
else it has is left alone. WebVoyager keeps reference answers in a file of their own, which is read, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palaestra.envs.core import digest
from palaestra.envs.errors import BadInput


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
        """The answers that are right."""
        return (self.answer,) if isinstance(self.answer, str) else self.answer

    @property
    def allowed(self) -> tuple[str, ...]:
        """The page's own host with its sub-domains (and that without a leading www), and `hosts`."""
        parts = urlsplit(self.web)
        host = (parts.hostname or "").removeprefix("www.")
        own = f"{host}:{parts.port}" if parts.port else host
        return (own if host.replace(".", "").isdigit() else f"*.{own}", *self.hosts)


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


@lru_cache(maxsize=32)
def read(path: str, references: str | None = None) -> TaskFile:
    """Read a task file.

    Args:
        references: a file of reference answers in WebVoyager's form; answers in the lines themselves go first.

    Raises:
        BadInput: it cannot be read; a line is no task, names an address that is none, or an id twice. Says which line.
    """
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
        raise BadInput(f"the file {path} cannot be read: {error}") from None

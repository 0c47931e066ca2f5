"""Episodes out of a store and into one: Parquet, our own JSON lines (both lossless), and the chat forms of others.

    export_episodes(store, "won.parquet", outcome="success")
    export_chats(store, "sft.jsonl", form="messages", conversation=Conversation(), instructions="...")
    import_episodes(store, "won.parquet")
    import_conversations(store, "experts.json", env="scienceworld", naming=lambda record: names[record["item_id"]])

A file is written whole or not at all; a file with one bad line is not imported at all.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path as FilePath
from typing import Any, TypeVar, Unpack

from pydantic import ValidationError

from palaestra.agents.chat_files import CHAT_FORMS, Naming, chat_records, check_form, read_conversations
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Actor, Episode, Path
from palaestra.agents.forest import Forest
from palaestra.agents.packing import pack_whole, unpack_whole
from palaestra.agents.parquet import read_parquet, write_parquet
from palaestra.agents.record_files import Broken, Record, line_of, read_records, what_is_wrong, whole_file
from palaestra.agents.selection import Where
from palaestra.agents.store import EpisodeStore
from palaestra.envs import Task, find
from palaestra.envs.errors import BadInput

__all__ = [
    "CHAT_FORMS",
    "chat_lines",
    "check_form",
    "episode_line",
    "export_chats",
    "export_episodes",
    "import_conversations",
    "import_episodes",
    "read_episodes",
    "with_ancestors",
    "write_episodes",
]

T = TypeVar("T")

AnyPath = str | os.PathLike[str]

# JSON has one spelling for an astral character and for two surrogates side by side.
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def write_episodes(episodes: Iterable[Episode], path: AnyPath) -> int:
    """Write episodes losslessly: Parquet if the name ends in `.parquet`, else JSON lines. Returns how many.

    Raises:
        BadInput: the file cannot be written. MissingExtra: Parquet without pyarrow.
    """
    file, count = FilePath(path), 0
    if file.suffix == ".parquet":
        return write_parquet(episodes, file)
    with whole_file(file) as draft, draft.open("w", encoding="utf-8", newline="\n") as lines:
        for episode in episodes:
            lines.write(episode_line(episode))
            count += 1
    return count


def episode_line(episode: Episode) -> str:
    """An episode as a line of our own JSON lines, lossless."""
    record: Record = episode.model_dump()
    if _PAIR.search(_texts(record)):
        record["exact"] = base64.b64encode(pack_whole(episode)).decode()
    return line_of(record)


def read_episodes(path: AnyPath, broken: Broken | None = None) -> Iterator[Episode]:
    """Episodes that `write_episodes` wrote. Raises BadInput with file, line and what is wrong, or tells `broken`."""
    file = FilePath(path)
    if file.suffix == ".parquet":
        yield from read_parquet(file)
        return
    for where, record in read_records(file, broken):
        try:
            episode = _episode(where, record)
        except BadInput as error:
            if broken is None:
                raise
            broken(error)
            continue
        yield episode


def _episode(where: str, record: Record) -> Episode:
    try:
        exact = record.pop("exact", None)
        return Episode.model_validate(record) if exact is None else unpack_whole(base64.b64decode(exact))
    except ValidationError as error:
        raise BadInput(f"{where}: not an episode ({what_is_wrong(error)})") from None
    except (binascii.Error, zlib.error, struct.error, ValueError, TypeError) as error:
        raise BadInput(f"{where}: its field 'exact' is damaged ({error})") from None


def export_episodes(
    store: Forest, path: AnyPath, *, each: Callable[[], None] | None = None, **where: Unpack[Where]
) -> int:
    """Write the episodes that pass the filters, and the ancestors of forks among them, before their forks.

    The ancestors come along so that the file can be imported anywhere. Returns how many were written.

    Args:
        each: called before each of them is written.
    """
    return write_episodes(_told(_with_ancestors(store, where), each), path)


def with_ancestors(store: Forest, **where: Unpack[Where]) -> int:
    """How many episodes `export_episodes` would write."""
    chosen = {head.id: head.parent for head in store.heads(**where)}
    missing = {parent for parent in chosen.values() if parent is not None and parent not in chosen}
    for id in tuple(missing):
        missing |= {head.id for head in store.ancestors(id) if head.id not in chosen}
    return len(chosen) + len(missing)


def export_chats(
    store: Forest,
    path: AnyPath,
    *,
    form: str,
    conversation: Conversation,
    instructions: str | Callable[[Task], str] | None = None,
    each: Callable[[], None] | None = None,
    **where: Unpack[Where],
) -> int:
    """Write the whole paths of the episodes that pass the filters as chat records. Returns the number of records.

    Args:
        form: one of `CHAT_FORMS`; see `chat_files`.
        conversation: how a path is shown.
        instructions: what the agent is told first, or a function of the task (`TextEnv.instructions`); None takes the
            registration's.
        each: called before the records of each path are written.

    Raises:
        BadInput: unknown form, a conversation that lists actions, no instructions, or the file cannot be written.
    """
    check_form(form, conversation)
    file, count = FilePath(path), 0
    with whole_file(file) as draft, draft.open("w", encoding="utf-8", newline="\n") as lines:
        for whole in _told(store.paths(**where), each):
            for line in chat_lines(whole, form, conversation, instructions):
                lines.write(line)
                count += 1
    return count


def chat_lines(
    path: Path, form: str, conversation: Conversation, instructions: str | Callable[[Task], str] | None = None
) -> Iterator[str]:
    """A path as lines of chat records; arguments and errors as `export_chats`."""
    told = _instructions(path.episode.start.task, instructions)
    for record in chat_records(path, form, conversation, told):
        yield line_of(record)


def import_episodes(store: EpisodeStore, path: AnyPath) -> int:
    """Add all episodes of a file that `write_episodes` wrote, in one transaction. Returns how many were new.

    Raises:
        BadInput: the first line that is wrong, with file and number, or see `EpisodeStore.add_all`; nothing is added.
    """
    return _import(store, lambda: read_episodes(path))


def import_conversations(
    store: EpisodeStore,
    path: AnyPath,
    *,
    env: str | None = None,
    naming: Naming | None = None,
    conversation: Conversation | None = None,
    actor: Actor = Actor.EXPERT,
    policy: str | None = None,
    score: float | None = 1.0,
) -> int:
    """Add recorded conversations as episodes, in one transaction; arguments and errors as `read_conversations`.

    Importing the same file again adds nothing. Returns how many were new.
    """
    rest: dict[str, Any] = {"conversation": conversation, "actor": actor, "policy": policy, "score": score}
    return _import(store, lambda: read_conversations(FilePath(path), env=env, naming=naming, **rest))


def _import(store: EpisodeStore, read: Callable[[], Iterable[Episode]]) -> int:
    for _ in read():  # find what is wrong before the store is locked; reading twice keeps memory flat
        pass
    return store.add_all(read())


def _told(items: Iterable[T], each: Callable[[], None] | None) -> Iterator[T]:
    for item in items:
        if each is not None:
            each()
        yield item


def _with_ancestors(store: Forest, where: Where) -> Iterator[Episode]:
    written: set[str] = set()
    for episode in store.episodes(**where):
        if episode.start.parent is not None and episode.start.parent not in written:
            for ancestor in reversed(store.ancestors(episode.id)):
                if ancestor.id not in written:
                    written.add(ancestor.id)
                    yield store.get(ancestor.id)
        if episode.id not in written:
            written.add(episode.id)
            yield episode


def _instructions(task: Task, instructions: str | Callable[[Task], str] | None) -> str:
    if instructions is None:
        instructions = find(task.env).instructions
        if not instructions:
            raise BadInput(f"{task.env} is registered without instructions; pass instructions=")
    return instructions if isinstance(instructions, str) else instructions(task)


def _texts(value: object) -> str:
    """All texts of an episode's record, apart from each other, to be searched."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "\n".join(_texts(item) for pair in value.items() if pair[0] != "tokens" for item in pair)
    return "\n".join(map(_texts, value)) if isinstance(value, (list, tuple)) else ""

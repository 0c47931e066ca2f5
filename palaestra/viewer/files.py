"""The files of a code task: what the agent's work directory held after each turn, and what the turn changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palaestra.agents.episode import Path
from palaestra.envs.code.work import WorkFile, files_of
from palaestra.envs.errors import BadInput
from palaestra.viewer import differences
from palaestra.viewer.table import Shown

Work = Mapping[str, WorkFile]
MOST_NAMED, MOST_DIFFS, PIECE = 8, 20, 200_000


class Works:
    """The work directories along a path, unpacked when first asked for.

    Args:
        store: where the path is; what was kept of a step lies beside the episode that took it.
        path: an episode with all that came before it.
    """

    def __init__(self, store: Shown, path: Path) -> None:
        self._store, self._path = store, path
        self._found: dict[int, Work | None] = {}

    def at(self, step: int) -> Work | None:
        """What was there after so many actions; None where that is not known."""
        if step not in self._found:
            kept = self._kept(step)
            self._found[step] = files_of(kept) if kept is not None else None
        return self._found[step]

    def touched(self, step: int) -> list[list[str]] | None:
        """What the action of a turn changed, [mark, path] each: "+" new, "~" changed, "-" gone; None: not known."""
        before, after = self.at(step), self.at(step + 1)
        if before is None or after is None:
            return None
        marks = [
            [mark, path] for path in sorted({*before, *after}) if (mark := _mark(before.get(path), after.get(path)))
        ]
        return [each for each in marks if each[1] and _is_file(before, after, each[1])]

    def _kept(self, step: int) -> bytes | None:
        path, store = self._path, self._store
        by = path.origins[max(0, step - 1)] if path.origins else path.episode.id
        if step == 0 and path.episode.start.parent is not None:
            by = store.ancestors(path.episode.id)[-1].id  # a fork at the reset keeps nothing there
        return store.kept_steps(by).get(step)


def _is_file(before: Work, after: Work, path: str) -> bool:
    return any(work[path].kind in ("file", "link") for work in (before, after) if path in work)


def _mark(before: WorkFile | None, after: WorkFile | None) -> str:
    if before is None:
        return "+"
    if after is None:
        return "-"
    return "" if (before.kind, before.size, before.content) == (after.kind, after.size, after.content) else "~"


def marks(store: Shown, path: Path, first: int, count: int) -> list[dict[str, Any] | None]:
    """For some turns in a row what each changed: the first names and how many there are; None where nobody knows."""
    works, found = Works(store, path), list[dict[str, Any] | None]()
    for step in range(first, min(len(path.turns), first + count)):
        touched = works.touched(step)
        found.append(None if touched is None else {"touched": touched[:MOST_NAMED], "count": len(touched)})
    return found


def directory(store: Shown, path: Path, step: int) -> dict[str, Any]:
    """The work directory after a turn: its entries, and the lines that the turn changed.

    Args:
        step: the turn; -1 is the start.

    Returns:
        `entries` is None where it is not known what was there.

    Raises:
        BadInput: there is no such turn.
    """
    if not -1 <= step < len(path.turns):
        raise BadInput(f"there is no turn {step}")
    works = Works(store, path)
    after, before = works.at(step + 1), works.at(step) if step >= 0 else None
    if after is None:
        return {"step": step, "compared": False, "entries": None}
    entries = [_entry(path_, each, before) for path_, each in after.items()]
    entries += [
        _entry(path_, each, None) | {"mark": "-"} for path_, each in (before or {}).items() if path_ not in after
    ]
    changed = [each for each in entries if each["mark"] and each["kind"] == "file"]
    for each in changed[:MOST_DIFFS]:
        old, new = ((work or {}).get(each["path"]) for work in (before, after))
        one, other = (file.text if file is not None else "" for file in (old, new))
        if one is not None and other is not None:
            each["lines"] = differences.by_lines(one, other)
    return {"step": step, "compared": before is not None, "entries": entries}


def _entry(path: str, entry: WorkFile, before: Work | None) -> dict[str, Any]:
    mark = _mark(before.get(path), entry) if before is not None else ""
    about = {"path": path, "kind": entry.kind, "size": entry.size, "mark": mark, "text": entry.text is not None}
    return about | ({"to": entry.text or ""} if entry.kind == "link" else {})


def content(store: Shown, path: Path, step: int, name: str, first: int) -> dict[str, Any]:
    """`PIECE` characters of a file as it was after a turn. Raises BadInput: no such file, or it holds no text."""
    work = Works(store, path).at(step + 1) if -1 <= step < len(path.turns) else None
    file = (work or {}).get(name)
    if file is None or file.kind != "file":
        raise BadInput(f"there was no file {name[:200]!r} after turn {step}")
    text = file.text
    if text is None:
        raise BadInput(f"{name[:200]!r} holds no text")
    return {
        "text": text[max(0, first) : max(0, first) + PIECE],
        "length": len(text),
        "cut": len(file.content) < file.size,
    }

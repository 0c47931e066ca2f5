"""Which games ALFWorld's release has: their names, known without the data, and their files where it is there.

A task's name is its type and a number, such as `pick_heat_then_place_in_recep/17`. The numbers of a type run through
valid_unseen, valid_seen and train, in the order of the release's folder names within each, so that a name is of one
split only. (`Release.path` says which folder that is.)

The paper (Shridhar et al., arXiv 2010.03768) counts 3,553 training games. The release as it is distributed today holds
3,554 that its own loader keeps, one `pick_clean_then_place_in_recep` more than the 650 of the paper; the loader has no
rule that would leave one of them out, so we leave none out either. A copy that holds only 650 of that type lacks the
last number.
"""

from __future__ import annotations

import difflib
import math
import os
import time
from functools import lru_cache
from pathlib import Path

from palaestra.envs.alfworld.archive import TYPES, Games, Recorded, Source
from palaestra.envs.alfworld.files import GameFile
from palaestra.envs.data import data_folder
from palaestra.envs.errors import BadInput

__all__ = ["COUNTS", "SPLITS", "TYPES", "Recorded", "Release", "names", "parse", "release"]

SPLITS = ("train", "valid_seen", "valid_unseen")
"""The official splits: training games, new games in rooms seen in training, games in other rooms."""

COUNTS: dict[str, dict[str, int]] = {
    "valid_unseen": dict(zip(TYPES, (24, 18, 31, 23, 21, 17), strict=True)),
    "valid_seen": dict(zip(TYPES, (35, 13, 27, 16, 25, 24), strict=True)),
    "train": dict(zip(TYPES, (790, 308, 651, 459, 533, 813), strict=True)),
}
"""Split -> type -> number of games; numbers of names run through them in this order."""


_FRESH_S = 5.0
"""Seconds for which the walk through a split's folders holds."""


def _numbers(kind: str, split: str) -> range:
    """The numbers of a type's games in a split."""
    begin = 0
    for each, counts in COUNTS.items():
        if each == split:
            return range(begin, begin + counts[kind])
        begin += counts[kind]
    raise BadInput(f"ALFWorld has no split {split!r}; it has: {', '.join(SPLITS)}")


@lru_cache(maxsize=4)
def names(split: str) -> tuple[str, ...]:
    """All task names of an official split: 3,554 train, 140 valid_seen, 134 valid_unseen. Raises BadInput."""
    return tuple(f"{kind}/{number}" for kind in TYPES for number in _numbers(kind, split))


def parse(name: str) -> tuple[str, str, int]:
    """Split, type, and number within the split of a name. Raises BadInput: there is no such task."""
    kind, _, number = name.partition("/")
    if kind not in TYPES:
        near = difflib.get_close_matches(kind, TYPES, n=1, cutoff=0.4)
        raise BadInput(f"ALFWorld has no task type {kind!r}{f'; did you mean {near[0]}?' if near else ''}")
    if number.isascii() and number.isdigit() and len(number) < 6 and str(int(number)) == number:
        for split in COUNTS:
            if int(number) in _numbers(kind, split):
                return split, kind, int(number) - _numbers(kind, split).start
    last = sum(counts[kind] for counts in COUNTS.values()) - 1
    raise BadInput(f"ALFWorld has no task {name!r}: there are {kind}/0 to {kind}/{last}")


class Release:
    """The games of a data folder: the release's archives or its folders.

    Args:
        folder: where they lie. Each split is looked at when its first game is asked for; in folders, changes are seen
            some seconds later.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._splits: dict[tuple[str, str], Games] = {}
        self._seen: dict[str, tuple[float, Source]] = {}

    def file(self, name: str) -> GameFile:
        """The game of a task. Raises BadInput: no such task, or it is not here, or cannot be read."""
        split, kind, number = parse(name)
        return self.games(split).file(kind, number)

    def expert(self, name: str) -> Recorded | None:
        """The recorded expert episode of a training task, where the data has one. Errors as `file`."""
        split, kind, number = parse(name)
        return self.games(split).expert(kind, number)

    def path(self, name: str) -> str:
        """The release's folder of a task: `SPLIT/TASK/TRIAL`. Errors as `file`."""
        split, kind, number = parse(name)
        return f"{split}/{self.games(split).path(kind, number)}"

    def name(self, path: str) -> str:
        """The task of a folder, `SPLIT/TASK/TRIAL`. Raises BadInput when there is none."""
        split, _, rest = path.partition("/")
        found = self.games(split).find(rest) if split in SPLITS else None
        if found is None:
            raise BadInput(f"{self.folder} has no game {path!r}; games are called SPLIT/TASK/TRIAL")
        kind, number = found
        return f"{kind}/{_numbers(kind, split).start + number}"

    def games(self, split: str) -> Games:
        """The games of a split. Raises BadInput: they are not here, or cannot be read."""
        source = self._source(split)
        if source is None:
            raise BadInput(
                f"{self.folder} has no split {split!r} of ALFWorld (no alfworld_{split}.tar.xz, no "
                f"json_2.1.1/{split}); run: palaestra data get alfworld"
            )
        if (split, source.key) not in self._splits:
            self._splits[split, source.key] = Games(source)
        return self._splits[split, source.key]

    @property
    def fingerprint(self) -> str:
        """Says which games these are: a hash for each split that is here."""
        sources = [self._source(split) for split in SPLITS]
        return " ".join(f"{source.split} {source.key}" for source in sources if source is not None) or "no games"

    def _source(self, split: str) -> Source | None:
        """Where a split lies. Thousands of folders are not walked through for every game."""
        now = time.monotonic()
        when, source = self._seen.get(split, (-math.inf, None))
        if source is not None and os.path.isdir(source.place) and now - when < _FRESH_S:
            return source
        source = Source.find(self.folder, split)
        if source is not None:
            self._seen[split] = time.monotonic(), source
        return source


@lru_cache(maxsize=4)
def _release(folder: Path) -> Release:
    return Release(folder)


def release() -> Release:
    """The release in the data folder `alfworld`. Raises BadInput: it is not here; names the command that gets it."""
    return _release(data_folder("alfworld"))


def why_no_games() -> str | None:
    """Why the release's games cannot be played here, in one line; None if they can."""
    try:
        found = release()
    except BadInput as error:
        return str(error)
    lacking = [split for split in SPLITS if Source.place_of(found.folder, split) is None]
    return f"{found.folder} has no split {lacking[0]!r}; run: palaestra data get alfworld" if lacking else None

"""ALFWorld's release as three archives, one a split: the games that its own loader keeps, without what no text needs.

The release is two zip files: game files, and the tasks' descriptions (with the low-level actions and images' names of
a 3-D simulator, which make nine tenths of it). Each archive holds, for every game, `game.tw-pddl` word for word and a
`traj_data.json` without those.
"""

from __future__ import annotations

import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from palaestra.envs.errors import BadInput

GAMES = "json_2.1.2_tw-pddl.zip"
TASKS = "json_2.1.1_json.zip"
SPLITS = ("train", "valid_seen", "valid_unseen")


_READING = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(
        ValueError,
        KeyError,
        OverflowError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
    ),  # what zipfile raises for headers that make no sense
)


def convert(fetched: Path, folder: Path) -> None:
    """Write `alfworld_SPLIT.tar.xz` for every split, and `MANIFEST.json` with the number of games of each.

    Raises:
        BadInput: a zip file is damaged (names it), or holds no game of a split.
    """
    counts = {}
    with _Zip(fetched / GAMES) as games, _Zip(fetched / TASKS) as tasks:
        for split in SPLITS:
            counts[split] = _write(split, games, tasks, folder / f"alfworld_{split}.tar.xz")
    manifest = {split: {"games": count} for split, count in counts.items()}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")


class _Zip:
    """A zip file, read whole before it is believed: a damaged name would otherwise only hide a game.

    Raises:
        BadInput: in all its methods, where the file turns out to be damaged; says which file and where in it.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        try:
            self._file = zipfile.ZipFile(path)
        except (*_READING, OSError) as error:
            raise self._damaged(error) from None
        self.members = self._file.namelist()

    def __enter__(self) -> _Zip:
        try:
            for member in self._file.infolist():
                self._checked(member)
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def text(self, member: str) -> bytes:
        """A member."""
        try:
            return self._file.read(member)
        except (*_READING, OSError) as error:
            raise self._damaged(error, member) from None

    def object(self, member: str) -> dict[str, object]:
        """A member that holds a JSON object."""
        try:
            found = json.loads(self.text(member))
        except (ValueError, RecursionError) as error:
            raise self._damaged(error, member) from None
        if not isinstance(found, dict):
            raise self._damaged(ValueError("no JSON object"), member)
        return found

    def _checked(self, member: zipfile.ZipInfo) -> None:
        try:
            with self._file.open(member) as stream:
                while stream.read(1 << 20):
                    pass
        except (*_READING, OSError) as error:
            raise self._damaged(error, member.filename) from None

    def _damaged(self, error: Exception, member: str | None = None) -> BadInput:
        where = f", in {member[:200]!r}" if member is not None else ""
        return BadInput(f"{self._name} of ALFWorld's release is damaged ({_line(error)}{where})")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _write(split: str, games: _Zip, tasks: _Zip, target: Path) -> int:
    where = _files(games, split, "game.tw-pddl")
    descriptions = _files(tasks, split, "traj_data.json")
    count = 0
    # The games of a split repeat one another: already the fastest preset makes 1 of 50 of them.
    with tarfile.open(target, "w:xz", preset=1) as archive:
        for trial in sorted(where.keys() & descriptions.keys()):
            if "movable" in trial or "Sliced" in trial:  # as in ALFWorld's loader
                continue
            if games.object(where[trial]).get("solvable") is not True:
                continue
            _add(archive, f"json_2.1.1/{split}/{trial}/game.tw-pddl", games.text(where[trial]))
            slim = _slim(tasks.object(descriptions[trial]))
            _add(archive, f"json_2.1.1/{split}/{trial}/traj_data.json", json.dumps(slim).encode())
            count += 1
    if not count:
        raise BadInput(f"ALFWorld's release holds no game of the split {split}")
    return count


def _files(archive: _Zip, split: str, name: str) -> dict[str, str]:
    """`TASK/TRIAL` -> member, of the files with a name in a split."""
    found = {}
    for member in archive.members:
        parts = PurePosixPath(member).parts
        if len(parts) >= 4 and parts[-1] == name and parts[-4] == split:
            found["/".join(parts[-3:-1])] = member
    return found


def _slim(task: dict[str, object]) -> dict[str, object]:
    plan, scene = task.get("plan"), task.get("scene")
    kept = {key: value for key, value in task.items() if key != "images"}
    if isinstance(plan, dict):
        kept["plan"] = {key: value for key, value in plan.items() if key != "low_actions"}
    if isinstance(scene, dict):
        kept["scene"] = {key: value for key, value in scene.items() if key not in ("object_poses", "object_toggles")}
    return kept


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))

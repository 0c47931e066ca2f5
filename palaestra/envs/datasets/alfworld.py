"""ALFWorld's release as three archives, one a split: the games that its own loader keeps, without what no text needs.

The release is two zip files: game files, and the tasks' descriptions (with the low-level actions and images' names of
a 3-D simulator, which make nine tenths of it). Each archive holds, for every game, `game.tw-pddl` word for word and a
`traj_data.json` without those.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from palaestra.envs.errors import BadInput

GAMES = "json_2.1.2_tw-pddl.zip"
TASKS = "json_2.1.1_json.zip"
SPLITS = ("train", "valid_seen", "valid_unseen")


def convert(fetched: Path, folder: Path) -> None:
    """Write `alfworld_SPLIT.tar.xz` for every split, and `MANIFEST.json` with the number of games of each.

    Raises:
        BadInput: a zip file is damaged, or holds no game of a split.
    """
    counts = {}
    try:
        with zipfile.ZipFile(fetched / GAMES) as games, zipfile.ZipFile(fetched / TASKS) as tasks:
            for split in SPLITS:
                counts[split] = _write(split, games, tasks, folder / f"alfworld_{split}.tar.xz")
    except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError, EOFError) as error:
        raise BadInput(f"ALFWorld's release cannot be read: {error}") from error
    manifest = {split: {"games": count} for split, count in counts.items()}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _write(split: str, games: zipfile.ZipFile, tasks: zipfile.ZipFile, target: Path) -> int:
    where = _files(games, split, "game.tw-pddl")
    descriptions = _files(tasks, split, "traj_data.json")
    count = 0
    # The games of a split repeat one another: already the fastest preset makes 1 of 50 of them.
    with tarfile.open(target, "w:xz", preset=1) as archive:
        for trial in sorted(where.keys() & descriptions.keys()):
            if "movable" in trial or "Sliced" in trial:  # as in ALFWorld's loader
                continue
            game = games.read(where[trial])
            if json.loads(game).get("solvable") is not True:
                continue
            _add(archive, f"json_2.1.1/{split}/{trial}/game.tw-pddl", game)
            slim = _slim(json.loads(tasks.read(descriptions[trial])))
            _add(archive, f"json_2.1.1/{split}/{trial}/traj_data.json", json.dumps(slim).encode())
            count += 1
    if not count:
        raise BadInput(f"ALFWorld's release holds no game of the split {split}")
    return count


def _files(archive: zipfile.ZipFile, split: str, name: str) -> dict[str, str]:
    """`TASK/TRIAL` -> member, of the files with a name in a split."""
    found = {}
    for member in archive.namelist():
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

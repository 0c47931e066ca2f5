"""The release's games are found by name, in archives and in folders; what is damaged is refused and leaves nothing."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from functools import lru_cache
from pathlib import Path

import pytest

from palaestra.envs.alfworld import proof
from palaestra.envs.alfworld.archive import Games, Source
from palaestra.envs.alfworld.files import GameFile
from palaestra.envs.alfworld.games import COUNTS, SPLITS, TYPES, Release, names, parse, release, why_no_games
from palaestra.envs.data import cache_dir, data_folder
from palaestra.envs.errors import BadInput

HEAT = "pick_heat_then_place_in_recep"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that nothing is in."""
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "alfworld"


@lru_cache(maxsize=1)
def released() -> dict[str, str]:
    """The files of valid_unseen that heat something, without our index."""
    with tarfile.open(data_folder("alfworld") / "alfworld_valid_unseen.tar.xz") as archive:
        members = [member for member in archive.getmembers() if HEAT in member.name and member.isfile()]
        files = {member.name: archive.extractfile(member) for member in members}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


def texts(count: int) -> list[tuple[str, str, str]]:
    """Folder and both files of the first games of valid_unseen that heat something."""
    files = released()
    folders = sorted({name.rpartition("/")[0] for name in files})[:count]
    return [
        ("/".join(each.split("/")[-2:]), files[f"{each}/game.tw-pddl"], files[f"{each}/traj_data.json"])
        for each in folders
    ]


def lay(folder: Path, games: list[tuple[str, str, str]]) -> None:
    """Write games as the release's folders."""
    for path, game, task in games:
        (folder / path).mkdir(parents=True)
        (folder / path / "game.tw-pddl").write_text(game, encoding="utf-8")
        (folder / path / "traj_data.json").write_text(task, encoding="utf-8")


def pack(archive: Path, split: str, games: list[tuple[str, str, str]]) -> None:
    """Write games as an archive."""
    with tarfile.open(archive, "w:xz", preset=0) as packed:
        for path, game, task in games:
            for name, text in (("game.tw-pddl", game), ("traj_data.json", task)):
                entry = tarfile.TarInfo(f"json_2.1.1/{split}/{path}/{name}")
                entry.size = len(text.encode())
                packed.addfile(entry, io.BytesIO(text.encode()))


# -- names -------------------------------------------------------------------------------------------------------------


def test_there_are_as_many_tasks_as_games_and_each_is_of_one_split() -> None:
    assert {split: len(names(split)) for split in SPLITS} == {"train": 3554, "valid_seen": 140, "valid_unseen": 134}
    assert len({name for split in SPLITS for name in names(split)}) == 3554 + 140 + 134
    assert {split: release().games(split).counts for split in SPLITS} == COUNTS


def test_a_name_says_its_type_and_split() -> None:
    for split in SPLITS:
        for name in names(split)[::37]:
            found, kind, number = parse(name)
            assert (found, kind) == (split, name.split("/")[0])
            assert 0 <= number < COUNTS[split][kind]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pick_heat_then_place/3", "no task type 'pick_heat_then_place'; did you mean pick_heat_then_place_in_recep?"),
        ("xyzzy", "no task type 'xyzzy'$"),
        (f"{HEAT}/498", f"there are {HEAT}/0 to {HEAT}/497"),
        (f"{HEAT}/-1", "ALFWorld has no task"),
        (f"{HEAT}/07", "ALFWorld has no task"),
        (f"{HEAT}/٣", "ALFWorld has no task"),
        (f"{HEAT}/" + "9" * 5000, "ALFWorld has no task"),
        (HEAT, "ALFWorld has no task"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse(name)


def test_a_task_has_a_folder_and_a_folder_a_task() -> None:
    games = release()
    for split in SPLITS:
        for name in names(split)[::29]:
            assert games.path(name).startswith(f"{split}/{name.split('/')[0]}-")
            assert games.name(games.path(name)) == name
    for path in ("valid_seen/nowhere/trial", "nowhere", "test/a/b"):
        with pytest.raises(BadInput, match="has no game"):
            games.name(path)


def test_a_games_file_is_of_its_type_and_training_games_have_an_experts_record() -> None:
    games = release()
    for kind in TYPES:
        file = games.file(f"{kind}/3")
        assert file.task_type == kind
        assert file.params["object_target"]
    record = games.expert(names("train")[0])
    assert record is not None
    assert len(record.commands) - len(record.observations) in (0, 1)
    assert games.expert(names("valid_seen")[0]) is None


# -- where they lie ----------------------------------------------------------------------------------------------------


def test_folders_hold_the_same_games_as_archives(cache: Path, tmp_path: Path) -> None:
    found = texts(3)
    lay(tmp_path / "data" / "json_2.1.1" / "valid_unseen", found)
    pack_folder = tmp_path / "packed"
    pack_folder.mkdir()
    pack(pack_folder / "alfworld_valid_unseen.tar.xz", "valid_unseen", found)
    for folder in (tmp_path / "data", pack_folder):
        games = Release(folder)
        assert games.games("valid_unseen").counts == {HEAT: 3}
        for number, (path, game, task) in enumerate(found):
            assert games.path(f"{HEAT}/{number}") == f"valid_unseen/{path}"
            assert games.file(f"{HEAT}/{number}").digest == GameFile.read("", game, task).digest
        with pytest.raises(BadInput, match=f"has 3 games of type {HEAT}, not one with number 3"):
            games.file(f"{HEAT}/3")
        with pytest.raises(BadInput, match=r"has no split 'train' .*; run: palaestra data get alfworld"):
            games.file(f"{HEAT}/400")
    assert len(list(cache.iterdir())) == 2


def test_what_the_originals_loader_leaves_out_is_left_out_and_said(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path, game, task), (other, _, _) = texts(2)
    unsolvable = json.dumps({**json.loads(game), "solvable": False})
    unknown = json.dumps({key: value for key, value in json.loads(game).items() if key != "solvable"})
    stack = json.dumps({**json.loads(task), "task_type": "pick_and_place_with_movable_recep"})
    chosen = [
        (path, game, task),
        (other, unsolvable, task),
        ("b-1/trial_2", unknown, task),
        ("c_movable-1/trial_3", game, task),
        ("d_Sliced-1/trial_4", game, task),
        ("e-1/trial_5", game, stack),
    ]
    lay(tmp_path / "valid_unseen", chosen)
    (tmp_path / "valid_unseen" / "f-1" / "trial_6").mkdir(parents=True)
    games = Release(tmp_path)
    assert games.games("valid_unseen").counts == {HEAT: 1}
    assert games.path(f"{HEAT}/0") == f"valid_unseen/{path}"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "3 games are left out" in said


def test_processes_that_want_the_same_games_at_once_go_through_them_once(cache: Path, tmp_path: Path) -> None:
    lay(tmp_path / "valid_unseen", texts(2))
    code = (
        "import sys; from pathlib import Path; from palaestra.envs.alfworld import archive\n"
        "def noted(entries=archive.Source.entries, of=None):\n"
        "    print('went through'); return entries(of)\n"
        "archive.Source.entries = lambda self, entries=archive.Source.entries: noted(entries, self)\n"
        "from palaestra.envs.alfworld.games import Release\n"
        f"print(Release(Path({str(tmp_path)!r})).file({HEAT + '/0'!r}).task_type)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=300)[0].split("\n") for process in running]
    assert all(process.returncode == 0 for process in running)
    assert all(HEAT in lines for lines in said)
    assert sum("went through" in lines for lines in said) == 1
    assert [path.suffix for path in cache.iterdir()] == [".sqlite"]


def test_what_killed_processes_left_is_swept_away(cache: Path, tmp_path: Path) -> None:
    found = texts(2)
    archive = tmp_path / "alfworld_valid_unseen.tar.xz"
    pack(archive, "valid_unseen", found[:1])
    Release(tmp_path).file(f"{HEAT}/0")
    (index,) = cache.iterdir()
    index.rename(cache / f"{index.name}.half")  # its own
    old, new = cache / "tmpx1.half", cache / "tmpx2.half"
    for half in (old, new):
        half.write_bytes(b"half")
    os.utime(old, (1, 1))
    Release(tmp_path).file(f"{HEAT}/0")
    assert sorted(cache.iterdir()) == sorted([index, new])  # the new one may be somebody's who is at work


def test_games_are_gone_through_once(cache: Path, tmp_path: Path) -> None:
    found = texts(2)
    archive = tmp_path / "alfworld_valid_unseen.tar.xz"
    pack(archive, "valid_unseen", found[:1])
    Release(tmp_path).file(f"{HEAT}/0")
    (index,) = cache.iterdir()
    made = index.stat().st_mtime_ns
    assert Release(tmp_path).path(f"{HEAT}/0") == f"valid_unseen/{found[0][0]}"
    assert index.stat().st_mtime_ns == made
    before = Release(tmp_path).fingerprint
    pack(archive, "valid_unseen", found[1:])  # other games: another index
    assert Release(tmp_path).path(f"{HEAT}/0") == f"valid_unseen/{found[1][0]}"
    assert len(list(cache.iterdir())) == 2
    assert Release(tmp_path).fingerprint != before


def test_a_file_that_comes_or_changes_in_a_folder_is_seen(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palaestra.envs.alfworld.games._FRESH_S", 0.0)
    found = texts(2)
    lay(tmp_path / "valid_unseen", found)
    late = tmp_path / "valid_unseen" / found[1][0] / "traj_data.json"
    late.unlink()  # it is still being unpacked
    games = Release(tmp_path)
    assert games.games("valid_unseen").counts == {HEAT: 1}
    half = games.fingerprint
    late.write_text(found[1][2], encoding="utf-8")
    assert games.games("valid_unseen").counts == {HEAT: 2}
    assert games.fingerprint != half
    changed = json.loads(found[0][1])
    changed["grammar"] = changed["grammar"].replace("You are in", "You stand in")
    (tmp_path / "valid_unseen" / found[0][0] / "game.tw-pddl").write_text(json.dumps(changed), encoding="utf-8")
    assert games.file(f"{HEAT}/0").grammar == changed["grammar"] != json.loads(found[0][1])["grammar"]
    expert = [{"value": "intro"}, {"value": "look"}, {"value": "a room"}]
    (late.parent / "gt_traj.json").write_text(json.dumps(expert), encoding="utf-8")
    assert games.expert(f"{HEAT}/1") == ("intro", ("look",), ("a room",))


def test_folders_are_not_walked_through_for_every_game(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palaestra.envs.alfworld.games._FRESH_S", 3600.0)
    found = texts(2)
    lay(tmp_path / "valid_unseen", found[:1])
    games = Release(tmp_path)
    games.file(f"{HEAT}/0")
    lay(tmp_path / "valid_unseen", found[1:])
    assert games.games("valid_unseen").counts == {HEAT: 1}
    assert Release(tmp_path).games("valid_unseen").counts == {HEAT: 2}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_an_archive_that_is_cut_off_is_refused_and_leaves_nothing(share: float, cache: Path, tmp_path: Path) -> None:
    whole = (data_folder("alfworld") / "alfworld_valid_unseen.tar.xz").read_bytes()
    archive = tmp_path / "alfworld_valid_unseen.tar.xz"
    archive.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(
        BadInput, match=r"alfworld_valid_unseen.tar.xz is damaged or cut off .*palaestra data get"
    ) as no:
        Release(tmp_path).file(f"{HEAT}/0")
    assert "\n" not in str(no.value)
    assert list(cache.iterdir()) == []


def test_an_archive_with_changed_bytes_is_refused_and_leaves_nothing(cache: Path, tmp_path: Path) -> None:
    content = bytearray((data_folder("alfworld") / "alfworld_valid_unseen.tar.xz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "alfworld_valid_unseen.tar.xz").write_bytes(content)
    with pytest.raises(BadInput, match=r"alfworld_valid_unseen.tar.xz is damaged or cut off"):
        Release(tmp_path).file(f"{HEAT}/0")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("which", "text", "message"),
    [
        (1, '{\n "pddl_domain": "x",\n "gram', r"trial_\w+/game.tw-pddl line 3: Unterminated string"),
        (1, "[]", r"game.tw-pddl line 1: a JSON object expected"),
        (1, '{"grammar": 3}', r"game.tw-pddl line 1: the text 'pddl_domain' is missing"),
        (1, "[" * 100_000, r"game.tw-pddl line 1: nested too deeply"),
        (1, '{"a": ' + "9" * 5000 + "}", r"game.tw-pddl line 1: a number has too many digits"),
        (2, "", r"traj_data.json line 1: Expecting value"),
        (2, "{}", r"traj_data.json line 1: 'task_type' or 'pddl_params' is missing"),
        (2, {"task_type": "pick_and_heat"}, r"traj_data.json line 1: ALFWorld has no task type 'pick_and_heat'"),
        (1, {"solvable": "yes"}, r"game.tw-pddl line 1: 'solvable' should be true or false, is 'yes'"),
        (1, {"solvable": 1}, r"game.tw-pddl line 1: 'solvable' should be true or false, is 1"),
    ],
)
def test_a_game_that_is_half_written_is_refused_with_file_and_line(
    which: int, text: str | dict[str, object], message: str, cache: Path, tmp_path: Path
) -> None:
    good, bad = texts(2)
    if isinstance(text, dict):
        text = json.dumps({**json.loads(bad[which]), **text})
    broken = (bad[0], text, bad[2]) if which == 1 else (bad[0], bad[1], text)
    lay(tmp_path / "json_2.1.1" / "valid_unseen", [good, broken])
    with pytest.raises(BadInput, match=message) as refused:
        Release(tmp_path).file(f"{HEAT}/0")
    assert "\n" not in str(refused.value)
    assert bad[0] in str(refused.value)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("stored", ["folder", "archive"])
@pytest.mark.parametrize(
    ("key", "old", "new", "message"),
    [
        ("pddl_problem", "(:goal", "(:gaol", r"pddl_problem line \d+: ':gaol' is not supported"),
        ("pddl_problem", "(:init", "(:init (holdsany nobody)", r"pddl_problem line \d\d+: the fact .* is no object"),
        ("pddl_problem", "- agent", "- agnet", r"pddl_problem line \d: the domain declares no type 'agnet', of which"),
        ("pddl_domain", "(:predicates", "((:predicates", r"pddl_domain line \d\d+: "),
        ("grammar", "action ", "actoin ", r"grammar line \d\d+: 'grammar ::' or 'action NAME"),
        ("grammar", "action look", "action lurk", r"line 1: the grammar has no texts for the action 'look'"),
        ("grammar", "{", "[" * 100_000 + "{", r"grammar line 1: rules that are nested too deeply"),
        ("grammar", "{", '{"a": ' + "9" * 5000 + ",", r"grammar line 1: .* a number that is too long"),
        ("grammar", "{", '{"a": [{"rhs": "{' + "+".join(["o.name"] * 900) + '}"}],', r"grammar line 1: .* 1000 char"),
    ],
)
def test_a_game_whose_texts_cannot_be_parsed_is_found_before_it_is_played(
    stored: str, key: str, old: str, new: str, message: str, cache: Path, tmp_path: Path
) -> None:
    good, bad = texts(2)
    game = json.loads(bad[1])
    game[key] = game[key].replace(old, new, 1)
    games = [good, (bad[0], json.dumps(game), bad[2])]
    if stored == "folder":
        lay(tmp_path / "valid_unseen", games)
    else:
        pack(tmp_path / "alfworld_valid_unseen.tar.xz", "valid_unseen", games)
    with pytest.raises(BadInput, match=rf"{bad[0]}/game\.tw-pddl:? {message}") as refused:
        Release(tmp_path).file(f"{HEAT}/0")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("record", ["[]", "{}", "[{}]", "[" * 100_000, '[{"value": ' + "9" * 5000 + "}]"])
def test_an_experts_record_that_is_none_is_refused(record: str, cache: Path, tmp_path: Path) -> None:
    ((path, game, task),) = texts(1)
    lay(tmp_path / "valid_unseen", [(path, game, task)])
    (tmp_path / "valid_unseen" / path / "gt_traj.json").write_text(record, encoding="utf-8")
    with pytest.raises(BadInput, match=rf"{path}/gt_traj\.json line 1: cannot be read"):
        Release(tmp_path).file(f"{HEAT}/0")
    assert list(cache.iterdir()) == []


def test_a_folder_name_that_is_no_text_is_refused(cache: Path, tmp_path: Path) -> None:
    ((_, game, task),) = texts(1)
    for number, name in enumerate(("a-1/b\nc", "a-1/\udcff")):
        folder = tmp_path / str(number)
        lay(folder / "valid_unseen", [(name, game, task)])
        with pytest.raises(BadInput, match="a folder with the name 'a-1/") as refused:
            Release(folder).file(f"{HEAT}/0")
        assert "\n" not in str(refused.value)


def test_an_archive_without_games_is_refused(cache: Path, tmp_path: Path) -> None:
    pack(tmp_path / "alfworld_train.tar.xz", "train", [])
    with pytest.raises(BadInput, match="holds no game"):
        Release(tmp_path).games("train")
    assert list(cache.iterdir()) == []


def test_an_index_that_is_damaged_says_what_to_do(cache: Path, tmp_path: Path) -> None:
    pack(tmp_path / "alfworld_valid_unseen.tar.xz", "valid_unseen", texts(1))
    source = Source.find(tmp_path, "valid_unseen")
    assert source is not None
    Games(source)
    (index,) = cache.iterdir()
    index.write_bytes(b"not a database" * 100)
    with pytest.raises(BadInput, match="delete it, and it will be made again"):
        Games(source)
    index.unlink()
    assert Games(source).counts == {HEAT: 1}


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(tmp_path / "alfworld_valid_unseen.tar.xz", "valid_unseen", texts(1))
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="set PALAESTRA_CACHE to a folder that can be"):
        Release(tmp_path).games("valid_unseen")


def test_without_data_the_command_that_gets_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PALAESTRA_DATA", str(tmp_path))
    with pytest.raises(BadInput, match="run: palaestra data get alfworld"):
        release()
    assert "palaestra data get alfworld" in str(why_no_games())
    (tmp_path / "alfworld").mkdir()
    for split in SPLITS[1:]:
        shutil.copy(Path(__file__), tmp_path / "alfworld" / f"alfworld_{split}.tar.xz")
    assert "has no split 'train'" in str(why_no_games())
    assert cache_dir() == tmp_path / "cache"


def test_without_recorded_experts_the_proof_says_that_the_release_has_none(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ((path, game, task),) = texts(1)
    simple = json.dumps({**json.loads(task), "task_type": "pick_and_place_simple"})
    lay(tmp_path / "alfworld" / "train", [(path, game, simple)])
    monkeypatch.setenv("PALAESTRA_DATA", str(tmp_path))
    assert proof.main(["9999"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "not in ALFWorld's official release" in said.err


def test_with_data_the_games_can_be_played() -> None:
    assert why_no_games() is None

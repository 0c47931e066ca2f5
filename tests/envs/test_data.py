"""Data sets: where they are looked for, and that fetching one gives all of it, the right one, or nothing."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from palaestra.agents import models
from palaestra.envs.data import cache_dir, cache_folder, data_file, data_folder, data_places, read_data
from palaestra.envs.datasets import alfworld, tau_bench
from palaestra.envs.datasets.catalogue import CATALOGUE, DataSet, Upstream, find
from palaestra.envs.datasets.get import get, where
from palaestra.envs.errors import BadInput
from tests.envs.data_server import Host, running

CONTENT = bytes(range(256)) * 4000  # a megabyte that differs everywhere


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no other place for data."""
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PALAESTRA_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def host() -> Iterator[Host]:
    with running() as started:
        started.files["/big.bin"] = CONTENT
        yield started


def dataset(host: Host, *, pinned: bool = True, size: int | None = len(CONTENT)) -> DataSet:
    sha256 = hashlib.sha256(CONTENT).hexdigest() if pinned else None
    files = (Upstream("big.bin", f"{host.url}/big.bin", size, sha256, "data/big.bin"),)
    return DataSet("numbers", "all bytes", "none", "yours", files, ("big.bin",))


def fetched(wanted: DataSet, **rest: object) -> Path:
    return get(wanted, agree=lambda _: True, wait_s=0.001, **rest).folder  # type: ignore[arg-type]


# -- where data lies --------------------------------------------------------------------------------------------------


def test_the_shared_folder_comes_before_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, cached = tmp_path / "shared", cache_dir() / "data"
    for place in (shared, cached):
        (place / "mine").mkdir(parents=True)
        (place / "mine" / "a.json").write_text("{}")
    assert data_folder("mine", "a.json") == cached / "mine"
    monkeypatch.setenv("PALAESTRA_DATA", str(shared))
    assert data_folder("mine", "a.json") == shared / "mine"
    assert data_places("mine") == (shared / "mine", cached / "mine")
    (shared / "mine" / "a.json").unlink()
    assert data_folder("mine", "a.json") == cached / "mine", "a shared folder without the file does not hide another"


def test_what_is_missing_is_one_line_that_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="palaestra data get alfworld, or set PALAESTRA_DATA") as caught:
        data_folder("alfworld", "alfworld_train.tar")
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("PALAESTRA_DATA", str(tmp_path))
    (tmp_path / "alfworld").mkdir()
    with pytest.raises(BadInput, match=r"alfworld has no alfworld_train\.tar\).*palaestra data get alfworld"):
        data_folder("alfworld", "alfworld_train.tar")


def test_files_are_found_and_read_as_they_are_or_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "b.txt.xz").write_bytes(lzma.compress(b"two"))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"three"))
    assert [read_data(data_file(tmp_path, f"{name}.txt")) for name in "abc"] == [b"one", b"two", b"three"]
    with pytest.raises(BadInput, match=r"has no d\.txt"):
        data_file(tmp_path, "d.txt")


@pytest.mark.parametrize("name", ["a.xz", "a.gz"])
@pytest.mark.parametrize("damage", ["cut off", "other bytes", "empty"])
def test_a_damaged_file_is_bad_input(tmp_path: Path, name: str, damage: str) -> None:
    content = (lzma if name == "a.xz" else gzip).compress(b"some content" * 100)
    broken = {"cut off": content[:-10], "other bytes": b"nonsense" * 9, "empty": content[:3]}[damage]
    (tmp_path / name).write_bytes(broken)
    with pytest.raises(BadInput, match="cannot be read"):
        read_data(tmp_path / name)


def test_models_are_kept_in_the_same_cache(cache: Path) -> None:
    assert models.cache_dir is cache_dir
    assert cache_dir() == cache


# -- fetching ---------------------------------------------------------------------------------------------------------


def test_a_fetched_data_set_is_found_and_not_fetched_again(host: Host) -> None:
    wanted = dataset(host)
    folder = fetched(wanted)
    assert (folder / "big.bin").read_bytes() == CONTENT
    assert data_folder("numbers", "big.bin") == folder == where(wanted)
    assert json.loads((folder / "SOURCE.json").read_text())["files"][0]["url"] == f"{host.url}/big.bin"
    assert get(wanted, agree=lambda _: False).was_here
    assert len(host.asked) == 1


def test_terms_that_are_not_accepted_fetch_nothing(host: Host, cache: Path) -> None:
    with pytest.raises(BadInput, match="terms of numbers were not accepted"):
        get(dataset(host), agree=lambda _: False)
    assert host.asked == []
    assert not cache.exists()


def test_a_download_that_breaks_goes_on_where_it_stopped(host: Host) -> None:
    host.breaks = [400_000, 300_000]
    seen: list[int] = []
    folder = fetched(dataset(host), progress=lambda file, here, total: seen.append(here))
    assert (folder / "big.bin").read_bytes() == CONTENT
    assert [asked for _, asked in host.asked] == ["", "bytes=400000-", "bytes=700000-"]
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)


def test_a_download_that_dies_leaves_nothing_to_be_found_and_goes_on_later(host: Host, cache: Path) -> None:
    wanted = dataset(host)
    host.breaks = [250_000, *[0] * 20]
    with pytest.raises(BadInput, match=r"broke off after 250,000 of 1,024,000 bytes .*run the same command again"):
        fetched(wanted)
    assert where(wanted) is None
    with pytest.raises(BadInput, match="palaestra data get numbers"):
        data_folder("numbers")
    host.breaks, host.asked = [], []
    assert (fetched(wanted) / "big.bin").read_bytes() == CONTENT
    assert host.asked == [("/big.bin", "bytes=250000-")]
    assert list((cache / "data" / ".partial").glob("numbers/*")) == []


def test_a_host_without_ranges_is_asked_from_the_start(host: Host) -> None:
    host.breaks, host.knows_ranges = [400_000], False
    assert (fetched(dataset(host)) / "big.bin").read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_begun_anew(host: Host) -> None:
    other = CONTENT[::-1]
    host.files["/big.bin"], host.breaks = other, [400_000, *[0] * 20]
    wanted = dataset(host, pinned=False, size=None)
    with pytest.raises(BadInput, match="broke off"):
        fetched(wanted)
    host.files["/big.bin"], host.breaks = CONTENT, []
    assert (fetched(wanted) / "big.bin").read_bytes() == CONTENT
    assert host.asked[-1] == ("/big.bin", "bytes=400000-")


@pytest.mark.parametrize("wrong", [CONTENT[:-1] + b"x", CONTENT[:-1], CONTENT + b"x"])
def test_another_content_is_refused_and_nothing_is_kept(host: Host, cache: Path, wrong: bytes) -> None:
    host.files["/big.bin"] = wrong
    with pytest.raises(
        BadInput, match=r"big\.bin from .* is not the file that it should be .*nothing was kept"
    ) as caught:
        fetched(dataset(host, size=len(CONTENT) if len(wrong) == len(CONTENT) else None))
    assert "\n" not in str(caught.value)
    assert [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size] == []


def test_a_file_without_a_known_sum_must_stay_the_one_of_its_first_download(host: Host, cache: Path) -> None:
    wanted = dataset(host, pinned=False)
    folder = fetched(wanted)
    recorded = json.loads((cache / "data" / "sums.json").read_text())
    assert recorded == {"numbers/big.bin": hashlib.sha256(CONTENT).hexdigest()}
    (folder / "big.bin").rename(cache / "elsewhere")
    (folder / "SOURCE.json").unlink()
    folder.rmdir()
    host.files["/big.bin"] = CONTENT[::-1]
    with pytest.raises(BadInput, match="not the file of the first download"):
        fetched(wanted)
    assert where(wanted) is None


def test_a_damaged_json_file_without_a_known_sum_is_not_kept_nor_remembered(host: Host, cache: Path) -> None:
    host.files["/a.json"] = b'[{"a": 1}, {"b'
    wanted = DataSet("lists", "", "none", "", (Upstream("a.json", f"{host.url}/a.json"),), ("a.json",))
    with pytest.raises(BadInput, match=r"a\.json is damaged: it is not JSON .*; nothing was kept, get it anew"):
        fetched(wanted)
    assert [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size] == []
    host.files["/a.json"] = b"[]"
    assert (fetched(wanted) / "a.json").read_bytes() == b"[]"
    assert set(json.loads((cache / "data" / "sums.json").read_text())) == {"lists/a.json"}


def test_sums_that_are_damaged_are_one_line(host: Host, cache: Path) -> None:
    (cache / "data").mkdir(parents=True)
    for content in (b"[1", b"[1]", b"3", b"\xff", b"[" * 100_000):
        (cache / "data" / "sums.json").write_bytes(content)
        with pytest.raises(BadInput, match=r"sums\.json is damaged .*move it away") as caught:
            fetched(dataset(host, pinned=False))
        assert "\n" not in str(caught.value)


def test_a_web_page_instead_of_the_file_is_said(host: Host) -> None:
    host.web_page = True
    with pytest.raises(BadInput, match=r"answers with a web page .*--from FOLDER"):
        fetched(dataset(host))


def test_an_address_that_is_gone_is_one_line(host: Host) -> None:
    host.files.clear()
    with pytest.raises(BadInput, match=r"/big\.bin says 404"):
        fetched(dataset(host))
    assert len(host.asked) == 1, "what is not there is not asked for again"


def test_a_folder_in_the_way_is_left_alone(host: Host, cache: Path) -> None:
    mine = cache / "data" / "numbers"
    mine.mkdir(parents=True)
    (mine / "mine.txt").write_text("precious")
    with pytest.raises(BadInput, match=r"in the way \(it has no big\.bin\)"):
        fetched(dataset(host))
    assert (mine / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize("stored", ["big.bin", "big.bin.xz", "data/big.bin"])
def test_files_of_a_folder_pass_the_same_checks(host: Host, tmp_path: Path, stored: str) -> None:
    source = tmp_path / "downloads"
    place = source / stored
    place.parent.mkdir(parents=True)
    place.write_bytes(lzma.compress(CONTENT[::-1]) if stored.endswith("xz") else CONTENT[::-1])
    with pytest.raises(BadInput, match=rf"big\.bin from {place} is not the file that it should be"):
        fetched(dataset(host), source=source)
    place.write_bytes(lzma.compress(CONTENT, preset=0) if stored.endswith("xz") else CONTENT)
    assert (fetched(dataset(host), source=source) / "big.bin").read_bytes() == CONTENT
    assert place.exists()
    assert host.asked == []


def test_a_damaged_file_of_a_folder_is_named_as_the_person_calls_it(host: Host, tmp_path: Path) -> None:
    (tmp_path / "big.bin.xz").write_bytes(lzma.compress(CONTENT, preset=0)[:-9])
    with pytest.raises(BadInput, match=rf"{tmp_path}/big\.bin\.xz cannot be unpacked") as caught:
        fetched(dataset(host), source=tmp_path)
    assert "data get" not in str(caught.value)


@pytest.mark.parametrize("place", ["/proc/nope", "/dev/null/x", "~nobody-here/x", "/" + "x" * 300])
def test_a_cache_that_cannot_be_made_is_one_line(host: Host, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALAESTRA_CACHE", place)
    with pytest.raises(BadInput, match=r"set PALAESTRA_CACHE|cannot be found") as caught:
        fetched(dataset(host))
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match=r"set PALAESTRA_CACHE|cannot be found"):
        cache_folder("models")
    assert host.asked == []


def test_a_folder_without_the_file_is_said(host: Host, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no big\.bin, nor data/big\.bin"):
        fetched(dataset(host), source=tmp_path)
    with pytest.raises(BadInput, match="is not a folder"):
        fetched(dataset(host), source=tmp_path / "nowhere")


def test_two_processes_do_not_fetch_the_same_at_once(host: Host) -> None:
    wanted = dataset(host)
    problems: list[str] = []

    def meanwhile(*_: object) -> None:
        child = os.fork()
        if child == 0:
            try:
                fetched(wanted)
                os._exit(1)
            except BadInput as error:
                os._exit(0 if "another process is fetching numbers" in str(error) else 2)
        problems.append(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))

    fetched(wanted, progress=meanwhile)
    assert set(problems) == {"0"}


# -- the catalogue ----------------------------------------------------------------------------------------------------


def test_every_file_has_a_public_address_and_a_sum_or_none() -> None:
    assert {"webshop", "webshop_human", "alfworld", "humaneval", "mbpp", "tau_bench"} <= set(CATALOGUE)
    for each in CATALOGUE.values():
        assert each.licence
        assert each.terms
        assert len({file.name for file in each.files}) == len(each.files)
        for file in each.files:
            assert file.url.startswith("https://")
            assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean alfworld"):
        find("alfword")


# -- what is converted ------------------------------------------------------------------------------------------------


def test_tau_benchs_python_becomes_json_and_is_not_run(tmp_path: Path) -> None:
    raw, folder = tmp_path / "raw", tmp_path / "folder"
    raw.mkdir()
    folder.mkdir()
    (raw / "retail_users.json").write_text('{"mia": 1}')
    (raw / "retail_tasks_dev.py").write_text(
        "import os\nos.abort()\nfrom x import Task, Action\nTASKS_DEV = [Task(user_id='mia', actions=[\n"
        "  Action(name='pay', kwargs={'cents': -5, 'why': 'a' 'b'}),], outputs=['1'],)]\n"
    )
    (raw / "retail_tool_pay.py").write_text(
        "class Pay(Tool):\n    @staticmethod\n    def invoke(): os.abort()\n    @staticmethod\n"
        "    def get_info():\n        return {'name': 'pay', 'required': [],}\n"
    )
    tau_bench.convert(raw, folder)
    tasks = json.loads((folder / "retail_tasks_dev.json").read_text())
    assert tasks == [
        {"user_id": "mia", "actions": [{"name": "pay", "kwargs": {"cents": -5, "why": "ab"}}], "outputs": ["1"]}
    ]
    assert json.loads((folder / "retail_tool_schemas.json").read_text()) == [{"name": "pay", "required": []}]
    assert (folder / "retail_users.json").read_text() == '{"mia": 1}'
    assert not list(folder.glob("*.py"))


@pytest.mark.parametrize("code", ["TASKS = [open('x')]", "TASKS = [", "x = 1", "TASKS = [Task(a=f())]"])
def test_tau_benchs_python_with_anything_but_data_is_refused(tmp_path: Path, code: str) -> None:
    (tmp_path / "retail_tasks_dev.py").write_text(code)
    with pytest.raises(BadInput, match=r"retail_tasks_dev\.py"):
        tau_bench.convert(tmp_path, tmp_path)


def _release(folder: Path, games: dict[str, object]) -> None:
    with zipfile.ZipFile(folder / alfworld.GAMES, "w") as one, zipfile.ZipFile(folder / alfworld.TASKS, "w") as other:
        for trial, solvable in games.items():
            one.writestr(f"json_2.1.1/{trial}/game.tw-pddl", json.dumps({"grammar": "g", "solvable": solvable}))
            task = {"task_id": trial, "images": [1], "plan": {"low_actions": [1], "high_pddl": [2]}}
            other.writestr(f"json_2.1.1/{trial}/traj_data.json", json.dumps({**task, "scene": {"object_poses": [1]}}))


def test_alfworlds_release_becomes_the_games_that_its_loader_keeps(tmp_path: Path) -> None:
    kept = [f"{split}/look_at-Book-None-Lamp-1/trial_{n}" for split in alfworld.SPLITS for n in range(2)]
    left = {"train/pick-Book-movable-1/trial_0": True, "train/a-Sliced-1/trial_0": True, "train/a-1/trial_1": False}
    _release(tmp_path, {**dict.fromkeys(kept, True), **left})
    target = tmp_path / "ready"
    target.mkdir()
    alfworld.convert(tmp_path, target)
    members: dict[str, bytes] = {}
    for split in alfworld.SPLITS:
        with tarfile.open(fileobj=io.BytesIO(read_data(data_file(target, f"alfworld_{split}.tar")))) as archive:
            members |= {m.name: (archive.extractfile(m) or io.BytesIO()).read() for m in archive.getmembers()}
    assert sorted(members) == sorted(
        f"json_2.1.1/{trial}/{name}" for trial in kept for name in ("game.tw-pddl", "traj_data.json")
    )
    task = json.loads(members[f"json_2.1.1/{kept[0]}/traj_data.json"])
    assert task == {"task_id": kept[0], "plan": {"high_pddl": [2]}, "scene": {}}
    assert json.loads((target / "MANIFEST.json").read_text())["valid_seen"] == {"games": 2}


def test_a_damaged_release_is_bad_input(tmp_path: Path) -> None:
    _release(tmp_path, {"train/a/b": True})
    with pytest.raises(BadInput, match="holds no game of the split valid_seen"):
        alfworld.convert(tmp_path, tmp_path)
    (tmp_path / alfworld.GAMES).write_bytes(b"PK nonsense")
    with pytest.raises(BadInput, match=rf"{alfworld.GAMES} of ALFWorld's release is damaged"):
        alfworld.convert(tmp_path, tmp_path)


def _small_release(folder: Path) -> DataSet:
    folder.mkdir()
    _release(folder, dict.fromkeys((f"{split}/look_at-Book-None-Lamp-1/trial_0" for split in alfworld.SPLITS), True))
    files = tuple(
        dataclasses.replace(file, size=(folder / file.name).stat().st_size) for file in CATALOGUE["alfworld"].files
    )
    return dataclasses.replace(CATALOGUE["alfworld"], files=files)


@pytest.mark.parametrize("name", [alfworld.GAMES, alfworld.TASKS])
def test_a_damaged_download_of_alfworld_is_deleted_and_a_good_one_then_accepted(
    tmp_path: Path, cache: Path, name: str
) -> None:
    wanted = _small_release(tmp_path / "good")
    shutil.copytree(tmp_path / "good", tmp_path / "bad")
    content = bytearray((tmp_path / "bad" / name).read_bytes())
    for place in range(110, 125):
        content[place] ^= 0xFF
    (tmp_path / "bad" / name).write_bytes(content)
    with pytest.raises(BadInput, match=rf"{name} of ALFWorld's release is damaged .*; nothing was kept") as caught:
        fetched(wanted, source=tmp_path / "bad")
    assert "\n" not in str(caught.value)
    assert [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size] == []
    assert not list(cache.rglob("ready"))
    assert (tmp_path / "bad" / name).read_bytes() == content, "a person's own file is left alone"
    folder = fetched(wanted, source=tmp_path / "good")
    assert where(wanted) == folder
    assert len(json.loads((cache / "data" / "sums.json").read_text())) == 2


@pytest.mark.parametrize("name", [alfworld.GAMES, alfworld.TASKS])
def test_a_release_with_a_flipped_byte_gives_the_same_games_or_none(tmp_path: Path, name: str) -> None:
    _small_release(tmp_path / "good")
    content = (tmp_path / "good" / name).read_bytes()
    (tmp_path / "made").mkdir()
    alfworld.convert(tmp_path / "good", tmp_path / "made")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    refused: list[str] = []
    for place in range(0, len(content), 5):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        (tmp_path / "good" / name).write_bytes(flipped)
        try:
            alfworld.convert(tmp_path / "good", tmp_path / "made")
        except BadInput as error:
            refused.append(str(error))
        else:
            assert {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()} == expected, place
    assert len(refused) > len(content) // 20
    assert all(name in message and "\n" not in message for message in refused)


@pytest.mark.parametrize("game", [b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"[]", b"\xff", b"{"])
def test_a_game_of_a_release_that_is_no_json_object_is_named(tmp_path: Path, game: bytes) -> None:
    wanted = _small_release(tmp_path / "good")
    with zipfile.ZipFile(tmp_path / "good" / alfworld.GAMES, "w") as archive:
        archive.writestr("json_2.1.1/train/look_at-Book-None-Lamp-1/trial_0/game.tw-pddl", game)
    wanted = dataclasses.replace(wanted, files=tuple(dataclasses.replace(file, size=None) for file in wanted.files))
    with pytest.raises(BadInput, match=rf"{alfworld.GAMES} .*trial_0/game\.tw-pddl"):
        fetched(wanted, source=tmp_path / "good")

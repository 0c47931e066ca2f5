"""A file that cannot be used, or a disk that is full, is one line that names the file; nothing is half done."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from store_cases import episode

from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A closed store of 60 episodes."""
    with EpisodeStore(tmp_path / "s.sqlite") as store:
        store.add_all(episode(sample=i, n=20) for i in range(60))
    return store.file


@contextmanager
def refused(path: Path, why: str) -> Iterator[None]:
    with pytest.raises(BadInput, match=why) as caught:
        yield
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line


@pytest.mark.parametrize("mode", ["r", "rw"])
@pytest.mark.parametrize("content", [b"id,score\n1,2\n", b"\x00" * 8192, b"SQLite"])
def test_a_file_that_is_no_sqlite(tmp_path: Path, mode: str, content: bytes) -> None:
    path = tmp_path / "episodes.sqlite"
    path.write_bytes(content)
    with refused(path, "is not an episode store"):
        EpisodeStore(path, mode=mode)  # type: ignore[arg-type]
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", ["r", "rw"])
def test_an_sqlite_file_of_something_else(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "places.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE places (x)")
    other.close()
    with refused(path, "is an SQLite file but not an episode store"):
        EpisodeStore(path, mode=mode)  # type: ignore[arg-type]


def test_a_missing_file_is_not_made_by_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "run" / "episodes.sqlite"
    with refused(path, "no episode store at"):
        EpisodeStore(path, mode="r")
    assert not path.parent.exists()


def test_an_empty_file_is_a_new_store_for_a_writer_and_nothing_for_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.touch()
    with refused(path, "is empty"):
        EpisodeStore(path, mode="r")
    with EpisodeStore(path) as store:
        assert store.add(episode())


@pytest.mark.parametrize("mode", ["r", "rw"])
@pytest.mark.parametrize(("version", "why"), [(b"2", "has schema version 2"), (b"0", "version 0"), (b"?", "damaged")])
def test_a_store_of_another_version(full: Path, mode: str, version: bytes, why: str) -> None:
    with sqlite3.connect(full) as raw:
        raw.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (version,))
    raw.close()
    with refused(full, why):
        EpisodeStore(full, mode=mode)  # type: ignore[arg-type]


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_a_file_that_was_cut(full: Path, keep: float) -> None:
    os.truncate(full, int(full.stat().st_size * keep))
    with refused(full, "damaged"), EpisodeStore(full, mode="r") as store:
        store.check()


def test_overwritten_pages(full: Path) -> None:
    size = full.stat().st_size
    with full.open("r+b") as file:
        for place in range(4096 * 12, size, 4096):
            file.seek(place)
            file.write(b"\xff" * 512)
    with refused(full, "damaged"), EpisodeStore(full) as store:
        list(store.episodes())


def test_one_damaged_episode_is_named_and_the_others_stay_readable(full: Path) -> None:
    with sqlite3.connect(full) as raw:
        raw.execute("UPDATE bodies SET body = substr(body, 1, 40) WHERE row = 7")
    raw.close()
    store = EpisodeStore(full)
    names = [head.id for head in store.heads()]
    with refused(full, f"damaged .*{names[6]}"):
        store.get(names[6])
    assert all(store.get(name).id == name for name in names if name != names[6])
    with sqlite3.connect(full) as raw:
        raw.execute("DELETE FROM bodies WHERE row = 7")
    raw.close()
    with refused(full, "1 episodes without turns"):
        store.check()


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    with refused(tmp_path, "cannot be opened: Is a directory"):
        EpisodeStore(tmp_path)
    (tmp_path / "file").write_text("x")
    with refused(tmp_path / "file" / "s.sqlite", "cannot be opened"):
        EpisodeStore(tmp_path / "file" / "s.sqlite")


@contextmanager
def read_only_folder(*files: Path) -> Iterator[Path]:
    """A folder with copies of the files that this process cannot write, even when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="palaestra-readonly-"))
    for file in files:
        shutil.copy(file, folder)
        (folder / file.name).chmod(0o444)
    folder.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_store_reads_from_a_read_only_folder_and_says_that_it_cannot_write_there(full: Path) -> None:
    with read_only_folder(full) as folder:
        path = folder / full.name
        with EpisodeStore(path, mode="r") as store:
            assert len(list(store.episodes())) == 60
            store.check()
        with refused(path, "read-only|cannot be written"):
            EpisodeStore(path)
        with refused(folder / "new.sqlite", "cannot be written"):
            EpisodeStore(folder / "new.sqlite")
        with refused(folder / "run" / "new.sqlite", "cannot be opened: Permission denied"):
            EpisodeStore(folder / "run" / "new.sqlite")
        assert os.listdir(folder) == [full.name]


def test_the_log_of_a_killed_writer_cannot_be_ignored_in_a_read_only_folder(full: Path) -> None:
    store = EpisodeStore(full)
    store.add(episode(sample=100))
    log = full.with_name(full.name + "-wal")
    with read_only_folder(full, log) as folder, refused(folder / full.name, "copy both elsewhere"):
        EpisodeStore(folder / full.name, mode="r")


WRITER = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from store_cases import episode
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput
store = EpisodeStore(sys.argv[1])
store.add(episode())
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))  # as a full disk: writing beyond fails
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
done = 1
try:
    for sample in range(1, 100_000):
        store.add(episode(sample=sample, n=30))
        done += 1
except BadInput as problem:
    assert store.count() == done, (store.count(), done)
    print(done)
    print(problem)
"""


def test_a_full_disk_is_one_line_and_what_was_committed_stays(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    done, line = ended.stdout.splitlines()
    assert re.search(rf"episode store {path}: .*; (the disk is full|free some space)", line)
    with EpisodeStore(path) as store:
        store.check()
        assert store.count() == int(done) > 10
        assert len(list(store.episodes())) == int(done)
        assert store.add(episode(sample=10**6)), "with space again it goes on"


def test_sqlites_own_full_disk_error_is_one_line_too(full: Path) -> None:
    store = EpisodeStore(full)
    store._connection.execute(f"PRAGMA max_page_count = {full.stat().st_size // 4096 + 2}")
    with refused(full, "free some space; all committed episodes are safe"):
        store.add_all(episode(sample=i, n=20) for i in range(60, 400))
    assert store.count() == 60
    store.check()


def test_limits_of_this_process_were_left_alone() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert os.geteuid() == os.getuid()

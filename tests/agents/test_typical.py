"""What episodes have cost is read out of stores that nobody is asked for and nothing is written to."""

from __future__ import annotations

from pathlib import Path

from palaestra.agents.collect import collect, planned_keys
from palaestra.agents.episode import Start
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.store import EpisodeStore
from palaestra.agents.typical import held, near, typical
from palaestra.envs import find

TASKS = find("bandit").split("train")[:3]


def filled(folder: Path) -> Path:
    with EpisodeStore(folder / "episodes.sqlite") as store:
        collect(TASKS, RandomPolicy(), store, progress="quiet")
    return folder / "episodes.sqlite"


def test_means_over_the_episodes_of_an_environment(tmp_path: Path) -> None:
    file = filled(tmp_path / "runs" / "a")
    before = sorted(path.name for path in file.parent.iterdir())
    found = typical([file], "palaestra/Bandit-v0")
    assert found is not None
    with EpisodeStore(file, mode="r") as store:
        turns = [head.n_turns for head in store.heads()]
    (file.parent / "episodes.sqlite-shm").unlink(missing_ok=True)
    (file.parent / "episodes.sqlite-wal").unlink(missing_ok=True)
    assert (found.episodes, found.held, found.turns) == (3, 3, sum(turns) / 3)
    assert 700 < found.bytes < 100_000
    assert typical([file], "palaestra/Crafting-v0") is None
    keys = planned_keys([(Start(task=task), 2) for task in TASKS], RandomPolicy())
    assert held(file, keys) == 3
    assert sorted(path.name for path in file.parent.iterdir()) == before == ["episodes.sqlite"]


def test_a_store_that_is_being_written_is_read_as_it_is(tmp_path: Path) -> None:
    file = filled(tmp_path)
    with EpisodeStore(file) as store:
        collect(find("bandit").split("train")[3:5], RandomPolicy(), store, progress="quiet")
        found = typical([file], "palaestra/Bandit-v0")
        assert found is not None
        assert found.held == 5


def test_what_is_no_store_is_passed_over(tmp_path: Path) -> None:
    odd = tmp_path / "runs" / "odd" / "episodes.sqlite"
    odd.parent.mkdir(parents=True)
    odd.write_bytes(b"no store at all")
    file = filled(tmp_path / "runs" / "a")
    stores = near(tmp_path / "runs" / "new")
    assert set(stores) == {odd, file}
    found = typical(stores, "palaestra/Bandit-v0")
    assert found is not None
    assert found.stores == (file,)
    assert held(odd, ["x"]) == 0
    assert near(tmp_path / "nowhere" / "at" / "all") == []
    assert near(file.parent)[0] == file, "the run's own comes first"

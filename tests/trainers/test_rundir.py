"""Run directories: whole files, one process, the same configuration, clear refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from palaestra.envs import BadInput
from palaestra.trainers.rundir import RunDir, read_run, write_whole
from palaestra.trainers.sample import Sample


class Inner(BaseModel):
    rate: float = 0.1


class Config(BaseModel):
    budget: int = 10
    env: str = "toy"
    engine: str | None = None
    inner: Inner = Inner()


def test_a_run_goes_on_only_with_the_same_configuration(tmp_path: Path) -> None:
    with RunDir.open(tmp_path / "run", "rft", Config(), growable=["budget"], command="train --budget 10"):
        pass
    with pytest.raises(BadInput, match=r"begun with env=toy, now it is other"):
        RunDir.open(tmp_path / "run", "rft", Config(env="other"))
    with pytest.raises(BadInput, match=r"inner\.rate=0\.1, now it is 0\.2"):
        RunDir.open(tmp_path / "run", "rft", Config(inner=Inner(rate=0.2)))
    with pytest.raises(BadInput, match="a run of 'rft', not of 'eef'"):
        RunDir.open(tmp_path / "run", "eef", Config())
    assert read_run(tmp_path / "run")["config"] == json.loads(Config().model_dump_json())


def test_what_may_grow_may_grow_but_not_shrink(tmp_path: Path) -> None:
    RunDir.open(tmp_path, "rft", Config(), growable=["budget"], command="first").close()
    with pytest.raises(BadInput, match="budget=10, now it is 20"):
        RunDir.open(tmp_path, "rft", Config(budget=20))
    RunDir.open(tmp_path, "rft", Config(budget=20), growable=["budget"], command="second").close()
    with pytest.raises(BadInput, match="budget=20, now it is 10"):
        RunDir.open(tmp_path, "rft", Config(), growable=["budget"])
    record = read_run(tmp_path)
    assert record["config"]["budget"] == 20
    assert record["commands"] == ["first", "second"]


def test_servers_may_have_moved_but_an_engine_does_not_become_another_one(tmp_path: Path) -> None:
    RunDir.open(tmp_path, "rft", Config(engine="http://gpu1:8000")).close()
    RunDir.open(tmp_path, "rft", Config(engine="https://gpu2:8000,http://gpu3:8000")).close()
    with pytest.raises(BadInput, match="now it is vllm"):
        RunDir.open(tmp_path, "rft", Config(engine="vllm"))
    with pytest.raises(BadInput, match="now it is None"):
        RunDir.open(tmp_path, "rft", Config())


def test_what_is_no_run_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BadInput, match=r"not a run directory \(it holds 'letter.txt'"):
        RunDir.open(tmp_path, "rft", Config())
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(BadInput, match="is a file"):
        RunDir.open(tmp_path / "letter.txt", "rft", Config())
    with pytest.raises(BadInput, match="has no run"):
        read_run(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', '{"format": 99, "recipe": "rft", "config": {}}'])
def test_a_damaged_run_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(BadInput, match=r"run\.json is (damaged|of format 99)"):
        RunDir.open(tmp_path, "rft", Config())


def test_two_processes_cannot_work_in_one_run_and_a_dead_one_leaves_it_free(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pydantic import BaseModel\nfrom palaestra.trainers.rundir import RunDir\n"
        "class Config(BaseModel): pass\n"
        "run = RunDir.open(sys.argv[1], 'rft', Config())\nprint('open', flush=True)\ntime.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"

    class Empty(BaseModel):
        pass

    with pytest.raises(BadInput, match="another process is working"):
        RunDir.open(tmp_path, "rft", Empty())
    other.kill()
    other.wait()
    RunDir.open(tmp_path, "rft", Empty()).close()


def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "fit.json"
    write_whole(target, b"old")
    os.symlink("/dev/full", tmp_path / ".fit.json.part")  # every write to it says: no space left
    with pytest.raises(BadInput, match=r"cannot write to .*No space left on device"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["fit.json"]


def test_a_directory_that_cannot_be_written_is_told() -> None:
    with pytest.raises(BadInput, match="cannot write to /proc/"):
        RunDir.open("/proc/palaestra-run", "rft", Config())


def test_samples_come_back_and_damage_is_told_with_its_line(tmp_path: Path) -> None:
    samples = [
        Sample(ids=(1, 2, n), weights=(0.0, 0.5, 1.0), episodes=("e",), task="t", split="train") for n in range(3)
    ]
    with RunDir.open(tmp_path, "rft", Config()) as run:
        run.save_samples("iteration-1/samples.jsonl.gz", samples)
        first = (tmp_path / "iteration-1/samples.jsonl.gz").read_bytes()
        assert run.load_samples("iteration-1/samples.jsonl.gz") == samples
        run.save_samples("iteration-1/samples.jsonl.gz", samples)
        assert (tmp_path / "iteration-1/samples.jsonl.gz").read_bytes() == first
        import gzip

        lines = gzip.decompress(first).decode().splitlines()
        run.write("bad.gz", gzip.compress("\n".join([lines[0], '{"ids": [1]}']).encode()))
        with pytest.raises(BadInput, match=r"bad\.gz, line 2"):
            run.load_samples("bad.gz")
        run.write("torn.gz", first[:-20])
        with pytest.raises(BadInput, match=r"torn\.gz"):
            run.load_samples("torn.gz")

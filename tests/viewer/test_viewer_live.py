"""How a run is getting on: written while it is, read whatever was written, drawn over its time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from palaestra.agents.counted import Counted
from palaestra.trainers.live import LIVE, Live, watched
from palaestra.viewer.figures import Figures
from palaestra.viewer.live import POINTS, progress
from palaestra.viewer.runs import Runs
from palaestra.viewer.tail import tail

Ask = Callable[..., Any]
STUCK = """
from dataclasses import dataclass
from threading import Event

from palaestra.envs import Reply, TextEnv, register


@dataclass
class State:
    stuck: bool


class Stuck(TextEnv[State]):
    \"\"\"Say anything.\"\"\"

    def begin(self, task, rng):
        return State(task.name != "0"), "Say anything."

    def admissible(self, state):
        return ["anything"]

    def act(self, state, action):
        if state.stuck:
            Event().wait()
        return Reply("Done.", score=1.0, success=True, over=True)


register("mine/Stuck-v0", Stuck, splits={"train": range(5, 9), "test": range(5)}, max_steps=3)
"""


def test_a_run_leaves_the_stages_it_went_through_with_faults_losses_and_success(ask: Ask, place: Path) -> None:
    found = ask("run", run="eef")["live"]
    stages = found["stages"]
    assert all(stage["ended"] for stage in stages)
    fits = [stage for stage in stages if stage["unit"] == "steps"]
    report = json.loads((place / "eef/iteration-1/fit.json").read_text())["report"]
    assert [fits[-1]["done"], fits[-1]["total"]] == [len(report["losses"])] * 2
    assert abs(fits[-1]["loss"] - report["losses"][-1]) < 1e-5
    collected = [stage for stage in stages if stage["unit"] == "episodes"]
    assert sum(stage["done"] for stage in collected) >= ask("run", run="eef")["episodes"]
    assert {"success", "faults", "tokens_per_second", "loss"} <= set(found["curves"])
    times = [time for time, _, _ in found["curves"]["faults"]]
    assert times == sorted(times)
    assert found["curves"]["faults"][-1][1] == ask("run", run="eef")["faults"]


def test_a_run_that_was_killed_shows_where_it_stood_and_half_a_line_is_no_moment(tmp_path: Path) -> None:
    live = Live(tmp_path, "quiet")
    stage = Counted(live, "collect", "episodes", 10, faults=0)
    stage.__enter__()
    stage.reach(4, faults=2)
    with open(tmp_path / LIVE, "a") as file:
        file.write('not json\n[1]\n{"time": "late"}\n{"time": 17, "stage": "half')
    found = progress(tmp_path)
    assert found is not None
    (only,) = found["stages"]
    assert (only["stage"], only["total"], only["ended"]) == ("collect", 10, False)


def test_a_reader_is_given_whole_objects_alone_and_a_file_that_is_none_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    assert tail(file, 100) == []
    lines = [json.dumps({"n": n, "text": "\u2028\x85"}, ensure_ascii=False) for n in range(30)]
    file.write_text("\n".join([*lines, "[" * 20_000, '{"n": 99', ""]))
    assert [item["n"] for item in tail(file, 1_000_000)] == list(range(30))
    some = tail(file, 20_300)
    assert 0 < len(some) < 30
    assert some[-1]["n"] == 29


def test_faults_add_up_over_stages_and_a_stage_that_begins_again_is_another(tmp_path: Path) -> None:
    for faults in (2, 3):
        with Counted(Live(tmp_path, "quiet"), "collect", "episodes", 5, faults=0) as stage:
            stage.reach(5, faults=faults)
    found = progress(tmp_path)
    assert found is not None
    assert [stage["done"] for stage in found["stages"]] == [5, 5]
    assert [value for _, value, _ in found["curves"]["faults"]][-1] == 5


def test_a_long_run_is_drawn_with_few_points_its_ends_among_them(tmp_path: Path) -> None:
    lines = [{"time": n, "stage": "fit", "unit": "steps", "done": n, "total": 9999, "loss": n / 7} for n in range(9999)]
    (tmp_path / LIVE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = progress(tmp_path)
    assert found is not None
    points = found["curves"]["loss"]
    assert len(points) == POINTS
    assert (points[0][0], points[-1][0]) == (0, 9998)


def test_nothing_depends_on_what_is_written_for_the_viewer(tmp_path: Path) -> None:
    (tmp_path / LIVE).mkdir()  # no file can be written there
    with Counted(Live(tmp_path, "quiet"), "collect", "episodes", 2) as stage:
        stage.step()
    assert progress(tmp_path) is None
    assert os.listdir(tmp_path) == [LIVE]


def test_measuring_is_seen_while_it_is_at_work_and_where_it_was_killed(tmp_path: Path) -> None:
    """In a process of its own, as people run it: its first episode ends, and the second one never does."""
    (tmp_path / "stuck.py").write_text(STUCK)
    command = "eval mine/Stuck-v0 --load stuck.py --policy random --out run --concurrency 1 -q"
    process = subprocess.Popen([sys.executable, "-m", "palaestra", *command.split()], cwd=tmp_path)
    try:
        while not (tmp_path / "run" / LIVE).exists() and process.poll() is None:
            time.sleep(0.05)
        figures = Figures(Runs(tmp_path))
        while not (found := figures.run("run"))["episodes"] and process.poll() is None:
            time.sleep(0.05)
        assert found["working"] is True
        (stage,) = found["live"]["stages"]
        assert (stage["stage"], stage["total"], stage["ended"]) == ("evaluate", 5, False)
    finally:
        process.kill()
        process.wait(60)
    found = figures.run("run")
    assert found["working"] is False
    assert (found["episodes"], found["live"]["stages"][-1]["ended"]) == (1, False)


def test_what_collects_into_a_store_of_another_name_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for name, left in (("mine.sqlite", []), ("episodes.sqlite", [LIVE])):
        with Counted(watched(tmp_path / name, "quiet"), "collect", "episodes", 1) as stage:
            stage.step()
        assert os.listdir(tmp_path) == left

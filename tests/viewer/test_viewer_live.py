"""How a run is getting on: written while it is, read whatever was written, drawn over its time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from palaestra.agents.counted import Counted
from palaestra.trainers.live import LIVE, Live
from palaestra.viewer.live import POINTS, progress

Ask = Callable[..., Any]


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

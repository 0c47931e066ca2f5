"""What a run logs for TensorBoard and Weights & Biases is what it stored, each figure once."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from palaestra.trainers import scalars as logging
from palaestra.trainers.report import iterations, rounds
from palaestra.trainers.scalars import TAGS, log_wandb, scalars, wanted, write_events

JUDGED = {"rollouts/judged_success", "rollouts/judged_score"}
REAL = set(TAGS) - JUDGED
"""What a run logs whose rewards are the environment's own."""


@pytest.fixture
def run(tmp_path: Path, short_run: Path) -> Path:
    return Path(shutil.copytree(short_run, tmp_path / "run"))


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars of a folder of event files, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_a_run_leaves_event_files_of_all_its_figures(short_run: Path) -> None:
    found = read(short_run / "tensorboard")
    assert set(found) == REAL
    assert [step for step, _ in found["held_out/success"]] == [-1, 0, 1, 2]
    means = [each.evaluation.success.mean for each in rounds(short_run)]
    assert [value for _, value in found["held_out/success"]] == pytest.approx(means)
    assert found["rollouts/episodes"] == [(0, 6.0), (1, 6.0), (2, 6.0)]
    fits = [each.fitted.report for each in iterations(short_run)]
    losses = [loss for fit in fits if fit is not None for loss in fit.losses]
    assert [step for step, _ in found["fit/loss"]] == list(range(len(losses)))
    assert [value for _, value in found["fit/loss"]] == pytest.approx(losses)


def test_written_again_each_figure_is_there_once_even_beside_what_a_killed_process_left(run: Path) -> None:
    before = read(run / "tensorboard")
    (left,) = (run / "tensorboard").iterdir()
    shutil.copy(left, left.with_name("kept"))
    assert write_events(run) == run / "tensorboard"
    assert read(run / "tensorboard") == before
    (run / "tensorboard" / "kept").rename(run / "tensorboard" / "events.out.tfevents.0000000001.before")
    assert read(run / "tensorboard") == before


def test_without_tensorboard_nothing_is_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(run / "tensorboard")
    monkeypatch.setattr(logging, "find_spec", lambda name: None)
    assert write_events(run) is None
    assert not (run / "tensorboard").exists()
    assert not wanted({"WANDB_MODE": "offline"})


def test_weights_and_biases_is_used_only_where_its_variables_ask_for_it() -> None:
    assert not wanted({})
    assert not wanted({"WANDB_API_KEY": "secret"})
    assert not wanted({"WANDB_PROJECT": "mine", "WANDB_MODE": "disabled"})
    assert wanted({"WANDB_PROJECT": "mine"})
    assert wanted({"WANDB_MODE": "offline"})


def test_a_run_is_logged_offline_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    for place in ("CACHE", "CONFIG", "DATA"):  # nothing of it is left in the home directory
        monkeypatch.setenv(f"WANDB_{place}_DIR", str(run.parent / place))
    assert log_wandb(run)
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    written = file.read_bytes()
    assert all(tag.encode() in written for tag in REAL)
    assert b"toy/Lamps-v0" in written
    assert not log_wandb(run), "it is there already"
    assert len(json.loads((run / "wandb.json").read_text())) == 1


def test_what_fails_there_harms_no_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def init(**settings: Any) -> None:
        raise ConnectionError(f"no network for {settings['project']}")

    broken: Any = ModuleType("wandb")
    broken.init, broken.Settings = init, lambda **settings: settings
    monkeypatch.setitem(sys.modules, "wandb", broken)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(logging, "find_spec", lambda name: object())
    assert not log_wandb(run)
    told = capsys.readouterr().err.splitlines()
    assert told == ["Weights & Biases has not got this run (ConnectionError: no network for mine)"]
    assert not (run / "wandb.json").exists()
    assert len(scalars(run)) > 20

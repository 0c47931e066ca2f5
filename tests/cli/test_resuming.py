"""Commands that were killed go on with `--resume`, and end as undisturbed ones do."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import time
from pathlib import Path

TOLD = (
    *("--env", "bandit", "--model", "tiny", "--experts", "flawed:0.5", "--tasks", "6", "--budget", "12", "--quiet"),
    *("--set", "evaluation.tasks=2", "--set", "objective.tokens=1000", "--set", "sampling.max_tokens=4"),
    *("--set", "iterations=1", "--set", "env_settings.max_steps=3"),
)


def killed(words: tuple[str, ...], folder: Path, moment: int) -> None:
    """Run a command in a folder, and kill it when its log has so many lines."""
    log = folder / "runs/it/log.jsonl"
    running = subprocess.Popen([sys.executable, "-m", "palaestra", *words], cwd=folder, stderr=subprocess.PIPE)
    try:
        while not log.is_file() or log.read_text().count("\n") < moment:
            assert running.poll() is None, running.communicate()[1].decode()
            time.sleep(0.002)
    finally:
        running.kill()
        running.communicate()


def finished(words: tuple[str, ...], folder: Path) -> None:
    """Run a command in a folder."""
    done = subprocess.run([sys.executable, "-m", "palaestra", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def samples(folder: Path) -> dict[str, bytes]:
    """What was learnt from in all iterations."""
    files = folder.glob("runs/it/*/samples.jsonl.gz")
    return {file.parent.name: gzip.decompress(file.read_bytes()) for file in files}


def test_resume_ends_with_the_samples_of_an_undisturbed_run(tmp_path: Path) -> None:
    told = ("train", "eef", *TOLD, "--set", "states=1", "--out", "runs/it")
    whole, other = tmp_path / "whole", tmp_path / "other"
    for folder in (whole, other):
        folder.mkdir()
    finished(told, whole)
    lines = (whole / "runs/it/log.jsonl").read_text().count("\n")
    killed(told, other, random.Random(0).randrange(1, lines - 1))
    finished((*told, "--resume"), other)
    assert samples(whole)
    assert samples(other) == samples(whole)

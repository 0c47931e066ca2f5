"""What a person sees while episodes are collected."""

from __future__ import annotations

import io

import pytest
from odd_env import CountingPolicy, World, many
from rich.console import Console

from palaestra.agents.collect import collect
from palaestra.agents.progress import Bar, Lines, Tally, progress_of
from palaestra.agents.store import EpisodeStore


def test_the_bar_shows_episodes_success_faults_and_speed() -> None:
    out = io.StringIO()
    bar = Bar(Console(file=out, width=160, force_terminal=True))
    tally = Tally(total=20, episodes=8, successes=2, faults=3, completion_tokens=100)
    bar.begin(tally)
    bar.end(tally)
    shown = out.getvalue()
    for part in ("8/20", "25% success", "3 faults", "tokens/s"):
        assert part in shown


def test_without_a_terminal_a_line_is_printed_now_and_then(
    capsys: pytest.CaptureFixture[str], store: EpisodeStore
) -> None:
    collect(many("good", 4), CountingPolicy(), store, env_factory=World().make, progress=Lines(seconds=0))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 4
    assert lines[-1].startswith("collect: 4/4 episodes, 100.0% success, 0 faults, ")
    assert "tokens/s" in lines[-1]
    assert isinstance(progress_of("auto"), Lines), "stderr is no terminal here"


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str], store: EpisodeStore) -> None:
    collect(iter(many("good", 4)), CountingPolicy(), store, env_factory=World().make, progress="quiet")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    return EpisodeStore(tmp_path_factory.mktemp("store") / "episodes.sqlite")

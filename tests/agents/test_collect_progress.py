"""What a person sees while episodes are collected."""

from __future__ import annotations

import io
import json

import pytest
from odd_env import CountingPolicy, World, many
from rich.console import Console

from palaestra.agents.collect import collect
from palaestra.agents.counted import Counted, Fits
from palaestra.agents.progress import Bar, JsonLines, Lines, Tally, progress_of, under
from palaestra.agents.stage import brief, left, line, rate
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


class After50s(Tally):
    """A collection that has taken 50 seconds."""

    @property
    def seconds(self) -> float:
        return 50.0


def test_what_was_there_before_counts_for_no_rate() -> None:
    tally = After50s(total=100, episodes=10, skipped=40)
    assert rate(tally) == pytest.approx(0.2)
    assert left(tally) == pytest.approx(250)
    told = "50/100 episodes, 0.0% success, 0 faults, 40 stored before, 50 s, 12.0 episodes/min, 4:10 min left"
    assert line(tally) == told
    assert rate(Tally(total=9, skipped=9)) is None
    assert "left" not in line(Tally(total=9, skipped=9))


def test_json_lines_are_one_object_each_with_the_documented_keys(store: EpisodeStore) -> None:
    out = io.StringIO()
    collect(many("good", 4), CountingPolicy(), store, env_factory=World().make, progress=JsonLines(0, out))
    lines = [json.loads(text) for text in out.getvalue().splitlines()]
    keys = {"event", "stage", "unit", "done", "total", "seconds", "rate", "left", "ended", "success", "faults"}
    assert all(keys <= set(told) for told in lines)
    assert (lines[0]["done"], lines[0]["rate"], lines[0]["success"]) == (0, None, None)
    last = lines[-1]
    assert (last["stage"], last["done"], last["total"], last["success"], last["ended"]) == ("collect", 4, 4, 1.0, True)
    assert [told["ended"] for told in lines[:-1]] == [False] * (len(lines) - 1)


def test_stages_say_where_they_belong() -> None:
    out = io.StringIO()
    shown = under(under(JsonLines(0, out), "eef-0 (1 of 6)"), "iteration 1 of 2", "")
    with Counted(shown, "mine", "episodes", 3, faults=0) as count:
        count.step(2, faults=1)
    lines = [json.loads(text) for text in out.getvalue().splitlines()]
    assert {told["stage"] for told in lines} == {"eef-0 (1 of 6), iteration 1 of 2, mine"}
    assert [(told["done"], told["faults"]) for told in lines] == [(0, 0), (2, 1), (2, 1)]


def test_every_fit_is_a_stage_of_its_own_and_one_that_breaks_off_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with Fits(Lines(seconds=1e9)) as fits:
        for step in range(1, 4):
            fits.step("iteration-0", step, 3, 2.0 / step)
        fits.step("iteration-1", 1, 3, 0.5)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("fit iteration-0: 3/3 steps, loss 0.667, ")
    assert second.startswith("fit iteration-1: 1/3 steps, loss 0.500, ")


def test_a_loss_that_is_no_number_is_null() -> None:
    out = io.StringIO()
    with Fits(JsonLines(0, out)) as fits:
        fits.step("iteration-0", 1, 1, float("nan"))
    assert [json.loads(text)["loss"] for text in out.getvalue().splitlines()] == [None] * 3


def test_a_narrow_terminal_still_shows_how_many_and_how_long() -> None:
    out = io.StringIO()
    tally = After50s(
        total=400, episodes=100, successes=25, faults=3, completion_tokens=9000, what="iteration 1, collect"
    )
    bar = Bar(Console(file=out, width=80, force_terminal=True))
    bar.begin(tally)
    bar.end(tally)
    assert brief(tally).startswith("100/400 \u00b7 ")
    assert "100/400 \u00b7" in out.getvalue()
    assert all(part in brief(tally) for part in ("min left", "25% success", "3 faults", "2.0 episodes/s"))


def test_bytes_are_shown_as_sizes() -> None:
    count = Counted("quiet", "get a.json", "bytes", 3_500_000_000, before=1_000_000)
    count.reach(1_200_000)
    assert line(count).startswith("1.2 MB/3.50 GB, ")


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    return EpisodeStore(tmp_path_factory.mktemp("store") / "episodes.sqlite")

"""`--strategy` and `--calls` of eval and collect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palaestra.agents.store import EpisodeStore
from palaestra.cli import run


def test_a_policy_and_a_strategy_around_it_are_measured_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one store: the card and the episodes name the strategy and its budget; the episodes cost its calls."""
    plain = ["eval", "bandit", "-p", "random", "-t", "2", "-s", "max_steps=3", "-o", str(tmp_path), "-q", "--json"]
    found = []
    for more in ([], ["--strategy", "self-consistency:allocation=even", "--calls", "4"]):
        assert run([*plain, *more]) == 0
        found.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert [card["card"]["policy"] for card in found] == ["random", "random+self-consistency"]
    assert found[1]["card"]["sampling"]["strategy"]["allocation"] == "even"
    with EpisodeStore(tmp_path / "episodes.sqlite", mode="r") as store:
        calls = {e.provenance.policy: e.provenance.cost.model_calls for e in store.episodes()}
    assert calls == {"random": 3, "random+self-consistency": 12}


def test_a_strategy_that_tries_first_gets_the_environment_with_its_settings(tmp_path: Path) -> None:
    wanted = ["collect", "bandit", "-p", "random", "-t", "2", "-s", "max_steps=2", "-o", str(tmp_path), "-q"]
    assert run([*wanted, "--strategy", "best-of-n-rewind", "--calls", "10"]) == 0
    with EpisodeStore(tmp_path / "episodes.sqlite", mode="r") as store:
        costs = [(e.provenance.cost.model_calls, e.provenance.cost.env_steps) for e in store.episodes()]
    assert costs == [(10, 2), (10, 2)]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--calls", "4"], "--calls is the budget of a strategy"),
        (["--strategy", "best-of"], "no strategy 'best-of'; did you mean best-of-n?"),
        (["--strategy", "best-of-n", "--calls", "0"], "calls: Input should be greater than or equal to 1"),
        (["--strategy", "self-certainty"], "random does not tell its whole distribution"),
    ],
)
def test_what_is_wrong_with_a_strategy_is_told_in_one_line(
    more: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", "bandit", "-p", "random", "-o", str(tmp_path / "out"), *more]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()

"""`palaestra show`: what a person sees of a run's episodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palaestra.agents.episode import Actor, Cost, Episode, Outcome, Provenance, Start, Turn, episode_id
from palaestra.agents.plain import plain
from palaestra.agents.store import EpisodeStore
from palaestra.cli import run
from palaestra.cli.printed import folded
from palaestra.envs import Task

TASK = Task(env="palaestra/Bandit-v0", name="arms/1", split="train")
LONG = "\n".join(f"line {number} of a long page" for number in range(400))


def made(start: Start, turns: list[Turn], sample: int = 0, **more: object) -> Episode:
    by = Provenance(
        actor=Actor.POLICY,
        policy="a-model",
        policy_version="77aa",
        recipe="eef",
        iteration=2,
        sampling={"temperature": 0.7},
        env_fingerprint="palaestra 0.1.0 Bandit 00ff",
        cost=Cost(env_steps=len(turns), prompt_tokens=1234, completion_tokens=56, model_calls=2, seconds=3.25),
    )
    fields: dict[str, object] = {"outcome": Outcome.FAILURE, "score": 0.25, "final_observation": "The end."} | more
    episode = Episode.model_validate(
        {"id": "0" * 16, "start": start, "sample": sample, "turns": tuple(turns), "provenance": by, **fields}
    )
    return episode.model_copy(update={"id": episode_id(episode.key)})


@pytest.fixture
def run_dir(tmp_path: Path) -> tuple[Path, Episode, Episode]:
    """A run with an episode of three turns and a fork that won."""
    turns = [
        Turn(observation="Begin \x1b[2J :train: [red]", completion="pull 1", action="pull 1", thought="I try one arm."),
        Turn(observation=LONG, completion="fly", action="fly", valid=False, reward=-0.5, note="Try again."),
        Turn(observation="Nothing.", completion="pull 2", action="pull 2", reward=0.25, score=0.25),
    ]
    parent = made(Start(task=TASK), turns)
    fork = made(parent.fork(2), turns[2:], outcome=Outcome.SUCCESS, score=1.0, labels={"group": "g1"})
    with EpisodeStore(tmp_path / "run" / "episodes.sqlite") as store:
        store.add_all([parent, fork])
    return tmp_path / "run", parent, fork


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert run(["show", *args]) == 0
    return capsys.readouterr().out


def test_the_list_says_who_how_and_where_forks_begin(
    run_dir: tuple[Path, Episode, Episode], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, parent, fork = run_dir
    told = shown(capsys, str(folder))
    assert told.splitlines()[0] == "palaestra/Bandit-v0"
    assert f"{parent.id[:8]}@2" in told
    assert told.splitlines()[-1] == "2 of 2 episodes (1 failure, 1 success); 0 faults"
    assert fork.id in shown(capsys, str(folder), "--outcome", "success")
    monkeypatch.setenv("COLUMNS", "80")
    narrow = shown(capsys, str(folder)).splitlines()
    assert all(len(line) <= 80 for line in narrow)
    assert fork.id[:12] in "".join(narrow)
    listed = json.loads(shown(capsys, str(folder), "--json"))
    assert [row["id"] for row in listed["episodes"]] == [parent.id, fork.id]


def test_an_episode_is_shown_with_thoughts_rewards_forks_and_where_it_comes_from(
    run_dir: tuple[Path, Episode, Episode], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, parent, fork = run_dir
    told = shown(capsys, str(folder), parent.id[:6])
    for part in ("arms/1", "failure  score 0.25  3 turns", "a-model (policy), version 77aa", "eef, iteration 2"):
        assert part in told
    assert "temperature=0.7" in told
    assert "1,234 prompt tokens, 56 answered tokens, 3.2 s" in told
    assert "   … I try one arm." in told
    assert "note Try again." in told
    assert "-0.50  score 0.00  not understood" in told
    assert f"1 fork here, 1 won: {fork.id[:8]}" in told
    other = shown(capsys, str(folder), fork.id)
    assert f"forked from {parent.id} after 2 actions" in other
    assert "group=g1" in other
    assert other.index("I try one arm.") < other.index("forked from") < other.index("pull 2")


def test_long_observations_are_folded_and_hostile_ones_harmless(
    run_dir: tuple[Path, Episode, Episode], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, parent, _ = run_dir
    told = shown(capsys, str(folder), parent.id)
    assert "\x1b" not in told
    assert r"Begin \x1b[2J :train: [red]" in told
    assert "line 15 of a long page" in told
    assert "line 16 of a long page" not in told
    assert "384 more lines" in told
    assert "line 399 of a long page" in shown(capsys, str(folder), parent.id, "--full")


def test_what_is_no_episode_is_one_line(
    run_dir: tuple[Path, Episode, Episode], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, _ = run_dir
    assert run(["show", str(folder), "zz"]) == 2
    assert "no episode whose id begins with 'zz'" in capsys.readouterr().err
    assert run(["show", str(folder), "--outcome", "lost"]) == 2
    assert "there are: success, failure" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "short", "a\n" * 16, "x" * 1600, "a\n" * 17, "x" * 1650])
def test_what_is_hardly_too_long_is_not_folded(text: str) -> None:
    assert folded(text) == (text.rstrip("\n"), "")


def test_folding_says_how_much_is_left_out() -> None:
    assert folded("x" * 5000) == ("x" * 1600, "3,400 more characters")
    assert folded(LONG)[1].startswith("384 more lines, ")
    assert plain("tab\tline\nend\r\nbell\x07\u202e") == "tab\tline\nend\nbell\\x07\\u202e"

"""The original ALFWorld as referee: our engine says what it says, and its process can be lost and replaced."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palaestra.envs.alfworld import differential, textworld
from palaestra.envs.alfworld.differential import PATHS, Comparison, compare, games_of, read, run, stratified, summary
from palaestra.envs.alfworld.engine import Answer, engine
from palaestra.envs.alfworld.files import GameFile
from palaestra.envs.alfworld.games import names
from palaestra.envs.alfworld.generate import generated
from palaestra.envs.alfworld.textworld import Said, TextWorldEngine
from palaestra.envs.core import Fidelity
from palaestra.envs.errors import BadInput, EnvFault, MissingExtra
from palaestra.envs.registry import find, make

GAME = generated("pick_and_place_simple/11")


@pytest.fixture(scope="module")
def original() -> Iterator[TextWorldEngine]:
    """One running original for the whole file: starting it takes some seconds."""
    engine = TextWorldEngine()
    yield engine
    engine.close()


@pytest.mark.parametrize("split", ["valid_seen", "generated"])
def test_our_engine_says_what_the_original_says(split: str, original: TextWorldEngine) -> None:
    """A share that is drawn anew from each task type; `python -m palaestra.envs.alfworld.differential` plays more."""
    for name, file in games_of(split, 6 if split == "valid_seen" else 2):
        for path in PATHS:
            result = compare(name, file, path, original)
            assert result.difference is None, f"{name}: {result.difference}"
            assert result.won or path == "perturbed"
            assert result.steps >= (2 if path == "expert" else differential.PERTURBED)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"text": "A troll!"}, "text: ours"),
        ({"admissible": ("jump",)}, "admissible: ours lacks ['jump']"),
        ({"score": 0.5}, "score: ours"),
        ({"done": None}, "done: ours"),
    ],
    ids=["text", "admissible", "score", "done"],
)
def test_a_difference_is_found_where_it_is(
    lie: dict[str, Any], words: str, original: TextWorldEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, honest = [0], original._note

    def lying(said: Said) -> Answer:
        answers[0] += 1
        return honest(replace(said, **lie) if answers[0] > 3 else said)

    monkeypatch.setattr(original, "_note", lying)
    result = compare("a game", GAME, "expert", original)
    assert result.steps == 3
    assert result.difference is not None
    assert result.difference.startswith("step 3 ")
    assert words in result.difference


def test_a_run_goes_on_where_it_was_and_forgets_a_line_that_was_cut_off(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    first = list(run([("a game", GAME)], out))
    assert [each.path for each in first] == list(PATHS)
    with out.open("a") as lines:
        lines.write('{"game": "another", "path": "exp')
    assert read(out) == first
    broken = replace(GAME, problem="never read")
    assert list(run([("a game", broken)], out)) == first


def test_a_game_that_one_of_them_refuses_is_a_difference_and_the_run_goes_on() -> None:
    results = list(run([("broken", replace(GAME, problem="(define")), ("a game", GAME)]))
    assert [each.difference is None for each in results] == [False, False, True, True]
    assert "differences: 2" in summary(results)


def test_some_games_are_spread_over_the_types() -> None:
    chosen = stratified(names("train"), 30)
    kinds = [name.partition("/")[0] for name in chosen]
    assert {kinds.count(kind) for kind in kinds} == {5}
    assert len(set(chosen)) == 30
    assert stratified(names("valid_seen"), 140) == list(names("valid_seen"))
    assert len(stratified(names("valid_seen"), 139)) == 139


def test_the_engine_seam_hands_out_no_state_of_the_original(original: TextWorldEngine) -> None:
    assert isinstance(engine("textworld"), TextWorldEngine)
    first = original.begin(GAME)
    assert (first.world, first.valid, first.won, original.exact) == (None, True, False, False)
    assert original.act(GAME, None, "  look ").valid
    answer = original.act(GAME, None, "fly \ud800 away")
    assert (answer.text, answer.valid) == ("Nothing happens.", False)
    assert "look" in original.admissible(GAME, None)


def test_an_environment_on_the_original_goes_back_by_replay() -> None:
    env, ours = make("alfworldgenerated", engine="textworld"), make("alfworldgenerated")
    task = ours.tasks("dev")[0]
    act = find("alfworldgenerated").oracle()
    try:
        assert env.reset(options={"task": task})[0] == ours.reset(options={"task": task})[0]
        first = act(env)
        assert env.step(first)[0] == ours.step(first)[0]
        fork = env.snapshot()
        assert fork.fidelity == Fidelity.REPLAY
        command = act(env)
        after = env.step(command)[0]
        env.restore(fork)
        assert act(env) == command
        assert env.step(command)[0] == after == ours.step(command)[0]
    finally:
        env.close()
        ours.close()


def test_a_killed_process_is_a_fault_and_the_next_game_gets_another(original: TextWorldEngine) -> None:
    before = original.begin(GAME)
    original.kill()
    with pytest.raises(EnvFault, match="process of the original ALFWorld"):
        original.act(GAME, None, "look")
    assert original.begin(GAME) == before


def test_a_step_past_its_deadline_is_a_fault(original: TextWorldEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    original.begin(GAME)
    monkeypatch.setattr(textworld, "ACT_SECONDS", 0.0)
    with pytest.raises(EnvFault, match="did not answer within 0 s"):
        original.act(GAME, None, "look")
    assert not original.alive


def test_a_step_in_a_game_that_is_not_running_is_a_fault(original: TextWorldEngine) -> None:
    original.begin(GAME)
    with pytest.raises(EnvFault, match="is not playing"):
        original.act(generated("pick_and_place_simple/12"), None, "look")


def test_a_game_that_the_original_cannot_read_is_bad_input(original: TextWorldEngine) -> None:
    with pytest.raises(BadInput, match="the original ALFWorld refuses half a game") as caught:
        original.begin(GameFile("half a game", GAME.domain, GAME.grammar, GAME.problem[:500], GAME.task_type, {}))
    assert "\n" not in str(caught.value)
    assert original.begin(GAME).valid


def test_the_process_is_replaced_before_it_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textworld, "BEGINS", 1)
    engine = TextWorldEngine()
    try:
        first = engine.begin(GAME)
        child = engine._child
        assert engine.begin(GAME) == first
        assert child is not None
        assert not child.alive
        assert engine._child is not child
    finally:
        engine.close()
        engine.close()


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fast_downward.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'fast_downward'\", name='fast_downward')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MissingExtra, match=r"'fast_downward'.*palaestra\[alfworld\]"):
        TextWorldEngine().begin(GAME)


def test_the_process_ends_with_the_one_that_started_it_though_a_fork_of_that_lives_on() -> None:
    code = (
        "import os, time\n"
        "from palaestra.envs.alfworld.textworld import Child\n"
        "child = Child()\n"
        "print(child.process.pid, flush=True)\n"
        "if os.fork() == 0:\n"
        "    os.close(1), os.close(2), time.sleep(60), os._exit(0)\n"
        "os.kill(os.getpid(), 9)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.returncode == -9
    assert _ends(int(said.stdout), 30.0)


def _ends(pid: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # over, and waiting for whoever adopted it
            return True
        os.sched_yield()
        time.sleep(0.05)
    return False


def test_the_command_says_what_cannot_be_played_and_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert differential.main(["--split", "nowhere"]) == 2
    said = capsys.readouterr()
    assert "GPL" in said.err
    assert "nowhere" in said.err


def test_a_summary_names_each_difference() -> None:
    results = [Comparison("g", "expert", steps=4, won=True), Comparison("g", "perturbed", difference="text: ...")]
    assert "1 of 1 expert's paths won" in summary(results)
    assert "g perturbed: text: ..." in summary(results)

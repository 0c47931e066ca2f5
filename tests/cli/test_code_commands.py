"""`palaestra eval code/... --sandbox ...`: evaluation episodes that run code, end to end."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run, refused, result_of


def test_eval_runs_code_in_the_sandbox_that_was_asked_for(palaestra: Run, tmp_path: Path) -> None:
    asked = ("eval", "code/humaneval", "--policy", "oracle", "--sandbox", "bwrap", "--tasks", "3", "--out", "run")
    done = palaestra(*asked, "--json")
    assert done.returncode == 0, done.stderr
    result = result_of(done)
    assert result["outcomes"] == {"success": 3}
    card = result["card"]
    assert (card["split"], card["env_settings"], card["step_cap"]) == ("test", {"sandbox": "bwrap"}, 12)
    assert "bwrap python 3." in card["env_fingerprint"]
    assert card["conversation"]["style"] == "text"


def test_eval_runs_code_that_a_model_wrote(palaestra: Run) -> None:
    done = palaestra(
        *("eval", "codetasks", "--policy", "tiny", "--tasks", "2", "-s", "max_steps=2", "--max-tokens", "24", "--json")
    )
    assert done.returncode == 0, done.stderr
    result = result_of(done)
    assert result["episodes"] == 2
    assert result["missing"] == 0
    assert result["card"]["sampling"]["max_tokens"] == 24


def test_collect_takes_a_sandbox_too_and_what_cannot_be_is_refused(palaestra: Run) -> None:
    done = palaestra(
        *(
            "collect",
            "code/shell",
            "--policy",
            "oracle",
            "--sandbox",
            "bwrap",
            "--split",
            "test",
            "--out",
            "run",
            "--json",
        )
    )
    assert result_of(done)["successes"] == 3, done.stderr
    bandit = ("eval", "bandit", "--policy", "oracle", "--sandbox", "bwrap")
    refused(palaestra(*bandit), "--sandbox bwrap", "Bandit-v0 runs no code")
    twice = ("eval", "codetasks", "--policy", "oracle", "--sandbox", "bwrap", "-s", "sandbox=docker")
    refused(palaestra(*twice), "either --sandbox or -s sandbox=")
    refused(palaestra("eval", "codetasks", "--policy", "oracle", "--sandbox", "jail"), "'jail'", "bwrap, docker")
    refused(palaestra("eval", "code", "--policy", "oracle"), "ambiguous", "palaestra/HumanEval-v0")
    refused(
        palaestra("eval", "humaneval", "--policy", "oracle", env={"PALAESTRA_DATA": "", "HOME": "/nowhere"}),
        "get humaneval",
    )

"""OpenEnv's client plays what we serve, and we play what OpenEnv serves: the real package is the other side."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from serving_processes import ODD, OPENENV, Server, serving, started, until

import palaestra
from palaestra.agents.collect import collect
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.agents.store import EpisodeStore
from palaestra.agents.tiny import make_tiny
from palaestra.envs import Fidelity
from palaestra.envs.check import check
from palaestra.envs.errors import BadInput, EnvFault

EXAMPLES = Path(__file__).parents[3] / "examples"


def environ() -> dict[str, str]:
    assert (OPENENV / "openenv").is_dir(), f"OpenEnv is not in {OPENENV}; `python3 dev.py setup` puts it there"
    return {**os.environ, "PYTHONPATH": str(OPENENV)}


def example(name: str, url: str, path: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), url], env=path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_openenvs_client_plays_what_we_serve(crafting: Server) -> None:
    told = example("openenv_client.py", crafting.url, environ())
    assert "You craft a goal from raw materials by recipes." in told
    assert "Goal: craft 1" in told
    assert "score" in told.splitlines()[-1]
    assert "after 40 steps" in told or "score 1.0" in told


CLIENT = """
import sys
from openenv.core import GenericEnvClient
with GenericEnvClient(base_url=sys.argv[1]).sync() as env:
    for data in ({"wrong": 1}, {"message": 5}):
        try:
            env.step(data)
        except RuntimeError as error:
            print(error)
    env.reset(task="d1/bakery-0", split="train")
    print(env.step({"message": "get 1 wheat", "metadata": {"of": "theirs"}}).reward > 0)
"""


def test_openenvs_client_is_told_what_is_wrong_and_goes_on(crafting: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, crafting.url], env=environ(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    missing, wrong, goes_on = done.stdout.splitlines()
    assert missing == "Server error: step: message: Field required (code: VALIDATION_ERROR)"
    assert wrong == "Server error: step: message: Input should be a valid string (code: VALIDATION_ERROR)"
    assert goes_on == "True"


def test_trl_trains_on_what_we_serve(tmp_path: Path) -> None:
    """A fresh model writes letters among other bytes: episodes of one task score differently, and that teaches."""
    model, out = make_tiny([], tmp_path / "model", vocab=300, hidden=32, layers=1), tmp_path / "out"
    sizes = ["--steps", "2", "--generations", "4", "--max-tokens", "2", "--out", str(out)]
    with serving("letters", "--load", str(ODD.with_name("letters_served.py"))) as server:
        command = [sys.executable, str(EXAMPLES / "trl_grpo.py"), str(model), server.url, "--task", "letters-0"]
        done = subprocess.run([*command, *sizes], env=environ(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    scores = [float(line.split()[4].rstrip(",")) for line in done.stdout.splitlines() if line.startswith("step ")]
    assert len(scores) == 2
    assert any(0 < score < 1 for score in scores)
    weights = "model.safetensors"
    assert (out / weights).read_bytes() != (model / weights).read_bytes(), "no episode taught anything"


@contextmanager
def echoing(home: Path, sessions: int) -> Iterator[str]:
    """The example that OpenEnv's own `openenv init` writes, as it is but for the number of sessions."""
    path = environ()
    words = {"__ENV_NAME__": "echo", "__ENV_CLASS_NAME__": "Echo", "__ENV_TITLE_NAME__": "Echo"}
    shutil.copytree(OPENENV / "openenv/cli/templates/openenv_env", home, ignore=shutil.ignore_patterns("*.pyc"))
    for file in sorted(home.rglob("*.py")):
        text, name = file.read_text().replace("max_concurrent_envs=1", f"max_concurrent_envs={sessions}"), file.name
        for word, value in words.items():
            text, name = text.replace(word, value), name.replace(word, value)
        file.write_text(text)
        file.rename(file.with_name(name))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "server.app:app", "--port", str(port), "--log-level", "error"]
    with started(command, path, cwd=home) as (process, errors):
        url = f"http://127.0.0.1:{port}"

        def up() -> bool:
            assert process.poll() is None, (errors.seek(0), errors.read())[1]
            try:
                return bool(palaestra.make("remote", url=url).splits())
            except EnvFault:
                return False

        assert until(up, 120)
        yield url


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with echoing(tmp_path_factory.mktemp("theirs") / "echo_env", 16) as url:
        yield url


def test_a_server_of_one_session_is_played_one_episode_at_a_time(tmp_path: Path) -> None:
    with echoing(tmp_path / "echo_env", 1) as url, EpisodeStore(tmp_path / "store") as store:
        asking = palaestra.make("remote", url=url)
        tasks = asking.tasks("test")[:3]
        assert asking.instructions(tasks[0])
        assert asking.fingerprint().startswith("openenv/")
        policy, settings = ScriptedPolicy(("one", "two")), {"url": url, "max_steps": 2}
        report = collect(tasks, policy, store, env_settings=settings, concurrency=1, progress="quiet")
        assert report.episodes == 3
        asking.close()


def test_we_play_what_openenv_serves(theirs: str) -> None:
    told = example("openenv_server.py", theirs, dict(os.environ))
    assert "Echo environment ready!" in told
    assert "('hello', 0.5)" in told
    assert "back at: hello" in told
    assert "('another way', 1.0)" in told


def test_their_example_keeps_our_promises(theirs: str) -> None:
    report = check("remote", settings={"url": theirs, "max_steps": 20}, fast=True, cycles=12)
    assert report.passed, f"\n{report}"
    assert report.fidelity is Fidelity.REPLAY


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"action_field": "nothing"}, "has the fields message"),
        ({"observation_field": "nothing"}, "has the fields echoed_message, message_length"),
    ],
)
def test_a_field_that_the_server_does_not_have_is_one_clear_line(
    theirs: str, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadInput, match=told):
        palaestra.make("remote", url=theirs, **settings).reset()


def test_another_field_can_be_chosen(theirs: str) -> None:
    env = palaestra.make("remote", url=theirs, observation_field="message_length")
    env.reset()
    assert env.step("four")[0] == "4"
    env.close()

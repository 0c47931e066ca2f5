"""Evaluation episodes in containers: a language model writes, a container runs it, hidden tests decide there."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from palaestra.agents.collect import collect
from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.agents.policy import Policy, Sampling
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, find, make
from palaestra.envs.sandbox import pool
from palaestra.envs.sandbox.engine import Engine
from palaestra.envs.sandbox.image import NAME
from palaestra.trainers.evaluate import evaluate

pytestmark = pytest.mark.xdist_group("docker")


@pytest.fixture(autouse=True)
def containers_of_this_test(docker_host: str, docker_engine: Engine) -> Iterator[None]:
    """Warm containers end with the test."""
    yield
    pool.drain()


def running(engine: Engine) -> int:
    return len(engine.client.containers.list(ignore_removed=True))


def started(engine: Engine, since: int) -> int:
    """Containers that the engine has started since a second of the clock."""
    kinds = {"type": "container", "event": "start"}
    return len(list(engine.client.events(since=since, until=int(time.time()) + 1, filters=kinds, decode=True)))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from palaestra.agents.tiny import make_tiny

    texts = ["You solve a programming task. write solution.py\n```\ndef double(n):\n    return n\n```\ntest submit run"]
    folder = tmp_path_factory.mktemp("model")
    return make_tiny(texts, folder, vocab=400, hidden=16, layers=1, heads=2, context=4096)


@pytest.mark.parametrize("name", ["codetasks", "shell", "humaneval", "mbpp"])
def test_a_model_and_the_oracle_are_measured_in_containers(
    name: str, tiny: Path, docker_engine: Engine, tmp_path: Path
) -> None:
    from palaestra.agents.policies.hf import HFPolicy

    settings = {"sandbox": "docker", "max_steps": 3}
    policies: list[tuple[Policy, dict[str, object]]] = [
        (HFPolicy(tiny, sampling=Sampling(temperature=1.0, max_tokens=16)), settings),
        (OraclePolicy(find(name)), {"sandbox": "docker"}),
    ]
    found = []
    before = int(time.time())
    for policy, env_settings in policies:
        with EpisodeStore(tmp_path / f"{policy.name.replace(':', '-')}.sqlite") as store:
            found.append(
                evaluate(name, policy, store, tasks=2, env_settings=env_settings, concurrency=2, progress="quiet")
            )
            assert store.n_faults == 0
            most = int(str(env_settings.get("max_steps", 20)))
            assert all(1 <= len(episode.turns) <= most for episode in store.episodes())
            assert all(" docker python 3." in episode.provenance.env_fingerprint for episode in store.episodes())
    model, oracle = found
    assert (model.episodes, model.missing) == (2, 0)
    assert (oracle.episodes, oracle.outcomes) == (2, {"success": 2})
    assert started(docker_engine, before) >= 4, "a container for each episode"


def test_the_command_line_leaves_no_container_behind(docker_engine: Engine, tiny: Path, tmp_path: Path) -> None:
    asked = ("eval", "codetasks", "--policy", str(tiny), "--sandbox", "docker", "--tasks", "2", "-s", "max_steps=2")
    done = subprocess.run(
        [sys.executable, "-c", "from palaestra.cli import main; main()", *asked, "--max-tokens", "16", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["episodes"], result["missing"]) == (2, 0)
    assert result["card"]["env_settings"]["sandbox"] == "docker"
    assert running(docker_engine) == 0


def test_a_fork_begins_in_another_container_where_its_parent_stood(tmp_path: Path) -> None:
    task = find("codetasks").split("train")[0]
    actions = ("run head -c 8 /dev/urandom | od -An -tx1 | tee seen", "run date +%s.%N", "submit")
    settings = {"sandbox": "docker"}
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        collect([task], ScriptedPolicy(actions), store, env_settings=settings, progress="quiet")
        (parent,) = store.episodes()
        show = ScriptedPolicy(["", "", "run cat seen", "submit"], name="show")
        report = collect([parent.fork(2)], show, store, env_settings=settings, progress="quiet")
        assert (report.episodes, report.faults, report.replayed_steps) == (1, 0, 0)
        (fork,) = store.episodes(parent=parent.id)
        assert fork.turns[0].observation == parent.turns[2].observation
        assert fork.turns[1].observation == parent.turns[1].observation


@pytest.fixture
def image_with_a_letter(docker_engine: Engine) -> str:
    """An image of somebody's own: the sandbox's, and a letter in it. It ends with the tests' engine."""
    name, context = "letters:1", io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for path, text in {"Dockerfile": f"FROM {NAME}\nCOPY letter /srv/letter\n", "letter": "dear me\n"}.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    context.seek(0)
    docker_engine.client.images.build(fileobj=context, custom_context=True, tag=name)
    return name


def test_a_shell_task_with_an_image_of_its_own_is_played_in_it(image_with_a_letter: str, tmp_path: Path) -> None:
    task = 'statement = "Copy the letter of /srv to here."\nsplit = "test"\ncheck = "cmp /srv/letter letter"\n'
    for name, image in {"there": image_with_a_letter, "gone": "letters:0"}.items():
        (tmp_path / f"{name}.toml").write_text(f'{task}commands = ["cp /srv/letter ."]\nimage = "{image}"\n')
    settings = {"folder": str(tmp_path), "sandbox": "docker"}
    oracle = OraclePolicy(find("shell"))
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        found = evaluate("shell", oracle, store, tasks=["there"], env_settings=settings, progress="quiet")
    assert found.outcomes == {"success": 1}
    env = make("shell", **settings)
    try:
        assert env.reset(options={"task": "there"})[0].startswith("Copy the letter")
        assert env.step("cat /srv/letter")[0] == "dear me"
        with pytest.raises(BadInput, match="no image letters:0 on the Docker engine"):
            env.reset(options={"task": "gone"})
    finally:
        env.close()

"""The sandbox image: one Dockerfile whatever its base, an ordinary user, and nothing that lends rights."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from palaestra import __version__
from palaestra.cli import run
from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox.docker import USER, DockerSandbox
from palaestra.envs.sandbox.engine import Engine
from palaestra.envs.sandbox.errors import SandboxUnavailable
from palaestra.envs.sandbox.image import NAME, build
from palaestra.envs.sandbox.machine import write_base

pytestmark = pytest.mark.xdist_group("docker")


def test_the_image_says_what_it_is_and_runs_as_an_ordinary_user(docker_engine: Engine) -> None:
    image = docker_engine.client.images.get(NAME)
    config = image.attrs["Config"]
    assert config["User"] == f"{USER}:{USER}"
    assert config["WorkingDir"] == "/work"
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert config["Labels"]["io.palaestra.image"] == "sandbox"
    assert config["Labels"]["io.palaestra.origin"] == "machine"
    assert image.attrs["Size"] < 200e6


def test_nothing_in_the_image_lends_rights(docker_host: str) -> None:
    with DockerSandbox() as box:
        assert box.exec("find / -xdev -perm /6000 ! -path '/proc/*'").stdout == ""
        assert box.exec("find / -xdev -type f -writable ! -path '/proc/*'").stdout == ""


def test_python_in_the_image_is_whole_and_starts_without_compiling(docker_host: str) -> None:
    modules = "asyncio, bz2, ctypes, csv, decimal, hashlib, json, lzma, sqlite3, ssl, unittest, zlib"
    program = f"import {modules}; print(json.__cached__, sqlite3.sqlite_version, ssl.OPENSSL_VERSION)"
    with DockerSandbox() as box:
        done = box.exec(["python3", "-c", program])
        assert (done.rc, done.stderr) == (0, "")
        assert box.exec(["test", "-f", done.stdout.split()[0]]).rc == 0


def test_without_a_registry_the_base_is_made_of_this_machine(
    docker_engine: Engine, docker_host: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The engine of the tests has no network, so the command falls back, and says so."""
    command = ["sandbox", "build", "--json", "--name", "palaestra-test:1"]
    assert run([*command, "--dry-run"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["dry_run"]
    assert any(line.startswith("palaestra-test:1 is not there yet") for line in told["basis"])
    assert run(command) == 0
    *steps, built = (json.loads(line) for line in capfd.readouterr().out.splitlines())
    assert [step["stage"].split()[0] for step in steps if step["ended"]] == ["pulling", "no", "building"]
    assert (built["name"], built["origin"]) == ("palaestra-test:1", "machine")
    assert str(docker_engine.client.images.get("palaestra-test:1").id) == built["id"]
    with DockerSandbox(image="palaestra-test:1") as box:
        assert box.exec("echo ran").stdout == "ran\n"
    docker_engine.client.images.remove("palaestra-test:1")


def test_a_registry_that_was_asked_for_and_does_not_answer_is_named(docker_engine: Engine) -> None:
    with pytest.raises(SandboxUnavailable, match="cannot pull python:3"):
        build(docker_engine.client, origin="registry")


def test_an_unknown_origin_is_named(docker_host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sandbox", "build", "--from", "elsewhere"]) == 2
    assert "unknown origin 'elsewhere'" in capsys.readouterr().err


def test_an_image_without_python_is_named(docker_engine: Engine, docker_host: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    docker_engine.client.api.import_image_from_file(str(tmp_path / "empty.tar"), repository="palaestra-empty", tag="1")
    with pytest.raises(BadInput, match="palaestra-empty:1 has no python3"):
        DockerSandbox(image="palaestra-empty:1")
    docker_engine.client.images.remove("palaestra-empty:1")


def test_the_base_holds_no_file_of_anybody_and_no_path_of_this_machine(tmp_path: Path) -> None:
    with (tmp_path / "base.tar").open("wb") as file:
        write_base(file)
    with tarfile.open(tmp_path / "base.tar") as tar:
        members = tar.getmembers()
    assert {(member.uid, member.gid) for member in members} == {(0, 0)}
    assert not [member.name for member in members if member.mode & 0o6000]
    tops = {member.name.split("/")[0] for member in members}
    assert tops == {
        "bin",
        "dev",
        "etc",
        "lib",
        "lib64",
        "proc",
        "root",
        "run",
        "sbin",
        "sys",
        "tmp",
        "usr",
        "var",
        "work",
    }
    assert [member.name for member in members if member.name.startswith("root/")] == []
    assert len({member.name for member in members}) == len(members)

"""The Dockerfiles and the compose file of containers/ follow the rules of their trades and name what exists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from palaestra import __version__
from palaestra.cli import run
from palaestra.envs.sandbox.image import dockerfile

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "containers" / "compose.yaml"
DOCKERFILES = [*sorted(ROOT.glob("containers/*/Dockerfile")), ROOT / "palaestra/envs/sandbox/sandbox.Dockerfile"]


def tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def test_there_is_an_image_for_every_service_and_a_service_for_every_image() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    built = [
        COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"] for service in services.values()
    ]
    assert sorted(path.resolve() for path in built) == sorted(DOCKERFILES)
    assert len(DOCKERFILES) >= 5


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_dockerfiles_are_lint_free(path: Path) -> None:
    done = subprocess.run([tool("hadolint"), "--no-color", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_the_linter_finds_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp && sudo apt-get install x\n")
    done = subprocess.run([tool("hadolint"), str(tmp_path / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode != 0


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_images_are_pinned_and_run_as_an_ordinary_user(path: Path) -> None:
    text = path.read_text()
    (base,) = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}
    users = re.findall(r"^USER (\d+):\d+$", text, re.MULTILINE)
    assert users, "no USER by number"
    assert int(users[-1]) > 1000


def test_the_compose_file_follows_the_compose_specification() -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_names_this_version() -> None:
    assert set(re.findall(r"VERSION:-([^}]+)}", COMPOSE.read_text())) == {__version__}


SERVERS = [path for path in DOCKERFILES if '"serve"' in path.read_text()]


def test_the_environment_images_serve() -> None:
    assert [path.parent.name for path in SERVERS] == ["alfworld", "browser", "scienceworld"]


@pytest.mark.parametrize("path", SERVERS, ids=lambda path: path.parent.name)
def test_a_served_image_starts_the_server_and_only_with_a_token(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = path.read_text()
    command = json.loads(re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)[-1])
    assert re.search(r'"\.\[[a-z,]+,serve\]"', text), "the extra `serve` is not installed"
    assert "EXPOSE 8000" in text
    monkeypatch.delenv("PALAESTRA_TOKEN", raising=False)
    assert run(command) == 2  # the image's own command line, as it is
    assert "needs a token of 16 characters or more: set PALAESTRA_TOKEN" in capsys.readouterr().err


@pytest.mark.parametrize("name", [path.parent.name for path in SERVERS])
def test_served_images_are_reached_from_this_machine_only_and_are_given_the_token(name: str) -> None:
    service = yaml.safe_load(COMPOSE.read_text())["services"][name]
    (port,) = service["ports"]
    assert re.fullmatch(r"127\.0\.0\.1:80\d\d:8000", port)
    assert service["environment"] == {"PALAESTRA_TOKEN": "${PALAESTRA_TOKEN:-}"}
    assert service["read_only"] is True
    assert service["networks"] == ["served"]


def test_the_sandbox_dockerfile_is_part_of_the_package() -> None:
    assert "FROM ${BASE}" in dockerfile()

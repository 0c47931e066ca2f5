"""Every attack of the suite against every backend: docker, bubblewrap as root, bubblewrap as an ordinary user."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from palaestra.envs.sandbox.bwrap import BubblewrapSandbox
from palaestra.envs.sandbox.interface import Limits, Sandbox
from tests.envs.sandbox.attacks import ATTACKS, Attack, standing, world

ORDINARY = 54_321
"""A user id that nobody has."""


def suffer(attack: Attack, start: Callable[[], Sandbox]) -> None:
    """Start a sandbox, attack it, and see that it stands."""
    with world() as host, start() as box:
        attack.run(box, host)
        standing(box)


def as_ordinary_user(work: Callable[[], None]) -> None:
    """Do it in a child that has given root away. Raises AssertionError with the child's traceback."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        told = b""
        try:
            os.setgroups([])
            os.setresgid(ORDINARY, ORDINARY, ORDINARY)
            os.setresuid(ORDINARY, ORDINARY, ORDINARY)
            os.chdir("/")
            os.environ["HOME"] = "/nonexistent"
            work()
        except BaseException:
            told = traceback.format_exc().encode()
        with os.fdopen(write, "wb") as pipe:
            pipe.write(pickle.dumps(told))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert said, "the child died"
    told = pickle.loads(said).decode()
    assert not told, told


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_bubblewrap_stands(attack: Attack) -> None:
    """As the user who runs the tests."""
    suffer(attack, lambda: BubblewrapSandbox(attack.limits))


@pytest.fixture(scope="module")
def imported() -> None:
    """All is imported: the project and its interpreter may lie where an ordinary user cannot read."""
    with BubblewrapSandbox(Limits()) as box:
        box.restore(box.snapshot())


@pytest.mark.skipif(os.geteuid() != 0, reason="the test above already is an ordinary user's")
@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_bubblewrap_of_an_ordinary_user_stands(attack: Attack) -> None:
    as_ordinary_user(lambda: suffer(attack, lambda: BubblewrapSandbox(attack.limits)))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_docker_stands(attack: Attack, docker_host: str) -> None:
    from palaestra.envs.sandbox.docker import DockerSandbox

    suffer(attack, lambda: DockerSandbox(attack.limits))


def test_the_documentation_has_every_attack_and_what_holds() -> None:
    """The table says "stands" for what the tests above prove, and nothing else."""
    text = (Path(__file__).parents[3] / "docs" / "security.md").read_text()
    rows = [
        line.strip("| ").split(" | ") for line in text.splitlines() if line.endswith("| stands | stands | stands |")
    ]
    assert [row[:2] for row in rows] == [[attack.name, attack.holds] for attack in ATTACKS]

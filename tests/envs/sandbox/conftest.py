"""A Docker engine of the tests' own, with the sandbox image on it, for as long as the tests run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from palaestra.envs.sandbox.engine import Engine, connect
from palaestra.envs.sandbox.errors import SandboxUnavailable
from palaestra.envs.sandbox.image import NAME, build
from palaestra.envs.sandbox.private_engine import PrivateEngine


@pytest.fixture(scope="session")
def private_engine() -> Iterator[PrivateEngine]:
    """An engine that belongs to this test process; that it does not start is a failure, never a skip."""
    try:
        engine = PrivateEngine()
    except SandboxUnavailable as error:
        pytest.fail(str(error), pytrace=False)
    with engine:
        yield engine


@pytest.fixture(scope="session")
def docker_engine(private_engine: PrivateEngine) -> Engine:
    """Connected to, with the sandbox image built of this machine's own files."""
    engine = connect(private_engine.host)
    build(engine.client, origin="machine")
    return engine


@pytest.fixture
def docker_host(docker_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine's address, which DOCKER_HOST names while the test runs."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    assert os.environ["DOCKER_HOST"] == docker_engine.host
    return docker_engine.host


@pytest.fixture
def second_engine(docker_engine: Engine) -> Iterator[PrivateEngine]:
    """Another engine, that can be killed, with the image on it."""
    with PrivateEngine() as engine:
        image = docker_engine.client.images.get(NAME)
        connect(engine.host).client.images.load(b"".join(image.save(named=True)))
        yield engine

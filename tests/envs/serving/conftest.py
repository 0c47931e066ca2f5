"""One server an environment for all tests of this folder; they begin sessions of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving_processes import Server, serving


@pytest.fixture(scope="package")
def crafting() -> Iterator[Server]:
    with serving("crafting") as server:
        yield server


@pytest.fixture(scope="package")
def bandit() -> Iterator[Server]:
    with serving("bandit") as server:
        yield server


@pytest.fixture(scope="package")
def webshop() -> Iterator[Server]:
    with serving("webshopsmall") as server:
        yield server

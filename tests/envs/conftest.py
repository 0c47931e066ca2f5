"""What the tests of the gym share."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium
import pytest

from palaestra.envs import registry, specs


@pytest.fixture
def clean_registry() -> Iterator[None]:
    """Whatever a test registers is unknown again afterwards."""
    specs()
    ours, theirs = dict(registry._specs), dict(gymnasium.registry)
    yield
    for known, before in ((registry._specs, ours), (gymnasium.registry, theirs)):
        known.clear()
        known.update(before)

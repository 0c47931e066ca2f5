"""Every environment that is registered keeps the promises of the contract."""

from __future__ import annotations

import pytest

from palaestra.envs import specs
from palaestra.envs.check import check


@pytest.mark.parametrize("env_id", sorted(specs()))
def test_every_registered_environment_keeps_every_promise(env_id: str) -> None:
    report = check(env_id, fast=True)
    assert report.passed, f"\n{report}"

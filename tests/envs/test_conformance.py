"""Every environment that is registered keeps the promises of the contract."""

from __future__ import annotations

import pytest

from palaestra.envs import specs
from palaestra.envs.check import check


# What stands for a served environment needs a server: tests/envs/serving/test_serving_remote.py.
@pytest.mark.parametrize("env_id", sorted(set(specs()) - {"palaestra/Remote-v0"}))
def test_every_registered_environment_keeps_every_promise(env_id: str) -> None:
    report = check(env_id, fast=True)
    assert report.passed, f"\n{report}"

"""Names of policies and models: what is no name is told in a line, and a run stands for its newest weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import palaestra
from palaestra.agents.policies.named import model_name, policy_by_name
from palaestra.envs import BadInput


@pytest.mark.parametrize("name", [5, None, Path("x")])
def test_what_is_no_text_is_no_name(name: Any) -> None:
    spec = palaestra.find("bandit")
    for call in (policy_by_name, model_name):
        with pytest.raises(BadInput, match="named by a text"):
            call(name, spec)


def test_a_run_stands_for_its_newest_weights_whatever_else_lies_there(tmp_path: Path) -> None:
    spec = palaestra.find("bandit")
    (tmp_path / "run.json").write_text("{}")
    for name in ("iteration-x", "iteration-", "iteration-9.part"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="has not trained a model yet"):
        model_name(str(tmp_path), spec)
    for number in (2, 10):
        (tmp_path / f"iteration-{number}" / "model").mkdir(parents=True)
        (tmp_path / f"iteration-{number}" / "model" / "config.json").write_text("{}")
    assert model_name(str(tmp_path), spec) == str(tmp_path / "iteration-10" / "model")

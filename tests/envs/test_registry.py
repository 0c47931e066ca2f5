"""What registering promises: one call, errors of one line, and the same environments for Palaestra and Gymnasium."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import palaestra
from palaestra.envs import BadInput, Fidelity, MissingExtra, Reply, Task, TextEnv, find, make, register, specs

pytestmark = pytest.mark.usefixtures("clean_registry")


class Echo(TextEnv[list[str]]):
    """Says what you say."""

    def __init__(self, loud: bool = False) -> None:
        self.loud = loud

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[list[str], str]:
        return [], "Hello."

    def act(self, state: list[str], action: str) -> Reply:
        return Reply(action.upper() if self.loud else action)


class Slow(Echo):
    fidelity = Fidelity.REPLAY


def say_hello(env: TextEnv[Any]) -> str:
    return "hello"


SPLITS = {"train": range(3), "test": ("a", "b")}


def test_one_call_makes_an_environment_known_to_both() -> None:
    spec = register("mine/Echo-v0", Echo, splits=SPLITS, max_steps=5, oracles={"hello": say_hello})
    assert specs()["mine/Echo-v0"] is spec
    for env in (make("mine/Echo-v0", loud=True), make("echo", loud=True), gymnasium.make("mine/Echo-v0", loud=True)):
        env.reset(seed=0)
        assert env.step("hi")[0] == "HI"
    assert [task.name for task in make("echo").tasks("train")] == ["0", "1", "2"]
    assert make("echo").splits() == ("train", "test")
    assert make("echo").max_steps == 5
    assert make("echo", max_steps=2).settings == {"max_steps": 2}
    assert spec.oracle()(make("echo")) == spec.oracle("hello")(make("echo")) == "hello"
    assert spec.why_not_ready() is None


def test_what_is_not_said_comes_from_the_class_and_the_id() -> None:
    assert register("mine/Slow-v0", Slow, splits=SPLITS).fidelity is Fidelity.REPLAY
    assert specs()["mine/Slow-v0"].family == "mine"
    assert specs()["palaestra/Bandit-v0"].family == "bandit"


def test_registering_again_replaces_and_an_id_belongs_to_one_class() -> None:
    register("mine/Echo-v0", Echo, splits=SPLITS)
    register("mine/Echo-v0", Echo, splits=SPLITS, max_steps=7)
    assert make("echo").max_steps == 7
    with pytest.raises(BadInput, match="already registered by"):
        register("mine/Echo-v0", Slow, splits=SPLITS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id": "Echo"}, "not of the form"),
        ({"id": "mine/Echo"}, "not of the form"),
        ({"id": "mine/Ec ho-v0"}, "not of the form"),
        ({"id": "mine/Echo-v0", "splits": {}}, "at least one split"),
        ({"id": "mine/Echo-v0", "max_step": 3}, "unknown field 'max_step'"),
        ({"id": "mine/Echo-v0", "_tasks": {}}, "unknown field '_tasks'"),
        ({"id": "mine/Echo-v0", "max_steps": 0}, "max_steps must be at least 1"),
    ],
)
def test_a_wrong_registration_is_one_line_and_registers_nothing(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        register(**{"entry_point": Echo, "splits": SPLITS, **arguments})
    assert "\n" not in str(raised.value)
    assert not any(arguments["id"] in known for known in (specs(), gymnasium.registry))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("bandid", {}, "did you mean bandit"),
        ("zzzzzz", {}, "palaestra envs"),
        ("bandit", {"colour": 1}, "no setting 'colour'; it has: reward, show, max_steps"),
        ("bandit", {"max_steps": 0}, "max_steps must be at least 1"),
        ("bandit", {"render_mode": "rgb_array"}, "cannot render"),
    ],
)
def test_what_cannot_be_made_is_one_line(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        make(name, **settings)
    assert "\n" not in str(raised.value)


def test_a_class_without_settings_refuses_all() -> None:
    register("mine/Slow-v0", "test_registry:Plain", splits=SPLITS)
    with pytest.raises(BadInput, match="no setting 'loud'"):
        make("mine/Slow-v0", loud=True)


class Plain(TextEnv[list[str]]):
    """Has no settings."""

    begin, act = Echo.begin, Slow.act  # type: ignore[assignment]


def test_an_ambiguous_short_name_lists_the_candidates() -> None:
    register("mine/Echo-v0", Echo, splits=SPLITS)
    register("yours/Echo-v0", Echo, splits=SPLITS)
    with pytest.raises(BadInput, match=r"ambiguous: mine/Echo-v0, yours/Echo-v0"):
        find("echo")


@pytest.mark.parametrize("name", [5, None, True, ["bandit"], {"env": "bandit"}, b"bandit"])
def test_a_name_that_is_no_text_is_one_line(name: Any) -> None:
    for ask in (find, make):
        with pytest.raises(BadInput, match="an environment is named by a text such as 'bandit', not by "):
            ask(name)
    with pytest.raises(BadInput, match="is not of the form 'namespace/Name-v0'"):
        register(name, Echo, splits=SPLITS)


@pytest.mark.parametrize(
    ("entry_point", "message"),
    [
        ("no_such_module:Echo", "cannot load 'no_such_module:Echo'"),
        ("test_registry:Nothing", "cannot load 'test_registry:Nothing'"),
        ("test_registry:say_hello", "not a TextEnv class"),
    ],
)
def test_an_entry_point_that_leads_nowhere_is_found_when_it_is_used(entry_point: str, message: str) -> None:
    spec = register("mine/Ghost-v0", entry_point, splits=SPLITS)
    assert message in (spec.why_not_ready() or "")
    with pytest.raises(BadInput, match=message):
        make("ghost")


@pytest.mark.parametrize("module", ["no_such_module", "no_such_package.module"])
def test_a_missing_module_names_the_extra(module: str) -> None:
    spec = register("mine/Echo-v0", Echo, splits=SPLITS, requires=[module], extra="sciworld")
    with pytest.raises(MissingExtra, match=r"pip install 'palaestra\[sciworld\]'"):
        make("echo")
    assert "sciworld" in (spec.why_not_ready() or "")


def test_unknown_splits_and_oracles_are_one_line() -> None:
    spec = register("mine/Echo-v0", Echo, splits=SPLITS)
    with pytest.raises(BadInput, match="no split 'tset'; it has: train, test"):
        make("echo").tasks("tset")
    odd: Any = ["train"]
    with pytest.raises(BadInput, match=r"no split \['train'\]; it has: train, test"):
        make("echo").tasks(odd)
    with pytest.raises(BadInput, match="has no oracle"):
        spec.oracle()
    with pytest.raises(BadInput, match="has no oracle 'ucp'; it has: ucb"):
        find("bandit").oracle("ucp")


def test_a_split_without_tasks_is_said_at_reset() -> None:
    register("mine/Echo-v0", Echo, splits={"train": ()})
    with pytest.raises(BadInput, match="'train' of Echo has no tasks"):
        make("echo").reset(seed=0)


def test_an_environment_that_was_never_registered_still_plays_a_given_task() -> None:
    env = Echo()
    assert env.reset(options={"task": Task(env="x", name="1", split="train")})[0] == "Hello."
    with pytest.raises(BadInput, match="has no splits"):
        env.reset(seed=0)
    with pytest.raises(BadInput, match="not registered"):
        env.tasks("train")


def test_palaestras_own_environments_are_registered() -> None:
    assert "palaestra/Bandit-v0" in palaestra.specs()
    assert "palaestra/Bandit-v0" in gymnasium.registry


@pytest.mark.parametrize("found", [False, True])
def test_a_file_has_the_same_name_whether_python_would_find_it_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    """As `python -m palaestra` in its folder does: fingerprints hold the name, so figures would depend on it."""
    from palaestra.envs.source import load

    name = f"lone_{'found' if found else 'hidden'}"
    (tmp_path / f"{name}.py").write_text("here = __name__\n")
    if found:
        monkeypatch.syspath_prepend(tmp_path)
    load(str(tmp_path / f"{name}.py"))
    assert sys.modules.pop(name).here == name

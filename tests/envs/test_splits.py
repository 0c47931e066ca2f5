"""A task may not claim a split that it is not in: test tasks never become training data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from palaestra.envs import BadInput, Task, TextEnv, make, register
from palaestra.envs.core import Reply
from tests.envs.webshop.odd_shop import SETTINGS


class Echo(TextEnv[None]):
    """Says what it hears."""

    def begin(self, task, rng):  # type: ignore[no-untyped-def]
        return None, "Say something."

    def act(self, state, action):  # type: ignore[no-untyped-def]
        return Reply(action)


class Counted:
    """Names that know how often they were gone through."""

    def __init__(self, names: range) -> None:
        self.names, self.times = names, 0

    def __iter__(self) -> Iterator[int]:
        self.times += 1
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@pytest.mark.parametrize(
    ("env", "settings", "name", "home", "claimed"),
    [
        ("crafting", {}, "d5/bakery-3", "test", "train"),
        ("crafting", {}, "d1/harbour-3", "test", "dev"),
        ("alfworldgenerated", {}, "pick_two_obj_and_place/3000049", "test_unseen", "train"),
        ("alfworldgenerated", {}, "pick_two_obj_and_place/2999999", "test", "train"),  # not listed, but of the split
        ("alfworld", {}, "pick_heat_then_place_in_recep/17", "valid_unseen", "train"),
        ("alfworld", {"protocol": "eto"}, "pick_heat_then_place_in_recep/30", "valid_seen", "valid_unseen"),
        ("webshopsmall", {}, "small-synthetic/3", "test", "train"),
        ("webshop", {}, "webshop-synthetic/499", "test", "train"),
        ("webshop", {"protocol": "eto"}, "webshop-human/1", "test", "train"),
        ("webshop", SETTINGS, "odd-synthetic/2", "test", "train"),
        ("textworldexpress", {}, "coin/20007", "test", "train"),
        ("bandit", {}, "gaussian-k10-gap0.5-h300/49", "test", "train"),
    ],
)
def test_a_task_of_another_split_is_refused(
    env: str, settings: dict[str, str], name: str, home: str, claimed: str
) -> None:
    made = make(env, **settings)
    assert made.registration is not None
    for seed in (0, 7):
        task = Task(env=made.registration.id, name=name, split=claimed, seed=seed)
        with pytest.raises(BadInput, match=f"{name!r} of .* is of the split {home!r}, not of {claimed!r}") as raised:
            made.reset(options={"task": task})
        assert "\n" not in str(raised.value)
    made.close()


@pytest.mark.parametrize(
    ("env", "settings", "name", "split"),
    [
        ("crafting", {}, "d3/bakery-5", "test"),  # a name of all splits; worlds differ
        ("crafting", {}, "d3/bakery-5", "train"),
        ("crafting", {}, "d3/bakery-999999", "train"),  # listed nowhere
        ("alfworldgenerated", {}, "pick_two_obj_and_place/999999", "train"),
        ("webshop", SETTINGS, "odd-synthetic/2", "test"),
        ("webshopsmall", {"price_seed": 3}, "small-synthetic/3", "test"),
    ],
)
def test_a_task_of_its_own_split_begins(env: str, settings: dict[str, object], name: str, split: str) -> None:
    made = make(env, **settings)
    assert made.registration is not None
    _, info = made.reset(options={"task": Task(env=made.registration.id, name=name, split=split)})
    assert info["task"].split == split


@pytest.mark.usefixtures("clean_registry")
def test_environments_of_users_are_kept_apart_too_and_names_are_gone_through_once() -> None:
    train, test = Counted(range(50)), range(50, 10**12)
    register("mine/Echo-v0", Echo, splits={"train": train, "test": test}, max_steps=3)
    for _ in range(3):
        env = make("mine/Echo-v0")
        for _ in range(3):
            env.reset(options={"task": Task(env="mine/Echo-v0", name="7", split="train")})
            env.reset(options={"task": Task(env="mine/Echo-v0", name="999999999", split="test")})
        with pytest.raises(BadInput, match="task '51' of mine/Echo-v0 is of the split 'test', not of 'train'"):
            env.reset(options={"task": Task(env="mine/Echo-v0", name="51", split="train")})
        with pytest.raises(BadInput, match="task '7' of mine/Echo-v0 is of the split 'train', not of 'test'"):
            env.reset(options={"task": Task(env="mine/Echo-v0", name="7", split="test")})
    assert train.times == 1


def test_no_snapshot_takes_a_task_into_another_split() -> None:
    env = make("webshopsmall")
    env.reset(options={"task": "small-synthetic/3"})
    snapshot = env.snapshot()
    moved = snapshot.task.model_copy(update={"split": "train"})
    with pytest.raises(BadInput, match="is of the split 'test'"):
        env.replay(moved, snapshot.actions)

"""ExIt: where groups begin, rewards, the diversity bonus, what goes into the buffer, and that it learns."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lamps
import numpy as np
import pytest
from levers import LEARNING, episode, settings

from palaestra.agents.episode import Episode, Start
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Task
from palaestra.trainers.config import config_of
from palaestra.trainers.embed import diversity, embedder_of
from palaestra.trainers.exit import ExIt, ExItConfig
from palaestra.trainers.grpo import Group, Groups
from palaestra.trainers.phases import Collected
from palaestra.trainers.report import rounds
from palaestra.trainers.rundir import RunDir
from palaestra.trainers.task_buffer import Entry, TaskBuffer

TASK = Task(env="toy/Lamps-v0", name="two/0", split="train")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lamps.tiny(tmp_path_factory.mktemp("models") / "tiny")


def exit_(out: Path, model: Path, **more: Any) -> ExIt:
    whole = settings(model, **({"embedder": None, "minimum": 1} | more))
    return ExIt(config_of(ExItConfig, whole), out, progress="quiet")


def with_buffer(method: ExIt, entries: Sequence[Entry]) -> None:
    """As if iteration 1 had left this buffer."""
    method.run.save("iteration-1/buffer.json", TaskBuffer(capacity=512, entries=tuple(entries)))


# -- where groups begin -----------------------------------------------------------------------------------------------


def drawn(tmp_path: Path, model: Path, times: int = 200, **more: Any) -> list[Group]:
    """Groups of iteration 2, after an earlier attempt with two turns went into the buffer."""
    method = exit_(tmp_path / "run", model, **more)
    attempt = episode(Start(task=TASK), "ab", 0.5)
    with (
        EpisodeStore(tmp_path / "episodes.sqlite") as method.store,
        RunDir.open(tmp_path / "run", "exit", method.config) as method.run,
    ):
        method.store.add(attempt)
        with_buffer(method, [Entry(start=attempt.fork(step), depth=0, score=0.2) for step in (0, 1)])
        return [method.draw(2, random.Random(n)) for n in range(times)]


def test_half_of_the_groups_begin_at_the_buffer_and_half_of_these_diverge(tmp_path: Path, model: Path) -> None:
    kinds = [group.kind for group in drawn(tmp_path, model, 1000)]
    assert kinds.count("task") / 1000 == pytest.approx(0.5, abs=0.05)
    assert kinds.count("improve") / 1000 == pytest.approx(0.25, abs=0.04)
    assert kinds.count("diverge") / 1000 == pytest.approx(0.25, abs=0.04)


def test_a_turn_that_is_taken_again_is_a_fork_with_a_note_of_what_was_done(tmp_path: Path, model: Path) -> None:
    groups = drawn(tmp_path, model, p=1.0, p_div=0.0)
    assert {(group.kind, group.start.fork_step) for group in groups} == {("improve", 0), ("improve", 1)}
    for group in groups:
        assert group.entry is not None
        assert group.start == group.entry.start.model_copy(update={"note": group.start.note})
        assert ("1. a ->" in group.start.note) == (group.start.fork_step == 0)
        assert "b ->" in group.start.note
        assert "improve on that attempt" in group.start.note


def test_the_curriculum_goes_on_without_a_word(tmp_path: Path, model: Path) -> None:
    groups = drawn(tmp_path, model, p=1.0, ask="continue")
    assert {(group.kind, group.start.note) for group in groups} == {("continue", "")}


def test_a_buffer_with_too_few_entries_is_not_drawn_from(tmp_path: Path, model: Path) -> None:
    assert {group.kind for group in drawn(tmp_path / "few", model, p=1.0, minimum=3)} == {"task"}
    assert "task" not in {group.kind for group in drawn(tmp_path / "enough", model, p=1.0, minimum=2)}
    with pytest.raises(BadInput, match="minimum=9 never is"):
        config_of(ExItConfig, settings(model, capacity=8, minimum=9))


def test_a_budget_with_which_the_buffer_is_never_drawn_from_is_refused(tmp_path: Path, model: Path) -> None:
    """Twelve groups of two in six rounds, ten of them before the last one; a try has four steps at the most."""
    told = {"group": 2, "prompts": 2, "budget": 24, "capacity": 512}
    for least, more in ((40, {}), (10, {"entries": "whole"})):
        exit_(tmp_path / "run", model, **told, **more, minimum=least).check()
        with pytest.raises(BadInput, match=rf"minimum={least + 1}: .* 10 groups before the last round leave {least} "):
            exit_(tmp_path / "run", model, **told, **more, minimum=least + 1).check()
        exit_(tmp_path / "run", model, **told, **more, minimum=least + 1, p=0.0).check()
    assert not (tmp_path / "run").exists()


# -- what a round gives -----------------------------------------------------------------------------------------------


def test_a_round_by_hand(tmp_path: Path, model: Path) -> None:
    """An earlier attempt "abc" was worth 0.6. Three groups begin at its second turn, b.

    improve: xy is worth 0.8, z 0.5. Rewards max(0, 0.2) / 0.4 = 0.5 and max(0, -0.1) / 0.4 = 0. Variance 0.0625.
    diverge: both are worth 0.9, and that is their reward. Variance 0: nobody is better.
    a task: f is worth 1, g 0. Rewards 1 and 0, variance 0.25.

    The entry of b was scored by the last group that was played from it: 0. Into the buffer go all turns of one rollout
    of each group: of the improved one at depth 1 and, if it is xy, its y at depth 0.
    """
    old = episode(Start(task=TASK), "abc", 0.6, iteration=0)
    b = Entry(start=old.fork(1), depth=0, score=0.1)
    improve, diverge = (b.start.model_copy(update={"note": note}) for note in ("better!", "differently!"))
    task = Start(task=TASK)
    groups = [
        Group(start=improve, first=0, size=2, kind="improve", entry=b),
        Group(start=diverge, first=0, size=2, kind="diverge", entry=b),
        Group(start=task, first=0, size=2),
    ]
    worth = [
        (improve, "xy", 0.8),
        (improve, "z", 0.5),
        (diverge, "d", 0.9),
        (diverge, "e", 0.9),
        (task, "f", 1.0),
        (task, "g", 0.0),
    ]
    made = [episode(start, actions, score, n % 2) for n, (start, actions, score) in enumerate(worth)]
    method = exit_(tmp_path / "run", model)
    with (
        EpisodeStore(tmp_path / "episodes.sqlite") as method.store,
        RunDir.open(tmp_path / "run", "exit", method.config) as method.run,
    ):
        method.store.add_all([old, *made])
        with_buffer(method, [b])
        record = Collected(episodes=tuple(e.id for e in made), successes=0, faults=0)
        method.run.save("iteration-2/collected.json", record)
        method.run.save("iteration-2/groups.json", Groups(groups=tuple(groups)))
        method.mine(2)
        grades = json.loads((method.run.path / "iteration-2/grades.json").read_text())["grades"]
        after = method.buffer(2)
    assert [grade["rewards"] for grade in grades] == [pytest.approx([0.5, 0.0]), [0.9, 0.9], [1.0, 0.0]]
    assert after.entries[0] == b.model_copy(update={"score": 0.0})
    names = {episode.id: episode.actions for episode in made}
    lines = [(names[e.start.parent or ""], e.start.fork_step, e.depth, round(e.score, 4)) for e in after.entries[1:]]
    of_xy = [(("x", "y"), 1, 1, 0.0625), (("x", "y"), 2, 0, 0.0625)]
    of_z = [(("z",), 1, 1, 0.0625)]
    first = [line for line in lines if line[3] == 0.0625]
    assert first in (of_xy, of_z)
    assert [line[1:] for line in lines[len(first) :]] == [(1, 1, 0.0), (0, 0, 0.25)]
    assert all(not entry.start.note for entry in after.entries)


@pytest.mark.parametrize(("entries", "steps"), [("turns", [0, 1, 2]), ("whole", [0])])
def test_what_of_a_rollout_goes_into_the_buffer(tmp_path: Path, model: Path, entries: str, steps: list[int]) -> None:
    """Of two rollouts of three turns one lives on: each of its turns, or its first, as the whole attempt."""
    task = Start(task=TASK)
    made = [episode(task, actions, score, n) for n, (actions, score) in enumerate([("abc", 1.0), ("def", 0.0)])]
    method = exit_(tmp_path / "run", model, entries=entries)
    with (
        EpisodeStore(tmp_path / "episodes.sqlite") as method.store,
        RunDir.open(tmp_path / "run", "exit", method.config) as method.run,
    ):
        method.store.add_all(made)
        method.run.save(
            "iteration-1/collected.json", Collected(episodes=tuple(e.id for e in made), successes=1, faults=0)
        )
        method.run.save("iteration-1/groups.json", Groups(groups=(Group(start=task, first=0, size=2),)))
        method.mine(1)
        found = method.buffer(1).entries
    assert [entry.start.fork_step for entry in found] == steps
    assert {entry.start.parent for entry in found} <= {each.id for each in made}
    assert {entry.score for entry in found} == {0.25}


def reward(tmp_path: Path, model: Path, kind: str, old: float, new: float, **more: Any) -> float:
    method = exit_(tmp_path / "run", model, **more)
    before: Episode = episode(Start(task=TASK), "a", old)
    after = episode(before.fork(0), "b", new)
    with EpisodeStore(tmp_path / "episodes.sqlite") as method.store:
        method.store.add_all([before, after])
        return method.reward(Group(start=after.start, first=0, size=1, kind=kind), after)


def test_the_reward_of_taking_a_turn_again(tmp_path: Path, model: Path) -> None:
    """The share of the possible improvement; what cannot be bettered should be kept."""
    cases = [
        ("improve", 0.0, 1.0, {}, 1.0),
        ("improve", 0.5, 0.75, {}, 0.5),
        ("improve", 0.5, 0.25, {}, 0.0),
        ("improve", 1.0, 1.0, {}, 1.0),
        ("improve", 1.0, 0.5, {}, 0.5),
        ("improve", 0.5, 0.75, {"gain": "task"}, 0.75),
        ("diverge", 0.5, 0.25, {}, 0.25),
        ("continue", 0.5, 0.25, {}, 0.25),
    ]
    for number, (kind, old, new, more, expected) in enumerate(cases):
        assert reward(tmp_path / str(number), model, kind, old, new, **more) == pytest.approx(expected)


# -- the diversity bonus ----------------------------------------------------------------------------------------------


def test_the_bonus_by_hand() -> None:
    """(0, 0), (0, 0) and (3, 0) have their centre at (1, 0): distances 1, 1, 2, spread 1, so d = 1, 1, 2.

    Any two lie equally far from their centre: the floor divides instead, 0.5 / 0.1 = 5.
    """
    assert diversity(np.array([[0.0, 0], [0, 0], [3, 0]]), 0.1) == [1.0, 1.0, 2.0]
    assert diversity(np.array([[0.0, 0], [1, 0]]), 0.1) == pytest.approx([5.0, 5.0])
    assert diversity(np.ones((3, 2)), 0.1) == [0.0, 0.0, 0.0]


def test_the_small_embedder_tells_texts_apart(model: Path, tmp_path: Path) -> None:
    """Offline, on a CPU. Three answers of four say the same; the fourth is pushed harder than the others like it."""
    embed = embedder_of("minilm")
    vectors = embed(["press red", "press the red button", "search for a blue chair"])
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    method = exit_(tmp_path / "run", model)
    method.config = method.config.model_copy(update={"embedder": "minilm"})
    said = ["press red", "press red", "press red", "give up"]
    episodes = [episode(Start(task=TASK), "a", 0).model_copy(update={"turns": ()}) for _ in said]
    turn = episode(Start(task=TASK), "a", 0).turns[0]
    episodes = [
        e.model_copy(update={"turns": (turn.model_copy(update={"completion": text}),)})
        for e, text in zip(episodes, said, strict=True)
    ]
    pushes = method.advantages([1.0, 0.0, 1.0, 0.0], episodes)
    assert pushes[0] == pushes[2] == pytest.approx(-pushes[1])
    assert pushes[3] < 2 * pushes[1] < 0
    assert method.advantages([1.0] * 4, episodes) == [0.0] * 4


def test_an_unknown_embedder_is_one_line() -> None:
    with pytest.raises(BadInput, match="embedder '/no/such/folder' cannot be loaded"):
        embedder_of("/no/such/folder")


# -- the whole loop ---------------------------------------------------------------------------------------------------


def test_it_learns_and_only_training_tasks_are_ever_in_its_buffer(tmp_path: Path, model: Path) -> None:
    """Held-out tasks are improved on while the weights are measured: their forks are in the store, and nowhere else."""
    method = exit_(
        tmp_path / "run",
        model,
        **{**LEARNING, "evaluation": {"improve": 1}, "minimum": 3, "capacity": 10},
    )
    method.train()
    rewards, kinds = [], set()
    for number in range(1, 7):
        folder = tmp_path / "run" / f"iteration-{number}"
        rewards.append(json.loads((folder / "grades.json").read_text())["reward"])
        buffer = TaskBuffer.model_validate_json((folder / "buffer.json").read_text())
        groups = Groups.model_validate_json((folder / "groups.json").read_text()).groups
        kinds |= {group.kind for group in groups}
        assert {entry.start.task.split for entry in buffer.entries} == {"train"}
        assert {group.start.task.split for group in groups} == {"train"}
        assert 0 < len(buffer) <= 10
    assert "improve" in kinds or "diverge" in kinds
    assert rewards[-1] > 0.8 > 0.7 > rewards[0]
    found = rounds(tmp_path / "run")
    assert [at.k for at in found[-1].evaluation.improved] == [0, 1]
    assert "Self-improvement" in (tmp_path / "run" / "report.md").read_text()
    with EpisodeStore(tmp_path / "run" / "episodes.sqlite", mode="r") as store:
        assert any(head.parent is not None for head in store.heads(split="test"))

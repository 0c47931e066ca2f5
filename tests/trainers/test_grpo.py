"""GRPO over environments: groups, advantages, masks, budget, what is kept, and that it learns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lamps
import pytest
from levers import LEARNING, episode, settings

from palaestra.agents.episode import Episode, Start, TokenRecord
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Task
from palaestra.trainers.config import config_of
from palaestra.trainers.grpo import GRPO, Grades, Group, Groups, GRPOConfig
from palaestra.trainers.objective import FitReport
from palaestra.trainers.phases import Collected, Fitted, Plan
from palaestra.trainers.policy_gradient import Graded
from palaestra.trainers.report import rounds
from palaestra.trainers.rundir import RunDir

TASK = Task(env="toy/Lamps-v0", name="two/0", split="train")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lamps.tiny(tmp_path_factory.mktemp("models") / "tiny")


def grpo(out: Path, model: Path, **more: Any) -> GRPO[Any]:
    return GRPO(config_of(GRPOConfig, settings(model, **more)), out, progress="quiet")


def mined(
    tmp_path: Path, model: Path, groups: Sequence[Group], made: Sequence[Episode], **more: Any
) -> tuple[list[Graded], Grades, list[str]]:
    """What GRPO mines of these, its grades, and each sample as text with brackets around what is trained."""
    method = grpo(tmp_path / "run", model, **more)
    with (
        EpisodeStore(tmp_path / "episodes.sqlite") as method.store,
        RunDir.open(tmp_path / "run", "grpo", method.config) as method.run,
    ):
        method.store.add_all(made)
        ids = tuple(e.id for e in made if e.provenance.iteration == 1)
        method.run.save("iteration-1/collected.json", Collected(episodes=ids, successes=0, faults=0))
        method.run.save("iteration-1/groups.json", Groups(groups=tuple(groups)))
        samples = [sample for sample in method.mine(1) if isinstance(sample, Graded)]
        tokenizer = method.acting.template.tokenizer
        texts = []
        for sample in samples:
            text, before = "", 0.0
            for id, weight in zip(sample.ids, sample.weights, strict=True):
                text += "[" * (weight > before) + "]" * (weight < before) + tokenizer.decode([id])
                before = weight
            texts.append(text + "]" * (before > 0))
        return samples, method.run.load("iteration-1/grades.json", Grades), texts


def test_advantages_and_masked_positions_by_hand(tmp_path: Path, model: Path) -> None:
    """Four rollouts of one task are worth 1, 0.5, 0.5 and 0: their mean is 0.5, their standard deviation is

    sqrt((.25 + .25) / 3) = 0.4082, so the advantages are 0.5 / (0.4082 + 0.0001) = 1.2244, 0, 0 and -1.2244. In
    brackets is what is trained: the answers with their end of turn, nothing of the instructions, the observations or
    the template.
    """
    start = Start(task=TASK)
    scores = {"ab": 1.0, "c": 0.5, "de": 0.5, "f": 0.0}
    made = [episode(start, actions, score, n) for n, (actions, score) in enumerate(scores.items())]
    samples, grades, texts = mined(tmp_path, model, [Group(start=start, first=0, size=4)], made)
    assert grades.grades[0].rewards == (1.0, 0.5, 0.5, 0.0)
    expected = pytest.approx([1.2244, 0, 0, -1.2244], abs=1e-4)
    assert list(grades.grades[0].advantages) == expected
    assert [sample.advantage for sample in samples] == expected
    assert (grades.reward, grades.alike) == (0.5, 0.0)
    told = (
        "<|im_start|>system\nPress the button of the lamp's colour.\n"
        "Answer with one action and nothing else.<|im_end|>\n"
        "<|im_start|>user\nsee a<|im_end|>\n<|im_start|>assistant\n[a<|im_end|>]\n"
        "<|im_start|>user\nsee b<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]"
    )
    assert texts[0] == told
    assert texts[3].endswith("assistant\n[f<|im_end|>]")
    assert all(set(sample.weights) == {0.0, 1.0} for sample in samples)


def test_without_scaling_advantages_are_differences_to_the_mean(tmp_path: Path, model: Path) -> None:
    start = Start(task=TASK)
    made = [episode(start, "a", score, n) for n, score in enumerate([1.0, 0.0, 0.0, 0.0])]
    group = Group(start=start, first=0, size=4)
    _, grades, _ = mined(tmp_path / "plain", model, [group], made, scale="none")
    assert grades.grades[0].advantages == (0.75, -0.25, -0.25, -0.25)
    _, grades, _ = mined(
        tmp_path / "won", model, [group], [episode(start, "a", 0.9, n) for n in range(4)], reward="success"
    )
    assert grades.grades[0].rewards == (0.0,) * 4


def test_what_came_before_a_fork_is_context(tmp_path: Path, model: Path) -> None:
    root = episode(Start(task=TASK), "ab", 0.0, iteration=0)
    fork = root.fork(1)
    made = [root, episode(fork, "x", 1.0), episode(fork, "y", 0.0, 1)]
    samples, _, texts = mined(tmp_path, model, [Group(start=fork, first=0, size=2)], made)
    assert texts[0].endswith(
        "see a<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
        "<|im_start|>user\nsee x<|im_end|>\n<|im_start|>assistant\n[x<|im_end|>]"
    )
    assert samples[0].advantage == -samples[1].advantage > 0


def test_what_broke_is_in_no_group(tmp_path: Path, model: Path) -> None:
    """Of the first group two of three came back, of the second one of two: it has nothing to be compared with."""
    one, two = Start(task=TASK), Start(task=TASK.model_copy(update={"name": "two/1"}))
    made = [episode(one, "a", 1.0, 0), episode(one, "b", 0.0, 2), episode(two, "c", 1.0, 1)]
    groups = [Group(start=one, first=0, size=3), Group(start=two, first=0, size=2)]
    _, grades, _ = mined(tmp_path, model, groups, made)
    assert [len(grade.episodes) for grade in grades.grades] == [2, 1]
    assert grades.grades[0].advantages == pytest.approx((0.7070, -0.7070), abs=1e-4)
    assert grades.grades[1].advantages == (0.0,)


def test_two_groups_of_one_start_are_graded_apart(tmp_path: Path, model: Path) -> None:
    start = Start(task=TASK)
    made = [episode(start, "a", score, n) for n, score in enumerate([1.0, 1.0, 1.0, 0.0])]
    groups = [Group(start=start, first=first, size=2) for first in (0, 2)]
    samples, grades, _ = mined(tmp_path, model, groups, made)
    assert grades.grades[0].advantages == (0.0, 0.0)
    assert grades.grades[1].advantages[0] > 0
    assert (grades.alike, [sample.group for sample in samples]) == (0.5, ["1/0", "1/0", "1/1", "1/1"])


def test_without_a_kl_term_groups_that_are_all_alike_teach_nothing(tmp_path: Path, model: Path) -> None:
    start = Start(task=TASK)
    made = [episode(start, "a", 1.0, n) for n in range(2)]
    group = Group(start=start, first=0, size=2)
    samples, _, _ = mined(tmp_path / "plain", model, [group], made, policy={"beta": 0.0})
    assert samples == []
    samples, _, _ = mined(tmp_path / "kl", model, [group], made, policy={"beta": 0.1})
    assert len(samples) == 2


def test_an_answer_that_was_cut_off_gives_no_gradient_but_counts_in_its_group(tmp_path: Path, model: Path) -> None:
    start = Start(task=TASK)
    cut = TokenRecord(context=(1,), completion=(5, 6), logprobs=(-1.0, -2.0), fresh=True)
    made = [episode(start, "a", 1.0), episode(start, "b", 0.0, 1, cut)]
    group = Group(start=start, first=0, size=2)
    samples, grades, _ = mined(tmp_path / "drop", model, [group], made)
    assert [sample.advantage > 0 for sample in samples] == [True]
    assert len(grades.grades[0].advantages) == 2
    samples, _, _ = mined(tmp_path / "learn", model, [group], made, overlong="learn")
    assert len(samples) == 2


# -- budget and configuration -----------------------------------------------------------------------------------------


def test_the_budget_says_how_many_iterations_there_are(tmp_path: Path, model: Path) -> None:
    """22 rollouts in groups of 4, two groups an iteration: 8, 8 and 6, which is a group of 4 and one of 2."""
    method = grpo(tmp_path / "run", model, budget=22, iterations=9)
    assert method.iterations == 3
    with RunDir.open(tmp_path / "run", "grpo", method.config) as method.run:
        assert [method._plan(n).rollouts for n in (1, 2, 3)] == [8, 8, 6]
        assert [group.size for group in method.groups(3)] == [4, 2]
        assert method._plan(3) == Plan(rollouts=6, before=16)
        drawn = [method.groups(n) for n in (1, 2, 3)]
    again = grpo(tmp_path / "again", model, budget=22)
    with RunDir.open(tmp_path / "again", "grpo", again.config) as again.run:
        assert [again.groups(n) for n in (1, 2, 3)] == drawn
    other = grpo(tmp_path / "other", model, budget=22, seed=1)
    with RunDir.open(tmp_path / "other", "grpo", other.config) as other.run:
        assert [other.groups(n) for n in (1, 2, 3)] != drawn


def test_without_prompts_the_budget_is_shared_out(tmp_path: Path, model: Path) -> None:
    method = grpo(tmp_path / "run", model, budget=22, iterations=2, prompts=None)
    with RunDir.open(tmp_path / "run", "grpo", method.config) as method.run:
        assert [method._plan(n).rollouts for n in (1, 2)] == [12, 10]


def test_one_start_drawn_twice_has_samples_for_both(tmp_path: Path, model: Path) -> None:
    method = grpo(tmp_path / "run", model, tasks=1)
    with RunDir.open(tmp_path / "run", "grpo", method.config) as method.run:
        assert [(group.first, group.size) for group in method.groups(1)] == [(0, 4), (4, 4)]
        assert [count for _, count in method.starts(1, 8)] == [8]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"samples": 2}, "give 'budget'"),
        ({"sampling": {"temperature": 0.0}}, "temperature 0 is all alike"),
        ({"policy": {"reference": "x"}}, "policy.reference follows from the run"),
        ({"policy": {"temperature": 0.5}}, "policy.temperature follows from the run"),
        ({"group": 1}, "group"),
    ],
)
def test_what_cannot_be_is_told(more: dict[str, Any], told: str, model: Path) -> None:
    with pytest.raises(BadInput, match=told):
        config_of(GRPOConfig, settings(model, **more))


def test_a_comparisons_tokens_are_shared_out_over_the_rounds(tmp_path: Path, model: Path) -> None:
    """Two fits of 900 ids for other methods are three of 600 here."""
    method = grpo(tmp_path / "run", model, budget=22, iterations=2, objective={"tokens": 900}, policy={"beta": 0.0})
    objective = method.objective(1)
    assert (objective.kind, objective.model_dump()["tokens"]) == ("policy_gradient", 600)
    assert method.objective(0) == method.config.objective


def test_what_a_round_took_beyond_its_share_the_next_ones_go_without(tmp_path: Path, model: Path) -> None:
    """Shares of 600: rounds of 650 and 560 are 10 beyond, an empty round pays that back, and saves nothing up."""
    method = grpo(tmp_path / "run", model, budget=32, iterations=2, objective={"tokens": 1200}, policy={"beta": 0.0})
    told = {"objective": "policy_gradient", "losses": (0.1,), "epochs": 1, "samples": 1, "dropped": 0, "seconds": 1.0}
    more = {"version": "v", "seed": 0, "precision": "fp32", "device": "cpu", "trainable_parameters": 1}
    with RunDir.open(tmp_path / "run", "grpo", method.config) as method.run:
        assert method.objective(1).model_dump()["tokens"] == 600
        left = []
        for number, seen in enumerate((650, 560, None, 600), 1):
            counts = {"tokens_seen": seen, "tokens_trained": 1, "max_length": None}
            report = None if seen is None else FitReport.model_validate({**told, **more, **counts})
            fitted = Fitted(base="b", model="m", samples=0, report=report)
            method.run.save(f"iteration-{number}/fit.json", fitted)
            left.append(method.objective(number + 1).model_dump()["tokens"])
        assert left == [550, 590, 600, 600]
        assert not method.spent(5)


def test_a_round_whose_share_is_gone_learns_nothing(tmp_path: Path, model: Path) -> None:
    """A round takes a whole transcript at least, however small its share is; the next ones pay it back.

    Ten rounds share 300 ids. Without that each of them would take a step of its own.
    """
    few = {"budget": 80, "prompts": 1, "iterations": 1, "objective": {"tokens": 300}, "evaluation": {"between": False}}
    method = grpo(tmp_path / "run", model, **(LEARNING | few | {"policy": {"beta": 0.01, "batch": 1}}))
    method.train()
    with RunDir.open(tmp_path / "run", "grpo", method.config) as run:
        fits = [run.load(f"iteration-{n}/fit.json", Fitted).report for n in range(1, 11)]
    seen = [fit.tokens_seen if fit else 0 for fit in fits]
    steps = [fit.tokens_seen / max(1, len(fit.losses)) for fit in fits if fit]
    assert 0 in seen
    assert 300 - max(steps) < sum(seen) <= 300 + max(steps)


# -- the whole loop ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    grpo(run, model, **LEARNING).train()
    return run


def test_it_learns_what_pays(trained: Path) -> None:
    """One of three levers pays. A fresh model finds it; chance is a third."""
    rewards = [json.loads((trained / f"iteration-{n}/grades.json").read_text())["reward"] for n in range(1, 7)]
    assert rewards[0] < 0.7
    assert rewards[-1] > 0.8
    assert rounds(trained)[-1].evaluation.success.mean == 1.0


def test_rounds_that_were_not_measured_count_in_the_next_one_that_was(trained: Path) -> None:
    """Six iterations, measured every second."""
    found = rounds(trained)
    assert [each.number for each in found] == [-1, 2, 4, 6]
    assert [each.plan.rollouts for each in found if each.plan] == [32, 32, 32]
    reports = [each.fit for each in found if each.fit]
    assert [len(fit.losses) for fit in reports] == [8, 8, 8]  # two iterations of two steps and two passes


def test_only_the_weights_that_are_still_needed_are_kept(trained: Path) -> None:
    assert sorted(path.parent.name for path in trained.glob("iteration-*/model")) == [
        f"iteration-{n}" for n in (2, 4, 6)
    ]
    assert [path.parent.parent.name for path in trained.glob("iteration-*/model/optimizer.pt")] == ["iteration-6"]


def test_a_finished_run_goes_on_with_a_larger_budget(trained: Path, model: Path) -> None:
    grpo(trained, model, **LEARNING | {"budget": 112}).train()
    assert rounds(trained)[-1].number == 7

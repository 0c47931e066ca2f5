"""Comparisons: equal rollouts, equal tokens, intervals over tasks and seeds, and going on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lamps
import numpy as np
import pytest

from palaestra.envs import BadInput
from palaestra.trainers.compare import compare_methods, recipes_of
from palaestra.trainers.comparison import Standing
from palaestra.trainers.methods import CONTESTANTS, METHODS, contestant
from palaestra.trainers.report import rounds
from palaestra.trainers.statistics import two_way


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lamps.tiny(tmp_path_factory.mktemp("models") / "tiny")


def settings(model: Path, **more: Any) -> dict[str, Any]:
    shared = lamps.settings(model, budget=40, iterations=1, experts={"oracle": "solve", "slip": 0.5}, **more)
    del shared["per_task"], shared["seed"]
    return {**shared, "objective": {"tokens": 3000, "learning_rate": 3e-3, "batch": 4}, "evaluation": {"tasks": 8}}


def test_methods_get_the_same_rollouts_and_the_same_training_tokens(tmp_path: Path, model: Path) -> None:
    chosen = [contestant("rft"), contestant("eef"), contestant("rft-x1")]
    own = {"eef": {"states": 1}}
    rft, eef, less = compare_methods(chosen, settings(model), tmp_path / "c", seeds=[0, 1], own=own, progress="quiet")
    assert rft.rollouts == eef.rollouts == 40
    assert less.rollouts == 7  # a sixth
    for name in ("rft-0", "eef-0", "rft-1", "eef-1", "rft-x1-0"):
        for done in rounds(tmp_path / "c" / name):
            if done.fit is not None:
                longest = 60  # ids of a step: four samples of some fifteen
                assert 3000 <= done.fit.tokens_seen < 3000 + 4 * longest
    assert rft.against is None
    assert eef.against is not None
    assert eef.against.mean == pytest.approx(eef.success.mean - rft.success.mean)
    text = (tmp_path / "c" / "comparison.md").read_text()
    assert "against rft, points" in text
    assert "`eef`: exploring expert failures (states=1)" in text
    assert "<svg" in (tmp_path / "c" / "comparison.html").read_text()
    written = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert [Standing.model_validate(row) for row in written] == [rft, eef, less]


def test_a_comparison_goes_on_where_it_was_stopped(tmp_path: Path, model: Path) -> None:
    chosen = [contestant("rft"), contestant("eef")]
    trained: list[str] = []

    class Stopped(Exception):
        pass

    def one(recipe: Any) -> None:
        if trained:
            raise Stopped
        recipe.train()
        trained.append(recipe.out.name)

    with pytest.raises(Stopped):
        compare_methods(chosen, settings(model), tmp_path / "c", seeds=[0], run=one, progress="quiet")
    first = (tmp_path / "c" / "rft-0" / "log.jsonl").read_text()
    rft, eef = compare_methods(chosen, settings(model), tmp_path / "c", seeds=[0], progress="quiet")
    log = (tmp_path / "c" / "rft-0" / "log.jsonl").read_text()
    assert log.count('"collect"') == first.count('"collect"')  # what was done was not done again
    assert (rft.seeds, eef.seeds) == (1, 1)


@pytest.mark.parametrize(
    ("change", "names", "says"),
    [
        ({"budget": None}, ("rft", "eef"), "equal rollouts: give 'budget'"),
        ({"objective": {"epochs": 2}}, ("rft", "eef"), "equal training tokens: give 'objective.tokens'"),
        ({}, ("rft",), "at least two different methods"),
        ({}, ("rft", "rft"), "at least two different methods"),
        ({"experts": None}, ("rft", "eef"), "EEF explores expert episodes"),
        ({"seed": 5}, ("rft", "eef"), "a comparison has seeds of its own"),
    ],
)
def test_what_would_be_unfair_is_refused_before_anything_runs(
    tmp_path: Path, model: Path, change: dict[str, Any], names: tuple[str, ...], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        compare_methods(
            [contestant(name) for name in names],
            {**settings(model), **change},
            tmp_path / "c",
            seeds=[0],
            progress="quiet",
        )
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("key", ["budget", "seed", "selection"])
def test_what_a_contestant_is_by_its_name_cannot_be_set(tmp_path: Path, model: Path, key: str) -> None:
    chosen, own = [contestant("rft"), contestant("eef-random")], {"eef-random": {key: 1}}
    with pytest.raises(BadInput, match=rf"eef-random\.{key}: the comparison sets this itself"):
        compare_methods(chosen, settings(model), tmp_path / "c", seeds=[0], own=own, progress="quiet")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"tasks": 2}, "tasks"),
        ({"samples": 1}, "samples"),
        ({"model": "smollm2-135m"}, "model"),
        ({"env_settings": {"max_steps": 3}}, "env_settings"),
        ({"experts": {"oracle": "solve"}}, "experts"),
        ({"evaluation": {"tasks": 4}}, "evaluation.tasks"),
        ({"evaluation": {"temperature": 1.0}}, "evaluation.temperature"),
        ({"objective": {"tokens": 30000}}, "objective.tokens"),
        ({"iterations": 9}, "iterations"),
        ({"constrain": False}, "constrain"),
        ({"sampling": {"max_tokens": 5}}, r"sampling\.max_tokens"),
        ({"conversation": {"max_observation": 50}}, r"conversation\.max_observation"),
    ],
)
def test_what_must_be_the_same_for_all_cannot_be_a_contestants_own(
    tmp_path: Path, model: Path, own: dict[str, Any], says: str
) -> None:
    chosen = [contestant("rft"), contestant("eef")]
    with pytest.raises(BadInput, match=rf"eef\.{says}: it is the same for all in a comparison"):
        compare_methods(chosen, settings(model), tmp_path / "c", seeds=[0], own={"eef": own}, progress="quiet")
    assert not (tmp_path / "c").exists()


def test_how_an_answer_is_drawn_in_rollouts_may_be_a_contestants_own(tmp_path: Path, model: Path) -> None:
    own = {"rft": {"sampling": {"temperature": 0.5}}}
    recipes = recipes_of([contestant("rft"), contestant("eef")], settings(model), tmp_path / "c", [0], own, {})
    assert recipes["rft", 0].config.sampling.temperature == 0.5
    assert recipes["rft", 0].config.sampling.max_tokens == recipes["eef", 0].config.sampling.max_tokens


@pytest.mark.parametrize(("key", "value"), [("threshold", 0.5), ("drop_invalid", True)])
def test_all_clone_the_same_experts(tmp_path: Path, model: Path, key: str, value: object) -> None:
    chosen, told = [contestant("rft"), contestant("eef"), contestant("rft-x1")], settings(model)
    with pytest.raises(BadInput, match=rf"rft\.{key} holds for the experts too, and all clone the same ones"):
        recipes_of(chosen, told, tmp_path / "c", [0], {"rft": {key: value}}, {})
    assert recipes_of(chosen[::2], {**told, key: value}, tmp_path / "c", [0], {}, {})  # both of them alike
    assert recipes_of(chosen[::2], {**told, "experts": None}, tmp_path / "c", [0], {"rft": {key: value}}, {})


def test_exit_that_never_came_to_its_buffer_is_said_to_be_grpo(tmp_path: Path, model: Path) -> None:
    """Ten groups a run; an entry or two each, so that the buffer has three before the last round, and never twelve."""
    chosen = [contestant("grpo"), contestant("exit-plain")]
    online = {"group": 4, "prompts": 2, "policy": {"learning_rate": 1e-3}, "sampling": {"temperature": 1.0}}
    told = {**settings(model), **online}
    own = {"exit-plain": {"p": 1.0, "minimum": 3}}
    *_, opened = compare_methods(chosen, told, tmp_path / "o", seeds=[0], own=own, progress="quiet")
    assert "began at the buffer" not in opened.what
    own = {"exit-plain": {"p": 1e-12, "minimum": 3}}
    *_, never = compare_methods(chosen, told, tmp_path / "n", seeds=[0], own=own, progress="quiet")
    assert "; none of its 10 groups began at the buffer, so that this was grpo" in never.what


def test_rounds_that_had_no_ids_left_are_said(tmp_path: Path, model: Path) -> None:
    """Rounds share some 150 ids, and one takes a transcript at least, however small its share is."""
    chosen = [contestant("rft"), contestant("grpo")]
    told = {**settings(model, sampling={"temperature": 1.0}), "experts": None}
    told["objective"] = {"tokens": 150, "learning_rate": 1e-3}
    own = {
        "grpo": {
            "group": 4,
            "prompts": 1,
            "overlong": "learn",
            "policy": {"learning_rate": 1e-3, "beta": 0.01, "batch": 1},
        }
    }
    rft, grpo = compare_methods(chosen, told, tmp_path / "c", seeds=[0], own=own, progress="quiet")
    assert "no ids were left" not in rft.what
    assert "; no ids were left for " in grpo.what


@pytest.mark.parametrize(("name", "group"), [("grpo", "policy"), ("eto", "preference")])
def test_the_ids_of_all_fits_follow_from_those_of_all_contestants(
    tmp_path: Path, model: Path, name: str, group: str
) -> None:
    chosen, own = [contestant("rft"), contestant(name)], {name: {group: {"tokens": 9000}}}
    with pytest.raises(BadInput, match=rf"{name}\.{group}\.tokens follows from objective\.tokens"):
        compare_methods(chosen, settings(model), tmp_path / "c", seeds=[0], own=own, progress="quiet")


def test_a_common_key_that_makes_a_control_what_it_is_is_refused(tmp_path: Path, model: Path) -> None:
    chosen = [contestant("eef"), contestant("eef-random")]
    told = {**settings(model), "selection": "earliest"}
    with pytest.raises(BadInput, match="selection: eef-random is this method with selection='random'"):
        compare_methods(chosen, told, tmp_path / "c", seeds=[0], progress="quiet")


def test_a_methods_own_key_of_a_group_leaves_the_others_as_they_are(tmp_path: Path, model: Path) -> None:
    own = {"eef": {"objective": {"learning_rate": 1e-4}, "evaluation": {"recovery": True}}}
    recipes = recipes_of([contestant("rft"), contestant("eef")], settings(model), tmp_path / "c", [0], own, {})
    rft, eef = recipes["rft", 0].config, recipes["eef", 0].config
    assert eef.objective == rft.objective.model_copy(update={"learning_rate": 1e-4})
    assert eef.evaluation == rft.evaluation.model_copy(update={"recovery": True})


def test_contestants_may_answer_a_task_more_or_less_often(tmp_path: Path, model: Path) -> None:
    """With three answers to each of eight tasks 40 rollouts are no two tries for an answer, with one they are five."""
    told = settings(model)
    told["evaluation"] = {**told["evaluation"], "samples": 3}
    chosen = [contestant("rft"), contestant("best-of-k")]
    with pytest.raises(BadInput, match=r"best-of-k has 40 rollouts for 24 held-out episodes.*or measure fewer"):
        compare_methods(chosen, told, tmp_path / "c", seeds=[0], progress="quiet")
    own: dict[str, dict[str, Any]] = {"best-of-k": {"evaluation": {"samples": 1}}}
    rft, best = compare_methods(chosen, told, tmp_path / "c", seeds=[0], own=own, progress="quiet")
    last = [rounds(tmp_path / "c" / f"{name}-0")[-1].evaluation for name in ("rft", "best-of-k")]
    assert [{len(row.successes) for row in each.tasks} for each in last] == [{3}, {1}]
    assert last[1].tries == 5
    assert best.against is not None
    assert best.against.mean == pytest.approx(best.success.mean - rft.success.mean)
    assert [bin.name for bin in best.bins] == [bin.name for bin in rft.bins]  # those of the reference's start model


def test_every_method_and_control_has_a_name_and_a_line() -> None:
    assert set(METHODS) <= set(CONTESTANTS)
    assert all(each.what for each in CONTESTANTS.values())
    with pytest.raises(BadInput, match="unknown method 'magic'; there are: rft"):
        contestant("magic")


def test_intervals_are_wider_where_seeds_disagree() -> None:
    """Forty tasks, three seeds. All seeds alike: only tasks are drawn. Seeds at 0.2, 0.5, 0.8: their spread counts."""
    rng = np.random.Generator(np.random.PCG64(1))
    alike = {seed: {str(task): [float(task % 2)] for task in range(40)} for seed in range(3)}
    apart = {
        seed: {str(task): [float(rng.random() < share)] for task in range(40)}
        for seed, share in enumerate((0.2, 0.5, 0.8))
    }
    narrow, wide = two_way(alike, (0.0, 1.0)), two_way(apart, (0.0, 1.0))
    assert narrow.mean == pytest.approx(0.5)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    certain = two_way({0: {str(task): [1.0] for task in range(10)}}, (0.0, 1.0))
    assert certain.mean == 1
    assert certain.low < 0.8  # ten of ten is not certainty


def test_a_draw_of_tasks_and_seeds_is_the_mean_of_what_was_drawn_and_is_known() -> None:
    """Three seeds of four tasks, one of which the last seed has not, against draw by draw as the definition says."""
    values = {s: {str(t): [float((3 * s + t) % 5)] for t in range(4) if (s, t) != (2, 3)} for s in range(3)}
    table = np.array([[of.get(str(t), [np.nan])[0] for t in range(4)] for of in values.values()])
    rng = np.random.Generator(np.random.PCG64(0))
    means = [np.nanmean(table[np.ix_(rng.integers(0, 3, 3), rng.integers(0, 4, 4))]) for _ in range(200)]
    found = two_way(values, (0.0, 4.0), draws=200)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert found.mean == pytest.approx(np.nanmean(table))


def test_two_way_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """200 worlds of 5 seeds and 30 tasks, success 0.5 with effects of seed and task: about 95 % of them hold it."""
    rng = np.random.Generator(np.random.PCG64(7))
    held = 0
    for _ in range(200):
        seeds, tasks = rng.normal(0, 0.08, 5), rng.normal(0, 0.25, 30)
        chances = np.clip(0.5 + seeds[:, None] + tasks[None, :], 0, 1)
        wins = rng.random((5, 30)) < chances
        values = {seed: {str(task): [float(wins[seed, task])] for task in range(30)} for seed in range(5)}
        found = two_way(values, (0.0, 1.0), draws=400)
        held += found.low <= 0.5 <= found.high
    assert 0.88 <= held / 200 <= 1.0

"""What holds for every method there is, the ones to come included: all that the trainers have in `METHODS`."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import every_method
import lamps
import pytest
from pydantic import BaseModel

from palaestra.agents.store import EpisodeStore
from palaestra.agents.transcript import tokenise
from palaestra.trainers.phases import Collected, Reflection
from palaestra.trainers.recipe import Recipe
from palaestra.trainers.rundir import read_record
from palaestra.trainers.sample import Pair, Sample

# all of it in one worker, as the runs are made once, by the first test
pytestmark = [pytest.mark.xdist_group("every_method"), pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Runs:
    """The folders of all runs, and how their processes ended."""

    out: Path
    model: Path
    ends: dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Every method's runs, made by a process of its own (see `every_method.main`)."""
    out = tmp_path_factory.mktemp("runs")
    model = lamps.tiny(out / "tiny")
    program = [sys.executable, "-c", every_method.PROGRAM, str(Path(every_method.__file__).parent)]
    done = subprocess.run([*program, str(model), str(out)], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return Runs(out, model, json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(params=every_method.NAMES)
def trained(request: pytest.FixtureRequest, runs: Runs) -> Recipe[Any]:
    """An undisturbed run of each method."""
    assert runs.ends[request.param]["whole"] == ["finished"]
    return every_method.method(request.param, runs.out / "whole" / request.param, runs.model)


def mined(recipe: Recipe[Any]) -> Iterator[tuple[int, BaseModel]]:
    """All that a run learnt from, by iteration."""
    for file in sorted(recipe.out.glob("iteration-*/samples.jsonl.gz")):
        number = int(file.parent.name.removeprefix("iteration-"))
        kind = recipe.objective(number).learns_from
        for line in gzip.decompress(file.read_bytes()).decode().splitlines():
            yield number, kind.model_validate_json(line)


def sides(datum: BaseModel) -> tuple[Sample, ...]:
    """The sequences of a datum."""
    if isinstance(datum, Pair):
        return datum.sides
    assert isinstance(datum, Sample)
    return (datum,)


def weighted(sample: Sample) -> Iterator[tuple[int, ...]]:
    """The runs of ids that have a weight."""
    run: list[int] = []
    for id, weight in zip((*sample.ids, -1), (*sample.weights, 0.0), strict=True):
        if weight:
            run.append(id)
        elif run:
            yield tuple(run)
            run = []


def results(run: Path) -> dict[str, Any]:
    """All results of a run but the time they took, the faults on the way, and what rounding changes."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.name == "samples.jsonl.gz":
            lines = gzip.decompress(path.read_bytes()).decode().splitlines()
            found[name] = [{**json.loads(line), "logprobs": ()} for line in lines]
        elif path.name in ("fit.json", "evaluation.json", "recovery.json", "plan.json", "collected.json"):
            record = json.loads(path.read_text().replace(str(run), "RUN"))
            for key in ("minutes", "faults"):
                record.pop(key, None)
            (record.get("report") or {}).pop("seconds", None)
            found[name] = record
    return found


def differences(one: Any, other: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two results differ, and what stands there."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            yield from differences(one.get(key), other.get(key), f"{where}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{where}/{place}")
    elif one != other:
        yield where, one, other


def test_no_id_of_an_environment_or_of_an_untrained_turn_ever_has_a_weight(trained: Recipe[Any]) -> None:
    """Every run of ids with a weight is one whole answer of an episode that the sample says it was made of."""
    seen = set()
    template = trained.acting.template
    with EpisodeStore(trained.out / "episodes.sqlite", mode="r") as store:
        for number, datum in mined(trained):
            for sample in sides(datum):
                seen.add(number)
                answers: set[tuple[int, ...]] = set()
                for id in sample.episodes:
                    path = store.path(id)
                    told = trained.env.instructions(path.episode.start.task)
                    records = tokenise(path.turns, trained.config.conversation, template, told)
                    answers |= {tuple(record.completion) for record in records}
                assert set(weighted(sample)) <= answers
    assert 0 in seen  # the experts
    if trained.name in every_method.LEARNS:
        assert seen - {0}


def test_the_bad_front_of_a_splice_is_context_only_and_all_after_it_is_learnt(trained: Recipe[Any]) -> None:
    """By where the answers stand: no id of a kept bad step has a weight, every other answer has."""
    if trained.name != "agent-r":
        return
    kept: dict[str, int] = {}
    for file in trained.out.glob("iteration-*/reflection.json"):
        kept |= {each.episode: each.kept for each in read_record(file, Reflection).splices if each.episode is not None}
    template, found = trained.acting.template, 0
    with EpisodeStore(trained.out / "episodes.sqlite", mode="r") as store:
        for _, sample in mined(trained):
            assert isinstance(sample, Sample)
            if sample.kind != "revision":
                continue
            (end,) = set(sample.episodes) & set(kept)
            path = store.path(end)
            told = trained.env.instructions(path.episode.start.task)
            records = tokenise(path.turns, trained.config.conversation, template, told)
            at = 0
            for step, record in enumerate(records):
                first = at + len(record.context)
                at = first + len(record.completion)
                assert sample.ids[first:at] == record.completion
                assert [weight > 0 for weight in sample.weights[first:at]] == [step >= kept[end]] * (at - first)
            found += kept[end] > 0
    assert found


def test_nothing_of_a_held_out_task_and_no_fault_is_learnt(trained: Recipe[Any]) -> None:
    """There is something to be kept apart: forks of held-out tasks (recovery), and a task that breaks."""
    allowed = {task.id for task in trained.tasks}
    with EpisodeStore(trained.out / "episodes.sqlite", mode="r") as store:
        assert any(head.parent is not None for head in store.heads(split="test"))
        assert store.n_faults > 0
        for _, datum in mined(trained):
            for sample in sides(datum):
                assert sample.split == "train"
                for id in sample.episodes:
                    head = store.head(id)
                    assert head.split == "train"
                    assert head.task in allowed
                    assert not head.outcome.is_fault
        for number in range(trained.iterations + 1):
            file = trained.out / f"iteration-{number}/collected.json"
            for id in read_record(file, Collected).episodes:
                assert store.head(id).split == "train"


def test_a_run_that_is_killed_at_ten_random_moments_ends_as_an_undisturbed_one(
    runs: Runs, trained: Recipe[Any]
) -> None:
    """Which says as well that the same seed gives the same samples, twice."""
    assert runs.ends[trained.name]["killed"] == ["killed"] * 10 + ["finished"]
    found = results(runs.out / "killed" / trained.name)
    assert list(differences(found, results(trained.out))) == []


def test_another_seed_gives_other_samples(runs: Runs, trained: Recipe[Any]) -> None:
    if trained.name in every_method.LEARNS:
        assert runs.ends[trained.name]["other"] == ["finished"]
        other, first = results(runs.out / "other" / trained.name), results(trained.out)
        plan, file = "iteration-1/plan.json", "iteration-1/samples.jsonl.gz"
        assert other[plan] == first[plan]  # so that nothing but the seed differs
        assert other[file] != first[file]

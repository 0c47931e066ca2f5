"""What holds for every method there is, the ones to come included: whatever stands in `METHODS` is tested here."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import every_method
import lamps
import pytest
from pydantic import BaseModel

from palaestra.agents.store import EpisodeStore
from palaestra.agents.transcript import tokenise
from palaestra.trainers.methods import METHODS
from palaestra.trainers.phases import Collected
from palaestra.trainers.recipe import Recipe
from palaestra.trainers.rundir import read_record
from palaestra.trainers.sample import Pair, Sample


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lamps.tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module", params=METHODS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: Path) -> Recipe[Any]:
    """An undisturbed run of each method."""
    recipe = every_method.method(request.param, tmp_path_factory.mktemp("runs") / request.param, model)
    recipe.train()
    return recipe


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


def test_no_id_of_an_environment_or_of_an_untrained_turn_ever_has_a_weight(trained: Recipe[Any]) -> None:
    """Every run of ids with a weight is one whole answer of an episode that the sample says it was made of."""
    seen = set()
    template = trained._template()
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
    tmp_path: Path, model: Path, trained: Recipe[Any]
) -> None:
    """Which says as well that the same seed gives the same samples, twice."""
    log = [json.loads(line)["event"] for line in (trained.out / "log.jsonl").read_text().splitlines()]
    last = max(place for place, event in enumerate(log) if event == "evaluate")  # and so it is not over before
    rng = random.Random(trained.name)
    moments = sorted((rng.randint(0, last), rng.random() * 0.05) for _ in range(10))
    program = [sys.executable, "-c", every_method.PROGRAM, str(Path(every_method.__file__).parent), trained.name]
    arguments = [str(tmp_path / "run"), str(model), json.dumps(moments)]
    done = subprocess.run([*program, *arguments], check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["killed"] * 10 + ["finished"]
    assert results(tmp_path / "run") == results(trained.out)


def test_another_seed_gives_other_samples(tmp_path: Path, model: Path, trained: Recipe[Any]) -> None:
    if trained.name not in every_method.LEARNS:
        return
    other = every_method.method(trained.name, tmp_path / "run", model, seed=1, iterations=1, budget=20)
    other.train()
    first, second = (results(run)["iteration-1/samples.jsonl.gz"] for run in (trained.out, tmp_path / "run"))
    assert first != second

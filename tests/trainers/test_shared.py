"""What runs of a comparison have in common is made once, and none of them ends otherwise for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lamps
import pytest

from palaestra.agents.episode import Actor, Episode, Outcome, Provenance, Start, Turn, episode_id, episode_key
from palaestra.agents.store import EpisodeStore
from palaestra.envs import Task
from palaestra.trainers.compare import compare_methods
from palaestra.trainers.config import config_of
from palaestra.trainers.eef import EEFConfig
from palaestra.trainers.methods import contestant
from palaestra.trainers.phases import Record
from palaestra.trainers.report import rounds
from palaestra.trainers.rft import RFT, RFTConfig
from palaestra.trainers.shared import SharedStore, common_of

TASK = Task(env="toy/Lamps-v0", name="two/1", split="train")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lamps.tiny(tmp_path_factory.mktemp("models") / "tiny")


def settings(model: Path, **more: Any) -> dict[str, Any]:
    whole = lamps.settings(model, budget=24, iterations=2, experts={"oracle": "solve", "slip": 0.5}, **more)
    del whole["per_task"], whole["seed"]
    tokens = {"tokens": 1500, "learning_rate": 3e-3, "batch": 4}
    return {**whole, "conversation": {}, "objective": tokens, "evaluation": {"tasks": 8, "between": False}}


def episode(
    text: str, actor: Actor = Actor.POLICY, start: Start | None = None, policy: str = "p", **more: Any
) -> Episode:
    by, start = Provenance(actor=actor, policy=policy), start or Start(task=TASK)
    turns = (Turn(observation="?", completion=text, action=text),) * 2
    id = episode_id(episode_key(start, by, 0))
    return Episode(id=id, start=start, turns=turns, outcome=Outcome.FAILURE, provenance=by, **more)


def results(run: Path) -> list[Record | None]:
    """All that a run learnt and won, but for the seconds it took."""
    return [
        part.model_copy(update={name: 0 for name in ("minutes", "seconds") if hasattr(part, name)})
        for each in rounds(run)
        for part in (each.collected, each.plan, each.evaluation, each.fit)
        if part is not None
    ]


def test_shared_runs_end_as_runs_alone_and_make_nothing_twice(tmp_path: Path, model: Path) -> None:
    """RFT, SFT on positives, EEF and its control: the ids of all rollouts name the weights that made them, so equal
    ids are equal weights. The start model's evaluation, the experts' fit and its evaluation stand in all four runs, and
    were made in the first one; EEF's first rollouts stand in both of its runs, and were made in one."""
    names = ["rft", "sft-positives", "eef", "eef-random"]
    own = {name: {"states": 1} for name in ("eef", "eef-random")}
    for folder, more in (("one", {}), ("each", {"shared": None})):
        compare_methods(
            [contestant(name) for name in names],
            settings(model),
            tmp_path / folder,
            seeds=[0],
            own=own,
            progress="quiet",
            **more,
        )
    for name in names:
        assert results(tmp_path / "one" / f"{name}-0") == results(tmp_path / "each" / f"{name}-0")
    runs = [tmp_path / "one" / f"{name}-0" for name in names]
    experts = {rounds(run)[1].collected.episodes for run in runs}  # type: ignore[union-attr]
    assert len(experts) == 1  # whose slips are the same for all methods
    assert len({rounds(run)[1].fit.seconds for run in runs}) == 1  # type: ignore[union-attr]
    assert len(list((tmp_path / "one/shared-0/fits").iterdir())) < sum(
        each.fit is not None for run in runs for each in rounds(run)
    )
    assert not (tmp_path / "each/shared-0").exists()
    for place in (0, 1):
        measured = [rounds(run)[place].evaluation.tasks[0].episodes[0] for run in runs]
        assert made(runs, measured) == 1
    explored = [rounds(run)[-1].collected.episodes[0] for run in runs[2:]]  # type: ignore[union-attr]
    assert explored[0] == explored[1]
    assert made(runs[2:], explored) == 1


def made(runs: list[Path], ids: list[str]) -> int:
    """How often an episode was played: one that was taken from elsewhere took the very same time."""
    seconds = set()
    for run, id in zip(runs, ids, strict=True):
        with EpisodeStore(run / "episodes.sqlite", mode="r") as store:
            seconds.add(store.get(id).provenance.cost.seconds)
    return len(seconds)


def test_a_store_takes_what_is_asked_for_and_nothing_else(tmp_path: Path) -> None:
    one, other = episode("a"), episode("b", policy="q")
    with SharedStore(tmp_path / "a.sqlite", tmp_path / "c.sqlite") as first:
        assert first.add(one, kept={1: b"state"})
        assert first.add(other)
        assert not first.add(one)
    with SharedStore(tmp_path / "b.sqlite", tmp_path / "c.sqlite") as second:
        assert len(second) == 0
        assert second.has(one.key)
        assert second.get(one.id) == one
        assert second.kept(one.id, 1) == b"state"
        assert [head.id for head in second.heads()] == [one.id]


def test_of_two_runs_that_made_the_same_episode_both_go_on_with_the_first_one(tmp_path: Path) -> None:
    with SharedStore(tmp_path / "a.sqlite", tmp_path / "c.sqlite") as first:
        first.add(episode("as the first one rounded"))
    with SharedStore(tmp_path / "b.sqlite", tmp_path / "c.sqlite") as second:
        second.add(episode("as the second one rounded"))
        assert second.get(episode("").id).actions == ("as the first one rounded",) * 2


def test_spliced_episodes_faults_and_what_forks_a_spliced_one_stay_where_they_were_made(tmp_path: Path) -> None:
    spliced = episode("a", Actor.SPLICED)
    forked = episode("b", start=spliced.fork(1))
    broken = episode("c", policy="q").model_copy(update={"outcome": Outcome.ENV_ERROR})
    with SharedStore(tmp_path / "a.sqlite", tmp_path / "c.sqlite") as first:
        for each in (spliced, forked, broken):
            assert first.add(each)
        assert len(first) == 2
        assert first.n_faults == 1
    with SharedStore(tmp_path / "b.sqlite", tmp_path / "c.sqlite") as second:
        assert not any(second.has(each.key) for each in (spliced, forked, broken))


def test_only_runs_whose_episodes_come_to_be_alike_share_them(model: Path) -> None:
    def common(kind: type[Any] = RFTConfig, **more: Any) -> str:
        return common_of(config_of(kind, {**settings(model), **more}))

    assert common() == common(EEFConfig, selection="random") == common(budget=7, objective={"tokens": 9})
    others = [{"seed": 1}, {"sampling": {"temperature": 0.5}}, {"env_settings": {"max_steps": 3}}]
    assert len({common(), *(common(**other) for other in others)}) == 4


def test_the_weights_between_the_first_and_the_last_are_measured_only_if_asked_for(tmp_path: Path, model: Path) -> None:
    RFT(config_of(RFTConfig, settings(model)), tmp_path / "run", progress="quiet").train()
    found = rounds(tmp_path / "run")
    assert [each.evaluation.label for each in found] == ["start model", "cloned experts", "iteration 2"]
    last = found[-1]
    assert last.plan is not None
    assert last.plan.rollouts == 24  # of both rounds

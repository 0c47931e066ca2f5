"""Training a world model: what its samples hold, what is refused before training, going on, and the real paths."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import rooms

from palaestra.agents.collect import collect
from palaestra.agents.policies.named import model_name
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policy import Completion, PolicyBase, Request
from palaestra.agents.store import EpisodeStore
from palaestra.cli import run
from palaestra.envs import BadInput, find, make
from palaestra.envs.check import check
from palaestra.trainers.config import config_of
from palaestra.trainers.rundir import RunDir
from palaestra.worldmodel.env import ID
from palaestra.worldmodel.fidelity import Fidelity
from palaestra.worldmodel.loading import load_world, read_card, template_of
from palaestra.worldmodel.page import Status
from palaestra.worldmodel.samples import rationales, samples_of
from palaestra.worldmodel.training import TrainConfig, held_out_episodes, train_world
from palaestra.worldmodel.transitions import again, gather, packed, played_with, read, set_aside

QUICK = {"epochs": 1, "learning_rate": 1e-4, "batch": 64, "micro_tokens": 4096}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rooms.tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "episodes.sqlite"
    with EpisodeStore(path) as store:
        collect([rooms.task(pair) for pair in rooms.PAIRS], RandomPolicy(), store, samples=2, progress="quiet")
    return path


def config(file: Path, model: Path, **more: Any) -> TrainConfig:
    fixed = {"env": "toy/Rooms-v0", "store": str(file), "model": str(model), "page": {"actions": 3}, "max_tokens": 48}
    fit = {"epochs": 3, "learning_rate": 4e-3, "batch": 16, "micro_tokens": 4096}
    return config_of(TrainConfig, {**fixed, "held_out": 0.2, "horizons": 2, "objective": fit, **more})


@pytest.fixture(scope="module")
def trained(file: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fidelity]:
    out = tmp_path_factory.mktemp("world") / "run"
    report = train_world(config(file, tiny), out)
    assert report is not None
    return out, report


def test_only_the_answer_has_weight(file: Path, tiny: Path) -> None:
    how = config(file, tiny)
    template = template_of(str(tiny))
    with EpisodeStore(file, mode="r") as store:
        found = gather(store, "toy/Rooms-v0", ("train",), env=make("toy/Rooms-v0"), page=how.page)
        first = next(t for t in found if t.status == "going" and not t.done)
    told = {first.task.id: "Rules."}
    page, judgement = samples_of([first], how, template, told)
    assert (page.kind, judgement.kind) == ("transition", "judgement")
    answers = [
        template.decode([id for id, weight in zip(sample.ids, sample.weights, strict=True) if weight])
        for sample in (page, judgement)
    ]
    assert answers == [
        f"{first.next}\n== actions\n" + "\n".join(rooms.ACTIONS) + "\n== going",
        f"Score: {first.worth:.1f}",
    ]
    whole = template.decode(page.ids)
    assert "Rules." in whole
    assert f"Task: {first.first}\nAction: {first.action}" in whole
    (alone,) = samples_of([first], config(file, tiny, judge=False), template, told)
    assert alone == page
    graded = first.model_copy(update={"score": 0.3})
    _, judgement = samples_of([graded], config(file, tiny, worth="score"), template, told)
    assert "Score: 0.3" in template.decode(judgement.ids)


def test_a_rationale_is_written_by_a_policy_and_stands_before_the_page(file: Path, tiny: Path) -> None:
    class Explains(PolicyBase):
        def act(self, requests: Sequence[Request]) -> list[Completion]:
            return [Completion(f"Since\n{request.seed}.") for request in requests]

    how = config(file, tiny, judge=False, page={"rationale": True})
    with EpisodeStore(file, mode="r") as store:
        found = list(gather(store, "toy/Rooms-v0", ("train",)))[:2]
    thought = rationales(found, Explains(), how.page)
    assert [t.thought for t in thought] == ["Since 0.", "Since 1."]
    template = template_of(str(tiny))
    told = {t.task.id: "" for t in found}
    sample = samples_of(thought, how, template, told)[1]
    answer = template.decode([id for id, weight in zip(sample.ids, sample.weights, strict=True) if weight])
    assert answer.startswith("Thought: Since 1.\n== page\n" + found[1].next)
    assert how.page.read(answer).page == found[1].next


def test_who_learns_on_is_measured_on_nothing_that_it_ever_learnt(
    trained: tuple[Path, Fidelity], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_card(trained[0] / "model")
    monkeypatch.setenv("HOME", str(trained[0].parent))
    for run_folder in (trained[0], "~/run"):  # its run stands for it
        assert model_name(str(run_folder), find("toy/Rooms-v0")) == str(trained[0] / "model")
    how = config(file, Path("~/run/model"), seed=1, horizons=1, objective=QUICK)
    report = train_world(how, tmp_path / "on")
    second = read_card(tmp_path / "on/model")
    assert set(first.tasks) < set(second.tasks)
    aside = {rooms.task(pair).id for pair in rooms.PAIRS if set_aside(rooms.task(pair), 0.2, 1)}
    never = aside - set(first.tasks)
    assert never != aside  # the first one learnt from tasks that the second one sets aside
    assert (report.tasks if report else 0) == len(never)


def test_the_horizon_that_is_measured_later_is_the_default_from_then_on(
    trained: tuple[Path, Fidelity], file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of training tasks that the weights never saw alone, in the same environment, and never over another one's."""

    def measured(store: Path, *more: str) -> dict[str, Any]:
        words = ["worldmodel", "eval", str(copy), "--store", str(store), "--horizons", "2", "--quiet", "--json"]
        assert run([*words, *more]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    def acts(*more: str) -> str:
        words = ["worldmodel", "act", "toy/Rooms-v0", "-p", "random", "--world", str(copy), "--tasks", "1", "--quiet"]
        code = run([*words, *more, "--out", str(tmp_path / "acts")])
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    copy, kept = tmp_path / "run", tmp_path / "run/model/fidelity.json"
    shutil.copytree(trained[0], copy)
    kept.unlink()
    assert "has no measured horizon" in acts()
    tested, other = tmp_path / "tested.sqlite", tmp_path / "other.sqlite"
    with EpisodeStore(tested) as store:
        collect([rooms.task(pair, "test") for pair in rooms.PAIRS[:6]], RandomPolicy(), store, progress="quiet")
    with EpisodeStore(file, mode="r") as store, EpisodeStore(other) as changed:
        for episode in store.episodes():
            there = episode.provenance.model_copy(update={"env_settings": {"colour": "red", "max_steps": 8}})
            changed.add(episode.model_copy(update={"provenance": there}))
    found = measured(tested)
    assert (found["tasks"], found["trusted"], found["deciding"], found["saved"]) == (6, None, 0, False)
    assert run(["worldmodel", "eval", str(copy), "--store", str(other), "--quiet"]) != 0
    assert "all played with other settings than asked for (colour='red', here None)" in capsys.readouterr().err
    assert not kept.exists()
    with EpisodeStore(tested) as store, EpisodeStore(file, mode="r") as training:
        store.add_all(training.episodes())
        (elsewhere, *_) = store.episodes(split="train")
        renamed = elsewhere.provenance.model_copy(update={"env_settings": {"colour": "red"}})
        store.add(elsewhere.model_copy(update={"id": "red", "sample": 99, "provenance": renamed}))
    found = measured(tested)
    assert (found["saved"], found["elsewhere"]) == (True, 1)
    assert (found["saved"], found["deciding"], found["tasks"]) == (True, trained[1].tasks, trained[1].tasks + 6)
    assert found["trusted"] == trained[1].trusted == load_world(copy).horizon
    assert not measured(file)["saved"]
    assert measured(file, "--replace", "--trust", "1")["saved"]
    assert load_world(copy).horizon == 0
    assert "cannot be trusted for a single step" in acts()
    kept.write_text(trained[1].model_copy(update={"trusted": 2}).model_dump_json())
    assert "depth 2," in acts()
    card = json.loads((copy / "model/world.json").read_text())
    (copy / "model/world.json").write_text(json.dumps(card | {"env_settings": {"max_steps": 3}}))
    assert "depth 2," in acts()
    (copy / "model/world.json").write_text(json.dumps(card | {"env_settings": {"colour": "red"}}))
    other = "is a world model of toy/Rooms-v0 with other settings (colour='red', here None); make it with those"
    assert other in acts()
    assert other in acts("--depth", "1")
    assert other in acts("--judge", str(copy))
    assert other in acts("--dry-run")
    assert "are at least 1" in acts("--dry-run", "--candidates", "0")
    for name in ("model", "judge"):
        with pytest.raises(BadInput, match=re.escape(other)):
            make("worldmodel", env="toy/Rooms-v0", **{name: str(copy)})


def test_where_no_task_was_set_aside_all_that_it_did_not_learn_from_are_measured_on(
    file: Path, trained: tuple[Path, Fidelity], tmp_path: Path
) -> None:
    card = read_card(trained[0] / "model").model_copy(update={"held_out": 0.0})
    learnt = tuple(rooms.task(pair).id for pair in rooms.PAIRS[3:])
    with EpisodeStore(file, mode="r") as store:
        env = make("toy/Rooms-v0")
        found = held_out_episodes(store, env, card.model_copy(update={"tasks": learnt}), card.page)
    assert {steps[0].task.id for steps in found} == {rooms.task(pair).id for pair in rooms.PAIRS[:3]}


def test_a_damaged_store_is_told_and_no_store_without_held_out_episodes(
    file: Path, trained: tuple[Path, Fidelity], tmp_path: Path
) -> None:
    card, env = read_card(trained[0] / "model"), make("toy/Rooms-v0")
    with EpisodeStore(tmp_path / "empty.sqlite") as store:
        assert held_out_episodes(store, env, card, card.page) == []
    damaged = shutil.copy(file, tmp_path / "damaged.sqlite")
    with closing(sqlite3.connect(damaged)) as connection, connection:
        assert connection.execute("UPDATE bodies SET body = substr(body, 1, 20)").rowcount
    with EpisodeStore(damaged, mode="r") as store, pytest.raises(BadInput, match="cannot be unpacked"):
        held_out_episodes(store, env, card, card.page)


def test_a_store_without_transitions_is_an_error_before_anything_is_written(
    file: Path, tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="holds no transitions of palaestra/Crafting-v0 in split train"):
        train_world(config(file, tiny, env="crafting"), tmp_path / "run")
    with pytest.raises(BadInput, match="neither an episode store nor a run directory"):
        train_world(config(tmp_path / "nothing.sqlite", tiny), tmp_path / "run")
    with pytest.raises(BadInput, match="unknown model 'huge'"):
        train_world(config(file, Path("huge")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_episodes_of_another_environment_under_the_same_name_teach_nothing(
    file: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same tasks are others where recipes are made otherwise. How long episodes may be is no matter."""
    place, out, name = tmp_path / "crafting.sqlite", tmp_path / "run", "palaestra/Crafting-v0"
    tasks, theme = list(make("crafting").tasks("train")[:2]), {"recipes": "theme"}
    with EpisodeStore(place) as store:
        collect(tasks, RandomPolicy(), store, env_settings={**theme, "max_steps": 3}, progress="quiet")
        assert played_with(store, name, ("train",), theme) == ([e.id for e in store.episodes()], 0)
        for given in ({}, {"recipes": "task"}):
            with pytest.raises(BadInput, match="holds 2 episodes of palaestra/Crafting-v0, all played") as no:
                played_with(store, name, ("train",), given)
            assert "(recipes='theme', here 'task')" in str(no.value)
            assert "\n" not in str(no.value)
        with pytest.raises(BadInput, match="all played with other settings"):
            train_world(config(place, tiny, env="crafting"), out)
        assert not out.exists()
        collect(tasks[:1], RandomPolicy(), store, recipe="again", progress="quiet")
        (plain,) = [e.id for e in store.episodes() if not e.provenance.env_settings]
        assert played_with(store, name, ("train",), {"recipes": "task"}) == ([plain], 2)

    mixed = tmp_path / "mixed.sqlite"
    with EpisodeStore(file, mode="r") as training, EpisodeStore(mixed) as store:
        for number, episode in enumerate(training.episodes()):
            settings = {"colour": "red"} if number < 3 else {"max_steps": 8}
            made = episode.provenance.model_copy(update={"env_settings": settings})
            store.add(episode.model_copy(update={"provenance": made}))
        red = {e.id for e in store.episodes() if "colour" in e.provenance.env_settings}
    given = config(mixed, tiny, per_start=None, per_kind=None, held_out=0.0, objective=QUICK).model_dump(mode="json")
    (tmp_path / "config.json").write_text(json.dumps(given))
    words = ["worldmodel", "train", "--env", "toy/Rooms-v0", "--model", str(tiny), "--store", str(mixed), "--quiet"]
    assert run([*words, "--config", str(tmp_path / "config.json"), "--out", str(out)]) == 0
    assert "3 episodes are left out: played with other settings of the environment" in capsys.readouterr().out
    learnt = {t.episode for t in read(out / "transitions.jsonl.gz")}
    assert learnt
    assert not learnt & red
    assert json.loads((out / "fit.json").read_text())["elsewhere"] == 3
    assert "3 episodes were left out" in (out / "report.md").read_text()


def test_training_writes_a_world_model_that_knows_what_it_is(trained: tuple[Path, Fidelity]) -> None:
    out, report = trained
    card = read_card(out / "model")
    assert (card.env, card.page.actions, card.judges) == ("toy/Rooms-v0", 3, True)
    aside = {rooms.task(pair).id for pair in rooms.PAIRS if set_aside(rooms.task(pair), 0.2)}
    assert aside
    assert not aside & set(card.tasks)
    assert report.tasks == len(aside)
    fit = json.loads((out / "fit.json").read_text())
    losses = fit["report"]["losses"]
    assert losses[-1] < 0.3 * losses[0]
    assert fit["judgements"] == fit["transitions"] == card.transitions
    world = load_world(out, "toy/Rooms-v0")
    assert world.horizon == report.trusted
    assert load_world(out / "model") is world  # in memory once
    with pytest.raises(BadInput, match="is a world model of toy/Rooms-v0, not of palaestra/Crafting-v0"):
        load_world(out, "palaestra/Crafting-v0")


def test_ends_that_are_learnt_as_often_are_repeated_for_the_pages_alone(
    file: Path, tiny: Path, trained: tuple[Path, Fidelity], tmp_path: Path
) -> None:
    """`leave` wins where the way out is, and loses elsewhere: both are ends. `left` and `right` end nothing."""
    out, _ = trained
    chosen = read(out / "transitions.jsonl.gz")
    assert again(chosen) == []
    lost = [t.model_copy(update={"status": Status.REFUSED}) if t.score == 0 else t for t in chosen]
    more = again(lost)
    assert more
    assert {t.action for t in more} == {"leave"}
    copy, fit = tmp_path / "run", {"epochs": 1, "learning_rate": 4e-3, "batch": 16, "micro_tokens": 4096}
    how = config(file, tiny, even_ends=True, horizons=1, objective=fit)
    with RunDir.open(copy, "worldmodel", how) as run:
        run.write("transitions.jsonl.gz", packed(lost))
    train_world(how, copy)
    learnt = json.loads((copy / "fit.json").read_text())
    assert learnt["transitions"] == learnt["judgements"] == len(lost)
    assert learnt["report"]["samples"] == 2 * len(lost) + len(more)


def test_the_same_command_goes_on_where_it_was_killed(
    file: Path, tiny: Path, trained: tuple[Path, Fidelity], tmp_path: Path
) -> None:
    """What each phase leaves is what the next one needs: without the weights it fits again, to the same ones."""
    import shutil

    out, report = trained
    before = (out / "fit.json").stat().st_mtime_ns
    assert train_world(config(file, tiny), out) == report
    assert (out / "fit.json").stat().st_mtime_ns == before
    copy = tmp_path / "run"
    shutil.copytree(out, copy)
    for name in ("fit.json", "fidelity.json"):
        (copy / name).unlink()
    shutil.rmtree(copy / "model")
    assert train_world(config(file, tiny), copy) == report
    with pytest.raises(BadInput, match=r"begun with objective\.epochs=3, now it is 4"):
        train_world(config(file, tiny, objective={"epochs": 4, "learning_rate": 4e-3, "batch": 16}), out)


def test_a_learned_world_passes_the_check_of_an_environment(trained: tuple[Path, Fidelity]) -> None:
    settings = {"env": "toy/Rooms-v0", "model": str(trained[0])}
    report = check(ID, settings=settings, fast=True, tasks=1, cycles=8, load="rooms")
    assert report.passed, str(report)


def test_it_is_measured_only_on_tasks_that_it_did_not_learn_from(
    file: Path, trained: tuple[Path, Fidelity], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out, _ = trained
    card = read_card(out / "model")
    with EpisodeStore(file, mode="r") as store:
        found = held_out_episodes(store, make("toy/Rooms-v0"), card, card.page)
    assert {steps[0].task.id for steps in found}.isdisjoint(card.tasks)
    options = ["--load", rooms.__file__, "--episodes", "3", "--horizons", "2", "--json"]
    assert run(["worldmodel", "eval", str(out), "--store", str(file), *options]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["episodes"], [row["steps"] for row in told["horizons"]]) == (3, [1, 2])
    seen = tmp_path / "seen.sqlite"
    with EpisodeStore(seen) as store:
        collect([rooms.task("0-1"), rooms.task("1-0")], RandomPolicy(), store, progress="quiet")
        left = [head for head in store.heads() if head.task not in card.tasks]
    status = run(["worldmodel", "eval", str(out), "--store", str(seen), *options])
    assert (status == 2) == (not left)


def test_look_ahead_from_the_command_line(
    trained: tuple[Path, Fidelity], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out, _ = trained
    shared = ["--depth", "1", "--tasks", "3", "--after", "0", "--load", rooms.__file__, "--json", "--out"]
    for name, world in (("imagined", str(out)), ("real", "real")):
        where = str(tmp_path / name)
        assert run(["worldmodel", "act", "toy/Rooms-v0", "-p", "random", "--world", world, *shared, where]) == 0
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert told["evaluation"]["episodes"] == 3
        assert told["spent"]["world"] > 0
    assert run(["worldmodel", "act", "toy/Rooms-v0", "-p", "random", "--world", "real", "--out", str(tmp_path)]) == 2
    assert "say --depth" in capsys.readouterr().err
    asks = ["worldmodel", "act", "toy/Rooms-v0", "-p", "random", "--world", str(out), *shared, str(tmp_path / "asks")]
    assert run([*asks, "--propose", "asked"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["evaluation"]["card"]["sampling"]["look_ahead"]["propose"] == "asked"
    assert run([*asks, "--propose", "told"]) == 2
    assert "--propose is sampled or asked, not 'told'" in capsys.readouterr().err
    assert run(["worldmodel", "eval", str(tmp_path), "--store", str(tmp_path)]) == 2
    assert "holds no world model" in capsys.readouterr().err


@pytest.mark.parametrize("env", ["crafting", "webshopsmall"])
def test_the_whole_way_in_a_real_environment(env: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Episodes of random actions, a fresh model of that environment's words, training, measuring, imagining."""
    from palaestra.agents.tiny import env_texts, make_tiny

    model = make_tiny(env_texts(env, episodes=2), tmp_path / "tiny", vocab=500, hidden=32, layers=1, heads=2)
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        tasks = make(env).tasks("train")[:6]
        collect(tasks, RandomPolicy(), store, progress="quiet", env_settings={"max_steps": 3})
    out = str(tmp_path / "world")
    quick = ["page.actions=2", "page.max_page=300", "page.history=2", "max_tokens=16", "horizons=1", "held_out=0.4"]
    quick += ["objective.epochs=1", "objective.max_length=2048", "per_start=2"]
    options = [word for each in quick for word in ("--set", each)]
    made = ["--store", str(tmp_path), "--model", str(model), "-s", "max_steps=3", "--out", out, "--json"]
    assert run(["worldmodel", "train", "--env", env, *made, *options]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    told, report = result["fidelity"], Path(result["report"])
    assert report == Path(out).resolve() / "report.html"
    assert "<b>Similarity</b>" in report.read_text()
    assert "| steps | n | cut |" in report.with_suffix(".md").read_text()
    assert told["env"] == make(env).registration.id  # type: ignore[union-attr]
    assert told["horizons"][0]["count"] > 0
    imagined = make("worldmodel", env=env, model=out)
    _, info = imagined.reset(seed=0)
    *_, over, _, info = imagined.step(info["actions"][0])
    assert info["imagined"]
    assert info["problem"] in ("malformed", "endless")  # one epoch of a model of 30,000 parameters
    assert over
    imagined.close()

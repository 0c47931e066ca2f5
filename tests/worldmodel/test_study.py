"""The program behind the world model's part of the results: who learns from which tasks, and what the page keeps."""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rooms
from rooms import Draws, Writes, task, true_page, true_worth

from palaestra.agents.collect import collect
from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.store import EpisodeStore
from palaestra.envs import TextEnv, find, make, register
from palaestra.trainers.config import config_of
from palaestra.trainers.phases import Synthesis
from palaestra.trainers.report import rounds
from palaestra.worldmodel import compared
from palaestra.worldmodel.env import ID, WorldModelEnv
from palaestra.worldmodel.fidelity import Fidelity
from palaestra.worldmodel.judging import ModelJudge
from palaestra.worldmodel.loading import load_world
from palaestra.worldmodel.page import PageFormat
from palaestra.worldmodel.webevolver import WebEvolver, WebEvolverConfig
from palaestra.worldmodel.world import LearnedWorld

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import worldmodel_page
import worldmodel_study
from worldmodel_judged import judged
from worldmodel_made import Run, episodes, experts, world_model
from worldmodel_studies import ARMS, STUDIES
from worldmodel_truth import true
from worldmodel_verifier import ends, rejudged, train_verifier


@pytest.mark.parametrize("name", STUDIES)
def test_nothing_is_measured_on_what_anybody_learnt_from(name: str) -> None:
    study = STUDIES[name]
    splits = {split: set(names) for split, names in find(study.env).splits.items()}
    measured = splits.get("test") or splits["dev"]
    learns = {*study.oracle, *study.random, *study.policy}
    assert learns
    assert learns | {*study.taught, *study.trained} <= splits["train"]
    assert set(study.measured) <= measured
    assert {*study.tasks, *study.finals} <= splits["dev"]
    assert bool(study.tasks) == bool(study.taught)
    if learns & set(study.taught):  # the page says so of each such part
        assert re.search("of these goals|policy was taught", study.why)
    assert not set(study.trained) & learns
    if set(study.trained) & set(study.taught):
        assert "recipes train on forty of the goals that the policy was taught" in study.why
    if measured is splits["dev"]:
        assert not set(study.measured) & set(study.tasks)
    assert study.arms[0] == ARMS[0]
    assert set(study.arms) <= set(ARMS)
    for other in filter(None, (study.begins, study.schooled)):
        assert STUDIES[other].taught  # it has a policy to begin with
    if study.taught:
        assert study.lists == (study.words is None)  # who can name nothing at random is told what can be done


def test_the_oracle_plays_once_for_who_clones_it_and_who_learns_the_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms_of = tuple(f"{pair}/train" for pair in rooms.PAIRS)
    study = replace(
        STUDIES["crafting"],
        env="toy/Rooms-v0",
        env_settings={},
        oracle=rooms_of,
        random=rooms_of[:2],
        policy=(),
        slip=0,
    )
    monkeypatch.setitem(STUDIES, "other", replace(study, taught=("elsewhere",)))
    monkeypatch.setitem(STUDIES, "rooms", replace(study, taught=rooms_of[:5], measured=("0-1/test",)))
    assert experts(run_of("other", tmp_path)) == {"oracle": "default"}
    run = run_of("rooms", tmp_path)
    found = experts(run)
    told = [json.loads(line) for line in Path(found["file"]).read_text("utf-8").splitlines()]
    assert [each["start"]["task"]["name"] for each in told] == list(rooms_of[:5])
    episodes(run)
    with EpisodeStore(run.folder / "episodes.sqlite", mode="r") as store:
        assert Counter((head.policy, head.split) for head in store.heads()) == {
            ("oracle:solve", "train"): len(rooms_of),
            ("random", "train"): 2,
            ("oracle:solve", "test"): 1,
        }


def test_a_world_model_is_measured_on_the_studys_tasks_of_another_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One oracle's episode of the room 0-1, three steps long: from each step on, as far as it goes."""
    rooms_of = tuple(f"{pair}/train" for pair in rooms.PAIRS)
    monkeypatch.setitem(
        STUDIES,
        "rooms",
        replace(
            STUDIES["crafting"],
            env="toy/Rooms-v0",
            env_settings={},
            oracle=rooms_of,
            random=rooms_of[:2],
            policy=(),
            slip=0,
            measured=("0-1/test",),
            tokens=600,
            hidden=16,
            layers=1,
            max_tokens=8,
        ),
    )
    run = run_of("rooms", tmp_path)
    world = world_model(run, 0)
    found = Fidelity.model_validate_json((world / "fidelity.json").read_text())
    assert (found.tasks, found.episodes) == (1, 1)
    assert (world / "model/fidelity.json").is_file()
    assert {page.task for page in compared.read(world / compared.PAGES)} == {task("0-1", "test").id}
    assert "1 world model(s)" in worldmodel_page.trust(run.folder)


def run_of(name: str, out: Path) -> Run:
    """A study's run in a folder."""
    (out / "worldmodel" / name).mkdir(parents=True)
    return Run(name, out, math.inf, 1, out / "page.md")


def test_parts_that_were_run_elsewhere_stay_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section, docs = tmp_path / "section.md", tmp_path / "results.md"
    monkeypatch.setattr(worldmodel_page, "SECTION", section)
    first, second = (study.title for study in list(STUDIES.values())[:2])
    parts = [f"### {second}\n\n| steps |\n| --- |\n| 2 |", f"### {first}\n\nOf the first.", "### Gone\n\nNo study."]
    marks = (worldmodel_page.OPENS, worldmodel_page.CLOSES)
    docs.write_text("\n\n".join(["# Page", marks[0], "old words", *parts, marks[1], "## After"]) + "\n", "utf-8")
    worldmodel_page.write_page(tmp_path / "nothing", docs)
    text = docs.read_text("utf-8")
    assert text.startswith(f"# Page\n\n{marks[0]}\n\n## The world model")
    assert text.endswith(f"{parts[1]}\n\n{parts[0]}\n\n{marks[1]}\n\n## After\n")
    assert "old words" not in text
    assert section.read_text("utf-8") in text
    worldmodel_page.write_page(tmp_path / "nothing", docs)
    assert docs.read_text("utf-8") == text
    assert not (tmp_path / "nothing").exists()


def test_the_page_holds_what_the_studies_and_the_remarks_say() -> None:
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    section = page[page.index(worldmodel_page.OPENS) :].partition(worldmodel_page.CLOSES)[0]
    assert section + worldmodel_page.CLOSES == worldmodel_page.SECTION.read_text().strip()
    assert worldmodel_page.REMARKS.read_text().strip() in section
    parts = worldmodel_page.written(section)
    assert [title for title in parts if title not in {study.title for study in STUDIES.values()}] == []
    assert [study.title for study in STUDIES.values() if study.why not in parts.get(study.title, study.why)] == []


def test_the_truth_of_what_was_imagined_is_asked_of_the_studys_own_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task's name is another goal with other things under other settings, where what was imagined is never true."""
    study, asked = STUDIES["crafting-book"], []
    name = study.trained[0]

    def began(env: TextEnv[Any]) -> str:
        (wanted,) = [task for task in env.tasks("train") if task.name == name]
        return env.reset(options={"task": wanted})[0]

    monkeypatch.setattr(worldmodel_page, "SECTION", tmp_path / "section.md")
    monkeypatch.setattr(worldmodel_page, "synthesis", lambda out, compared, env: asked.append(began(env)))
    (tmp_path / "crafting-book" / "synthesis").mkdir(parents=True)
    worldmodel_page.write_page(tmp_path, tmp_path / "results.md")
    assert asked == [began(make(study.env, **dict(study.env_settings)))]
    assert asked != [began(make(study.env))]


def test_a_judge_tells_imagined_ends_apart_if_the_world_model_does(tmp_path: Path) -> None:
    file = tmp_path / "episodes.sqlite"
    with EpisodeStore(file) as store:
        collect([task(pair) for pair in rooms.PAIRS], Draws(("left", "right", "leave")), store, progress="quiet")
        left = [head for head in store.heads() if head.outcome in ("success", "failure")]
    won = sum(head.success for head in left)
    assert 0 < won < len(left)

    def figures(write: object) -> tuple[int, int, float]:
        world = LearnedWorld(Writes(write), PageFormat(actions=3), judge=ModelJudge(Writes(true_worth)))  # type: ignore[arg-type]
        found = judged(world, file, set())
        assert f"those that won ({won})" in found.text()
        return found.ends, found.won, found.ends_auc

    assert figures(true_page) == (len(left), won, 1.0)
    assert figures(lambda _: "bla") == (len(left), won, 0.5)


def test_a_verifier_learns_from_the_real_ends_of_training_tasks_and_judges_others(tmp_path: Path) -> None:
    file = tmp_path / "episodes.sqlite"
    where: tuple[str, dict[str, object]] = ("toy/Rooms-v0", {})
    with EpisodeStore(file) as store:
        for split in ("train", "test"):
            starts = [task(pair, split) for pair in rooms.PAIRS]
            collect(starts, Draws(("left", "right", "leave")), store, progress="quiet")
        collect([task("0-3")], OraclePolicy("rooms"), store, progress="quiet")
        heads = list(store.heads())
    learnt = ends([file, file], ["train"])
    assert {step.episode for step in learnt} == {head.id for head in heads if head.split == "train"}
    assert len(learnt) == len({step.episode for step in learnt})
    expert = next(step for step in learnt if step.episode == next(h.id for h in heads if h.actor == "expert"))
    assert (expert.done, expert.action, expert.success) == (("right",) * 3, "leave", True)
    assert expert not in ends([file], ["train"], ["policy"])
    out, base = tmp_path / "verifier", rooms.tiny(tmp_path / "tiny")
    told = {"tokens": 4000, "batch": 4, "micro_tokens": 4096}
    found = train_verifier(where, base, [file], [file], told, out)  # type: ignore[arg-type]
    others = [head for head in heads if head.split == "test"]
    won = sum(head.success for head in others)
    assert (found.good, found.bad) == (won, len(others) - won)
    assert 0 < found.won < found.ends == len(learnt)
    assert found.ids >= 4000
    world = load_world(out / "model", "toy/Rooms-v0")
    policy = Writes(lambda _: "Score: 1.0")
    judge = ModelJudge(policy, world.page)
    assert judge.rate([expert.case("")]) == [1.0]
    assert policy.asked == [f"Task: {rooms.page(0, 3)}\n" + "Done: right\n" * 3 + "Done: leave\nThe episode is over."]

    writes = Writes(lambda prompt: "bla" if "Action: left" in prompt else true_page(prompt))
    dreams, seen = tmp_path / "run", LearnedWorld(writes, PageFormat(actions=3))
    with EpisodeStore(dreams / "episodes.sqlite") as store:
        collect([task("0-3")], Draws(("jump", "right")), store, samples=4, max_turns=3, progress="quiet")
        refused = next(each for each in store.episodes() if each.actions[0] == "jump")
        collect([task("0-3")], Draws(("right",), "right"), store, max_turns=4, progress="quiet")
        near = next(each for each in store.episodes() if each.actions == ("right",) * 4)
        dream = task("0-3").model_copy(update={"env": ID})
        inside, there = (each.model_copy(update={"task": dream}) for each in (refused.fork(2), near.fork(3)))
        wishes = [*(task(pair).model_copy(update={"env": ID}) for pair in rooms.PAIRS), inside]
        how = {"env_factory": lambda _: WorldModelEnv.of(seen, "toy/Rooms-v0", judge=ModelJudge(policy))}
        collect(wishes, Draws(("left", "right", "leave", "jump")), store, samples=4, progress="quiet", **how)  # type: ignore[arg-type]
        collect([there], Draws(("leave",), "leave"), store, progress="quiet", **how)  # type: ignore[arg-type]
        dreamt = list(store.episodes(actor="imagined"))
        whole = {episode.id: store.path(episode.id) for episode in dreamt}
    kept = {episode.id for episode in dreamt if "left" not in episode.actions}
    assert 0 < len(kept) < len(dreamt)
    found_there = Synthesis(unsolved=25, steps=8, episodes=tuple(episode.id for episode in dreamt), kept=tuple(kept))
    env = make("toy/Rooms-v0")
    truths = true(dreams, found_there, env)
    for episode, said in zip(dreamt, truths, strict=True):
        at, exit = (int(number) for number in episode.start.task.name.split("/")[0].split("-"))
        for action in whole[episode.id].actions[:-1]:
            at = rooms.step(at, exit, action)[0]
        assert said.kept == (not said.cut) == (episode.id in kept)
        assert said.solved == (episode.actions[-1] == "leave" and at == exit)
        assert said.possible == ("jump" not in episode.actions)  # what was refused before the fork nobody imagined
    assert {said.possible for said in truths} == {True, False}
    assert [said.solved for episode, said in zip(dreamt, truths, strict=True) if episode.start == there] == [True]
    assert true(dreams, Synthesis(unsolved=25, steps=8), env) == truths  # nothing is asked a second time
    before = world.judge.calls  # type: ignore[attr-defined]
    again = rejudged(out, {dreams: (found_there, truths)})
    assert world.judge.calls - before == len(kept)  # type: ignore[attr-defined]
    assert (again.runs, again.imagined, again.kept) == (1, len(kept), len(kept))  # what was cut nobody judges
    assert again.true == sum(said.solved for said in truths if said.kept) > 0
    assert again.called >= again.right >= 0


def test_the_policies_that_a_recipe_ended_with_look_ahead_in_the_world_model_that_it_ended_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[str] = []
    monkeypatch.setattr(worldmodel_study, "write_page", lambda out, docs: pages.append(str(out)))
    names = {split: [f"{pair}/{split}" for pair in rooms.PAIRS] for split in ("train", "dev", "test")}
    register("toy/HeldRooms-v0", rooms.Rooms, splits=names, max_steps=8)
    held = tuple(names["dev"][:2])
    study = replace(STUDIES["crafting"], env="toy/HeldRooms-v0", env_settings={}, tasks=held, later=ARMS[:2])
    monkeypatch.setitem(STUDIES, "rooms", study)
    run, model = run_of("rooms", tmp_path), rooms.tiny(tmp_path / "tiny")
    ended = run.folder / "synthesis" / "webevolver-0"
    few: dict[str, Any] = {"iterations": 1, "objective": {"epochs": 1}}
    quick = rooms.settings(model, env="toy/HeldRooms-v0", **few)
    WebEvolver(config_of(WebEvolverConfig, quick), ended, progress="quiet").train()
    (world,) = worldmodel_page.worlds(run.folder, "webevolver")
    monkeypatch.setattr(worldmodel_study, "imagining", lambda folder: asked.append(folder) or load_world(folder))
    asked: list[Path] = []
    worldmodel_study.act_later(run, 2)  # of the second seed nothing is there
    assert asked == [world]
    folder = worldmodel_page.later_folder(run.folder, "webevolver")
    files = {name: worldmodel_page.acting_files(folder, name) for name in ARMS[:2]}
    assert [list(of) for of in files.values()] == [[0], [0]]
    last = rounds(ended)[-1].evaluation.card.model_version
    for of in files.values():
        found = worldmodel_page.Acted.model_validate_json(of[0].read_text()).evaluation
        assert last in found.card.model_version
    table = worldmodel_page.acting(folder, ARMS, "webevolver")
    assert table.startswith("The policies that `webevolver` ended with, one a seed, and the world model that their run")
    worldmodel_study.act_later(run, 1)
    assert asked == [world]  # it is not played again
    assert len(pages) == 2
    assert worldmodel_study.ended_with(ended, "webevolver") == ended / "iteration-2/model"
    assert worldmodel_study.ended_with(ended, "self-improve") == ended / "iteration-1/model"

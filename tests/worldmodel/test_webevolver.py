"""WebEvolver: its phases, what each learns from, its controls, and a run that is killed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import rooms

from palaestra.agents.episode import Actor, Episode
from palaestra.agents.models import version_of
from palaestra.agents.policy import Policy, Sampling
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, TextEnv, find, register
from palaestra.trainers.compare import compare_methods
from palaestra.trainers.config import config_of
from palaestra.trainers.estimate import of_recipe
from palaestra.trainers.phases import Collected, Fitted, Synthesis
from palaestra.trainers.report import iterations, rounds
from palaestra.trainers.report_phases import nothing_of, sections
from palaestra.trainers.report_tables import HEADS, ITERATION, cells, iteration_cells
from palaestra.trainers.rundir import read_record
from palaestra.trainers.scalars import TAGS, scalars
from palaestra.worldmodel.compared import read
from palaestra.worldmodel.env import ID, WorldModelEnv
from palaestra.worldmodel.judging import Case, ModelJudge
from palaestra.worldmodel.loading import load_world, untrained_world, world_folder
from palaestra.worldmodel.methods import CONTESTANTS, METHODS
from palaestra.worldmodel.page import PageFormat
from palaestra.worldmodel.training import TrainConfig, train_world
from palaestra.worldmodel.transitions import set_aside
from palaestra.worldmodel.webevolver import WebEvolver, WebEvolverConfig
from palaestra.worldmodel.world import LearnedWorld


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rooms.tiny(tmp_path_factory.mktemp("models") / "tiny")


def train(out: Path, model: Path, **more: Any) -> Synthesis:
    method = WebEvolver(config_of(WebEvolverConfig, rooms.settings(model, **more)), out, progress="quiet")
    method.train()
    return read_record(out / "iteration-3" / "synthesis.json", Synthesis)


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Synthesis]:
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, train(out, tiny)


def copied(run: Path, to: Path, *left_out: str, **changed: Any) -> Path:
    """A run without some of its results and with other settings: what is the same need not be made again."""
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("iteration-3", "episodes.*", *left_out))
    with EpisodeStore(run / "episodes.sqlite", mode="r") as old, EpisodeStore(to / "episodes.sqlite") as new:
        new.add_all(old.episodes(actor="policy"))
    record = json.loads((to / "run.json").read_text())
    record["config"] |= changed
    (to / "run.json").write_text(json.dumps(record))
    return to


def samples(run: Path, iteration: int) -> list[dict[str, Any]]:
    import gzip

    file = run / f"iteration-{iteration}" / "samples.jsonl.gz"
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


def test_every_round_trains_policy_and_world_and_the_last_one_imagines(run: tuple[Path, Synthesis]) -> None:
    out, found = run
    assert [(each.number, each.evaluation.label) for each in rounds(out)] == [
        (-1, "start model"),
        (1, "iteration 1"),
        (2, "iteration 2"),
        (3, "with synthesis"),
    ]
    worlds = [load_world(out / f"iteration-{number}/world") for number in (1, 2)]
    assert worlds[0].version != worlds[1].version
    counts = [json.loads((out / f"iteration-{n}/world/fit.json").read_text())["transitions"] for n in (1, 2)]
    assert 0 < counts[0] < counts[1]  # the second one learns from both rounds
    assert found.world == f"{worlds[1].name} {worlds[1].version}"
    assert (found.steps, len(found.episodes)) == (3, found.unsolved)
    assert found.unsolved > 0


def test_the_reports_tell_the_synthesis(run: tuple[Path, Synthesis]) -> None:
    out, found = run
    solved, cut = found.solved, sum(found.cut.values())
    assert solved is not None
    with EpisodeStore(out / "episodes.sqlite", mode="r") as store:
        assert solved == sum(store.head(id).success for id in found.episodes)
    (synthesis,) = (section for section in sections(iterations(out)) if section.title == "Synthesis")
    why = ", ".join(f"{number} {name}" for name, number in sorted(found.cut.items()))
    row = dict(zip(synthesis.heads, *synthesis.rows, strict=True))
    assert [row[name] for name in ("iteration", "unsolved tasks", "imagined", "judged solved", "kept", "steps")] == [
        *("3", str(found.unsolved), str(len(found.episodes)), str(solved), str(len(found.kept)), "3")
    ]
    assert row["cut"] == (f"{cut} ({why})" if cut else "0")
    markdown, html = ((out / name).read_text() for name in ("report.md", "report.html"))
    assert "## Synthesis" in markdown
    assert "<h2>Synthesis</h2>" in html
    assert all("judged solved" in page and found.judge in page for page in (markdown, html))
    # every episode that was not cut is judged once
    assert (found.judge_calls, found.world_calls > found.judge_calls) == (len(found.episodes) - cut, True)
    assert found.judge_prompt_tokens > 0
    for who, calls in (("world", found.world_calls), ("judge", found.judge_calls)):
        assert all(f"the {who} {calls} times" in page for page in (markdown, html))


def test_progress_names_what_comes_after_the_rounds(run: tuple[Path, Synthesis]) -> None:
    out, _ = run
    stages = {json.loads(line)["stage"] for line in (out / "live.jsonl").read_text().splitlines()}
    assert {"iteration 1 of 2, collect", "iteration 2 of 2, collect", "synthesis, collect"} <= stages
    assert any(stage.startswith("with synthesis") for stage in stages)
    assert not any(stage.startswith("iteration 3") for stage in stages if " of " in stage)


def test_judgements_are_as_short_as_asked_for(tiny: Path, tmp_path: Path) -> None:
    """A model that nobody trained writes until it is cut."""
    world = untrained_world(str(tiny), PageFormat(actions=3), Sampling(temperature=0.0, max_tokens=40))
    cases = [Case(rooms.task(pair), "", "a page", ("left",), "another", True) for pair in rooms.PAIRS[:4]]
    for wanted in ("world", "start"):
        config = config_of(WebEvolverConfig, rooms.settings(tiny, judge=wanted, judge_tokens=8))
        judge = WebEvolver(config, tmp_path / "run", progress="quiet")._judge(world)
        assert isinstance(judge, ModelJudge)
        judge.rate(cases)
        world.judge.rate(cases)
        assert (judge.calls, judge.completion_tokens) == (4, 4 * 8)
    assert isinstance(world.judge, ModelJudge)
    assert (world.judge.calls, world.judge.completion_tokens) == (8, 8 * 40)


@pytest.mark.parametrize("start", ["base", "previous"])
def test_where_the_last_fit_has_nothing_to_learn_it_ends_with_what_it_would_have_begun_with(
    run: tuple[Path, Synthesis], tiny: Path, tmp_path: Path, start: str
) -> None:
    out, _ = run
    copy = copied(out, tmp_path / "nothing", "world", synthesis="none", start=start)
    collected = read_record(copy / "iteration-1/collected.json", Collected)
    with EpisodeStore(copy / "episodes.sqlite", mode="r") as store:
        lost = tuple(id for id in collected.episodes if not store.head(id).success)
    left = collected.model_copy(update={"episodes": lost, "successes": 0})
    (copy / "iteration-1/collected.json").write_text(left.model_dump_json())
    train(copy, tiny, synthesis="none", start=start)
    assert samples(copy, 3) == []
    first, *_, second, last = rounds(copy)
    kept = "" if start == "base" else "iteration-2/model"
    assert last.fitted == Fitted(base="", model=kept, samples=0, report=None)
    versions = [each.evaluation.card.model_version for each in (first, second, last)]
    assert versions[0] != versions[1]
    assert versions[2] == versions[0 if start == "base" else 1]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Synthesis(unsolved=2, steps=3, world="w", episodes=("a",), kept=("a",)), ""),
        (Synthesis(unsolved=2, steps=3, world="w", episodes=("a",)), "nothing of what was imagined was kept"),
        (Synthesis(unsolved=0, steps=0), "every task was solved"),
        (Synthesis(unsolved=2, steps=0), "as was asked for"),
        (Synthesis(unsolved=2, steps=0, world="w"), "cannot be trusted for a single step"),
        (Synthesis(unsolved=2, steps=None, world="w"), "nobody measured the world model"),
    ],
)
def test_why_nothing_was_imagined_is_said(found: Synthesis, said: str) -> None:
    assert said in nothing_of(found)
    assert bool(nothing_of(found)) == bool(said)


def test_only_tasks_that_were_never_solved_are_imagined_and_nothing_imagined_counts_as_real(
    run: tuple[Path, Synthesis],
) -> None:
    out, found = run
    with EpisodeStore(out / "episodes.sqlite", mode="r") as store:
        real = [
            store.head(id)
            for n in (1, 2)
            for id in read_record(out / f"iteration-{n}/collected.json", Collected).episodes
        ]
        solved = {head.name for head in real if head.success}
        imagined = [store.get(id) for id in found.episodes]
        assert {head.actor for head in real} == {Actor.POLICY}
        assert {e.provenance.actor for e in imagined} == {Actor.IMAGINED}
        assert {e.start.task.env for e in imagined} == {ID}
        assert solved.isdisjoint(e.start.task.name for e in imagined)
        assert solved | {e.start.task.name for e in imagined} == {f"{pair}/train" for pair in rooms.PAIRS}
        assert {e.labels["rewards"] for e in imagined} == {"judged"}
        cut = [e for e in imagined if e.final_observation.startswith("The world model")]
        assert len(cut) == sum(found.cut.values())
        assert {e.id for e in imagined} - {e.id for e in cut} == set(found.kept)  # `accept` is 0 in this test
        policies = {e.provenance.policy_version for e in imagined}
        first = {head.policy_version for head in real if head.iteration == 2}
        assert policies == first  # the policy after the first round plays
    assert all(each.evaluation.card.env == "toy/Rooms-v0" for each in rounds(out))
    last = rounds(out)[-1]
    assert last.collected == Collected(episodes=(), successes=0, faults=0)


def test_the_last_fit_learns_what_won_in_the_first_round_and_what_was_imagined(run: tuple[Path, Synthesis]) -> None:
    out, found = run
    first, last = samples(out, 1), samples(out, 3)
    assert [s for s in last if s["kind"] != "imagined"] == first
    made_up = {s["episodes"][0] for s in last if s["kind"] == "imagined"}
    assert made_up == set(found.kept) != set()
    assert {s["split"] for s in last} <= {"train"}
    fit = json.loads((out / "iteration-3" / "fit.json").read_text())
    assert fit["base"] == json.loads((out / "iteration-1" / "fit.json").read_text())["base"]


def test_imagined_episodes_may_begin_inside_failed_ones_and_only_what_was_imagined_is_learnt(
    run: tuple[Path, Synthesis], tiny: Path, tmp_path: Path
) -> None:
    out, before = run
    changed: dict[str, Any] = {"imagine_from": "failed", "imagined": 3}
    copy = copied(out, tmp_path / "inside", **changed)
    found = train(copy, tiny, **changed)
    assert (found.unsolved, len(found.episodes)) == (before.unsolved, 3 * before.unsolved)
    assert len(set(found.episodes)) == len(found.episodes)
    begun: dict[str, list[tuple[str | None, int]]] = {}
    with EpisodeStore(copy / "episodes.sqlite", mode="r") as store:
        real: dict[str, set[tuple[str | None, int]]] = {}
        for n in (1, 2):
            for id in read_record(copy / f"iteration-{n}/collected.json", Collected).episodes:
                head = store.head(id)
                steps = {(id, step) for step in range(1, head.end_step)}
                real[head.name] = real.get(head.name, set()) | steps
        for episode in map(store.get, found.episodes):
            path, start = store.path(episode.id), episode.start
            begun.setdefault(start.task.name, []).append((start.parent, start.fork_step))
            assert (start.task.env, episode.provenance.actor) == (ID, Actor.IMAGINED)
            assert len(episode.turns) <= found.steps  # counted from where imagination begins
            at, exit = (int(number) for number in start.task.name.split("/")[0].split("-"))
            for step in range(path.own):  # all pages before are those of the real environment
                assert path.turns[step].observation == rooms.page(at, exit)
                at = rooms.step(at, exit, path.turns[step].action)[0]
        for name, starts in begun.items():
            inside = real[name] or {(None, 0)}  # an episode of one step has no page inside
            assert set(starts) <= inside
            assert len(set(starts)) == min(3, len(inside))
        assert any(parent is not None for starts in begun.values() for parent, _ in starts)
        own = {
            id: sum(len(turn.tokens.completion) for turn in store.get(id).turns if turn.valid and turn.tokens)
            for id in found.kept
        }
    learnt = [s for s in samples(copy, 3) if s["kind"] == "imagined"]
    for id in found.kept:  # what came before the fork lost once already, and weighs nothing
        weights = [sum(w != 0 for w in s["weights"]) for s in learnt if s["episodes"][-1] == id]
        assert sum(weights) == own[id]


class Jumps(WebEvolver):
    """Somebody who tries what there is not plays in imagination."""

    def _player(self, model: str, sampling: Sampling, listed: bool) -> Policy:
        return rooms.Draws(("jump", "left", "leave"))


def test_the_options_of_rft_hold_for_what_was_imagined(run: tuple[Path, Synthesis], tiny: Path, tmp_path: Path) -> None:
    out, _ = run
    before: tuple[str, ...] = ()
    for more in ({}, {"per_task": 2, "prefer": "shortest", "task_weight": "inverse", "drop_invalid": True}):
        changed: dict[str, Any] = {"synthesis": "real", "imagined": 6, **more}
        copy = copied(out, tmp_path / str(len(more)), "world", "samples.jsonl.gz", **changed)
        Jumps(config_of(WebEvolverConfig, rooms.settings(tiny, **changed)), copy, progress="quiet").train()
        found = read_record(copy / "iteration-3/synthesis.json", Synthesis)
        with EpisodeStore(copy / "episodes.sqlite", mode="r") as store:
            of_task: dict[str, list[Episode]] = {}
            for episode in map(store.get, found.episodes):
                of_task.setdefault(episode.start.task.name, []).append(episode)
        learnt = [s for s in samples(copy, 3) if s["kind"] == "imagined"]
        weights = {s["episodes"][-1]: max(s["weights"]) for s in learnt}
        if not more:
            before = found.episodes
            assert set(found.kept) == set(found.episodes)  # `accept` is 0
            assert {weight for s in learnt for weight in s["weights"]} == {0.0, 1.0}
            continue
        assert found.episodes == before
        clean = {name: [e for e in of if "jump" not in e.actions] for name, of in of_task.items()}
        assert sum(map(len, clean.values())) > len(found.kept) > 0
        for name, of in clean.items():
            kept = [episode for episode in of if episode.id in found.kept]
            assert len(kept) == min(2, len(of))
            assert sorted(len(e.actions) for e in of)[: len(kept)] == sorted(len(e.actions) for e in kept), name
            assert {weights[episode.id] for episode in kept} <= {1 / len(kept) if kept else 1.0}
        assert {1.0, 0.5} == set(weights.values())
        assert {id for of in clean.values() for e in of if (id := e.id) in found.kept} == set(found.kept)


def test_the_controls_differ_in_the_synthesis_alone(run: tuple[Path, Synthesis], tiny: Path, tmp_path: Path) -> None:
    out, found = run
    for name, worlds in (("untrained", 0), ("none", 0)):
        changed = {"synthesis": name, "world_model": str(out / "iteration-2/world/model")}  # as the arm may begin
        copy = copied(out, tmp_path / name, "world", **changed)
        control = train(copy, tiny, **changed)
        assert control.unsolved == found.unsolved
        assert len(list(copy.glob("iteration-*/world"))) == worlds
        assert bool(control.episodes) == (name == "untrained")
        if name == "untrained":  # a fresh model writes no page
            assert control.world == f"{tiny.name} {version_of(tiny)}"  # the start model, whoever else could
            assert control.kept == ()
            assert sum(control.cut.values()) == len(control.episodes)
        assert [s["kind"] for s in samples(copy, 3)] == [s["kind"] for s in samples(out, 1)]
    assert CONTESTANTS["webevolver-untrained"].fixed == {"synthesis": "untrained"}
    assert METHODS["webevolver"] is WebEvolver


def test_the_last_weights_are_measured_whatever_is_left_out_before(
    run: tuple[Path, Synthesis], tiny: Path, tmp_path: Path
) -> None:
    out, _ = run
    plan = json.loads((out / "run.json").read_text())["config"]["evaluation"] | {"between": False, "recovery": True}
    changed = {"synthesis": "none", "evaluation": plan}
    copy = copied(out, tmp_path / "last", "world", "evaluation.json", **changed)
    train(copy, tiny, **changed)
    assert [(each.number, each.evaluation.label) for each in rounds(copy)] == [
        (-1, "start model"),
        (3, "without synthesis"),
    ]
    assert [file.parent.name for file in copy.glob("*/recovery.json")] == ["iteration-3"]


def test_world_models_can_begin_elsewhere_and_a_policy_plays_freely_where_no_actions_are_listed(
    run: tuple[Path, Synthesis], tiny: Path, tmp_path: Path
) -> None:
    out, _ = run
    other = rooms.tiny(tmp_path / "other", seed=1)
    fit = {"epochs": 1, "learning_rate": 5e-3, "batch": 8, "micro_tokens": 4096}
    changed: dict[str, Any] = {
        "world_model": str(other),
        "world": {**rooms.settings(tiny)["world"], "page": {"rules": False}, "max_tokens": 16, "objective": fit},
        "steps": 2,
    }
    whole = config_of(WebEvolverConfig, rooms.settings(tiny, **changed)).model_dump(mode="json")
    copy = copied(out, tmp_path / "elsewhere", "world", **{key: whole[key] for key in changed})
    found = train(copy, tiny, **changed)
    bases = [json.loads((copy / f"iteration-{n}/world/fit.json").read_text())["base"] for n in (1, 2)]
    assert bases == [str(other)] * 2
    assert found.episodes
    with EpisodeStore(copy / "episodes.sqlite", mode="r") as store:
        assert not [head for head in store.heads(actor="imagined") if head.outcome.is_fault]
    with pytest.raises(BadInput, match="unknown model 'huge'"):
        train(tmp_path / "huge", tiny, world_model="huge")
    assert not (tmp_path / "huge").exists()


def test_the_real_environment_behind_the_interface_plays_and_scores_as_it_does(
    run: tuple[Path, Synthesis], tiny: Path, tmp_path: Path
) -> None:
    out, before = run
    changed = {"synthesis": "real", "accept": 1.0}
    copy = copied(out, tmp_path / "real", "world", **changed)
    found = train(copy, tiny, **changed)
    assert not list(copy.glob("iteration-*/world"))
    assert (found.world, found.judge, found.unsolved) == ("toy/Rooms-v0 real", "true score", before.unsolved)
    assert len(found.episodes) == found.unsolved
    won, steps = set(), 0
    with EpisodeStore(copy / "episodes.sqlite", mode="r") as store:
        for episode in map(store.get, found.episodes):
            assert episode.provenance.actor is Actor.IMAGINED
            at, exit = (int(number) for number in episode.start.task.name.split("/")[0].split("-"))
            seen, left = [rooms.page(at, exit)], at
            steps += len(episode.actions)
            for action in episode.actions:
                left = at
                at, page, _ = rooms.step(at, exit, action)
                seen.append(page)
            assert [*(turn.observation for turn in episode.turns), episode.final_observation] == seen
            won |= {episode.id} if episode.actions[-1] == "leave" and left == exit else set()
    assert set(found.kept) == won
    assert (found.world_calls, found.prompt_tokens) == (steps, 0)


def test_the_judge_may_be_another_world_model(run: tuple[Path, Synthesis], tiny: Path, tmp_path: Path) -> None:
    out, before = run
    with pytest.raises(BadInput, match="iteration-1/world never learnt to judge"):
        train(tmp_path / "nobody", tiny, judge=str(out / "iteration-1/world"))
    how = {**rooms.settings(tiny)["world"], "judge": True, "held_out": 0.0, "objective": {"epochs": 1}}
    learns = config_of(TrainConfig, {**how, "env": "toy/Rooms-v0", "store": str(out), "model": str(tiny)})
    train_world(learns, tmp_path / "judges")
    judge = str(tmp_path / "judges")
    for begins in (judge, f"{judge}/model", str(out / "iteration-1/world")):  # a run stands for its world model
        begun = WebEvolver(config_of(WebEvolverConfig, rooms.settings(tiny, world_model=begins)), tmp_path / "begins")
        begun.check()
        assert begun._begins == str(world_folder(begins))
    found = train(copied(out, tmp_path / "judge", judge=judge), tiny, judge=judge)
    assert found.judge == load_world(judge).judge.name != before.judge
    assert found.world == before.world
    with pytest.raises(BadInput, match="holds no world model"):
        train(tmp_path / "nobody", tiny, judge="nobody")
    assert not (tmp_path / "nobody").exists()


def test_a_world_model_that_nobody_can_trust_imagines_nothing(
    run: tuple[Path, Synthesis], tiny: Path, tmp_path: Path
) -> None:
    out, _ = run
    for steps, why in ((0, "the world model cannot be trusted for a single step"), (None, "nobody measured")):
        copy = copied(out, tmp_path / f"untrusted {steps}", steps=None)
        for measured in copy.glob("iteration-2/world/**/fidelity.json"):
            if steps is None:
                measured.unlink()
            else:
                measured.write_text(json.dumps({**json.loads(measured.read_text()), "trusted": steps}))
        control = train(copy, tiny, steps=None)
        assert (control.steps, control.episodes, control.unsolved > 0) == (steps, (), True)
        assert f"no synthesis: {why}" in (copy / "log.jsonl").read_text()


def test_the_horizon_is_chosen_without_the_tasks_that_success_is_measured_on(run: tuple[Path, Synthesis]) -> None:
    out, _ = run
    measured = {one.task for each in rounds(out) for one in each.evaluation.tasks}
    for number in (1, 2):
        compared = {page.task for page in read(out / f"iteration-{number}/world/pages.jsonl.gz")}
        assert compared
        assert compared.isdisjoint(measured)
        assert {name.split(":")[1] for name in compared} == {"train"}


def test_a_budget_that_ends_before_the_last_round_still_ends_in_a_synthesis(tiny: Path, tmp_path: Path) -> None:
    quick: dict[str, Any] = {"evaluation": {"tasks": 1}, "objective": {"epochs": 1}, "synthesis": "none", "tasks": 3}
    found = train(tmp_path / "early", tiny, samples=1, budget=3, **quick)
    assert found.unsolved <= 3
    assert [each.number for each in rounds(tmp_path / "early")] == [-1, 1, 3]
    cloned = config_of(WebEvolverConfig, rooms.settings(tiny, budget=0, experts={"oracle": "solve"}, **quick))
    WebEvolver(cloned, tmp_path / "cloned", progress="quiet").train()
    assert [each.number for each in rounds(tmp_path / "cloned")] == [-1, 0]


def test_the_plan_counts_all_that_a_run_does(tiny: Path, tmp_path: Path, run: tuple[Path, Synthesis]) -> None:
    out, found = run
    recipe = WebEvolver(config_of(WebEvolverConfig, rooms.settings(tiny)), tmp_path / "run", progress="quiet")
    plan = of_recipe(recipe, None)
    parts = {part.what: part.episodes for part in plan.parts}
    assert parts["held-out episodes"] == sum(each.evaluation.episodes for each in rounds(out)) == 4 * 4
    assert (parts["rollouts"], parts["synthesis"]) == (30, len(rooms.PAIRS))
    assert len(found.episodes) <= len(rooms.PAIRS)
    assert plan.fits == len(list(out.glob("iteration-*/fit.json"))) == 3
    assert "2 other models are fitted besides" in plan.basis
    assert len(list(out.glob("iteration-*/world/fit.json"))) == 2


def test_where_a_model_imagines_there_is_no_oracle_and_it_says_what_there_is() -> None:
    with pytest.raises(BadInput, match=r"since a model imagines it; have a policy play there .* as experts"):
        find(ID).oracle("flawed")


class Silent(rooms.Rooms):
    """Rooms that list no actions."""

    admissible = TextEnv.admissible


register("toy/SilentRooms-v0", Silent, splits=find("toy/Rooms-v0").splits, max_steps=8)


def test_what_cannot_be_meant_is_refused_before_anything_is_done(tiny: Path, tmp_path: Path) -> None:
    def world(**more: Any) -> dict[str, Any]:
        return {"world": {**rooms.settings(tiny)["world"], **more}}

    refused: list[tuple[dict[str, Any], str]] = [
        ({"synthesis": "untrained", "steps": None}, "'untrained' has no trained world model .* set 'steps'"),
        ({"synthesis": "real", "steps": None}, "'real' has no trained world model .* set 'steps'"),
        ({"agent": 3}, "agent 3: there are 2 rounds to have played"),
        ({"real": "all", "data": "latest"}, "learns from all real rounds and data 'latest' from one"),
        ({"env": "toy/SilentRooms-v0", "constrain": False}, "lists? its admissible actions, .* set world.page.actions"),
        ({"env": ID, "env_settings": {"env": "toy/Rooms-v0"}}, "is imagined itself"),
        (world(held_out=0.9999), "aside all 15 tasks that are played up to the first world model"),  # half the budget
        ({**world(held_out=0.9999), "samples": 1}, "aside all 25 tasks"),
        ({**world(held_out=0.9999), "budget": 1}, "aside all 1 tasks"),
        ({**world(held_out=0.0), "steps": None}, "set aside 0 of 25 tasks, .* set 'steps'"),
        ({**world(held_out=0.9999), "experts": {"oracle": "solve", "tasks": 2}, "budget": 1}, "aside all [23] tasks"),
        (world(objective={"kind": "preference"}), "learns from Pair data, not from pages"),
    ]
    for more, why in refused:
        with pytest.raises(BadInput, match=why):
            train(tmp_path / "run", tiny, **more)
    assert not (tmp_path / "run").exists()
    for more in ({"synthesis": "none"}, {"synthesis": "real"}):  # they train no world model
        config = config_of(WebEvolverConfig, rooms.settings(tiny, **world(held_out=0.9999), **more))
        WebEvolver(config, tmp_path / "run", progress="quiet").check()


def test_what_a_world_model_learnt_before_says_nothing_of_how_far_it_can_be_trusted(
    run: tuple[Path, Synthesis], tiny: Path, tmp_path: Path
) -> None:
    world = tmp_path / "world"
    shutil.copytree(run[0] / "iteration-2/world/model", world)
    card = json.loads((world / "world.json").read_text())
    aside = [rooms.task(pair).id for pair in rooms.PAIRS if set_aside(rooms.task(pair), 0.2, 500)]
    assert len(aside) > 2
    (world / "world.json").write_text(json.dumps(card | {"tasks": aside[1:]}))
    why = rf"set aside 1 of 25 tasks \({len(aside) - 1} more were learnt by .*\), .* set 'steps'"
    with pytest.raises(BadInput, match=why):
        train(tmp_path / "run", tiny, world_model=str(world), steps=None)
    assert not (tmp_path / "run").exists()


def test_a_comparison_looks_at_what_every_seed_sets_aside_before_anybody_begins(tiny: Path, tmp_path: Path) -> None:
    def aside(seed: int) -> int:
        return sum(set_aside(rooms.task(pair), 0.2, seed * 1000 + 500) for pair in rooms.PAIRS)

    good, bad = next(s for s in range(99) if aside(s) > 1), next(s for s in range(999) if aside(s) < 2)
    settings = rooms.settings(tiny, steps=None, objective={"tokens": 1000})
    chosen = [CONTESTANTS[name] for name in ("webevolver", "self-improve")]
    with pytest.raises(BadInput, match=f"held_out=0.2 and seed {bad} set aside {aside(bad)} of 25 tasks"):
        compare_methods(chosen, settings, tmp_path / "compared", seeds=[good, bad], progress="quiet")
    assert not (tmp_path / "compared").exists()


def test_a_run_that_is_killed_ends_as_an_undisturbed_one(
    run: tuple[Path, Synthesis], tiny: Path, tmp_path: Path
) -> None:
    out, found = run
    again = tmp_path / "killed"
    program = "import sys, rooms; rooms.main(*sys.argv[1:])"
    child = subprocess.Popen([sys.executable, "-c", program, str(again), str(tiny)], cwd=Path(rooms.__file__).parent)
    until = time.monotonic() + 400
    while not (again / "iteration-1/world/transitions.jsonl.gz").exists():  # in the middle of the world model's round
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (again / "iteration-3").exists()
    resumed = train(again, tiny)
    ids = ("prompt_tokens", "completion_tokens")
    spent = ("world_calls", "judge_calls", "unreadable", *ids, *(f"judge_{name}" for name in ids))
    assert resumed.model_dump(exclude=set(spent)) == found.model_dump(exclude=set(spent))
    for one, other in zip(rounds(out), rounds(again), strict=True):
        assert one.evaluation.tasks == other.evaluation.tasks
        if one.fit is not None and other.fit is not None:
            assert one.fit.version == other.fit.version


def test_a_run_that_is_killed_while_it_imagines_ends_with_the_same_samples(
    run: tuple[Path, Synthesis], tiny: Path, tmp_path: Path
) -> None:
    out, found = run
    again = copied(out, tmp_path / "killed")
    program = "import sys, rooms; rooms.main(*sys.argv[1:])"
    words = [sys.executable, "-c", program, str(again), str(tiny), "5"]
    child = subprocess.run(words, cwd=Path(rooms.__file__).parent, timeout=600)
    assert child.returncode == -signal.SIGKILL
    assert not (again / "iteration-3/synthesis.json").exists()
    with EpisodeStore(again / "episodes.sqlite", mode="r") as store:
        before = {head.id for head in store.heads(actor="imagined")}
    assert len(before) == 5 < len(found.episodes)
    resumed = train(again, tiny)
    assert before < set(resumed.episodes)
    assert (resumed.episodes, resumed.kept, resumed.cut) == (found.episodes, found.kept, found.cut)
    assert 0 < resumed.world_calls < found.world_calls  # what the killed process asked for is not counted
    assert samples(again, 3) == samples(out, 3)
    assert rounds(again)[-1].evaluation.tasks == rounds(out)[-1].evaluation.tasks


def test_any_recipe_trains_in_imagination_and_is_measured_in_the_real_environment(tiny: Path, tmp_path: Path) -> None:
    from palaestra.trainers.rft import RFT, RFTConfig

    common = {key: value for key, value in rooms.settings(tiny).items() if key not in ("world", "steps", "accept")}
    there = {"env": ID, "env_settings": {"env": "toy/Rooms-v0"}, "budget": 25, "iterations": 1}
    RFT(config_of(RFTConfig, {**common, **there}), tmp_path / "run", progress="quiet").train()
    assert {each.evaluation.card.env for each in rounds(tmp_path / "run")} == {"toy/Rooms-v0"}
    collected = read_record(tmp_path / "run/iteration-1/collected.json", Collected)
    with EpisodeStore(tmp_path / "run/episodes.sqlite", mode="r") as store:
        assert {store.head(id).actor for id in collected.episodes} == {Actor.IMAGINED}
        assert {head.env for head in store.heads(actor="policy")} == {"toy/Rooms-v0"}
    assert not collected.judged  # the real environment stood behind the interface
    assert "judged" not in (tmp_path / "run/report.md").read_text()


def test_what_a_recipe_wins_in_imagination_is_told_as_judged(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from palaestra.trainers.rft import RFT, RFTConfig

    common = {key: value for key, value in rooms.settings(tiny).items() if key not in ("world", "steps", "accept")}
    there = {"env": ID, "env_settings": {"env": "toy/Rooms-v0"}, "budget": 6, "iterations": 1}
    world = LearnedWorld(rooms.Writes(rooms.true_page), judge=ModelJudge(rooms.Writes(lambda _: "Score: 1.0")))
    imagined = WorldModelEnv.of(world, "toy/Rooms-v0", max_steps=2)
    config = config_of(RFTConfig, {**common, **there, "constrain": False})
    RFT(config, tmp_path / "run", progress="json", env_factory=lambda _: imagined, concurrency=1).train()
    collected = read_record(tmp_path / "run/iteration-1/collected.json", Collected)
    assert (collected.judged, collected.successes) == (True, 6)
    (last,) = [round for round in rounds(tmp_path / "run") if round.number == 1]
    assert cells(last)[HEADS.index("rollouts")] == "6 (6 won, judged)"
    (made,) = iterations(tmp_path / "run")
    row = dict(zip(ITERATION, iteration_cells(made), strict=True))
    assert (row["won"], row["score"]) == ("6 (judged)", "1.000 (judged)")
    logged = {each.tag: each.value for each in scalars(tmp_path / "run") if each.step == 1}
    assert (logged["rollouts/judged_success"], logged["rollouts/judged_score"]) == (1.0, 1.0)
    assert not {"rollouts/success", "rollouts/score"} & set(logged)
    assert {each.tag for each in scalars(tmp_path / "run")} <= set(TAGS)
    page = (tmp_path / "run/report.html").read_text()
    assert "imagined, of which a judge calls won" in page
    assert "6 (judged)" in page
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ends = {each["stage"]: each for each in told if each["ended"] and each["unit"] == "episodes"}
    assert [each["judged_success"] for name, each in ends.items() if name.endswith("collect")] == [1.0]
    assert all("judged_success" not in each for name, each in ends.items() if not name.endswith("collect"))

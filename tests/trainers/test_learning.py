"""The program behind docs/results.md: fair studies, claims that follow from intervals, a page of what is finished."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import lamps
import pytest

from palaestra.agents.conversation import Conversation
from palaestra.agents.export import read_episodes
from palaestra.agents.judge import question
from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policies.oracle import OraclePolicy, flawed
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.envs import find
from palaestra.envs.crafting.books import variation_of
from palaestra.trainers.chat_data import read_chats
from palaestra.trainers.improvement import Improvement
from palaestra.trainers.phases import Reflection
from palaestra.trainers.statistics import Interval
from palaestra.worldmodel.methods import CONTESTANTS

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import learning
import learning_page
import learning_start
import learning_studies
import learning_worlds
from learning_page import Claim, changes, checked, verdict


def interval(low: float, high: float) -> Interval:
    return Interval(mean=(low + high) / 2, low=low, high=high, clusters=3, level=0.95)


def test_no_contestant_trains_on_what_the_start_model_was_taught_and_nobody_on_what_is_measured() -> None:
    for name, study in learning.STUDIES.items():
        splits = find(study.env).splits
        train, taught = set(study.settings["tasks"]), set(learning.STUDIES[study.begins or name].taught)
        assert train
        assert taught
        assert train | taught <= set(splits["train"])
        assert not train & taught
        assert not train & {*study.judged, *study.attempted}
        assert set(study.attempted) <= set(splits["train"])
        assert set(study.mastered) <= train
        assert study.settings["evaluation"]["split"] != "train"
        assert study.names[0] == "rft"
    assert {name for study in learning.STUDIES.values() for name in study.names} == set(learning_studies.OURS)
    assert set(learning_studies.OURS) < set(CONTESTANTS)  # which has those of the world model


def test_experts_win_what_they_master_and_give_up_the_rest(tmp_path: Path) -> None:
    """Of eight tasks that take three commands and more, four of which are mastered: four faultless ways, and up to four
    that end after two commands."""
    near, distant = (learning_studies.crafting((depth,), range(4), ("bakery",)) for depth in (2, 4))
    settings, file = {"recipes": "theme", "max_steps": 16}, tmp_path / "experts.jsonl"
    learning_start.write_experts(
        learning_worlds.BAKERY, settings, [*near, *distant], 0.5, file, mastered=near, patience=2
    )
    found = {episode.start.task.name: episode for episode in read_episodes(file)}
    assert set(near) < set(found) <= {*near, *distant}
    for name, episode in found.items():
        commands = variation_of(episode.start.task).commands
        assert commands >= 3
        assert (len(episode.turns), episode.outcome) == ((commands, "success") if name in near else (2, "truncated"))


def test_attempts_that_a_start_model_is_shown_are_improved_by_the_oracle(tmp_path: Path) -> None:
    """Of each of two tasks two attempts, the oracle's way after each of them, told of it, and one told of nothing.

    A way after an attempt begins at the first turn, so that nothing of a lost attempt is among its actions.
    """
    tasks, file = learning_studies.crafting((2,), range(2), ("bakery",)), tmp_path / "attempts.jsonl"
    env = learning_worlds.BAKERY
    agent = flawed(OraclePolicy(find(env)), 0.9)
    learning_start.write_attempts(env, {"recipes": "theme", "max_steps": 12}, tasks, agent, Conversation(), 3, file)
    found = {episode.id: episode for episode in read_episodes(file)}
    improved = [episode for episode in found.values() if episode.start.note]
    rest = [episode for episode in found.values() if not episode.start.note]
    assert (len(improved), len(rest)) == (4, 6)
    assert all(episode.success and episode.start.fork_step == 0 for episode in improved)
    for episode in improved:
        attempt = found[str(episode.start.parent)]
        assert f"1. {attempt.turns[0].action} -> " in episode.start.note
        assert "Now improve on that attempt" in episode.start.note
        assert "\n4. " not in episode.start.note
    assert sum(episode.provenance.policy == OraclePolicy(find(env)).name for episode in rest) == 2


def test_what_is_held_out_in_the_bakery_is_no_training_task() -> None:
    """Nor is a target with the same things at the start, under another number."""

    def worlds(split: str) -> set[tuple[str, tuple[tuple[str, int], ...]]]:
        tasks = [task for task in find(learning_worlds.BAKERY).split(split) if task.name.startswith(("d2", "d3"))]
        return {(world.target, tuple(sorted(world.given.items()))) for world in map(variation_of, tasks)}

    held_out = worlds("dev")
    assert len(held_out) > 500
    assert not held_out & (worlds("train") | worlds("try"))


def test_goals_elsewhere_are_those_of_no_product_of_the_shelf() -> None:
    """Of the 1,000 numbers of the split, each once; the small shelf is a part of the large one."""
    numbers = range(500, 1500)
    small, large = (
        set(learning_worlds.shelved("dev", numbers, products=products))
        for products in (learning_worlds.SHELF, learning_worlds.ALL_SHELVES)
    )
    assert small < large
    others = learning_worlds.elsewhere("dev", numbers, products=learning_worlds.ALL_SHELVES)
    assert len(others) == len(numbers) - len(large)
    assert large | set(others) == {f"webshop-synthetic/{n}" for n in numbers}


def test_judgements_are_rehearsed_by_those_that_judge(tmp_path: Path) -> None:
    (tmp_path / "lamps").mkdir()
    (tmp_path / "lamps/judgements.jsonl").write_text("first\nsecond\nthird\n")
    study = learning.Study("Lamps", "Why.", "toy/Lamps-v0", (1, 1), (), 1, {}, rehearsed=2)
    told = learning.rehearsed(study, tmp_path, "lamps")
    assert set(told) == {"agent-r", "direct-revision", "textual-splice"}
    assert Path(told["agent-r"]["general"]).read_text() == "first\nsecond\n"
    assert learning.rehearsed(replace(study, rehearsed=0), tmp_path, "lamps") == {}


def test_a_claim_holds_only_if_the_whole_interval_says_so() -> None:
    assert verdict(interval(0.01, 0.2)) == "holds"
    assert verdict(interval(-0.2, -0.01)) == "the opposite holds"
    assert verdict(interval(-0.01, 0.3)) == "is not shown"


def test_what_improvements_add_is_the_change_of_score_task_by_task() -> None:
    """Task a goes from a mean of 0.25 over two attempts to 0.75, task b from 1 to 0.5; steps between do not count."""

    def after(k: int, **scores: tuple[float, ...]) -> Improvement:
        none = interval(0, 1)
        return Improvement(k=k, success=none, score=none, change=none, episodes=3, scores=scores)

    steps = [after(0, a=(0.0, 0.5), b=(1.0,)), after(1, a=(0.0, 0.0), b=(0.0,)), after(2, a=(0.5, 1.0), b=(0.5,))]
    assert changes(steps) == {"a": 0.5, "b": -0.5}
    assert changes([]) == {}


def test_judgements_are_counted_over_all_iterations(tmp_path: Path) -> None:
    for number, good in ((1, 2), (2, 1)):
        record = Reflection(good=(), splices=(), verdicts={"good": good, "bad": 1, "uncertain": 0})
        (tmp_path / f"iteration-{number}").mkdir()
        (tmp_path / f"iteration-{number}/reflection.json").write_text(record.model_dump_json())
    assert learning_page.own([tmp_path]) == "0 splices a seed, 0 accepted; judged 3 good, 2 bad"


def test_a_page_shows_as_many_runs_as_have_equal_seeds() -> None:
    """Of RFT three seeds, of EEF two, of GRPO one: four runs of two contestants are more than three runs of three; with
    another contestant's first seed it is four against four, and more seeds are preferred."""
    ends = {"rft-0", "rft-1", "rft-2", "eef-0", "eef-1", "grpo-0"}
    names = ["rft", "eef", "grpo", "exit"]
    assert learning.shown(names, ends) == (["rft", "eef"], 2)
    assert learning.shown(names, ends | {"exit-0"}) == (["rft", "eef"], 2)
    assert learning.shown(names, {"rft-0", "eef-0", "grpo-0", "rft-1"}) == (["rft", "eef", "grpo"], 1)
    assert learning.shown(names, {"rft-0", "rft-1"}) == ([], 0)
    assert learning.shown(names, {"eef-0", "grpo-0"}) == ([], 0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names = ["rft", "eef", "grpo", "exit"]
    settings = {
        "sampling": {"temperature": 1.0, "max_tokens": 12},
        "tasks": [f"two/{n}" for n in range(4)],
        "experts": {"oracle": "solve", "slip": 0.5},
        "budget": 16,
        "objective": {**learning_studies.FIT, "tokens": 1000, "micro_tokens": 2048},
        "evaluation": {"split": "test", "tasks": 6, "between": False, "recovery": True},
    }
    online = {**learning_studies.ONLINE, "group": 2}
    own = {"eef": {"states": 1}, "grpo": online, "exit": {**online, "embedder": None, "p": 0.0}}  # a single round
    study = learning.Study(
        "Lamps", "Why.", "toy/Lamps-v0", (400, 4), ("two/9", "two/10"), 2000, settings, own, tuple(names)
    )
    monkeypatch.setattr(learning, "STUDIES", {"lamps": study})
    monkeypatch.setattr(learning, "MODEL", {"hidden": 32, "layers": 1, "heads": 2})
    return names


def test_a_study_writes_the_page_with_every_seed_and_goes_on(tmp_path: Path, small: list[str]) -> None:
    docs = tmp_path / "results.md"
    learning.run_study("lamps", tmp_path / "out", [0], small, docs)
    first = docs.read_text()
    for said in (
        "## Lamps",
        "1 seed(s)",
        "| rft |",
        "| exit |",
        "score at k = 2",
        "wins from s_0",
        "groups a seed",
    ):
        assert said in first
    assert "At equal rollouts EEF beats RFT x (1+M): **" in first
    assert "ExIt beats GRPO on K-step improvement: **" in first
    assert "Agent-R beats" not in first  # which did not run
    assert lamps.Lamps.__name__ in first
    log = (tmp_path / "out/lamps/rft-0/log.jsonl").read_text()
    claim = Claim("x", "grpo", "exit", improving=True)
    (line,) = checked([claim], tmp_path / "out/lamps", small, 1)
    assert "change of score" in line
    learning.run_study("lamps", tmp_path / "out", [0, 1], small, docs)
    assert "2 seed(s)" in docs.read_text()
    assert (tmp_path / "out/lamps/rft-0/log.jsonl").read_text().count('"collect"') == log.count('"collect"')
    assert learning_page.page(["## A"], "Read this.").count("\n\n") == 3
    kept = docs.read_text()
    learning.write_page(tmp_path / "elsewhere", docs)  # where the runs behind the page are not
    assert docs.read_text() == kept


def test_what_a_start_model_is_told_to_judge_is_as_often_good_as_bad(tmp_path: Path) -> None:
    """A good action of the crafting world gets something that is still needed. Only the judgement has a weight, and
    whoever says the same of every action is right half of the time."""
    cases = learning_start.judged("palaestra/Crafting-v0", {"max_steps": 8}, ["d1/bakery-3", "d2/garden-4"], 10)
    said = [judgement for _, judgement in cases]
    assert 0 < said.count("Judgement: Good") == said.count("Judgement: Bad") <= 5
    for case, judgement in cases:
        assert (judgement == "Judgement: Good") == (case.turn.reward > 0)
        assert case.turn.action in question(case)[1]["content"]
    assert learning_start.rightly(cases, ScriptedPolicy(lambda request: "Judgement: Bad")) == 0.5
    template = HFPolicy(lamps.tiny(tmp_path / "tiny")).template
    learning_start.write_judgements(cases, tmp_path / "judgements.jsonl")
    chats = read_chats(str(tmp_path / "judgements.jsonl"), template, "train")
    for sample, judgement in zip(chats, said, strict=True):
        told = [id for id, weight in zip(sample.ids, sample.weights, strict=True) if weight]
        assert template.decode(told).startswith(judgement)

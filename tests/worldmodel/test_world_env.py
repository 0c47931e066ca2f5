"""The environment that a model imagines: the contract, the marks, and what becomes of a model that writes nonsense."""

from __future__ import annotations

import copy
import gc
import itertools
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rooms
from pydantic import ValidationError
from rooms import Draws, Writes, page, task, true_page, true_worth

from palaestra.agents.collect import TooManyFaults, collect
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import LISTED, Actor, Episode, Outcome, Provenance, Start
from palaestra.agents.export import read_episodes, write_episodes
from palaestra.agents.fork import parent_of, recorded_for
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policy import Completion, PolicyFault, Request
from palaestra.agents.search import Search, search
from palaestra.agents.store import EpisodeStore
from palaestra.envs import (
    BadInput,
    EnvFault,
    Fidelity,
    Recorded,
    ReplayDiverged,
    Reply,
    Task,
    TextEnv,
    find,
    make,
    specs,
)
from palaestra.envs.check import check
from palaestra.envs.code.oracle import steps
from palaestra.trainers.evaluate import evaluate, measured, summarise
from palaestra.trainers.expert_files import read_experts
from palaestra.worldmodel.bounded import bounded
from palaestra.worldmodel.branch import Branch
from palaestra.worldmodel.env import CUT, ID, Imagined, WorldModelEnv
from palaestra.worldmodel.judging import ModelJudge
from palaestra.worldmodel.page import Asked, PageFormat, Problem, Status
from palaestra.worldmodel.together import Together
from palaestra.worldmodel.transitions import transitions_of
from palaestra.worldmodel.world import LearnedWorld, RealWorld, World

FORM = PageFormat(actions=3)


def oracle(**more: object) -> LearnedWorld:
    """A world model that is always right, of text alone."""
    return LearnedWorld(Writes(true_page, "oracle"), FORM, judge=ModelJudge(Writes(true_worth)), **more)  # type: ignore[arg-type]


def imagined(world: LearnedWorld, **more: int) -> WorldModelEnv:
    return WorldModelEnv.of(world, "toy/Rooms-v0", **more)


def wish(pair: str) -> Task:
    return task(pair).model_copy(update={"env": ID})


def test_it_passes_the_check_and_rewinds_exactly() -> None:
    report = check(ID, fast=True, cycles=20)
    assert report.passed, str(report)
    assert report.fidelity is Fidelity.EXACT
    report = check(ID, settings={"env": "webshopsmall"}, fast=True, tasks=2, cycles=4)
    assert report.passed, str(report)


def test_the_real_environment_behind_the_interface_is_the_real_environment() -> None:
    rng = np.random.default_rng(0)
    real, other = make("crafting"), make("worldmodel")
    for number in range(3):
        wanted = real.tasks("train")[number]
        seen = real.reset(options={"task": wanted})
        same = other.reset(options={"task": wanted.name})
        for _ in range(30):
            assert (seen[0], seen[1]["score"], list(seen[1]["actions"])) == (
                *(same[0], same[1]["score"]),
                list(same[1]["actions"]),
            )
            action = str(rng.choice(list(seen[1]["actions"])))
            *answer, info = real.step(action)
            *again, told = other.step(action)
            assert [answer[0], *answer[2:]] == [again[0], *again[2:]]
            assert (info["success"], info["valid"]) == (told["success"], told["valid"])
            seen, same = (answer[0], info), (again[0], told)
            if answer[2]:
                break


def test_a_perfect_model_imagines_the_real_episode_and_a_judge_rewards_it() -> None:
    env = imagined(oracle())
    observation, info = env.reset(options={"task": wish("1-2")})
    assert (observation, info["imagined"], info["judged"], info["actions"]) == (page(1, 2), True, True, rooms.ACTIONS)
    observation, reward, over, _, info = env.step("jump")
    assert (observation, reward, over, info["valid"]) == ("There is no such way.", 0.0, False, False)
    env.step("right")
    before = env.snapshot()
    observation, reward, over, _, info = env.step("leave")
    assert (observation, reward, over, info["success"], info["score"]) == ("You are out.", 1.0, True, True, 1.0)
    assert env.restore(before)[0] == page(2, 2)
    env.step("left")
    *_, info = env.step("leave")
    assert (info["success"], info["score"]) == (False, 0.0)
    env.close()


def test_the_last_step_is_told_and_judged_though_nothing_ended() -> None:
    policy = Writes(true_page)
    env = imagined(LearnedWorld(policy, FORM, judge=ModelJudge(Writes(true_worth))), max_steps=2)
    env.reset(options={"task": wish("0-3")})
    env.step("right")
    assert "the last step" not in policy.asked[-1]
    _, reward, over, truncated, info = env.step("right")
    assert "This is the last step" in policy.asked[-1]
    assert (round(reward, 3), over, truncated, info["success"]) == (0.8, False, True, False)


NONSENSE = {
    Problem.MALFORMED: "bla bla",
    Problem.ENDLESS: Completion(f"{page(1, 2)}\n== going", finished=False),
    Problem.UNANSWERED: Completion("", error="the prompt is too long", too_long=True),
    Problem.STUCK: f"{page(1, 2)}\n== going",
}


@pytest.mark.parametrize("problem", list(Problem))
def test_a_model_that_writes_nonsense_is_cut_scored_zero_and_counted(problem: Problem) -> None:
    judge = ModelJudge(Writes(lambda _: "Score: 1.0"))
    world = LearnedWorld(Writes(lambda _: NONSENSE[problem]), judge=judge)
    env = imagined(world)
    env.reset(options={"task": wish("1-2")})
    while True:
        observation, reward, over, _, info = env.step("left")
        if over:
            break
    assert len(env.history) == (5 if problem is Problem.STUCK else 1)
    assert (observation, reward, info["score"], info["success"]) == (CUT[problem], 0.0, 0.0, False)
    assert info["problem"] == problem
    assert world.problems == {problem: 1}
    assert judge.calls == 0


@pytest.mark.parametrize("who", ["world", "judge"])
def test_a_model_that_is_gone_is_a_fault_and_no_page_and_no_score(who: str) -> None:
    gone, there = Writes(lambda _: Completion("", error="connection failed")), Writes(true_page)
    judge = ModelJudge(gone if who == "judge" else Writes(lambda _: "Score: 1.0"))
    world = LearnedWorld(gone if who == "world" else there, FORM, judge=judge)
    env = imagined(world, max_steps=1)
    env.reset(options={"task": wish("0-3")})
    with pytest.raises(PolicyFault, match=r"left 1 of 1 questions without an answer, asked 3 times; .* failed"):
        env.step("right")
    assert (judge.calls, judge.unreadable, world.problems) == (0, 0, {})


def test_the_first_repeat_of_a_page_that_is_too_long_to_be_shown_whole_counts() -> None:
    """The real page is longer than what the world model is shown and repeats."""
    form = PageFormat(max_page=20)
    shown = form.cut(page(1, 2))
    assert shown != page(1, 2)
    world = LearnedWorld(Writes(lambda _: f"{shown}\n== going"), form, max_same=2)
    env = imagined(world)
    env.reset(options={"task": wish("1-2")})
    assert env.step("left")[0] == shown
    assert env.step("left")[0] == CUT[Problem.STUCK]
    branch = Branch(task("1-2"), "", page(1, 2), (), page(1, 2))
    for problem in (None, Problem.STUCK):
        assert branch.problem is None
        branch.take("left", world.predict([branch.asked("left")])[0])
        assert branch.problem is problem


def told(write: Callable[[int], str], steps: int, max_steps: int | None = None) -> list[str | None]:
    """What is wrong after each step with what a world model writes as its first, second, ... page."""
    said = itertools.count(1)
    world = LearnedWorld(Writes(lambda _: write(next(said))), judge=ModelJudge(Writes(lambda _: "Score: 1.0")))
    env = WorldModelEnv.of(world, "toy/Rooms-v0", {"max_steps": max_steps} if max_steps else {})
    env.reset(options={"task": wish("1-2")})
    return [env.step(f"try {number}")[4].get("problem") for number in range(steps)]


def test_an_end_is_an_end_also_where_the_page_repeats() -> None:
    same = page(1, 2)
    assert told(lambda n: f"{same}\n== {'over' if n == 5 else 'refused'}", 5) == [None] * 5
    assert told(lambda n: f"{same}\n== refused", 5) == [None] * 4 + ["stuck"]


def test_two_pages_in_turn_are_no_way_on_either() -> None:
    assert told(lambda n: f"Door {n % 2}.\n== going", 11, 30) == [None] * 10 + ["stuck"]
    assert told(lambda n: f"Door {n % 3}.\n== going", 20, 30) == [None] * 20
    assert told(lambda n: f"Door {n}.\n== going", 20, 30) == [None] * 20


def test_one_phrase_over_and_over_is_no_page() -> None:
    assert told(lambda _: "bla bla " * 500 + "\n== over", 1) == ["stuck"]
    assert told(lambda _: "A page.\n" + "It goes on and on.\n" * 20 + "\n== going", 1) == ["stuck"]
    long = "\n".join(f"[{n}] button 'Buy now' for {n} dollars" for n in range(60))
    for fine in (
        "-" * 30 + "\nWhat there is to be read is longer than the line above it.",
        long,
        "a " * 19,
        " " * 99 + "x",
    ):
        assert told(lambda _, page=fine: f"{page}\n== going", 1) == [None]  # type: ignore[misc]


def test_a_page_may_be_empty_as_real_ones_are() -> None:
    for form in (PageFormat(), PageFormat(actions=2), PageFormat(rationale=True)):
        for empty in ("", "\n", "  "):
            found = form.read(form.write(empty, Status.GOING, ["wait"], "it is off"))
            assert (found.page, found.problem) == (empty, None)
    assert [PageFormat().read(text).problem for text in ("", "== over", "\n")] == [Problem.MALFORMED] * 3


def test_no_clock_ends_an_imagined_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the pages of all other episodes; what ends a page is the model's `max_tokens`."""
    monkeypatch.setattr("palaestra.agents.collect._USUAL", 0.05)
    waited = threading.Event()

    def slowly(prompt: str) -> str:
        waited.wait(0.5)
        return true_page(prompt)

    world = LearnedWorld(Writes(slowly), FORM, judge=ModelJudge(Writes(true_worth)))
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        plan: dict[str, Any] = {
            "env_factory": lambda _: imagined(world, max_steps=2),
            "progress": "quiet",
            "retries": 0,
        }
        report = collect([wish("0-3"), wish("0-2")], Draws(), store, **plan)
        assert (report.episodes, report.faults) == (2, 0)
        with pytest.raises(TooManyFaults, match="took longer than"):
            collect([wish("0-1")], Draws(), store, deadline=0.05, **plan)


def test_everything_made_there_is_marked_and_repeatable(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path / "episodes.sqlite")
    tasks = [wish(pair) for pair in rooms.PAIRS[:6]]
    report = collect(tasks, RandomPolicy(), store, progress="quiet", env_factory=lambda _: imagined(oracle()))
    assert report.episodes == 6
    for episode in store.episodes():
        assert episode.provenance.actor is Actor.IMAGINED
        assert (episode.labels["rewards"], episode.labels["acted_by"]) == ("judged", "policy")
        assert episode.start.task.env == ID
        assert episode.start.task.split == "train"
        assert transitions_of(store.path(episode.id)) == []
    again = collect(tasks, RandomPolicy(), store, progress="quiet", env_factory=lambda _: imagined(oracle()))
    assert (again.episodes, again.skipped) == (0, 6)
    (tree,) = search(
        [wish("0-2")], Draws(), store, Search(iterations=2, width=3, depth=4), env_factory=lambda _: imagined(oracle())
    ).trees
    assert tree.ends()
    assert {head.actor for head in store.heads()} == {Actor.IMAGINED}


def test_imagination_begins_on_a_real_page_and_goes_on_from_there() -> None:
    policy = Writes(true_page)
    world = LearnedWorld(policy, FORM, judge=ModelJudge(Writes(true_worth)))
    pages = [page(0, 3), page(1, 3), page(2, 3), page(1, 3), page(2, 3), page(1, 3), page(2, 3)]
    way = ["right", "right", "left", "right", "left", "right"]
    env = imagined(world, max_steps=3)
    observation, info = env.replay(wish("0-3"), way[:2], pages[:3])
    assert (observation, info["score"], info["actions"], policy.asked) == (page(2, 3), 0.0, rooms.ACTIONS, [])
    after_two = env.snapshot()
    assert env.step("right")[0] == page(3, 3)
    told = [f"Task: {page(0, 3)}", "Done: right", "Done: right", f"Page: {page(2, 3)}", "Action: right"]
    assert policy.asked == ["\n".join(told)]
    *_, over, truncated, info = env.step("leave")
    assert (over, truncated, info["score"], info["success"]) == (True, False, 1.0, True)
    other = imagined(world, max_steps=3)
    other.restore(after_two)
    cut = [other.step("left")[3] for _ in range(3)]
    assert (cut, other.history) == ([False, False, True], ("right", "right", "left", "left", "left"))
    other.replay(wish("0-3"), way, pages)
    assert [other.step("left")[3] for _ in range(2)] == [False, True]  # a real episode has eight steps
    other.reset(options={"task": wish("0-3")})
    assert [other.step("left")[3] for _ in range(3)] == [False, False, True]


def test_without_a_limit_of_its_own_a_task_has_the_real_one() -> None:
    class ByTask(rooms.Rooms):
        def step_cap(self, task: Task) -> int | None:
            return 2 if task.name.startswith("0") else 5

    env = imagined(oracle())
    env._inner = ByTask()
    env._inner.registration = find("toy/Rooms-v0")
    for pair, cap in (("0-3", 2), ("1-3", 5)):
        assert env.step_cap(wish(pair)) == cap
        env.reset(options={"task": wish(pair)})
        assert [env.step("left" if n % 3 else "right")[3] for n in range(cap)] == [False] * (cap - 1) + [True]
    env.max_steps = 3
    assert [env.step_cap(wish(pair)) for pair in ("0-3", "1-3")] == [2, 3]


@pytest.mark.parametrize("real", [True, False])
def test_a_limit_above_the_real_one_goes_on_no_longer_than_the_real_environment(real: bool) -> None:
    """At the start, after a real fork, and where the limit is a protocol's."""
    given = {"max_steps": 3}
    world = RealWorld("toy/Rooms-v0", given) if real else oracle()
    env = WorldModelEnv.of(world, "toy/Rooms-v0", given, max_steps=7)
    assert env.step_cap(wish("0-3")) == 3
    env.reset(options={"task": wish("0-3")})
    ends = [env.step("right")[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    assert not env._going().success
    env.replay(wish("0-3"), ["right", "right"], [page(at, 3) for at in range(3)])
    assert env.step("right")[2:4] == (False, True)
    webshop = make("worldmodel", env="webshop", env_settings={"protocol": "eto"}, max_steps=1000)
    limit = make("webshop", protocol="eto").max_steps
    assert limit is not None
    assert webshop.step_cap(Task(env=ID, name="1", split="train")) == limit < 1000


def test_what_an_environment_judges_at_its_step_limit_is_judged_behind_the_interface_too() -> None:
    """Code that is never submitted: at the real limit, at a lower one that was asked for, and after a fork."""
    name, whole = "palaestra/CodeTasks-v0", make("codetasks")
    start = whole.tasks("train")[0]
    whole.reset(options={"task": start})
    *way, submit = steps(whole.state.problem)
    assert submit == "submit"
    assert len(way) > 1

    def ends(env: TextEnv[Any], wanted: Task, seen: Sequence[str] = ()) -> list[object]:
        env.reset(options={"task": wanted})
        if seen:
            env.replay(wanted, way[:1], seen)
        found: list[object] = []
        for action in way[len(seen[1:]) :]:
            page, _, over, cut, info = env.step(action)
            found.append((page, over, cut, info["score"], info["success"]))
        env.close()
        return found

    cap = {"max_steps": len(way)}
    real = ends(make(name, **cap), start)
    assert [each[1:] for each in real][-1:] == [(False, True, 1.0, True)]  # type: ignore[index]
    mine = start.model_copy(update={"env": ID})
    assert ends(make("worldmodel", env=name, env_settings=cap), mine) == real
    assert ends(make("worldmodel", env=name, **cap), mine) == real
    first = [whole.reset(options={"task": start})[0], whole.step(way[0])[0]]
    assert ends(make("worldmodel", env=name, env_settings=cap), mine, first) == real[1:]
    assert ends(make("worldmodel", env=name, max_steps=len(way) - 1), mine, first) == real[1:]  # counted from there
    seen = [first[0], *(str(page) for page, *_ in real)]  # type: ignore[misc]
    (found,) = RealWorld(name, cap).predict([Asked(start, "", seen[0], tuple(way[:-1]), seen[-2], way[-1])])
    assert (found.page, found.score, found.success) == (seen[-1], 1.0, True)  # as look-ahead asks it
    with pytest.raises(BadInput, match=f"ends after {len(way)} steps in the real environment behind imagination"):
        RealWorld(name, cap).predict([Asked(start, "", seen[0], tuple(way), seen[-1], submit)])
    whole.close()


def test_where_the_pages_are_not_real_they_are_imagined_again() -> None:
    policy = Writes(lambda prompt: true_page(prompt).replace("room", "chamber"))
    world = LearnedWorld(policy, FORM, judge=ModelJudge(Writes(true_worth)))
    env, seen = imagined(world, max_steps=3), [page(0, 3), page(1, 3).replace("room", "chamber")]
    assert env.replay(wish("0-3"), ["right"], seen)[0] == seen[1]
    assert len(policy.asked) == 1
    assert [env.step("left")[3] for _ in range(2)] == [False, True]
    for pages in ([page(0, 3), "Nowhere."], [page(0, 4), page(1, 4)]):
        with pytest.raises(ReplayDiverged):
            imagined(world).replay(wish("0-3"), ["right"], pages)
    real = WorldModelEnv.of(RealWorld("toy/Rooms-v0"), "toy/Rooms-v0", max_steps=2)
    real.replay(wish("0-3"), ["right", "right", "right"], [page(at, 3) for at in range(4)])
    *_, over, _, info = real.step("leave")
    assert (over, info["score"], info["success"]) == (True, 1.0, True)


def test_a_fork_of_a_real_episode_may_be_imagined_and_says_nothing_of_it(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path / "episodes.sqlite")
    collect([task("0-3")], Draws(("right",)), store, progress="quiet", max_turns=4)
    (parent,) = store.episodes()
    start = parent.fork(2).model_copy(update={"task": wish("0-3")})
    there: dict[str, Any] = {"progress": "quiet", "env_factory": lambda _: imagined(oracle(), max_steps=2)}
    for _ in range(2):
        collect([start], Draws(("left", "leave")), store, samples=3, **there)
    made = list(store.episodes(actor="imagined"))
    assert len(made) == 3
    for episode in made:
        path = store.path(episode.id)
        assert (episode.start, path.own, path.actions[:2]) == (start, 2, ("right", "right"))
        assert path.observations()[:3] == [page(0, 3), page(1, 3), page(2, 3)]
        assert episode.provenance.actor is Actor.IMAGINED
        assert transitions_of(path) == []
    assert store.wins(parent) == {}  # as if nobody had gone on from the middle
    assert store.wins(start)[2].tries == 3
    with pytest.raises(BadInput, match="its parent's task is toy/Rooms-v0:train:0-3"):
        collect([parent.fork(3).model_copy(update={"task": wish("0-4")})], Draws(), store, **there)
    real = Start(task=task("0-3"), parent=made[0].id, fork_step=2)  # what is real never begins in what is not
    with pytest.raises(BadInput, match="its parent's task is palaestra/WorldModel-v0"):
        collect([real], Draws(), store, progress="quiet")
    with pytest.raises(BadInput, match=f"its parent {made[0].id} has palaestra/WorldModel-v0"):
        store.add(parent.model_copy(update={"id": "0" * 16, "start": real}))


FORKS = """
import itertools, json, sys

import rooms
from palaestra.agents.collect import collect
from palaestra.agents.store import EpisodeStore
from palaestra.worldmodel.env import ID, WorldModelEnv
from palaestra.worldmodel.judging import ModelJudge
from palaestra.worldmodel.page import PageFormat
from palaestra.worldmodel.world import LearnedWorld

file, name = sys.argv[1:]
said = itertools.count(1)  # it never writes the same again
writes = rooms.Writes(lambda _: f"{name} {next(said)}.\\n== actions\\nleft\\nright\\n== going", "varies")
judge = ModelJudge(rooms.Writes(lambda _: "Score: 0.5"))
env = lambda _: WorldModelEnv.of(LearnedWorld(writes, PageFormat(actions=3), judge=judge), "toy/Rooms-v0", max_steps=6)
with EpisodeStore(file) as store:
    begins = [parent.fork(step) for parent in store.episodes() for step in (3, 5)]
    begins = begins or [rooms.task("0-3").model_copy(update={"env": ID})]
    report = collect(begins, rooms.Draws(("left", "right")), store, env_factory=env, progress="quiet", retries=0)
    made = [list(store.path(e.id).observations()) for e in store.episodes() if name in e.final_observation]
    print(json.dumps([report.faults, report.replayed_steps, made, writes.asked]))
"""


@pytest.mark.parametrize("imported", [False, True])
def test_a_fork_of_an_imagined_episode_takes_its_pages_as_they_are_recorded(tmp_path: Path, imported: bool) -> None:
    """In a new process and from a model that writes something else now: nothing before the fork is asked for again."""

    def run(name: str, store: str = "episodes.sqlite") -> list[Any]:
        there = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(rooms.__file__).parent), *sys.path])}
        asked = [sys.executable, "-c", FORKS, str(tmp_path / store), name]
        done = subprocess.run(asked, env=there, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: list[Any] = json.loads(done.stdout)
        return found

    faults, replayed, (whole,), prompts = run("one")
    assert (faults, replayed, len(prompts)) == (0, 0, 6)
    assert whole == [page(0, 3), *(f"one {number}." for number in range(1, 7))]
    if imported:
        with EpisodeStore(tmp_path / "episodes.sqlite") as store, EpisodeStore(tmp_path / "other.sqlite") as other:
            write_episodes(store.episodes(), tmp_path / "all.parquet")
            other.add_all(read_episodes(tmp_path / "all.parquet"))
    faults, replayed, forks, prompts = run("two", "other.sqlite" if imported else "episodes.sqlite")
    assert (faults, replayed) == (0, 0)
    assert sorted(prompt.count("Done: ") for prompt in prompts) == [3, 4, 5, 5]
    shared = [sum(text in whole for text in pages) for pages in forks]
    assert sorted(shared) == [4, 6]
    for pages, count in zip(forks, shared, strict=True):
        assert pages[:count] == whole[:count]
        assert all(text.startswith("two ") for text in pages[count:])


class Watched(WorldModelEnv):
    """Remembers where it stood after every step."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.stood: list[tuple[Imagined, int | None, float]] = []

    def step(self, action: str) -> Any:
        answer = super().step(action)
        self.stood.append((copy.deepcopy(self.state), self.max_steps, self.score))
        return answer


def odd() -> LearnedWorld:
    """Its pages have half a surrogate pair, are longer than a model is shown, and never come again."""
    said = itertools.count(1)
    pages = Writes(
        lambda _: f"\ud800 {next(said)} " + " ".join(map(str, range(1000))) + "\n== actions\n\udfff\nleft\n== going",
        "odd",
    )
    return LearnedWorld(pages, FORM, judge=ModelJudge(Writes(lambda _: "Score: 0.5")), max_same=2)


@pytest.mark.parametrize("make_world", [oracle, odd, lambda: RealWorld("toy/Rooms-v0")], ids=["true", "odd", "real"])
@pytest.mark.parametrize("before", [0, 2], ids=["task", "fork"])
def test_the_records_of_an_imagined_step_are_all_of_it(
    tmp_path: Path, make_world: Callable[[], World], before: int
) -> None:
    """From any store that they came to: what was imagined is what is stored, and is not asked for again."""
    (tmp_path / "here").mkdir()
    with EpisodeStore(tmp_path / "here/made.sqlite") as store:
        begin: Task | Start = wish("0-3")
        if before:
            collect([task("0-3")], Draws(("right",)), store, progress="quiet", max_turns=4)
            begin = next(store.episodes()).fork(before).model_copy(update={"task": wish("0-3")})
        world = make_world()
        env = Watched.of(world, "toy/Rooms-v0", max_steps=5)
        long = "left" + " " * 3000
        report = collect([begin], Draws(("left", "right", long)), store, env_factory=lambda _: env, progress="quiet")
        assert (report.episodes, report.faults) == (1, 0)
        (episode,) = store.episodes(actor="imagined")
        assert len(episode.turns) == 5
        write_episodes(store.episodes(), tmp_path / "all.jsonl")
    asked = len(world.policy.asked) if isinstance(world, LearnedWorld) else 0  # type: ignore[attr-defined]
    with EpisodeStore(tmp_path / "there.sqlite") as store:
        store.add_all(read_episodes(tmp_path / "all.jsonl"))
        for step in range(before + 1, before + 5):
            start = episode.fork(step)
            path = parent_of(start, store)
            recorded = recorded_for(start, path, store)
            assert recorded is not None
            assert recorded.real == before
            for same in (True, False):  # as if by another world model: then its real pages are looked at
                other = WorldModelEnv.of(world, "toy/Rooms-v0", max_steps=5)
                pages = path.observations()[: step + 1]
                assert other.recall(start.task, path.actions[:step], pages, recorded, same=same)[0] == pages[-1]
                assert (other.state, other.max_steps, other.score) == env.stood[step - before - 1]
        if isinstance(world, LearnedWorld):
            assert len(world.policy.asked) == asked  # type: ignore[attr-defined]
        start = episode.fork(before + 3)
        report = collect([start], Draws(), store, env_factory=lambda _: Watched.of(world, "toy/Rooms-v0", max_steps=5))
        assert (report.episodes, report.faults) == (1, 0)
        (fork,) = store.episodes(parent=episode.id)
        assert 1 <= len(fork.turns) <= 2


def test_a_fork_that_the_records_do_not_lead_to_is_refused_in_one_line(tmp_path: Path) -> None:
    there: dict[str, Any] = {"env_factory": lambda _: imagined(oracle(), max_steps=5), "progress": "quiet"}
    with EpisodeStore(tmp_path / "made.sqlite") as store:
        collect([wish("0-3")], Draws(("left", "right")), store, **there)
        (episode,) = store.episodes()
    plain = {name: value for name, value in episode.labels.items() if name != LISTED}
    (first, *rest) = episode.turns
    elsewhere = (first.model_copy(update={"observation": page(1, 3)}), *rest)
    other = episode.provenance.model_copy(update={"env_fingerprint": "of another world model"})
    for changed, error, why in (
        ({"labels": plain}, BadInput, "nothing says which actions were listed"),
        ({"labels": {**plain, LISTED: [7]}}, BadInput, "nothing says which actions were listed"),
        ({"turns": elsewhere, "provenance": other}, TooManyFaults, "diverged at step 0"),
    ):
        with EpisodeStore(tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite") as store:
            store.add(episode.model_copy(update=changed))  # type: ignore[arg-type]
            with pytest.raises(error, match=why) as said:
                collect([episode.fork(3)], Draws(), store, retries=0, max_fault_rate=0.0, min_faults=1, **there)
            assert "\n" not in str(said.value)
    with pytest.raises(BadInput, match="imagines nothing"):
        make("toy/Rooms-v0").recall(task("0-3"), (), (page(0, 3),), Recorded(0), same=True)


def test_experts_of_an_imagined_environment_are_taken_as_they_were_imagined(tmp_path: Path) -> None:
    """A model that would write something else now is not asked; what nobody could go on from is left out."""
    said = itertools.count(1)
    writes = Writes(lambda _: f"Page {next(said)}.\n== actions\nleft\nright\n== going", "varies")
    world = LearnedWorld(writes, FORM, judge=ModelJudge(Writes(lambda _: "Score: 1.0")))
    with EpisodeStore(tmp_path / "made.sqlite") as store:
        tasks, env = [wish("0-3"), wish("1-3"), wish("2-3")], imagined(world, max_steps=4)
        collect(tasks, Draws(("left", "right")), store, env_factory=lambda _: env, progress="quiet")
        whole, bare, moved = store.episodes(order="task")
        asked = len(writes.asked)
    bare = bare.model_copy(update={"labels": {n: v for n, v in bare.labels.items() if n != LISTED}})
    first = moved.turns[0].model_copy(update={"observation": "Elsewhere."})
    moved = moved.model_copy(update={"turns": (first, *moved.turns[1:])})
    write_episodes([whole, bare, moved], tmp_path / "experts.jsonl")
    how: dict[str, Any] = {"splits": ("train",), "allowed": {each.id for each in tasks}, "score": None}
    taken, wrong = read_experts(
        tmp_path / "experts.jsonl", find(ID), env, conversation=Conversation(), replay=True, **how
    )
    assert taken == [whole]
    assert "does not hold which actions were listed" in wrong[0]
    assert "at turn 1 the environment says 'You are in room 2." in wrong[1]
    assert len(writes.asked) == asked > 0


def test_no_episode_of_it_can_be_made_unmarked(tmp_path: Path) -> None:
    provenance = Provenance(actor=Actor.POLICY, policy="p")
    with pytest.raises(ValidationError, match="imagined, so the actor must be 'imagined'"):
        Episode(id="x", start=Start(task=wish("0-1")), turns=(), outcome=Outcome.SUCCESS, provenance=provenance)
    marked = provenance.model_copy(update={"actor": Actor.IMAGINED})
    made = Episode(id="x", start=Start(task=wish("0-1")), turns=(), outcome=Outcome.SUCCESS, provenance=marked)
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        with pytest.raises(BadInput, match="so its actor must be 'imagined'"):
            store.add_all([made.model_copy(update={"provenance": provenance})])
        assert len(list(store.episodes())) == 0


def test_imagined_episodes_never_enter_an_evaluation(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path / "episodes.sqlite")
    with pytest.raises(BadInput, match="imagined; an evaluation needs the real environment"):
        evaluate(ID, RandomPolicy(), store, progress="quiet")
    with pytest.raises(BadInput, match="imagined; an evaluation needs the real environment"):
        evaluate("toy/Rooms-v0", RandomPolicy(), store, progress="quiet", env_factory=lambda _: imagined(oracle()))
    assert len(store) == 0
    real = evaluate("toy/Rooms-v0", RandomPolicy(), store, tasks=2, progress="quiet")
    (episode, *_) = store.episodes()
    made_up = episode.model_copy(update={"provenance": episode.provenance.model_copy(update={"actor": Actor.IMAGINED})})
    chosen = [episode.start.task]
    with pytest.raises(BadInput, match="an imagined episode is no measure of anything"):
        summarise("x", chosen, {chosen[0].id: [made_up]}, 1, real.card, "task", 0.0)


def test_imagined_episodes_are_nobodys_experts(tmp_path: Path) -> None:
    """Neither as they are nor under the real environment's name, not even unreplayed."""
    store = EpisodeStore(tmp_path / "episodes.sqlite")
    world = imagined(LearnedWorld(Writes(lambda _: "You are out.\n== over"), judge=ModelJudge(Writes(true_worth))))
    collect([wish("0-3")], Draws(), store, progress="quiet", env_factory=lambda _: world)
    (made_up,) = store.episodes()
    assert made_up.success
    renamed = made_up.model_copy(update={"start": Start(task=task("0-3"))})
    real = make("toy/Rooms-v0")
    allowed = {each.id for each in real.tasks("train")}
    for number, (episode, why) in enumerate(((made_up, f"is of {ID}"), (renamed, "was imagined"))):
        file = tmp_path / f"{number}.jsonl"
        write_episodes([episode], file)
        with pytest.raises(BadInput, match=why):
            read_experts(
                file,
                find("toy/Rooms-v0"),
                real,
                splits=("train",),
                allowed=allowed,
                conversation=Conversation(),
                score=None,
                replay=False,
            )


def test_a_recipe_that_trains_there_is_measured_in_the_real_environment() -> None:
    env = imagined(oracle())
    where = measured(find(ID), env, {}, None)
    assert (where.spec.id, where.settings, where.factory) == ("toy/Rooms-v0", {}, None)
    where.check(None)
    real = make("toy/Rooms-v0")
    assert measured(find("toy/Rooms-v0"), real, {"a": 1}, None).settings == {"a": 1}


def test_bad_input_is_told_in_one_line() -> None:
    with pytest.raises(BadInput, match="imagined itself"):
        make("worldmodel", env="worldmodel")
    with pytest.raises(BadInput, match="holds no world model"):
        make("worldmodel", model="nowhere").reset(seed=0)
    with pytest.raises(BadInput, match="belongs to toy/Rooms-v0"):
        imagined(oracle()).reset(options={"task": task("0-1")})
    assert specs()[ID].imagined
    assert not specs()["palaestra/Crafting-v0"].imagined


def test_what_threads_ask_at_once_goes_to_the_model_together() -> None:
    begun, go = threading.Event(), threading.Event()
    sizes: list[int] = []

    def act(requests: Sequence[Request]) -> list[Completion]:
        sizes.append(len(requests))
        begun.set()
        go.wait(10)
        return [Completion(str(request.seed)) for request in requests]

    together, told = Together(), dict[int, str]()

    def ask(number: int) -> None:
        told[number] = together.ask([Request((), seed=number)], act)[0].text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(together._waiting) < 5:
        pass
    go.set()
    for thread in threads:
        thread.join(10)
    assert sizes == [1, 5]
    assert told == {number: str(number) for number in range(6)}

    def fails(requests: Sequence[Request]) -> list[Completion]:
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        Together().ask([Request(())], fails)


def test_a_world_leaves_memory_with_its_last_use() -> None:
    world, judge = oracle(), ModelJudge(Writes(true_worth))
    policies = [weakref.ref(world.policy), weakref.ref(judge.policy)]
    gc.disable()
    try:
        del world, judge
        assert [policy() for policy in policies] == [None, None]
    finally:
        gc.enable()


def test_the_real_world_goes_anywhere_and_remembers_where_it_was() -> None:
    world = RealWorld("crafting")
    (start,) = make("crafting").tasks("train")[:1]
    env = make("crafting")
    pages, actions = [env.reset(options={"task": start})[0]], list[str]()
    rng = np.random.default_rng(1)
    for _ in range(8):
        action = str(rng.choice([each for each in env.admissible(env.state) if each.startswith("get")]))
        wanted, _, _, _, info = env.step(action)
        (found,) = world.predict([Asked(start, "", pages[0], tuple(actions), pages[-1], action)])
        assert (found.page, found.score) == (wanted, info["score"])
        actions.append(action)
        pages.append(wanted)
    assert (world.calls, world.replayed) == (8, 0)
    (found,) = world.predict([Asked(start, "", pages[0], tuple(actions[:3]), pages[3], actions[3])])
    assert (world.calls, world.replayed) == (9, 0)


def test_where_going_back_is_starting_again_no_step_is_taken_twice() -> None:
    class StartsAgain(rooms.Rooms):
        fidelity = Fidelity.REPLAY

    made = StartsAgain()
    world = RealWorld("toy/Rooms-v0", factory=lambda _: made)
    start = task("1-4")

    def ahead(*actions: str) -> tuple[str, int, int]:
        at = 1
        for action in actions[:-1]:
            at = rooms.step(at, 4, action)[0]
        (found,) = world.predict([Asked(start, "", page(1, 4), actions[:-1], page(at, 4), actions[-1])])
        return found.page, world.calls, world.replayed

    assert ahead("right", "right") == (page(3, 4), 1, 1)
    assert ahead("right", "left") == (page(1, 4), 2, 2)
    assert ahead("right", "right") == (page(3, 4), 2, 2)  # remembered: the instance stands elsewhere, and stays there
    assert ahead("right", "left", "left") == (page(0, 4), 3, 2)  # it goes on from where it stands
    world.close()
    assert ahead("right", "right") == (page(3, 4), 4, 3)


def test_a_real_world_that_does_not_come_back_is_no_world_to_look_ahead_in() -> None:
    class Drifts(rooms.Rooms):
        """Every start is elsewhere, and the page alone tells."""

        fidelity = Fidelity.REPLAY

        def begin(self, task: Task, rng: np.random.Generator) -> tuple[rooms.State, str]:
            state, _ = super().begin(task, rng)
            state.at = next(starts)
            return state, page(state.at, state.exit)

    starts, start = itertools.cycle(range(3)), task("0-3")
    world = RealWorld("toy/Rooms-v0", factory=lambda _: Drifts())
    with pytest.raises(ReplayDiverged, match=r"step 1: expected 'You are in room 3.*got 'You are in room 1"):
        world.predict([Asked(start, "", page(2, 3), ("right",), page(3, 3), "leave")])
    (found,) = world.predict([Asked(start, "", page(0, 3), ("right",), page(1, 3), "right")])  # there it stands
    assert found.page == page(2, 3)
    with pytest.raises(ReplayDiverged, match="diverged at step 0"):
        world.predict([Asked(start, "", page(0, 3), (), page(0, 3), "right")])


class Hangs(rooms.Rooms):
    """Hangs in a step, or in a reset, until it is aborted; the next one does not."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at, self.freed = at, threading.Event()

    def _hang(self, here: str) -> None:
        if here == self.at and not self.freed.is_set():
            assert self.freed.wait(60), "nobody aborted it"
            raise EnvFault("it was aborted")

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[rooms.State, str]:
        self._hang("reset")
        return super().begin(task, rng)

    def act(self, state: rooms.State, action: str) -> Reply:
        self._hang("step")
        return super().act(state, action)

    def abort(self) -> None:
        self.freed.set()


@pytest.mark.parametrize("at", ["reset", "step"])
def test_a_real_world_that_hangs_is_a_fault_and_goes_on_after_it(at: str) -> None:
    """Nobody else ends it: a collection has no deadline for imagined steps."""
    world, start = RealWorld("toy/Rooms-v0", factory=lambda _: Hangs(at), deadline=0.05), task("0-3")
    asked = Asked(start, "", page(0, 3), (), page(0, 3), "right")
    with pytest.raises(EnvFault, match="it was aborted"):
        world.predict([asked])
    (found,) = world.predict([asked])
    assert found.page == page(1, 3)


def test_an_imagined_episode_whose_real_first_page_hangs_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palaestra.worldmodel.env.bounded", partial(bounded, seconds=0.05))
    hangs = Hangs("reset")
    hangs.registration = find("toy/Rooms-v0")

    def made(_: str) -> WorldModelEnv:
        env = imagined(oracle(), max_steps=2)
        env._inner = hangs
        return env

    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        report = collect([wish("0-3")], Draws(), store, env_factory=made, progress="quiet", retries=1)
    assert (report.episodes, report.faults) == (1, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"env": 5}, "named by a text"),
        ({"env": []}, "named by a text"),
        ({"env": ID}, "imagined itself"),
        ({"env_settings": 5}, "'env_settings' are settings by name"),
        ({"env_settings": [1]}, "'env_settings' are settings by name"),
        ({"env_settings": "abc"}, "'env_settings' are settings by name"),
        ({"env_settings": {1: 1}}, "'env_settings' are settings by name"),
        ({"env_settings": {"colour": 1}}, "has no setting 'colour'"),
        ({"env_settings": {"max_steps": "x"}}, "max_steps must be at least 1"),
        ({"model": 5}, "folders, given as texts"),
        ({"judge": {}}, "folders, given as texts"),
        ({"model": "nowhere"}, "holds no world model"),
        ({"model": "w" * 5000}, "too long"),
    ],
)
def test_an_odd_setting_is_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as said:
        make("worldmodel", **settings)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("wrong", [{"max_tokens": -5}, {"temperature": -1.0}, {"temperature": "nan"}, {"page": 5}])
def test_a_card_that_nothing_can_be_asked_by_is_one_line(tmp_path: Path, wrong: dict[str, Any]) -> None:
    card = {
        "env": "palaestra/Crafting-v0",
        "env_settings": {},
        "env_fingerprint": "some",
        "page": {},
        "max_tokens": 64,
        "temperature": 0.0,
        "judges": True,
        "transitions": 1,
        "tasks": [],
        "seed": 0,
        "held_out": 0.2,
    }
    (tmp_path / "world.json").write_text(json.dumps(card))
    make("worldmodel", model=str(tmp_path)).close()
    (tmp_path / "world.json").write_text(json.dumps(card | wrong))
    with pytest.raises(BadInput, match=f"world.json cannot be read .{next(iter(wrong))}: "):
        make("worldmodel", model=str(tmp_path))


def test_an_instance_of_the_real_environment_may_be_given() -> None:
    begun: list[str] = []

    class Own(rooms.Rooms):
        def begin(self, task: Task, rng: np.random.Generator) -> Any:
            begun.append(task.name)
            return super().begin(task, rng)

    inner = Own()
    inner.registration = find("toy/Rooms-v0")
    world = LearnedWorld(Writes(true_page), PageFormat(actions=3), judge=ModelJudge(Writes(true_worth)))
    env = WorldModelEnv.of(world, "toy/Rooms-v0", inner=inner)
    page, _ = env.reset(options={"task": env.tasks("train")[0]})
    assert begun == [env.tasks("train")[0].name]
    assert page == rooms.page(0, 0)
    env.close()

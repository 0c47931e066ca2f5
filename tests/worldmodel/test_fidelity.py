"""How good a world model is: perfect, copying, babbling and stopping ones get the figures that they deserve."""

from __future__ import annotations

import re

import pytest
import rooms
from rooms import Draws, Writes, task, true_page, true_worth

from palaestra.agents.collect import collect
from palaestra.agents.policy import Completion
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, make
from palaestra.trainers.statistics import Interval
from palaestra.worldmodel.fidelity import Fidelity, Horizon, fidelity, similarity, trusted_horizon
from palaestra.worldmodel.judging import ModelJudge
from palaestra.worldmodel.page import PageFormat, Problem, Status
from palaestra.worldmodel.report import _measures
from palaestra.worldmodel.transitions import Transition, transitions_of
from palaestra.worldmodel.world import LearnedWorld, RealWorld, World

FORM = PageFormat(actions=3)
TOLD = {task(pair).id: rooms.Rooms.__doc__ or "" for pair in rooms.PAIRS}


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> list[list[Transition]]:
    env = make("toy/Rooms-v0")
    with EpisodeStore(tmp_path_factory.mktemp("fidelity") / "episodes.sqlite") as store:
        collect(
            [task(pair) for pair in rooms.PAIRS],
            Draws(("left", "right", "left", "right", "leave", "fly")),
            store,
            progress="quiet",
        )
        return [transitions_of(path, env, FORM) for path in store.paths()]


def measured(world: World, episodes: list[list[Transition]], judge: ModelJudge | None = None) -> Fidelity:
    return fidelity(world, episodes, TOLD, env="toy/Rooms-v0", judge=judge, origins=9)


def learned(policy: Writes) -> LearnedWorld:
    return LearnedWorld(policy, FORM, judge=ModelJudge(Writes(true_worth)))


def test_a_gain_below_zero_is_reported_as_it_is(episodes: list[list[Transition]]) -> None:
    report = measured(learned(Writes(lambda _: "fog\n== actions\nleft\n== going")), episodes)
    gain = report.horizons[0].gain
    assert gain.mean < gain.high < 0
    drawn = "".join(_measures(report))
    assert f"1: {gain.mean:.3f} [{gain.low:.3f}, {gain.high:.3f}]" in drawn


def test_a_perfect_world_model_is_perfect_at_every_horizon(episodes: list[list[Transition]]) -> None:
    for world in (learned(Writes(true_page)), RealWorld("toy/Rooms-v0")):
        report = measured(world, episodes)
        assert [row.steps for row in report.horizons] == [1, 2, 3, 4, 5]
        assert report.horizons[0].count == sum(len(steps) for steps in episodes)
        for row in report.horizons:
            assert (row.exact.mean, row.similarity.mean, row.ending.mean, row.cut) == (1.0, 1.0, 1.0, 0)
            assert row.actions is not None
            assert row.actions.mean == 1.0
            assert row.reward is not None
            assert row.reward.mean == 1.0
            assert row.copying.mean < 1.0
        assert report.trusted == 5
        assert (report.episodes, report.tasks, report.problems) == (25, 25, {})
        assert "| 5 | " in report.markdown()


def test_actions_agree_where_any_are_listed_and_an_end_lists_none(episodes: list[list[Transition]]) -> None:
    """One of three is listed on every page but on ends: a third everywhere, however many of the pages are ends."""

    def first(prompt: str) -> str:
        return true_page(prompt).replace("\nright", "").replace("\nleave", "")

    ends = [step for steps in episodes for step in steps if step.actions == ()]
    assert ends
    assert {len(step.actions or ()) for steps in episodes for step in steps} == {0, 3}
    for row in measured(learned(Writes(first)), episodes).horizons:
        assert row.actions is not None
        assert (row.ending.mean, row.actions.mean) == (1.0, pytest.approx(1 / 3))


def test_repeating_the_page_is_worth_what_copying_is_and_is_never_trusted(episodes: list[list[Transition]]) -> None:
    def same(prompt: str) -> str:
        seen = re.findall("^(?:Page|Task): (.*)$", prompt, re.MULTILINE)[-1]
        return f"{seen}\n== actions\nleft\n== going"

    report = measured(learned(Writes(same)), episodes)
    first = report.horizons[0]
    assert first.similarity == first.copying
    assert 0 < first.exact.mean < 0.5
    assert first.actions is not None
    assert first.actions.mean < 0.5
    assert report.trusted == 0
    assert report.problems == {Problem.STUCK: report.horizons[4].cut}  # the fifth page in a row is one too many


@pytest.mark.parametrize(
    ("answer", "problem"), [("bla", Problem.MALFORMED), (Completion("bla\n== going", finished=False), Problem.ENDLESS)]
)
def test_nonsense_scores_zero_everywhere_and_is_counted(
    episodes: list[list[Transition]], answer: str | Completion, problem: Problem
) -> None:
    report = measured(learned(Writes(lambda _: answer)), episodes)
    for row in report.horizons:
        assert row.cut == row.count
        assert (row.exact.mean, row.similarity.mean, row.ending.mean) == (0.0, 0.0, 0.0)
    assert report.problems == {problem: report.horizons[0].count}  # cut once, and not asked again
    assert report.trusted == 0


def test_an_end_that_was_none_loses_all_that_came_after_it(episodes: list[list[Transition]]) -> None:
    ending = learned(Writes(lambda prompt: re.sub("(going|refused)$", "over", true_page(prompt))))
    report = measured(ending, episodes)
    assert report.horizons[0].exact.mean == 1.0
    assert report.horizons[0].ending.mean < 1.0
    for row in report.horizons[1:]:
        assert (row.exact.mean, row.cut) == (0.0, row.count)
    assert report.trusted == 1


def test_a_judge_that_says_no_number_agrees_with_losses_only(episodes: list[list[Transition]]) -> None:
    silent = ModelJudge(Writes(lambda _: "hm"))
    report = measured(learned(Writes(true_page)), episodes, silent)
    won = {steps[0].episode for steps in episodes if steps[-1].success}
    ended = {steps[0].episode for steps in episodes if steps[-1].status == "over"}
    first = report.horizons[0].reward
    assert first is not None
    assert first.mean == pytest.approx(1 - len(won) / len(ended))
    assert report.unreadable == silent.calls > 0


def test_without_an_episode_there_is_nothing_to_measure() -> None:
    with pytest.raises(BadInput, match="no held-out episode"):
        measured(learned(Writes(true_page)), [])


def test_similarity_counts_words_and_signs() -> None:
    assert similarity("a b c d", "a b c d") == 1.0
    assert similarity("a b c d", "a b x d") == 0.75
    assert similarity("one.", "two!") == 0.0
    assert similarity("", "") == 1.0


@pytest.mark.parametrize(
    ("lows", "copying", "wanted"),
    [
        ((0.9, 0.6, 0.4), 0.3, 2),
        ((0.9, 0.4, 0.9), 0.3, 1),
        ((0.4, 0.9, 0.9), 0.3, 0),
        ((0.9, 0.8, 0.7), 0.75, 2),
        ((0.9, 0.8, 0.7), 0.95, 0),
        ((), 0.1, 0),
    ],
)
def test_the_trusted_horizon_ends_where_a_step_is_not_good_enough(
    lows: tuple[float, ...], copying: float, wanted: int
) -> None:
    def at(mean: float) -> Interval:
        return Interval(mean=mean, low=mean, high=1.0, clusters=9)

    rows = [
        Horizon(
            steps=number,
            count=9,
            cut=0,
            exact=at(0.1),
            similarity=at(low),
            copying=at(copying),
            gain=at(low - copying),
            actions=None,
            ending=at(1.0),
            reward=None,
        )
        for number, low in enumerate(lows, 1)
    ]
    assert trusted_horizon(rows, 0.5) == wanted


def test_an_imagined_page_is_shown_again_as_it_was_written() -> None:
    """A page of 200 characters is cut to 90 and stays as it is: who repeats what was shown is right at every step."""
    page = "".join(f"Room {number:02d}. " for number in range(22))
    steps = [
        Transition(
            task=task("1-3"),
            episode="e",
            step=step,
            first=page,
            done=("wait",) * step,
            page=page,
            action="wait",
            next=page,
            status=Status.GOING,
            score=0.0,
            success=False,
            worth=0.0,
        )
        for step in range(4)
    ]
    repeats = Writes(lambda prompt: re.findall("^(?:Page|Task): (.*)$", prompt, re.MULTILINE)[-1] + "\n== going")
    world = LearnedWorld(repeats, PageFormat(max_page=90))
    report = fidelity(world, [steps], TOLD, env="toy/Rooms-v0")
    assert [(row.steps, row.exact.mean) for row in report.horizons] == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)]

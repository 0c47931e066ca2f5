"""What a judge is told, how its answer is read, and what is marked as its word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rooms import Draws, Writes, page, task, true_worth

from palaestra.agents.collect import collect
from palaestra.agents.episode import Actor
from palaestra.agents.export import import_conversations
from palaestra.agents.played import Played
from palaestra.agents.policy import Completion
from palaestra.agents.store import EpisodeStore
from palaestra.cli import run
from palaestra.envs import BadInput, Task, make
from palaestra.viewer.table import Shown
from palaestra.worldmodel.env import ID, WorldModelEnv
from palaestra.worldmodel.judging import _RULES, Case, Judge, ModelJudge, TrueScore, question, reading, verdict
from palaestra.worldmodel.page import PageFormat
from palaestra.worldmodel.world import LearnedWorld, RealWorld, World

OUT = LearnedWorld(Writes(lambda _: "You are out.\n== over"), judge=ModelJudge(Writes(true_worth)))


def test_a_judge_of_actions_is_not_shown_the_page_that_they_led_to() -> None:
    case = Case(task("0-1"), "", page(0, 1), ("right", "leave"), "You are out.", True)
    shown, hidden = (question(case, PageFormat(judged=what))[-1]["content"] for what in ("page", "actions"))
    lines = [f"Task: {page(0, 1)}", "Done: right", "Done: leave", "Page: You are out.", "The episode is over."]
    assert shown == "\n".join(lines)
    assert hidden == "\n".join(line for line in lines if not line.startswith("Page"))


def test_a_judge_of_actions_is_shown_all_of_them_as_far_as_they_fit() -> None:
    done = tuple(f"buy {number}" for number in range(20))
    case, form = Case(task("0-1"), "", page(0, 1), done, page(0, 1), True), PageFormat(judged="actions", history=3)
    lines = str(question(case, form)[-1]["content"]).splitlines()
    assert [line for line in lines if line.startswith("Done: ")] == [f"Done: {action}" for action in done]
    assert str(question(case, PageFormat(history=3))[-1]["content"]).count("Done: ") == 3

    def window(most: int) -> tuple[list[float], list[int], ModelJudge]:
        """What a judge says that takes so many lines, and how many actions it was shown each time."""

        def write(prompt: str) -> Completion:
            return (
                Completion("", error="too long", too_long=True)
                if prompt.count("\n") >= most
                else Completion("Score: 0.5")
            )

        policy = Writes(write)
        judge = ModelJudge(policy, form)
        said = judge.rate([case, Case(case.task, "", case.first, done[:4], case.page, True)])
        return said, [prompt.count("Done: ") for prompt in policy.asked], judge

    for most, said, asked, unreadable in (
        (30, [0.5, 0.5], [20, 4], 0),
        (9, [0.5, 0.5], [20, 4, 10, 5], 0),
        (5, [0.5, 0.5], [20, 4, 10, 2, 5, 2], 0),
        (1, [0.0, 0.0], [20, 4, 10, 2, 5, 1, 2, 0, 1, 0], 2),
    ):
        rated, counts, judge = window(most)
        assert (rated, counts) == (said, asked)
        assert (judge.calls, judge.unreadable) == (2, unreadable)


def test_a_judge_is_read_by_its_last_number() -> None:
    assert [reading(t) for t in ("Score: 1.0", "score: .5 but\nScore: 0.25", "Score: **1**", "none", "")] == [
        *(1.0, 0.25, 1.0, None),
        None,
    ]
    judge = ModelJudge(Writes(lambda _: "I do not know"))
    case = Case(task("0-1"), "", page(0, 1), (), page(0, 1), False)
    assert judge.rate([case, case]) == [0.0, 0.0]
    assert judge.unreadable == 2
    with pytest.raises(BadInput, match="knows no true score"):
        TrueScore().rate([case])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(
            ("Score: 1.0.", 1.0),
            ("**Score:** 0.5", 0.5),
            ("Score: (0.5)", 0.5),
            ("Score:\n1.0", 1.0),
            ("Score: 0.97", 0.97),
        ),
        *(("Score: 0.5 Score: 1.0", 1.0), ("Score: **1.0**.", 1.0), ("Score: 0.5\nThat is all.", 0.5)),
        *(("`Score: 1.0`\r\n", 1.0), ('"Score": "0.5".', None), ("Score: 1.0 - it is done", None)),
        *((text, None) for text in ("Score: 1 (out of 10)", "Score: 1 to 10", "Score: 1:10", "Score: 1 in 10")),
        *((text, None) for text in ("Score: 1 on a scale from 1 to 10", "Score: 1 point of 10", "Score: 1.0 or 0.0")),
        *((text, None) for text in ("Score: 1 \u2212 5", "Score: 1\n/10", f"Score: {_RULES.partition('number: ')[2]}")),
        *((text, None) for text in ("Score: 10", "Score: 100", "Score: 2", "Score: 1.5", "Score: 05", "Score: 0.5.1")),
        *((text, None) for text in ("Score: -1", "Score: -0.5", "Score: \u22121", "Score: 0.5-1.0", "Score: 1e-3")),
        *((text, None) for text in ("Score: 15%", "Score: 1 %", "Score: 1 percent", "Score: 0,5", "Score: 1,0")),
        *((text, None) for text in ("Score: 1/10", "Score: 10/100", "Score: **1**/10", "Score: 1 out of 10")),
        ("Score: 0.5, no,\nScore: 10", None),
    ],
)
def test_only_a_number_of_the_scale_is_read(text: str, number: float | None) -> None:
    assert reading(text) == number
    judge = ModelJudge(Writes(lambda _: text))
    assert judge.rate([Case(task("0-1"), "", page(0, 1), (), page(0, 1), True)]) == [number or 0.0]
    assert judge.unreadable == (number is None)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It is on the way.\nScore: 1", None),  # of 10, perhaps
        ("Score: 1\n", 1.0),
        ("Score: 0.5\nAnd then it wr", 0.5),
        ("Score: 0.5\nScore: 1", 0.5),
    ],
)
def test_of_an_answer_that_was_cut_the_last_line_does_not_count(text: str, number: float | None) -> None:
    judge = ModelJudge(Writes(lambda _: Completion(text, finished=False)))
    assert judge.rate([Case(task("0-1"), "", page(0, 1), (), page(0, 1), True)]) == [number or 0.0]
    assert judge.unreadable == (number is None)


def test_what_failed_is_never_taught_as_solved() -> None:
    for score in (0.0, 0.04, 0.5, 0.9, 0.95, 0.96, 0.999, 1.0):
        assert abs((reading(verdict(score, False)) or 0.0) - min(score, 0.9)) < 0.051
        assert reading(verdict(score, False)) != 1.0
    assert reading(verdict(1.0, True)) == 1.0


@pytest.mark.parametrize(
    ("world", "judge", "judged"),
    [
        (RealWorld("toy/Rooms-v0"), None, False),
        (RealWorld("toy/Rooms-v0"), ModelJudge(Writes(true_worth)), True),
        (OUT, None, True),
    ],
)
def test_who_judged_says_the_mark(tmp_path: Path, world: World, judge: Judge | None, judged: bool) -> None:
    wanted = task("0-0").model_copy(update={"env": ID})

    def made(_: str) -> WorldModelEnv:
        return WorldModelEnv.of(world, "toy/Rooms-v0", judge=judge)

    rewards = "judged" if judged else "true"
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        collect([wanted], Draws(("leave",)), store, progress="quiet", env_factory=made)
        played = Played(made(""), wanted)
        played.act("leave")
        human = played.save(store)
        assert human is not None
        for episode, who in ((human, "human"), (next(store.episodes(policy="draws")), "policy")):
            assert (episode.provenance.actor, episode.success) == (Actor.IMAGINED, True)
            assert episode.labels == {"acted_by": who, "rewards": rewards}
        real = Played(make("toy/Rooms-v0"), task("0-0"))
        real.act("leave")
        stored = real.save(store)
        assert stored is not None
        assert stored.labels == {}


def test_what_a_judge_says_is_in_no_summary_or_table_of_real_rewards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        collect([task("0-0")], Draws(("right",)), store, progress="quiet", max_turns=2)
        wanted = [task(pair).model_copy(update={"env": ID}) for pair in ("0-0", "0-1")]
        sure = LearnedWorld(OUT.policy, judge=ModelJudge(Writes(lambda _: "Score: 1.0")))
        collect(wanted, Draws(), store, progress="quiet", env_factory=lambda _: WorldModelEnv.of(sure, "toy/Rooms-v0"))
        found = store.summary()
        assert (found.episodes, found.outcomes, found.imagined) == (3, {"truncated": 1}, {"success": 2})
    with Shown(tmp_path / "episodes.sqlite") as shown:
        for order in ("success", "-success", "name"):
            rows, _ = shown.tasks(order, 0, 10)
            mixed, dreamt = rows
            assert (mixed.name, mixed.episodes, mixed.imagined) == ("0-0/train", 2, 1)
            assert (mixed.success, mixed.score, mixed.best) == (0.0, 0.0, 0.0)
            assert (dreamt.imagined, dreamt.success, dreamt.score, dreamt.best) == (1, None, None, None)
        assert shown.spark(5) == [0.0]
    assert run(["show", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "3 of 3 episodes (1 truncated; imagined: 2 success); 0 faults" in said
    assert said.count("(imagined)") == 2


def test_chats_of_imagined_episodes_say_so_and_are_nobodys_experts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who imagined them need not be there any more: what the agent was told is the real environment's."""
    store, file = tmp_path / "episodes.sqlite", tmp_path / "chats.jsonl"
    settings = {"env": "toy/Rooms-v0", "model": "gone 1", "judge": "gone 2", "max_steps": 3}
    with EpisodeStore(store) as opened:
        collect([task("0-0")], Draws(("leave",)), opened, progress="quiet")
        collect(
            [task("0-1").model_copy(update={"env": ID})],
            Draws(),
            opened,
            progress="quiet",
            env_settings=settings,
            env_factory=lambda _: WorldModelEnv.of(OUT, "toy/Rooms-v0", settings=settings),
        )
    assert run(["export", str(tmp_path), str(file), "--form", "messages", "--quiet"]) == 0
    capsys.readouterr()
    real, imagined = map(json.loads, file.read_text().splitlines())
    assert real["messages"][0] == imagined["messages"][0]  # the same rules
    assert ("imagined" in real, imagined["imagined"], imagined["rewards"]) == (False, True, "judged")

    def named(record: dict[str, Any]) -> Task:
        return Task.model_validate({**record["task"], "env": "toy/Rooms-v0"})

    with EpisodeStore(tmp_path / "read.sqlite") as opened:
        for naming in (None, named):
            with pytest.raises(BadInput, match="line 2: what happens there was imagined"):
                import_conversations(opened, file, naming=naming)
        assert len(opened) == 0

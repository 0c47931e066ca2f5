"""Evaluation: held-out tasks only, figures that can be checked, a card that tells what may be compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lamps
import pytest

from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.policy import Completion, PolicyBase, Request
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, EnvFault, Task, TextEnv, find, make
from palaestra.trainers.evaluate import Evaluation, choose_tasks, compare, evaluate, step_cap, summarise, usual_split
from palaestra.trainers.report import Round
from palaestra.trainers.report_tables import cells


class Always(PolicyBase):
    """Answers the same, whatever it sees."""

    def __init__(self, action: str) -> None:
        super().__init__(name=f"always {action}")
        self.action = action

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        return [Completion(self.action, action=self.action) for _ in requests]


def measured(store: EpisodeStore, policy: Any, **more: Any) -> Evaluation:
    return evaluate("toy/Lamps-v0", policy, store, **{"progress": "quiet", **more})


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with EpisodeStore(tmp_path / "episodes.sqlite") as opened:
        yield opened


def test_training_tasks_are_refused_and_nothing_is_run(store: EpisodeStore) -> None:
    with pytest.raises(BadInput, match=r"'train' is the training split .* never happens on training tasks"):
        measured(store, Always("press red"), split="train")
    with pytest.raises(BadInput, match="has no task 'two/3'"):  # a training task by its name
        measured(store, Always("press red"), tasks=["two/3"])
    assert len(store) == 0


def test_the_figures_are_those_of_the_tasks(store: EpisodeStore) -> None:
    env = make("toy/Lamps-v0")
    rights = []
    for task in env.tasks("test"):
        env.reset(options={"task": task})
        rights.append(sum(colour == "red" for colour in env.state.lamps))
    found = measured(store, Always("press red"))
    assert found.success.mean == pytest.approx(sum(right == 2 for right in rights) / 24)
    assert found.score.mean == pytest.approx(sum(rights) / 48)
    assert (found.episodes, found.missing, found.steps) == (24, 0, 2.0)
    assert (found.invalid, found.repeated) == (0.0, 0.5)  # of two actions the second repeats the first
    assert found.outcomes == {"success": rights.count(2), "failure": 24 - rights.count(2)}
    assert [row.scores for row in found.tasks] == [(right / 2,) for right in rights]


def test_invalid_actions_and_the_step_cap_are_counted(store: EpisodeStore) -> None:
    found = measured(store, Always("sing"), tasks=3)
    assert (found.invalid, found.steps, found.outcomes) == (1.0, 4.0, {"truncated": 3})
    assert found.card.step_cap == 4
    assert found.out_of_context == 0


def test_episodes_that_ran_out_of_context_are_counted_and_shown(store: EpisodeStore) -> None:
    card = measured(store, Always("sing"), tasks=3).card
    first, *rest = store.episodes()
    short = first.model_copy(update={"labels": {"truncated_by": "context"}})
    tasks = [episode.start.task for episode in (short, *rest)]
    by_task = {episode.start.task.id: [episode] for episode in (short, *rest)}
    found = summarise("sing", tasks, by_task, 3, card, "task", 0.0)
    assert (found.out_of_context, found.outcomes) == (1, {"truncated": 3})
    assert "3 (1 out of context)" in cells(Round(1, found))


class Uneven(lamps.Lamps):
    """Every task has a step cap of its own."""

    def step_cap(self, task: Task) -> int:
        return 10 + int(task.name.split("/")[1])


def test_a_step_cap_that_differs_by_task_is_told_as_such() -> None:
    tasks = make("toy/Lamps-v0").tasks("test")
    assert step_cap(Uneven(), tasks) == "30 to 53, by task"
    assert step_cap(Uneven(), tasks[:1]) == 30
    assert step_cap(lamps.Lamps(), tasks) is None


def test_evaluating_again_runs_nothing_again_and_gives_the_same(store: EpisodeStore) -> None:
    first = measured(store, OraclePolicy("toy/Lamps-v0"), samples=2)
    count = len(store)
    again = measured(store, OraclePolicy("toy/Lamps-v0"), samples=2)
    assert len(store) == count == 48
    assert again.model_copy(update={"minutes": 0}) == first.model_copy(update={"minutes": 0})
    measured(store, OraclePolicy("toy/Lamps-v0"), samples=2, env_settings={"max_steps": 3})
    assert len(store) == 96  # another step cap is another evaluation


class Repainted(lamps.Lamps):
    """The same environment after its data changed."""

    def fingerprint(self) -> str:
        return "lamps of another make"


def repainted(env_id: str) -> TextEnv[Any]:
    env = Repainted()
    env.registration, env.max_steps = find(env_id), 4
    return env


def test_episodes_of_an_environment_that_has_changed_are_not_taken_again(store: EpisodeStore) -> None:
    before = measured(store, OraclePolicy("toy/Lamps-v0"), tasks=3)
    after = measured(store, OraclePolicy("toy/Lamps-v0"), tasks=3, env_factory=repainted)
    assert len(store) == 6
    assert after.card.env_fingerprint == "lamps of another make"
    with pytest.raises(BadInput, match="differ in env_fingerprint"):
        compare(before, after)


def test_episodes_of_an_environment_that_differs_where_they_are_played_give_no_figure(store: EpisodeStore) -> None:
    made: list[TextEnv[Any]] = []

    def differing(env_id: str) -> TextEnv[Any]:
        made.append(repainted(env_id) if made else make(env_id))
        return made[-1]

    with pytest.raises(BadInput, match="played with env_fingerprint='lamps of another make', and here it is"):
        measured(store, OraclePolicy("toy/Lamps-v0"), tasks=3, env_factory=differing)


def test_the_card_says_what_was_measured(store: EpisodeStore) -> None:
    card = measured(store, OraclePolicy("toy/Lamps-v0"), tasks=5, seed=7, command="palaestra eval").card
    env = make("toy/Lamps-v0")
    assert (card.env, card.split, card.split_tasks, card.tasks) == ("toy/Lamps-v0", "test", 24, 5)
    assert card.env_fingerprint == env.fingerprint()
    assert card.instructions == "Press the button of the lamp's colour."
    assert (card.seed, card.policy, card.actor, card.faults) == (7, "oracle:solve", "expert", 0)
    text = card.markdown()
    for expected in ("| split | test |", "| step cap | 4 |", "faults are excluded", "| command | palaestra eval |"):
        assert expected in text
    shown = next(line for line in card.markdown(names=2).splitlines() if "| task names" in line)
    assert shown == f"| task names | 5 tasks: {', '.join(card.task_names[:2])}, ... |"


def test_paired_differences_are_task_by_task_and_refuse_what_is_not_comparable(store: EpisodeStore) -> None:
    poor, good = measured(store, Always("press red")), measured(store, OraclePolicy("toy/Lamps-v0"))
    found = compare(poor, good)
    assert found.success.mean == pytest.approx(1 - poor.success.mean)
    assert 0 < found.success.low <= found.success.mean <= found.success.high <= 1
    assert found.tasks == 24
    with pytest.raises(BadInput, match="their cards differ in task_names"):
        compare(poor, measured(store, OraclePolicy("toy/Lamps-v0"), tasks=3))
    with pytest.raises(BadInput, match="their cards differ in samples"):
        compare(poor, measured(store, OraclePolicy("toy/Lamps-v0"), samples=2))
    assert found.also_differ == ()
    warm = good.model_copy(update={"card": good.card.model_copy(update={"sampling": {"temperature": 1.0}})})
    assert compare(poor, warm).also_differ == ("sampling",)
    told = good.card.model_copy(update={"instructions": "Press green first."})
    assert good.card.comparable(told) == ["instructions"]


class Broken(lamps.Lamps):
    """Breaks on every task whose number is odd."""

    def begin(self, task: Task, rng: Any) -> Any:
        if int(task.name.split("/")[1]) % 2:
            raise EnvFault("the lamp burst")
        return super().begin(task, rng)


def broken(env_id: str) -> TextEnv[Any]:
    env = Broken()
    env.registration, env.max_steps = find(env_id), 4
    return env


def test_faults_are_left_out_and_counted_and_never_a_zero(store: EpisodeStore) -> None:
    from palaestra.agents.collect import TooManyFaults

    with pytest.raises(TooManyFaults):
        measured(store, OraclePolicy("toy/Lamps-v0"), env_factory=broken)
    names = [f"two/{n}" for n in (20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 21)]
    found = measured(store, OraclePolicy("toy/Lamps-v0"), tasks=names, env_factory=broken, seed=1)
    assert (found.success.mean, found.episodes, found.missing) == (1.0, 12, 1)
    assert found.card.faults == 3  # the first attempt and two retries
    assert [row.scores for row in found.tasks][-1] == ()


def test_a_number_of_tasks_is_spread_over_the_types() -> None:
    tasks = [Task(env="e", name=f"{kind}/{n}", split="test") for kind in ("boil", "melt", "grow") for n in range(10)]
    names = [task.name for task in choose_tasks(tasks, 5, "here")]
    assert names == ["boil/0", "melt/0", "grow/0", "boil/1", "melt/1"]
    assert [task.name for task in choose_tasks(tasks, ["melt", "grow/3"], "here")] == [
        *(f"melt/{n}" for n in range(10)),
        "grow/3",
    ]
    for wanted, says in ((0, "at least 1"), (["fry"], "no task 'fry'"), ([], "has no tasks")):
        with pytest.raises(BadInput, match=says):
            choose_tasks(tasks, wanted, "here")


def test_unknown_names_are_told(store: EpisodeStore) -> None:
    with pytest.raises(BadInput, match="no split 'exam'; it has: train, test"):
        measured(store, Always("x"), split="exam")
    with pytest.raises(BadInput, match="no evaluation protocol 'eto'"):
        measured(store, Always("x"), protocol="eto")
    with pytest.raises(BadInput, match="unknown cluster 'zzz'; intervals can draw: task, type"):
        measured(store, Always("x"), cluster="zzz")
    assert len(store) == 0


def test_without_a_split_the_test_split_is_measured_or_else_the_last_held_out_one() -> None:
    class Splits:
        def __init__(self, *names: str) -> None:
            self.names = names

        def splits(self) -> tuple[str, ...]:
            return self.names

    def chosen(*names: str) -> str:
        return usual_split(Splits(*names))  # type: ignore[arg-type]

    assert chosen("train", "test", "test_unseen") == "test"
    assert chosen("train", "valid_seen", "valid_unseen") == "valid_unseen"
    assert chosen("test") == "test"

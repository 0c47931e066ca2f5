"""HumanEval, MBPP and the package's own tasks: all there, and solved by their canonical solutions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from palaestra.agents.collect import collect
from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.store import EpisodeStore
from palaestra.envs import Task, find, make
from palaestra.envs.code import SHELL_TASKS, TASKS, folder, mbpp
from palaestra.envs.code.env import python_in
from palaestra.trainers.evaluate import training_splits


def solved(env_id: str, tasks: Iterable[Task], where: Any, **settings: Any) -> tuple[int, list[str]]:
    """How many tasks the oracle solves, and the names of those that it does not."""
    with EpisodeStore(where / "episodes.sqlite") as store:
        chosen = list(tasks)
        collect(chosen, OraclePolicy(env_id), store, env_settings=settings, progress="quiet", deadline=120.0)
        wins = [episode.start.task.name for episode in store.episodes() if episode.success]
    return len(wins), sorted({task.name for task in chosen} - set(wins))


def test_humaneval_is_solved_164_of_164(tmp_path: Any) -> None:
    assert solved("palaestra/HumanEval-v0", find("humaneval").split("test"), tmp_path) == (164, [])


def test_every_fifteenth_problem_of_mbpp_is_solved_and_the_odd_ones(tmp_path: Any) -> None:
    spec = find("mbpp")
    everything = [task for split in spec.splits for task in spec.split(split)]
    odd = {f"MBPP/{number}" for number in (126, 367, 927)}  # named like a builtin; objects of the solution's own
    chosen = [task for index, task in enumerate(everything) if index % 15 == 0 or task.name in odd]
    assert odd <= {task.name for task in chosen}
    assert solved(spec.id, chosen, tmp_path) == (len(chosen), [])


@pytest.mark.parametrize("name", ["codetasks", "shell"])
def test_our_own_tasks_are_solved(name: str, tmp_path: Any) -> None:
    spec = find(name)
    tasks = [task for split in spec.splits for task in spec.split(split)]
    assert solved(spec.id, tasks, tmp_path) == (len(tasks), [])


@pytest.mark.parametrize(("name", "splits"), [("tasks", TASKS), ("shell_tasks", SHELL_TASKS)])
def test_the_names_that_are_registered_are_those_of_the_files(name: str, splits: dict[str, tuple[str, ...]]) -> None:
    assert dict(folder.own(name).splits) == splits


def test_no_task_of_our_own_passes_as_it_stands(tmp_path: Any) -> None:
    for name in ("codetasks", "shell"):
        env = make(name, timeout=1.0)
        for split in env.splits():
            for task in env.tasks(split):
                env.reset(options={"task": task})
                assert not env.step("submit")[4]["success"], task.id
        env.close()


def test_splits_are_the_official_ones() -> None:
    sizes = {name: {split: len(names) for split, names in find(name).splits.items()} for name in ("mbpp", "humaneval")}
    assert sizes["mbpp"] == {"train": 374, "validation": 90, "test": 500, "prompt": 10}
    assert sizes["humaneval"] == {"test": 164}
    assert {split: len(names) for split, names in mbpp.splits(True).items()} == {
        "train": 120,
        "validation": 43,
        "test": 257,
        "prompt": 7,
    }
    assert find("mbppsanitized").split("test")[0].name in mbpp.problems(True)


def test_humaneval_has_nothing_to_train_on() -> None:
    assert training_splits(make("humaneval")) == ()
    assert training_splits(make("mbpp")) == ("train",)


def test_the_first_assert_of_mbpp_is_shown_and_the_others_are_hidden() -> None:
    env = make("mbpp")
    text, info = env.reset(options={"task": "MBPP/11"})
    told = text + env.instructions(info["task"])
    first, *others = env.state.problem.hidden
    assert first in told
    assert not any(test in told for test in others)
    env.close()


# -- the protocol `single`: one answer holds the whole solution ------------------------------------------------------


def test_single_is_one_answer(tmp_path: Any) -> None:
    spec = find("humaneval")
    assert solved(spec.id, spec.split("test")[::40], tmp_path, protocol="single") == (5, [])
    env = make("humaneval", protocol="single")
    task = spec.split("test")[0]
    assert env.step_cap(task) == 1
    env.reset(options={"task": task})
    _, _, over, truncated, info = env.step("I do not know.")
    assert (over, truncated, info["score"]) == (True, False, 0.0)
    env.close()


@pytest.mark.parametrize(
    "answer",
    [
        "    return sum(1 for letter in string if letter in 'aeiou')\n",
        "return len(string)",
        "```python\ndef strlen(string: str) -> int:\n    return len(string)\n```",
        "Sure:\n```\n    return len(string)\n```\nIt counts.",
        "def strlen(string):\n    return len(string)",
    ],
)
def test_single_takes_the_answers_that_models_give(answer: str) -> None:
    env = make("humaneval", protocol="single")
    env.reset(options={"task": "HumanEval/23"})  # the length of a text
    assert env.step(answer)[4]["success"] == ("len(" in answer)
    env.close()


def test_single_mbpp_shows_all_asserts_as_the_field_does() -> None:
    env = make("mbpp", protocol="single")
    text, _ = env.reset(options={"task": "MBPP/11"})
    assert all(test in text for test in env.state.problem.hidden)
    env.close()


def test_of_several_blocks_the_one_with_the_function_counts() -> None:
    answer = "```\nf(2)\n```\nor\n```python\ndef f(n): return n\n```\n```\nprint('a much longer block ' * 20)\n```"
    assert python_in(answer, "f") == "def f(n): return n\n"
    assert python_in("def f(n): return n", "f") == "def f(n): return n"

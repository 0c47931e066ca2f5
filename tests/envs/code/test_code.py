"""Coding in many turns: what the agent sees, what it scores, and that every step can be gone back to."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from palaestra.agents.collect import collect
from palaestra.agents.episode import Outcome, Start
from palaestra.agents.policies.named import policy_by_name
from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, EnvFault, Task, TextEnv, find, make
from palaestra.envs.code.env import LONGEST_OBSERVATION, Coding
from palaestra.envs.errors import NoOracle

RIGHT = "```python\ndef double(n): return n * 2\n```"
HALF = "```python\ndef double(n): return int(n) * 2\n```"
ID = "palaestra/CodeTasks-v0"


@pytest.fixture
def env(folder: Callable[..., str]) -> Iterator[TextEnv[Any]]:
    """The task `double` in a sandbox, begun."""
    made = make("codetasks", folder=folder())
    made.reset(options={"task": "double"})
    yield made
    made.close()


def test_an_episode_write_run_test_submit(env: TextEnv[Any]) -> None:
    text, info = env.reset(options={"task": "double"})
    assert "Write double(n)" in text
    assert "assert double(2) == 4" in text
    assert "double(-3)" not in text + env.instructions(info["task"])
    assert env.step(HALF)[0] == "wrote solution.py (1 line)\nNext: test or submit."
    assert env.step("run python3 -c 'import solution; print(solution.double(4.5))'")[0] == "8"
    assert env.step("test")[0] == "1 of 1 visible examples pass."
    text, reward, over, truncated, info = env.step("submit")
    assert (text, over, truncated) == ("2 of 3 hidden tests pass.", True, False)
    assert (info["score"], reward, info["success"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3), False)


def test_success_is_that_all_hidden_tests_pass(env: TextEnv[Any]) -> None:
    text, _, over, _, info = env.step(RIGHT + "\nsubmit")
    assert (text, over, info["score"], info["success"]) == (
        "wrote solution.py (1 line)\nAll 3 hidden tests pass.".replace("All 3", "3 of 3"),
        True,
        1.0,
        True,
    )


def test_a_file_that_python_cannot_read_is_told_at_once(env: TextEnv[Any]) -> None:
    text, *_, info = env.step("```\ndef double(n:\n    return n\n```")
    assert text.startswith('wrote solution.py (2 lines)\n  File "solution.py", line 1\n')
    assert "SyntaxError: '(' was never closed" in text
    assert info["valid"]
    assert "SyntaxError" not in env.step("write notes.txt\n```\ndef (\n```")[0]


def test_a_failed_example_says_what_came_instead(env: TextEnv[Any]) -> None:
    text = env.step("```\ndef double(n): return n + 1\n```\ntest")[0]
    assert text.splitlines()[1:] == ["0 of 1 visible examples pass.", "failed: assert double(2) == 4", "got 3"]
    text = env.step("```\ndef double(n): return 1 / 0\n```\ntest")[0]
    assert '  File "solution.py", line 1, in double\n    def double(n): return 1 / 0\n' in text
    assert text.endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("fly", "'fly' is no action"),
        ("write ../a.py\n```\n1\n```", "../a.py"),
        ("write /etc/passwd\n```\n1\n```", "/etc/passwd"),
        ("read nothing.txt", "nothing.txt"),
        ("write .\n```\n1\n```", "."),
    ],
)
def test_a_bad_action_costs_a_step_and_says_what_was_wrong(env: TextEnv[Any], action: str, said: str) -> None:
    text, reward, over, _, info = env.step(action)
    assert said in text
    assert (reward, over, info["valid"], len(env.history)) == (0.0, False, False, 1)


def test_commands_say_how_they_ended(env: TextEnv[Any]) -> None:
    assert env.step("run true")[0] == "(no output)"
    assert env.step("run echo a; echo b >&2; exit 3")[0] == "a\nb\n[exit status 3]"
    assert env.step("run printf '\\377x'")[0] == "\\xffx"
    assert env.step("run pwd; cat solution.py")[4]["valid"]


def test_a_command_that_hangs_is_killed(folder: Callable[..., str]) -> None:
    env = make("codetasks", folder=folder(), timeout=0.5)
    env.reset()
    assert env.step("run echo a; sleep 100")[0] == "a\n[killed after 0.5 s]"
    env.close()


def test_long_output_is_cut_in_the_middle(env: TextEnv[Any]) -> None:
    text = env.step("run seq 100000")[0]
    assert len(text) < LONGEST_OBSERVATION + 100
    assert text.startswith("1\n2\n")
    assert text.endswith("100000")
    assert "characters are left out" in text


def test_what_is_there_at_the_step_limit_is_judged(folder: Callable[..., str]) -> None:
    env = make("codetasks", folder=folder(), max_steps=2)
    env.reset()
    env.step(RIGHT)
    text, _, over, truncated, info = env.step("fly")
    assert "That was the last step. 3 of 3 hidden tests pass." in text
    assert (over, truncated, info["success"], info["score"]) == (False, True, True, 1.0)
    env.close()


def test_a_snapshot_holds_the_work_directory_and_fits_another_instance(env: TextEnv[Any], folder: Any) -> None:
    env.step(HALF)
    env.step("run mkdir deep && echo 1 > deep/data && ln -s deep/data link")
    here = pickle.loads(pickle.dumps(env.snapshot()))
    assert env.state.work is None
    env.step(RIGHT)
    env.step("run rm -r deep")
    other = make("codetasks", **env.settings)
    for instance in (env, other):
        text, info = instance.restore(here)
        assert (text, info["score"], len(instance.history)) == ("(no output)", 0.0, 2)
        assert instance.step("run cat link; find . | sort; python3 -c 'import solution; print(solution.double(4.5))'")[
            0
        ] == ("1\n.\n./deep\n./deep/data\n./link\n./solution.py\n8")
    assert other.step("submit")[4]["score"] == pytest.approx(2 / 3)
    other.close()


def test_a_snapshot_of_a_closed_sandbox_is_a_fault(env: TextEnv[Any]) -> None:
    env._box.close()  # type: ignore[attr-defined]
    with pytest.raises(EnvFault):
        env.snapshot()
    with pytest.raises(EnvFault):
        env.step("run true")
    assert env.reset(options={"task": "double"})[1]["valid"]
    assert env.step("run true")[0] == "(no output)"


def test_no_process_of_before_goes_on_after_a_step(env: TextEnv[Any]) -> None:
    writes = "(setsid sh -c 'while true; do date +%N > clock; done' > /dev/null 2>&1 &)"
    env.step(f"run {writes} ; until [ -s clock ]; do sleep 0.05; done")
    assert env.step("run cat clock > first; sleep 0.2; cmp first clock && echo same")[0] == "same"


def test_an_episode_leaves_nothing_to_the_next_one(env: TextEnv[Any]) -> None:
    env.step(RIGHT)
    env.step("run touch /tmp/left ~/left; ls /tmp")
    env.reset(options={"task": "double"})
    assert env.step("run ls -A . /tmp ~")[0].count("left") == 0


# -- with the collector ------------------------------------------------------------------------------------------


def test_a_sandbox_that_dies_is_a_fault_and_the_episode_is_run_again(tmp_path: Any, folder: Callable[..., str]) -> None:
    settings = {"folder": folder()}
    made: list[TextEnv[Any]] = []

    def create(name: str) -> TextEnv[Any]:
        made.append(make(name, **settings))
        return made[-1]

    def script(request: Any) -> str:
        assert isinstance(request.env, Coding)
        if len(made) == 1 and len(request.env.history) == 1:
            assert request.env._box is not None
            request.env._box.close()
        return (RIGHT, "test", "submit")[len(request.env.history)]

    with EpisodeStore(tmp_path / "e.sqlite") as store:
        task = Task(env=ID, name="double", split="train")
        report = collect(
            [task], ScriptedPolicy(script), store, env_settings=settings, env_factory=create, progress="quiet"
        )
        assert (report.episodes, report.successes, report.faults, report.given_up) == (1, 1, 1, 0)
        (fault,) = store.faults()
        assert fault.outcome is Outcome.ENV_ERROR
        assert "SandboxDied" in (fault.error or "")
    assert len(made) == 2


def test_forks_of_an_expert_go_on_from_its_files(tmp_path: Any, folder: Callable[..., str]) -> None:
    settings = {"folder": folder()}
    task = Task(env=ID, name="double", split="train")
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        collect([task], OraclePolicy(ID), store, env_settings=settings, progress="quiet")
        (expert,) = store.episodes()
        assert [turn.action for turn in expert.turns][1:] == ["test", "submit"]
        assert expert.turns[0].action.startswith("write solution.py\n```\ndef double")
        fork = Start(task=task, parent=expert.id, fork_step=1)
        end = ScriptedPolicy(lambda request: "submit", name="end")
        report = collect([fork], end, store, env_settings=settings, progress="quiet")
        assert (report.successes, report.faults) == (1, 0)


def test_a_flawed_oracle_fails_sometimes(tmp_path: Any) -> None:
    spec = find(ID)
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        report = collect(spec.split("train"), policy_by_name("flawed:0.5", spec), store, samples=2, progress="quiet")
    assert report.faults == 0
    assert 0 < report.successes < report.episodes == 12


# -- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sandbox": "chroot"}, "there is no sandbox backend 'chroot'"),
        ({"timeout": 0}, "timeout is from 0.1"),
        ({"timeout": "long"}, "timeout is from 0.1"),
        ({"protocol": "pass@7"}, "unknown protocol 'pass@7'"),
        ({"folder": "no/such"}, "there is no folder no/such"),
        ({"folder": 3}, "folder is a path"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_at_once(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        make("codetasks", **settings)


TASK = 'statement = "Do it."\n'


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"README.md": "x"}, "holds no tasks"),
        ({"a.toml": "statement = "}, "a.toml cannot be read"),
        ({"a.toml": TASK}, "needs either 'tests'"),
        ({"a.toml": TASK + 'tests = "assert 1"\ncheck = "true"'}, "needs either 'tests'"),
        ({"a.toml": TASK + 'tests = "x = 1"'}, "neither an assert nor"),
        ({"a.toml": TASK + 'tests = "assert ("'}, "is not Python"),
        ({"a.toml": TASK + 'check = "true"\nhint = "no"'}, "unknown key 'hint'"),
        ({"a.toml": 'check = "true"'}, "statement"),
        ({"a.toml": TASK + 'check = "true"\n[files]\n"../x" = "y"'}, "'../x' is no path"),
        ({"a.toml": TASK + 'check = "true"\nsplit = ""'}, "split"),
        (
            {"a.toml": TASK + 'check = "true"', "a/task.toml": TASK + 'check = "false"'},
            "two task files have the name 'a'",
        ),
    ],
)
def test_a_folder_that_cannot_be_read_says_which_file_and_why(
    folder: Callable[..., str], files: dict[str, str], said: str
) -> None:
    with pytest.raises(BadInput) as told:
        make("codetasks", folder=folder(files))
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_a_task_that_wants_an_image_does_not_begin_where_there_are_none(folder: Callable[..., str]) -> None:
    env = make("shell", folder=folder({"a.toml": TASK + 'check = "true"\nimage = "alpine"'}), sandbox="bwrap")
    with pytest.raises(
        BadInput, match="wants the container image 'alpine', which the sandbox bwrap has none of"
    ) as told:
        env.reset(options={"task": "a"})
    assert "\n" not in str(told.value)
    env.close()


@pytest.mark.parametrize("protocol", [None, "single"])
def test_a_task_that_brings_no_solution_has_no_oracle(folder: Callable[..., str], protocol: str | None) -> None:
    env = make("codetasks", folder=folder({"a.toml": TASK + 'tests = "assert 1"'}), protocol=protocol)
    env.reset(options={"task": "a"})
    with pytest.raises(NoOracle, match="the task a brings no solution"):
        find("codetasks").oracle()(env)
    env.close()


def test_a_folder_of_folders_brings_its_starting_files(folder: Callable[..., str]) -> None:
    files = {
        "one/task.toml": 'statement = "Copy a/in to out."\nsplit = "train"\n'
        'check = "cmp a/in out"\ncommands = ["cp a/in out"]',
        "one/files/a/in": "hello\n",
    }
    env = make("shell", folder=folder(files))
    assert [env.splits(), [task.name for task in env.tasks("train")]] == [("train",), ["one"]]
    text, _ = env.reset()
    assert text == "Copy a/in to out.\n\nFiles: a/in"
    assert env.step("cat < a/in")[0] == "hello"
    oracle = find("shell").oracle()
    while not (seen := env.step(oracle(env)))[2]:
        pass
    assert seen[4]["success"]
    env.close()

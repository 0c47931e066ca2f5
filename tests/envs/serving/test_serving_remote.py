"""A served environment is played by its address like one in this process: checked, collected, evaluated."""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from serving_processes import Server, serving
from websockets.sync.server import ServerConnection, serve

import palaestra
from palaestra.agents.collect import TooManyFaults, collect
from palaestra.agents.episode import Actor
from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.agents.store import EpisodeStore
from palaestra.cli import run
from palaestra.envs import Fidelity, Snapshot
from palaestra.envs.check import check
from palaestra.envs.errors import BadInput, EnvFault, NoOracle
from palaestra.envs.serving.answers import OPENENV, problem


@pytest.mark.parametrize("name", ["bandit", "webshop"])
def test_a_served_environment_keeps_every_promise(name: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(name)
    report = check("remote", settings={"url": server.url}, fast=True)
    assert report.passed, f"\n{report}"
    assert report.fidelity is Fidelity.EXACT
    assert "solved" in next(result.detail for result in report.results if result.name == "oracle")


@pytest.mark.parametrize("name", ["crafting", "bandit", "webshop"])
def test_many_episodes_at_once_are_those_of_the_environment_in_process(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(name)
    local = {"webshop": "webshopsmall"}.get(name, name)
    found = []
    for env, settings in ((local, {}), ("remote", {"url": server.url})):
        with EpisodeStore(tmp_path / env) as store:
            tasks = list(palaestra.make(env, **settings).tasks("train")[:48])
            policy = OraclePolicy(palaestra.find(env))
            report = collect(tasks, policy, store, env_settings=settings, concurrency=24, progress="quiet")
            assert (report.episodes, report.faults) == (48, 0)
            episodes = {episode.start.task.name: episode for episode in store.episodes()}
            found.append({name: (each.actions, each.score, each.outcome) for name, each in episodes.items()})
    assert found[0] == found[1]


def test_instances_take_turns_among_several_servers(crafting: Server) -> None:
    other = crafting.url.replace("127.0.0.1", "localhost")
    made = [palaestra.make("remote", url=f"{crafting.url}, {other}") for _ in range(4)]
    try:
        where = [vars(env)["_address"].http for env in made]
        assert where[:2] == where[2:]
        assert set(where) == {crafting.url, other}
        assert len({env.fingerprint() for env in made}) == 1
    finally:
        for env in made:
            env.close()


def test_servers_of_one_list_must_serve_the_same(crafting: Server, bandit: Server) -> None:
    with serving("crafting", "-s", "max_steps=3") as shorter:
        for other in (bandit, shorter):
            env = palaestra.make("remote", url=f"{crafting.url},{other.url}")
            with pytest.raises(
                BadInput, match=r"all servers of a list serve the same, but .* serves palaestra/"
            ) as told:
                env.reset()
            assert "\n" not in str(told.value)
            env.close()
    made = [palaestra.make("remote", url=f"{crafting.url},{shorter.url}") for _ in range(2)]  # the second is gone now
    for env in made:
        if vars(env)["_address"].http == crafting.url:
            assert env.reset(seed=1)[0].startswith("Goal:")
        else:
            with pytest.raises(EnvFault, match="no environment server answers"):
                env.reset(seed=1)
        env.close()


def test_forks_of_remote_episodes_are_collected(crafting: Server, tmp_path: Path) -> None:
    settings = {"url": crafting.url}
    with EpisodeStore(tmp_path / "store") as store:
        tasks = list(palaestra.make("remote", **settings).tasks("train")[-8:])
        policy = OraclePolicy(palaestra.find("remote"))
        collect(tasks, policy, store, env_settings=settings, concurrency=8, progress="quiet")
        forks = [episode.fork(len(episode.turns) // 2) for episode in store.episodes()]
        report = collect(forks, policy, store, env_settings=settings, concurrency=8, progress="quiet")
        assert (report.episodes, report.successes, report.faults) == (8, 8, 0)


def test_a_collection_whose_server_dies_ends_in_one_line_and_nothing_is_taken_for_a_failure(tmp_path: Path) -> None:
    with serving("crafting") as server, EpisodeStore(tmp_path / "store") as store:
        settings = {"url": server.url}
        tasks = list(palaestra.make("remote", **settings).tasks("train")[:40])
        server.end()
        policy = OraclePolicy(palaestra.find("remote"))
        with pytest.raises(TooManyFaults, match="no environment server answers"):
            collect(tasks, policy, store, env_settings=settings, concurrency=8, progress="quiet")
        assert store.count() == 0
        assert store.n_faults > 0


def test_a_served_environment_is_evaluated_from_the_command_line(
    crafting: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["-s", f"url={crafting.url}"]
    command = ["eval", "remote", *settings, "--policy", "oracle", "--split", "test", "--tasks", "5", "--json"]
    assert run([*command, "--out", str(tmp_path / "evaluation")]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["success"]["mean"] == 1.0
    assert told["card"]["env_fingerprint"].startswith("palaestra/Crafting-v0() palaestra ")
    assert told["card"]["step_cap"] == 40


def test_the_settings_of_the_server_are_part_of_the_fingerprint() -> None:
    with serving("crafting", "-s", "max_steps=3") as server:
        env = palaestra.make("remote", url=server.url)
        assert env.fingerprint().startswith("palaestra/Crafting-v0(max_steps=3) palaestra ")
        assert env.step_cap(env.tasks("train")[0]) == 3
        env.reset()
        assert [env.step("look")[3] for _ in range(3)] == [False, False, True]
        env.close()


def test_an_environment_that_cannot_copy_its_state_is_rewound_by_replay(tmp_path: Path) -> None:
    script = tmp_path / "steps.py"
    script.write_text(
        "from palaestra import Reply, TextEnv, Fidelity, register\n"
        "class Steps(TextEnv):\n"
        "    '''Count.'''\n"
        "    fidelity = Fidelity.REPLAY\n"
        "    def begin(self, task, rng): return [], 'Begin.'\n"
        "    def act(self, state, action):\n"
        "        state.append(action)\n"
        "        return Reply(f'{len(state)}: {action[:20]!a}')\n"
        "register('steps/Steps-v0', Steps, splits={'train': range(5)}, fidelity=Fidelity.REPLAY, max_steps=50)\n"
    )
    with serving("steps", "--load", str(script), "--no-oracle") as server:
        report = check("remote", settings={"url": server.url}, fast=True, cycles=20)
        assert report.passed, f"\n{report}"
        assert report.fidelity is Fidelity.REPLAY
        env = palaestra.make("remote", url=server.url)
        env.reset()
        env.step("one")
        snapshot = env.snapshot()
        assert isinstance(snapshot, Snapshot)
        assert snapshot.payload == b""
        with pytest.raises(BadInput, match="is served without an oracle"):
            palaestra.find("remote").oracle()(env)
        env.close()


def test_a_task_without_an_oracle_is_told_as_one_that_has_none(tmp_path: Path) -> None:
    script = tmp_path / "lost.py"
    script.write_text(
        "from palaestra import Reply, TextEnv, register\n"
        "from palaestra.envs.errors import NoOracle\n"
        "class Lost(TextEnv):\n"
        "    '''Go on.'''\n"
        "    def begin(self, task, rng): return [], 'Begin.'\n"
        "    def act(self, state, action): return Reply('On.', score=float(action == 'north'), over=True)\n"
        "def north(env):\n"
        "    if env.task.name == '1': raise NoOracle('nobody knows the way')\n"
        "    return 'north'\n"
        "register('lost/Lost-v0', Lost, splits={'train': range(2)}, oracles={'north': north}, max_steps=5)\n"
    )
    with serving("lost", "--load", str(script)) as server:
        env = palaestra.make("remote", url=server.url)
        oracle = palaestra.find("remote").oracle()
        env.reset(options={"task": "0"})
        assert oracle(env) == "north"
        env.reset(options={"task": "1"})
        with pytest.raises(NoOracle, match="nobody knows the way"):
            oracle(env)
        env.close()


def test_the_token_is_read_from_the_environment_and_never_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    token = os.urandom(12).hex()
    with serving("crafting", environ={"PALAESTRA_TOKEN": token}) as server:
        monkeypatch.delenv("PALAESTRA_TOKEN", raising=False)
        with pytest.raises(BadInput, match=r"refused this client \(401: .*\); set PALAESTRA_TOKEN to its token"):
            palaestra.make("remote", url=server.url).reset()
        monkeypatch.setenv("PALAESTRA_TOKEN", token[:-1])
        with pytest.raises(BadInput, match="401"):
            palaestra.make("remote", url=server.url).reset()
        monkeypatch.setenv("OTHER", token)
        env = palaestra.make("remote", url=server.url, token_variable="OTHER")
        env.reset()
        assert token not in repr((env.settings, env.snapshot(), env.about, env.fingerprint()))
        env.close()
        with pytest.raises(BadInput, match="refused this client"):
            palaestra.make("remote", url=server.url.replace("127.0.0.1", "127.1"), token_variable="OTHER").reset()


SAID = {
    "wire": 1,
    "env": "palaestra/X-v0",
    "settings": {},
    "splits": ["train"],
    "fingerprint": "f",
    "fidelity": "exact",
    "loose_listing": 0.0,
    "lists_actions": False,
    "oracle": False,
    "longest": 1_000_000,
}
"""What a server says of itself."""


@contextmanager
def answering(hello: str, **later: str) -> Iterator[str]:
    """A server whose first answer is this text. `later` has those to other messages, by their type."""

    def talk(line: ServerConnection) -> None:
        line.recv()
        line.send(hello)
        for message in line if later else ():
            line.send(later[json.loads(message)["type"]])

    with serve(talk, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("hello", "error", "told"),
    [
        (
            '{"type": "hello", "data": {"wire": 2, "palaestra": "9.9"}}',
            BadInput,
            r"speaks version 2 of the protocol \(Palaestra 9.9\), this client version 1; install the same",
        ),
        ('{"type": "hello", "data": {}}', BadInput, "is no environment server: .* 'wire': Field required"),
        *(
            (json.dumps({"type": "hello", "data": {**SAID, "wire": wire}}), BadInput, r"wrong at 'wire': .* integer$")
            for wire in ("1", "two", 1.0, 2.5, True, [1], None)
        ),
        (
            json.dumps({"type": "hello", "data": {"wire": 10**300, "palaestra": "9\n" * 300}}),
            BadInput,
            "speaks version 10{38}… of the protocol .Palaestra 9( 9){19}….,",
        ),
        ('{"type": "hello", "data": {"wire": 1}}', BadInput, "is no environment server: .* 'env': Field required"),
        (json.dumps({"type": "hello", "data": {**SAID, "splits": "train"}}), BadInput, "wrong at 'splits'"),
        (json.dumps({"type": "hello", "data": {**SAID, "fidelity": "nope"}}), BadInput, "wrong at 'fidelity'"),
        ("no JSON", EnvFault, "no message of an environment server"),
        ('{"type": "hello", "data": 5}', EnvFault, "no message of an environment server"),
        ('{"type": "error", "data": {"message": "closed today"}}', EnvFault, "closed today"),
    ],
)
def test_a_server_of_another_kind_or_version_is_one_clear_line(hello: str, error: type[Exception], told: str) -> None:
    with answering(hello) as url, pytest.raises(error, match=told) as raised:
        palaestra.make("remote", url=url).reset()
    assert "\n" not in str(raised.value)


SEEN = {
    "text": "Begin.",
    "score": 0.0,
    "success": False,
    "valid": True,
    "terminated": False,
    "details": {},
    "instructions": "Play.",
    "max_steps": 5,
}


def told(kind: str, **data: Any) -> str:
    """A message; NaN is written as Python's JSON has it."""
    return json.dumps({"type": kind, "data": data})


def observation(reward: object = 0.0, **changes: object) -> str:
    """A right observation but for `changes`; None takes a key out."""
    seen = {key: value for key, value in {**SEEN, **changes}.items() if value is not None}
    return told("observation", observation=seen, reward=reward, done=False)


RIGHT = {
    "tasks": told("tasks", names=["0"], total=1),
    "reset": observation(),
    "step": observation(),
    "actions": told("actions", actions=["go"]),
    "oracle": told("oracle", action="go"),
    "snapshot": told("snapshot", snapshot="aGk="),
}


@pytest.mark.parametrize(
    ("asked", "answer", "wrong"),
    [
        ("tasks", told("tasks", names=5, total=1), "wrong at 'names': Input should be a valid list"),
        ("tasks", told("tasks", names=["0", 1], total=2), "wrong at 'names.1'"),
        ("tasks", told("tasks", names=["0"]), "wrong at 'total': Field required"),
        ("tasks", told("tasks", names=["0"], total=10**6), "lists the tasks of 'train' wrongly: after 1 of 1,000,000"),
        ("tasks", told("tasks", names=["0"], total=10**6 + 1), "wrong at 'total': Input should be less than or equal"),
        ("tasks", told("tasks", names=["0", "1"], total=1), "lists the tasks of 'train' wrongly: after 2 of 1"),
        ("tasks", told("tasks", names=[], total=1), "lists the tasks of 'train' wrongly: after 0 of 1"),
        ("tasks", told("tasks", names=["0", "0"], total=2), "lists the tasks of 'train' wrongly: after 1 of 2"),
        ("reset", observation(score=None), "wrong at 'observation.score': Field required"),
        ("reset", observation(score="high"), "wrong at 'observation.score': Input should be a valid number"),
        ("reset", observation(score=float("nan")), "wrong at 'observation.score'"),
        ("reset", observation(score=5.0), "wrong at 'observation.score'"),
        ("reset", observation(details="x"), "wrong at 'observation.details'"),
        ("reset", observation(text=5), "wrong at 'observation.text'"),
        ("reset", observation(max_steps="5"), "wrong at 'observation.max_steps'"),
        ("reset", observation(instructions=None), "wrong at 'observation.instructions': Field required"),
        ("reset", told("observation", observation=[]), "wrong at 'observation'"),
        ("reset", told("state"), "it is of the type 'state', not 'observation'"),
        ("reset", told("error"), "it refused that, and did not say why"),
        ("reset", told("error", message=None), "it refused that, and did not say why"),
        ("step", observation(float("nan")), "answered 'step' with what cannot be used: wrong at 'reward': .* finite"),
        ("step", observation(10**400), "wrong at 'reward'"),
        ("step", observation(None), "wrong at 'reward'"),
        ("step", observation(valid=1), "wrong at 'observation.valid'"),
        ("actions", told("actions", actions="go"), "wrong at 'actions'"),
        ("oracle", told("oracle", action=None), "wrong at 'action'"),
        *(
            ("snapshot", told("snapshot", snapshot=each), "wrong at 'snapshot'")
            for each in ("a", "!!!", "aGk=\n", "é", 5)
        ),
    ],
)
def test_an_answer_that_cannot_be_used_is_a_fault_in_one_line(asked: str, answer: str, wrong: str) -> None:
    hello = told("hello", **{**SAID, "oracle": True, "lists_actions": True})
    with answering(hello, **{**RIGHT, asked: answer}) as url:
        env = palaestra.make("remote", url=url)
        with pytest.raises(EnvFault, match=wrong) as raised:
            ask_everything(env)
        env.close()
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(url)


def ask_everything(env: Any) -> list[Any]:
    """What a server is asked in an episode."""
    first, info = env.reset(options={"task": env.tasks("train")[0]})
    listed = list(info["actions"])  # before the step, after which nobody asks for them
    stepped = env.step("go")[:4]
    return [first, listed, stepped, palaestra.find("remote").oracle()(env), env.snapshot().step]


def test_right_answers_are_played() -> None:
    """Or else the test above would show nothing."""
    with answering(told("hello", **{**SAID, "oracle": True, "lists_actions": True}), **RIGHT) as url:
        env = palaestra.make("remote", url=url)
        assert ask_everything(env) == ["Begin.", ["go"], ("Begin.", 0.0, False, False), "go", 1]
        env.close()


def test_openenv_servers_give_a_number_or_nothing_as_reward() -> None:
    for reward in (None, 1, 0.5, True):
        assert problem(OPENENV["step"], "observation", {"observation": {}, "reward": reward}) is None
    for answer in (
        {},
        {"observation": 5},
        *({"observation": {}, "reward": each} for each in (math.nan, math.inf, "1")),
    ):
        assert "wrong at" in str(problem(OPENENV["step"], "observation", answer))


def test_a_server_that_sends_us_elsewhere_is_one_clear_line() -> None:
    class Away(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1:1/" if self.path.startswith("/a/") else "http://[::1")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with web_server(Away) as url:
        for where in ("a", "b"):
            with pytest.raises(BadInput, match="is no environment server") as raised:
                palaestra.make("remote", url=f"{url}/{where}").reset()
            assert "\n" not in str(raised.value)


@contextmanager
def web_server(handler: type[SimpleHTTPRequestHandler]) -> Iterator[str]:
    """A web server with this handler; its address."""
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_web_server_without_environments_is_one_clear_line() -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with web_server(Quiet) as url, pytest.raises(BadInput, match="is no environment server"):
        palaestra.make("remote", url=url).reset()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "needs its address: -s url=http://HOST:PORT"),
        ({"url": 8000}, "must be the address of a server"),
        ({"url": "127.0.0.1:8000"}, "not of the form http://HOST:PORT"),
        ({"url": "ftp://127.0.0.1"}, "not of the form http://HOST:PORT"),
        ({"url": "http://127.0.0.1:port"}, "is no address"),
        ({"url": "http://me:secret@127.0.0.1"}, "a token goes into an environment variable"),
        ({"url": "http://127.0.0.1", "deadline": 0}, "deadline is a number of seconds above 0"),
        ({"url": "http://127.0.0.1", "token": "x"}, "no setting 'token'"),
    ],
    ids=str,
)
def test_bad_settings_are_one_clear_line(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=re.escape(told)) as raised:
        palaestra.make("remote", **settings)
    assert "secret" not in str(raised.value)


DOUBLE = """
statement = "Write double(n) in solution.py."
split = "train"
entry = "double"
tests = "assert double(2) == 4"
[solution]
"solution.py" = "def double(n): return 2 * n"
"""


def test_forks_of_served_coding_episodes_begin_with_what_the_server_kept(tmp_path: Path) -> None:
    """The parent draws a random number, which no replay draws again; a new server goes on with the same one."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "double.toml").write_text(DOUBLE)
    draw, show = "run head -c 8 /dev/urandom | od -An -tx1 > drawn", "run cat drawn"
    served = ("codetasks", "-s", f"folder={tmp_path / 'tasks'}")
    with EpisodeStore(tmp_path / "store") as store:
        with serving(*served) as server:
            settings, port = {"url": server.url}, server.port
            checked = check("remote", settings=settings, fast=True, cycles=12)
            assert checked.passed, f"\n{checked}"
            assert "bytes" in checked.result("keeping").detail
            (task,) = palaestra.make("remote", **settings).tasks("train")
            policy = ScriptedPolicy((draw, show, "submit"), name="parent", actor=Actor.EXPERT)
            collect([task], policy, store, env_settings=settings, progress="quiet")
        (parent,) = store.episodes()
        with serving(*served, "--port", str(port)):
            policy = ScriptedPolicy((draw, show, show, "submit"), name="child", actor=Actor.EXPERT)
            report = collect([parent.fork(2)], policy, store, env_settings=settings, progress="quiet")
        assert (report.episodes, report.faults, report.replayed_steps) == (1, 0, 0)
        (child,) = store.episodes(parent=parent.id)
        assert child.turns[1].observation == parent.turns[2].observation


@pytest.mark.parametrize(
    ("change", "told"),
    [({"kept": b"nobody's"}, "damaged"), ({"actions": ["x" * 9_000_000]}, "--max-message"), ({"actions": []}, "needs")],
)
def test_what_cannot_be_resumed_is_refused_in_one_line(crafting: Server, change: dict[str, Any], told: str) -> None:
    env = palaestra.make("remote", url=crafting.url)
    env.reset(seed=1)
    assert env.keep() is None  # replaying is as good there
    asked: dict[str, Any] = {
        "task": env.tasks("train")[0],
        "actions": ["look"],
        "observations": ["a", "b"],
        "kept": b"x",
    } | change
    with pytest.raises(BadInput, match=told) as raised:
        env.resume(**asked)
    assert "\n" not in str(raised.value)
    env.close()

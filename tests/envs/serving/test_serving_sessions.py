"""Sessions are apart from one another, bounded in number and time, and their environments are always closed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from serving_processes import ODD, Server, serving, until

import palaestra
from palaestra.cli import run
from palaestra.envs import TextEnv
from palaestra.envs.errors import BadInput, EnvFault


def remote(server: Server, **settings: Any) -> TextEnv[Any]:
    return palaestra.make("remote", url=server.url, **settings)


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "diary"


def odd(diary: Path, *options: str) -> Any:
    return serving("odd", "--load", str(ODD), "-s", f"diary={diary}", *options)


def entries(diary: Path, what: str) -> int:
    return diary.read_text().split().count(what) if diary.exists() else 0


def test_two_sessions_on_the_same_task_know_nothing_of_each_other(crafting: Server) -> None:
    one, other = remote(crafting), remote(crafting)
    task = one.tasks("train")[0]
    first, info = one.reset(options={"task": task})
    assert other.reset(options={"task": task})[0] == first
    assert one.step(info["actions"][0])[4]["score"] > 0
    assert other.score == 0
    assert other.step("look")[4]["score"] == 0
    one.close()
    assert other.step("look")[4]["valid"] is False
    other.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """Two sessions, a second to be left alone, a second a call."""
    path = tmp_path_factory.mktemp("small") / "diary"
    with odd(path, "--sessions", "2", "--idle", "1", "--deadline", "1.5") as server:
        yield server, path


def enters(env: TextEnv[Any]) -> bool:
    """Could an episode begin."""
    try:
        env.reset()
    except EnvFault:
        return False
    return True


def test_a_full_server_says_so_and_has_room_again_when_a_session_ends(small: tuple[Server, Path]) -> None:
    server, _ = small
    envs = [remote(server) for _ in range(3)]
    envs[0].reset()
    envs[1].reset()
    with pytest.raises(EnvFault, match="the server is full: 2 of 2 sessions are taken"):
        envs[2].reset()
    envs[0].close()
    assert until(lambda: enters(envs[2]))
    for env in envs:
        env.close()


def test_whoever_only_asks_what_there_is_takes_no_session(small: tuple[Server, Path]) -> None:
    server, diary = small
    asking = [remote(server) for _ in range(4)]
    begun = entries(diary, "begin")
    for env in asking:
        assert env.instructions(env.tasks("train")[0]) == "Say anything; it is counted."
    playing = [remote(server) for _ in range(2)]
    assert until(lambda: enters(playing[0]))  # those of the test before may still end
    assert until(lambda: enters(playing[1]))
    assert entries(diary, "begin") == begun + 2
    for env in asking + playing:
        env.close()


def test_a_session_that_is_left_alone_is_closed_and_a_reset_begins_another_one(small: tuple[Server, Path]) -> None:
    server, diary = small
    env = remote(server)
    env.reset()
    closed = entries(diary, "close")
    assert until(lambda: entries(diary, "close") > closed)
    with pytest.raises(EnvFault, match="nothing was asked for 1 s"):
        env.step("one")
    assert env.reset()[0].startswith("Task")
    assert env.step("one")[0] == "That is 1."
    env.close()


def test_a_snapshot_outlives_its_session(small: tuple[Server, Path]) -> None:
    server, diary = small
    env = remote(server)
    env.reset()
    env.step("one")
    snapshot, closed = env.snapshot(), entries(diary, "close")
    assert until(lambda: entries(diary, "close") > closed)
    assert env.restore(snapshot)[0] == "That is 1."
    assert env.step("one")[0] == "That is 2."
    env.close()


def test_a_call_that_hangs_is_aborted_at_the_deadline_while_others_go_on(small: tuple[Server, Path]) -> None:
    server, diary = small
    env, other = remote(server), remote(server)
    env.reset()
    other.reset()
    aborted = entries(diary, "abort")
    with pytest.raises(EnvFault, match=r"the call took longer than 1\.5 s, so the session is over"):
        env.step("hang")
    assert until(lambda: entries(diary, "abort") == aborted + 1)
    other.reset()
    assert other.step("one")[0] == "That is 1."
    assert env.reset()[0].startswith("Task")
    env.close()
    other.close()


def test_what_breaks_in_an_environment_is_a_fault_in_one_line(small: tuple[Server, Path]) -> None:
    server, _ = small
    env = remote(server)
    env.reset()
    with pytest.raises(EnvFault, match="EnvFault: the world came to an end"):
        env.step("break")
    env.reset()
    with pytest.raises(EnvFault, match="ValueError: a bug of two lines") as told:
        env.step("bug")
    assert "\n" not in str(told.value)
    assert "Traceback" in server.said()  # on the server's side, where it can be mended
    env.reset()
    assert env.step("one")[0] == "That is 1."
    env.close()


def test_environments_are_closed_when_clients_leave_break_off_or_give_up(diary: Path) -> None:
    with odd(diary) as server:
        env = remote(server)
        env.reset()
        threads = server.threads() - 1  # without this session's
        env.close()
        assert until(lambda: entries(diary, "close") == 1)
        env.reset()
        env.abort()  # the connection breaks off, without a word
        assert until(lambda: entries(diary, "close") == 2)
        with pytest.raises(EnvFault):
            env.step("one")
        env.reset()
        threading.Timer(2.0, env.abort).start()  # as a collector does when its own deadline has passed
        with pytest.raises(EnvFault, match="broken off"):
            env.step("hang")
        assert until(lambda: entries(diary, "abort") == 1)
        assert until(lambda: entries(diary, "close") == 3)
        assert until(lambda: server.threads() <= threads)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_ends_closes_all_environments_and_says_nothing(diary: Path, number: int) -> None:
    with odd(diary) as server:
        envs = [remote(server) for _ in range(5)]
        for env in envs:
            env.reset()
        assert server.end(number) == 0
        assert entries(diary, "close") == 5
        assert server.said() == ""
        with pytest.raises(EnvFault):
            envs[0].step("one")


def test_a_server_that_dies_is_a_fault_at_once() -> None:
    with serving("crafting") as server:
        env = remote(server)
        env.reset()
        snapshot = env.snapshot()
        server.end(signal.SIGKILL)
        with pytest.raises(EnvFault):
            env.step("look")
        for call in (env.reset, lambda: env.restore(snapshot), remote(server).fingerprint):
            with pytest.raises(EnvFault, match="no environment server answers at"):
                call()


def test_a_server_that_hangs_is_a_fault_at_the_deadline() -> None:
    with serving("crafting") as server:
        env = remote(server, deadline=1.0)
        env.reset()
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(EnvFault, match="did not answer within 1 s"):
            env.step("look")
        with pytest.raises(EnvFault, match="no environment server answers"):
            env.reset()
        server.process.send_signal(signal.SIGCONT)
        assert until(lambda: env.reset() is not None)


def test_a_server_that_was_started_anew_goes_on_from_old_snapshots_by_replay() -> None:
    with serving("crafting") as server:
        env = remote(server)
        _, info = env.reset(options={"task": env.tasks("train")[0]})
        env.step(info["actions"][0])
        snapshot = env.snapshot()
        expected = env.step("look")
        server.end()
        with serving("crafting", "--port", str(server.port)):
            env.restore(snapshot)
            assert env.score > 0
            assert env.step("look")[:4] == expected[:4]
            env.close()


def test_another_environment_at_the_same_address_is_bad_input() -> None:
    with serving("crafting") as server:
        env = remote(server)
        env.reset()
        server.end()
        with (
            serving("bandit", "--port", str(server.port)),
            pytest.raises(BadInput, match="now serves palaestra/Bandit"),
        ):
            env.reset()


def test_a_step_without_an_episode_is_as_in_every_environment(crafting: Server) -> None:
    env = remote(crafting)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("look")
    env.reset()
    env.close()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("look")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["crafting", "--host", "0.0.0.0"], "needs a token of 16 characters or more: set PALAESTRA_TOKEN"),
        (["crafting", "--host", "::"], "needs a token"),
        (["crafting", "--host", "a.name"], "needs a token"),
        (["crafting", "--token", "short"], "at least 16 printable ASCII characters"),
        (["crafting", "--token", ""], "at least 16 printable ASCII characters"),
        (["crafting", "--token", "a token with blanks in it"], "without blanks"),
        (["crafting", "--port", "99999"], "cannot listen on"),
        (["crafting", "--sessions", "0"], "--sessions must be at least 1"),
        (["crafting", "--idle", "0"], "--idle must be at least"),
        (["crafting", "--deadline", "nan"], "--deadline must be at least"),
        (["crafting", "--max-message", "inf"], "--max-message must be at least 0.1 and at most 1,024, got inf"),
        (["crafting", "--host", "a..b", "--token", "0123456789abcdef"], "cannot listen on a..b"),
        (["crafting", "-s", "nonsense=1"], "no setting 'nonsense'"),
        (["nowhere"], "unknown environment"),
        (["worldmodel"], "is imagined"),
        (["remote", "-s", "url=http://127.0.0.1:1"], "serve the environment itself"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PALAESTRA_TOKEN", raising=False)
    assert run(["serve", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert told in error

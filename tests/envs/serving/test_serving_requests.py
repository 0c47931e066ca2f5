"""A server answers strangers with one line, keeps nothing of what they send, and lets no web page of others in."""

from __future__ import annotations

import base64
import json
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_processes import Server, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

MANY = 10_000_000


@pytest.fixture
def http(crafting: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=crafting.url, timeout=30) as client:
        yield client


@pytest.fixture
def line(crafting: Server) -> Iterator[ClientConnection]:
    with connect(websocket(crafting), compression=None) as opened:
        yield opened


def websocket(server: Server) -> str:
    return server.url.replace("http", "ws") + "/ws"


def ask(line: ClientConnection, kind: str, **data: Any) -> dict[str, Any]:
    line.send(json.dumps({"type": kind, "data": data}))
    answer: dict[str, Any] = json.loads(line.recv(timeout=30))
    return answer


HOSTILE: list[tuple[str, bytes, int]] = [
    ("/reset", b"{", 400),
    ("/reset", b"\xff\xfe", 400),
    ("/reset", b"[" * 100_000, 400),
    ("/reset", b'{"seed": ' + b"9" * 10_000 + b"}", 400),
    ("/reset", b"[]", 422),
    ("/reset", b'"reset"', 422),
    ("/reset", b'{"seed": -1}', 422),
    ("/reset", b'{"seed": true}', 422),
    ("/reset", b'{"seed": 99999999999999999999}', 422),
    ("/reset", b'{"task": 3}', 422),
    ("/reset", b'{"task": "no such task"}', 422),
    ("/reset", b'{"task": "x", "split": "no such split"}', 422),
    ("/reset", b'{"split": "train"}', 422),
    ("/reset", b'{"nonsense": 1}', 422),
    ("/reset", b'{"session_id": "no such session"}', 404),
    ("/reset", b'{"session_id": ["a list"]}', 404),
    ("/step", b'{"action": {"message": "look"}}', 404),
    ("/step", b"", 404),
    ("/snapshot", b'{"session_id": "../../etc/passwd"}', 404),
    ("/restore", b'{"session_id": 5}', 404),
    ("/close", b'{"session_id": null}', 404),
    ("/nowhere", b"{}", 404),
    ("/bandit/tasks", b'{"split": "train"}', 404),
    ("/crafting/tasks", b"{}", 422),
    ("/crafting/tasks", b'{"split": "no such split"}', 422),
    ("/crafting/task", b'{"split": "train", "index": -1}', 422),
    ("/crafting/task", b'{"split": "train", "index": 99999999}', 404),
    ("/crafting/task_range", b'{"split": "train", "start": "0"}', 422),
    ("/reset", b" " * MANY, 413),
]


@pytest.mark.parametrize(("path", "body", "status"), HOSTILE, ids=lambda value: ascii(value)[:50])
def test_a_hostile_request_gets_a_4xx_with_one_line(
    http: httpx.Client, crafting: Server, path: str, body: bytes, status: int
) -> None:
    answer = http.post(path, content=body)
    assert answer.status_code == status
    told = answer.text if path == "/nowhere" else answer.json()["detail"]
    assert told
    assert "\n" not in told
    assert len(told) < 500
    assert crafting.said() == ""


FRAMES: list[tuple[str | bytes, str]] = [
    ("", "INVALID_JSON"),
    ("{", "INVALID_JSON"),
    ("[" * 100_000, "INVALID_JSON"),
    (b"\x80\x04K\x01.", "INVALID_JSON"),
    ("[]", "VALIDATION_ERROR"),
    ("{}", "UNKNOWN_TYPE"),
    ('{"type": {}}', "UNKNOWN_TYPE"),
    ('{"type": "' + "x" * 100_000 + '"}', "UNKNOWN_TYPE"),
    ('{"type": "reset", "data": []}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"task": {}}}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"task_seed": 0.5}}', "VALIDATION_ERROR"),
    ('{"type": "step"}', "VALIDATION_ERROR"),
    ('{"type": "step", "data": {"message": "look"}}', "VALIDATION_ERROR"),
    ('{"type": "step", "data": {"message": null}}', "VALIDATION_ERROR"),
    ('{"type": "actions"}', "VALIDATION_ERROR"),
    ('{"type": "snapshot"}', "VALIDATION_ERROR"),
    ('{"type": "restore", "data": {"snapshot": "%%%"}}', "VALIDATION_ERROR"),
    ('{"type": "tasks", "data": {"split": "train", "start": -1}}', "VALIDATION_ERROR"),
    ('{"type": "task", "data": {"split": "nowhere", "task": "0"}}', "VALIDATION_ERROR"),
    ('{"type": "task", "data": {"split": "train", "task": "no such task"}}', "VALIDATION_ERROR"),
    ('{"type": "mcp", "data": {}}', "UNKNOWN_TYPE"),
]


@pytest.mark.parametrize(("frame", "code"), FRAMES, ids=lambda value: ascii(value)[:50])
def test_a_hostile_message_is_refused_in_one_line_and_the_session_goes_on(
    line: ClientConnection, crafting: Server, frame: str | bytes, code: str
) -> None:
    line.send(frame)
    answer = json.loads(line.recv(timeout=30))
    assert answer["type"] == "error"
    assert answer["data"]["code"] == code
    assert "\n" not in answer["data"]["message"]
    assert len(answer["data"]["message"]) < 500
    assert ask(line, "reset", seed=1)["type"] == "observation"
    assert crafting.said() == ""


def test_clients_that_flood_and_break_off_leave_nothing_in_the_log(crafting: Server) -> None:
    for _ in range(10):
        with connect(websocket(crafting), compression=None) as flood:
            for _ in range(200):
                flood.send('{"type": "tasks", "data": {"split": "train"}}')
            flood.socket.shutdown(socket.SHUT_RDWR)
    with connect(websocket(crafting), compression=None) as line:
        assert ask(line, "reset", seed=1)["type"] == "observation"
    assert crafting.said() == ""


def test_a_message_that_is_too_long_ends_the_session(crafting: Server) -> None:
    def talk(opened: ClientConnection) -> None:
        opened.send(" " * MANY)
        opened.recv(timeout=30)

    with connect(websocket(crafting), compression=None) as opened, pytest.raises(ConnectionClosed):
        talk(opened)
    assert httpx.get(crafting.url + "/health").json() == {"status": "healthy"}


def test_hostile_requests_leave_no_memory_and_no_threads_behind(http: httpx.Client, crafting: Server) -> None:
    def flood() -> None:
        for path, body, _ in HOSTILE:
            http.post(path, content=body)

    held = http.get("/metadata").json()["sessions"]["open"]
    for _ in range(2):
        flood()
    memory, threads = crafting.memory(), crafting.threads()
    for _ in range(4):
        flood()
    assert crafting.memory() - memory < 32 * 1024 * 1024  # one of these bodies has 10 MB
    assert crafting.threads() <= threads
    assert http.get("/metadata").json()["sessions"]["open"] <= held  # those of other tests may still end


def test_a_forged_snapshot_is_refused_and_never_unpickled(line: ClientConnection, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str, str]]:
            return open, (str(tmp_path / "opened"), "w")

    ask(line, "reset", seed=1)
    real = base64.b64decode(ask(line, "snapshot")["data"]["snapshot"])
    bomb = pickle.dumps(Bomb())
    for forged in (bomb, b"", bytes(32) + bomb, real[:32] + bomb, real[:-1] + bytes([real[-1] ^ 1]), real + b"."):
        answer = ask(line, "restore", snapshot=base64.b64encode(forged).decode())
        assert answer["data"]["kind"] == "foreign_snapshot"
    assert not (tmp_path / "opened").exists()
    assert ask(line, "restore", snapshot=base64.b64encode(real).decode())["type"] == "observation"


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Host": "evil.example"}, "Host"),
        ({"Host": "127.0.0.1.evil.example:8000"}, "Host"),
        ({"Host": ""}, "Host"),
        ({"Origin": "http://evil.example"}, "web pages"),
        ({"Origin": "http://localhost:1"}, "web pages"),
        ({"Origin": "null"}, "web pages"),
    ],
    ids=str,
)
def test_web_pages_of_others_are_refused(
    http: httpx.Client, crafting: Server, headers: dict[str, str], told: str
) -> None:
    answer = http.post("/reset", json={}, headers=headers)
    assert answer.status_code == 403
    assert told in answer.text
    assert answer.text.count("\n") == 1
    if "Origin" in headers:
        with pytest.raises(InvalidStatus) as refused, connect(websocket(crafting), additional_headers=headers):
            pass
        assert refused.value.response.status_code == 403


def test_a_page_of_the_server_itself_would_be_let_in(http: httpx.Client, crafting: Server) -> None:
    assert http.post("/reset", json={}, headers={"Origin": crafting.url}).status_code == 200


def test_a_session_over_single_requests_plays_rewinds_and_ends(http: httpx.Client) -> None:
    first = http.post("/reset", json={"task": "d1/bakery-0", "split": "train", "actions": True}).json()
    assert set(first) == {"observation", "reward", "done", "metadata"}
    session = {"session_id": first["metadata"]["session_id"]}
    action = {"message": first["observation"]["actions"][0]}
    snapshot = http.post("/snapshot", json=session).json()
    step = http.post("/step", json={**session, "action": action}).json()
    assert step["reward"] > 0
    assert http.get("/state", params=session).json()["step_count"] == 1
    back = http.post("/restore", json={**session, **snapshot}).json()
    assert back["observation"]["text"] == first["observation"]["text"]
    assert http.post("/step", json={**session, "action": action}).json() == step
    assert http.post("/close", json=session).json()["closed"] is True
    assert http.post("/step", json={**session, "action": action}).status_code == 404


def test_what_is_served_can_be_read(http: httpx.Client) -> None:
    assert http.get("/health").json() == {"status": "healthy"}
    about = http.get("/metadata").json()
    assert about["name"] == "palaestra/Crafting-v0"
    assert http.get("/schema").json()["action"]["required"] == ["message"]
    assert http.get("/list_environments").json() == ["crafting"]
    assert {"name": "train", "type": "train"} in http.get("/crafting/splits").json()
    assert http.post("/crafting/num_tasks", json={"split": "train"}).json() == {"num_tasks": 4800}
    tasks = http.post("/crafting/tasks", json={"split": "train"}).json()["tasks"]
    assert len(tasks) == 4800
    some = http.post("/crafting/task_range", json={"split": "train", "start": 5, "stop": 8}).json()["tasks"]
    assert some == tasks[5:8]
    assert http.post("/crafting/task", json={"split": "train", "index": 7}).json()["task"] == tasks[7]


VOCABULARY = [
    "look",
    "inventory",
    "get 1 wheat",
    "craft 1 bread using 2 wheat",
    "get",
    "craft",
    "\x00",
    "\ud800",
    "9" * 400,
]
LEFT = {"actions": 0}


@settings(max_examples=210, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text(max_size=60) | st.sampled_from(VOCABULARY), min_size=50, max_size=60), st.integers(0, 10**6))
def _play(line: ClientConnection, actions: list[str], seed: int) -> None:
    assert ask(line, "reset", seed=seed)["type"] == "observation"
    for action in actions:
        answer = ask(line, "step", message=action)
        assert answer["type"] == "observation", (action, answer)
        json.dumps(answer["data"]["observation"]["text"], ensure_ascii=False).encode()
        LEFT["actions"] += 1
        if answer["data"]["done"]:
            ask(line, "reset", seed=seed)


def test_ten_thousand_generated_actions_are_all_answered(line: ClientConnection, crafting: Server) -> None:
    LEFT["actions"] = 0
    memory = crafting.memory()
    _play(line)
    assert LEFT["actions"] >= 10_000
    assert crafting.memory() - memory < 32 * 1024 * 1024
    assert crafting.said() == ""


def test_a_server_open_to_the_network_serves_only_those_who_show_its_token() -> None:
    token = "0123456789abcdef"
    with serving("bandit", "--host", "0.0.0.0", environ={"PALAESTRA_TOKEN": token}) as server:
        assert httpx.get(server.url + "/health").status_code == 200
        for headers in ({}, {"Authorization": token}, {"Authorization": "Bearer 0123456789abcdeF"}):
            answer = httpx.post(server.url + "/reset", json={}, headers=headers)
            assert answer.status_code == 401
            assert token not in answer.text
            with pytest.raises(InvalidStatus) as refused, connect(websocket(server), additional_headers=headers):
                pass
            assert refused.value.response.status_code == 401
        shown = {"Authorization": f"Bearer {token}", "Host": "a-name-of-the-network:8000"}
        assert httpx.post(server.url + "/reset", json={}, headers=shown).status_code == 200

"""A found server that fails though it says that it is well is waited for; a request that it cannot bear fails alone.

The server is the test's own: what vLLM fails at cannot be had on demand. All else about vLLM is tested with vLLM.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from palaestra.agents.policies.vllm import VLLMPolicy
from palaestra.agents.policy import Request
from palaestra.agents.tiny import make_tiny

PAGES: dict[str, Any] = {
    "/v1/models": {"data": [{"id": "tiny", "root": "tiny", "max_model_len": 256}]},
    "/version": {"version": "0.32.0"},
    "/health": {},
}


class Ailing(ThreadingHTTPServer):
    """Says that it is well, and answers a prompt only where `fails` does not say otherwise.

    Attributes:
        fails: is told how many completions were asked before, and the prompt.
        asked: prompts, in the order in which they came.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fails: Callable[[int, list[int]], bool] = lambda number, prompt: False
        self.asked: list[list[int]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Ailing
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        page = PAGES.get(self.path.partition("?")[0])
        self.say(404 if page is None else 200, page)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fails = self.server.fails(len(self.server.asked), body["prompt"])
        self.server.asked.append(body["prompt"])
        told = {"token_logprobs": [-0.5, -0.5]}
        answer = {"choices": [{"token_ids": [7, 8], "logprobs": told, "finish_reason": "length"}]}
        self.say(500, {"error": {"message": "EngineCore is dead"}}) if fails else self.say(200, answer)

    def say(self, status: int, body: object) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def ailing() -> Iterator[Ailing]:
    made = Ailing()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def policy(ailing: Ailing, tmp_path: Path) -> Iterator[VLLMPolicy]:
    folder = make_tiny(["A door. A key."], tmp_path / "tiny", vocab=300, hidden=64, layers=1, heads=2)
    made = VLLMPolicy(f"http://127.0.0.1:{ailing.server_address[1]}", tokenizer=folder, version="1")
    ailing.asked.clear()  # what it was asked to see what it is
    yield made
    made.close()


def asked(*prompt: int) -> list[Request]:
    return [Request((), 0, prompt)]


def test_a_server_that_fails_though_its_health_is_said_to_be_good_is_waited_for(
    ailing: Ailing, policy: VLLMPolicy
) -> None:
    ailing.fails = lambda number, prompt: number < 4
    [lost] = policy.act(asked(11, 12))
    assert "EngineCore is dead" in str(lost.error)
    assert policy.faults == 1
    [answer] = policy.act(asked(13, 14))
    assert (answer.error, tuple(answer.ids)) == (None, (7, 8))
    # Two tries of the first one, one token to see whether it is the server; two more until it is back; the second one.
    assert ailing.asked == [[11, 12], [11, 12], [0], [0], [0], [13, 14]]
    assert policy.faults == 1


def test_a_request_that_a_server_cannot_bear_fails_alone(ailing: Ailing, policy: VLLMPolicy) -> None:
    ailing.fails = lambda number, prompt: prompt == [11, 12]
    [lost] = policy.act(asked(11, 12))
    assert "status 500: EngineCore is dead; twice, though the server answers others" in str(lost.error)
    [answer] = policy.act(asked(13, 14))
    assert answer.error is None
    assert ailing.asked == [[11, 12], [11, 12], [0], [13, 14]]
    assert policy.faults == 0

"""A found server that fails though it says that it is well is waited for; a request that it cannot bear fails alone.

The server is the test's own: what vLLM fails at cannot be had on demand. All else about vLLM is tested with vLLM.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from palaestra.agents.policies.vllm import VLLMPolicy
from palaestra.agents.policy import Request
from palaestra.agents.tiny import make_tiny
from palaestra.cli import run

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
        pages: what else it answers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fails: Callable[[int, list[int]], bool] = lambda number, prompt: False
        self.asked: list[list[int]] = []
        self.pages = dict(PAGES)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Ailing
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
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


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("found") / "tiny"
    return make_tiny(["A door. A key."], folder, vocab=300, hidden=64, layers=1, heads=2)


@pytest.fixture
def policy(ailing: Ailing, model: Path) -> Iterator[VLLMPolicy]:
    made = VLLMPolicy(ailing.url, tokenizer=model, version="1")
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


# -- typed on the command line -----------------------------------------------------------------------------------------


@pytest.fixture
def refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """The one line by which a collection with some policy is refused; nothing of it is begun by then."""
    monkeypatch.setenv("COLUMNS", "500")

    def typed(policy: str) -> str:
        capsys.readouterr()
        assert run(["collect", "bandit", "-p", policy, "-t", "1", "-q", "-o", str(tmp_path / "out")]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line

    return typed


def test_the_command_says_what_is_wrong_with_a_server(ailing: Ailing, refused: Callable[[str], str]) -> None:
    policy = f"vllm:@{ailing.url}"
    assert "http://127.0.0.1:9 cannot be reached" in refused("vllm:@http://127.0.0.1:9")
    ailing.pages["/version"] = {"version": "0.9.1"}
    assert "is version 0.9.1, which cannot be used" in refused(policy)
    del ailing.pages["/version"]
    assert "an OpenAI-compatible server, but not vLLM" in refused(policy)
    del ailing.pages["/v1/models"]
    assert "lists no models (status 404); is it the base URL of a vLLM server" in refused(policy)


def test_the_command_says_that_a_model_has_no_chat_template(
    ailing: Ailing, model: Path, tmp_path: Path, refused: Callable[[str], str]
) -> None:
    bare = Path(shutil.copytree(model, tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(settings))
    ailing.pages["/v1/models"] = {"data": [{"id": "tiny", "root": str(bare), "max_model_len": 256}]}
    for policy in (f"vllm:@{ailing.url}", f"vllm:{bare}", str(bare)):
        assert "no chat template" in refused(policy)


def test_the_command_says_that_a_prompt_is_too_long_for_the_engine(
    ailing: Ailing, model: Path, refused: Callable[[str], str]
) -> None:
    ailing.pages["/v1/models"] = {"data": [{"id": "tiny", "root": str(model), "max_model_len": 70}]}
    line = refused(f"vllm:@{ailing.url}")
    assert "its first prompt has" in line
    assert "the context holds 70; use a longer context or fewer max_tokens" in line

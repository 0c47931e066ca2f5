"""Any OpenAI-compatible server can be the policy; one that misbehaves costs its own requests and nothing else.

The server here is a real one on a real socket, with a tiny model behind it that is asked in the OpenAI chat format.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from palaestra.agents.message import Message
from palaestra.agents.models import load_model
from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policies.openai import OpenAIPolicy
from palaestra.agents.policy import Completion, Policy, Request, Sampling
from palaestra.agents.streaming import StreamingPolicy
from palaestra.agents.tiny import make_tiny
from palaestra.cli import run
from palaestra.envs import BadInput


class Server(ThreadingHTTPServer):
    """Chat completions of a tiny model, and ways to misbehave."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behind: HFPolicy) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = behind
        self.lock = threading.Lock()
        self.key = ""
        self.failures: dict[str, int] = {}
        self.bodies: list[dict[str, Any]] = []
        self.asked, self.authorizations = threading.Event(), set[str | None]()
        self.hangs = self.ended = self.meet = False
        self.slow, self.together = threading.Event(), threading.Barrier(8)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that no longer waits for its answer is no error of the server."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def send(self, status: int, body: object, **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def refused(self) -> bool:
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            self.send(401, {"error": {"message": "bad key"}})
            return True
        return False

    def do_GET(self) -> None:
        if self.refused():
            return
        if self.path == "/v1/models":
            self.send(200, {"object": "list", "data": [{"id": "tiny"}, {"id": "tiny-large"}]})
        else:
            self.send(200 if self.path.startswith("/web") else 404, b"<html>a web page</html>")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server, asked = self.server, body["messages"][-1]["content"]
        with server.lock:
            server.bodies.append(body)
            failed = server.failures[asked] = server.failures.get(asked, 0) + 1
            server.authorizations.add(self.headers.get("Authorization"))
        server.asked.set()
        if not self.refused():
            self.answer(body, asked, failed)

    def answer(self, body: dict[str, Any], asked: str, failed: int) -> None:
        server = self.server
        if "flaky" in asked and failed < 3:
            return self.send(500 if failed == 1 else 429, {"error": {"message": "busy"}}, Retry_After="0.01")
        if "broken" in asked:
            return self.send(503, b"<html>down</html>")
        if "garbage" in asked:
            return self.send(200, b"\x00 no json")
        if "shapeless" in asked:
            return self.send(200, {"choices": [{"message": {"content": [1, 2]}}]})
        if "long" in asked:
            return self.send(400, {"error": {"message": "maximum context length is 512 tokens"}})
        if "slow" in asked or server.hangs:
            server.slow.wait(600)
        if "together" in asked or server.meet:
            with suppress(threading.BrokenBarrierError):  # too few came: the test sees it by the barrier
                server.together.wait(30)
        if "hangs up" in asked:
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        sampling = Sampling(temperature=body["temperature"], top_p=body["top_p"], max_tokens=body["max_tokens"])
        with server.lock:
            if server.ended:  # a model that still runs when the interpreter ends takes the process down with it
                return None
            server.behind.sampling = sampling
            [done] = server.behind.act([Request(body["messages"], body["seed"])])
        choice = {"message": {"role": "assistant", "content": done.text}}
        usage = {"prompt_tokens": done.prompt_tokens, "completion_tokens": done.completion_tokens}
        self.send(
            200, {"choices": [{**choice, "finish_reason": "stop" if done.finished else "length"}], "usage": usage}
        )


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> HFPolicy:
    folder = make_tiny(
        ["A door. A key."], tmp_path_factory.mktemp("tiny") / "m", vocab=300, hidden=32, layers=1, heads=2
    )
    return HFPolicy(load_model(folder, device="cpu"))


@pytest.fixture
def server(behind: HFPolicy) -> Iterator[Server]:
    made = Server(behind)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    with made.lock:
        made.ended = True
    made.slow.set()
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def policy(server: Server) -> Iterator[OpenAIPolicy]:
    made = OpenAIPolicy(server.url, sampling=Sampling(max_tokens=6, seed=2), pause=0.01)
    yield made
    made.close()


def ask(text: str, seed: int = 0) -> Request:
    return Request([Message(role="system", content="Rules."), Message(role="user", content=text)], seed)


def test_answers_are_those_of_the_model_behind_the_server(policy: OpenAIPolicy, behind: HFPolicy) -> None:
    requests = [ask(f"A door {i}.", seed=i) for i in range(6)]
    answers = policy.act(requests)
    expected = behind.act([Request(r.messages, 2 * 1_000_003 + r.seed) for r in requests])
    assert [(a.text, a.finished, a.prompt_tokens, a.completion_tokens) for a in answers] == [
        (e.text, e.finished, e.prompt_tokens, e.completion_tokens) for e in expected
    ]
    assert not any(answer.ids or answer.logprobs or answer.error for answer in answers)
    assert isinstance(policy, Policy)


def test_what_was_asked_is_what_the_conversation_says(policy: OpenAIPolicy, server: Server) -> None:
    policy.act([ask("A door.", seed=7)])
    [body] = server.bodies
    assert body["messages"] == [{"role": "system", "content": "Rules."}, {"role": "user", "content": "A door."}]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("tiny", 6, 1.0)


def test_requests_are_under_way_side_by_side(server: Server) -> None:
    wide = OpenAIPolicy(server.url, sampling=Sampling(max_tokens=2), concurrency=8)
    answers = wide.act([ask(f"together {i}") for i in range(8)])  # nobody is answered before all eight have asked
    wide.close()
    assert [answer.error for answer in answers] == [None] * 8
    assert not server.together.broken


def test_a_server_is_asked_as_much_at_once_as_there_are_episodes_at_once(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.meet, server.together = True, threading.Barrier(80)
    words = ["collect", "bandit", "-p", f"openai:tiny@{server.url}", "-t", "80", "-q", "-s", "max_steps=1"]
    assert run([*words, "--concurrency", "80", "--max-tokens", "2", "-o", str(tmp_path / "s")]) == 0
    assert "80 episodes" in capsys.readouterr().out
    assert not server.together.broken, "at one time"


def test_an_answer_waits_for_no_other_one(policy: OpenAIPolicy, server: Server) -> None:
    """The collector hands requests over one by one: a slow one keeps no episode waiting but its own."""
    assert isinstance(policy, StreamingPolicy)
    came = SimpleQueue[str]()
    policy.submit(ask("slow"), lambda answer: came.put("slow"))
    policy.submit(ask("A door."), lambda answer: came.put("quick"))
    assert came.get(timeout=60) == "quick"
    server.slow.set()
    assert came.get(timeout=60) == "slow"


def test_a_busy_server_is_asked_again(policy: OpenAIPolicy, server: Server) -> None:
    [answer] = policy.act([ask("flaky")])
    assert answer.error is None
    assert server.failures["flaky"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("garbage", "did not answer with a chat completion"),
        ("shapeless", "did not answer with a chat completion"),
        ("long", "maximum context length is 512 tokens"),
    ],
)
def test_a_request_that_is_not_answered_properly_fails_alone(policy: OpenAIPolicy, text: str, message: str) -> None:
    good, bad = policy.act([ask("A door."), ask(text)])
    assert good.error is None
    assert bad.error is not None
    assert message in bad.error
    assert bad.too_long == (text == "long")
    assert "\n" not in bad.error
    assert bad.text == ""


@pytest.mark.parametrize(
    ("text", "message"), [("broken", "status 503"), ("slow", "no answer in time"), ("hangs up", "connection failed")]
)
def test_a_server_that_does_not_get_better_is_given_up_at_the_deadline(server: Server, text: str, message: str) -> None:
    hasty = OpenAIPolicy(server.url, pause=0.01, timeout=0.2, deadline=0.5)
    [bad] = hasty.act([ask(text)])
    server.slow.set()
    hasty.close()
    assert bad.error is not None
    assert "gave up after 0.5 s" in bad.error
    assert message in bad.error
    assert "\n" not in bad.error


def test_a_refused_request_is_not_sent_again(policy: OpenAIPolicy, server: Server) -> None:
    policy.act([ask("long")])
    assert server.failures["long"] == 1


def test_the_key_comes_from_the_environment_and_a_wrong_one_is_one_line(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "secret"
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(BadInput, match=r"\$MY_KEY is not set"):
        OpenAIPolicy(server.url, api_key_env="MY_KEY")
    monkeypatch.setenv("MY_KEY", "wrong")
    with pytest.raises(BadInput, match=r"\$MY_KEY holds a key it does not take") as error:
        OpenAIPolicy(server.url, api_key_env="MY_KEY")
    assert "wrong" not in str(error.value)
    monkeypatch.setenv("MY_KEY", "secret")
    made = OpenAIPolicy(server.url, api_key_env="MY_KEY", sampling=Sampling(max_tokens=2))
    [answer] = made.act([ask("A door.")])
    assert answer.error is None
    server.key = "changed"
    with pytest.raises(BadInput, match="refuses access"):
        made.act([ask("A door.")])
    made.close()


def test_what_is_no_such_server_is_one_line(server: Server) -> None:
    web = server.url.removesuffix("/v1") + "/web"
    for url, message in [
        ("http://127.0.0.1:9/v1", "cannot be reached"),
        (web, "lists no models"),
        (server.url.removesuffix("/v1"), "with /v1 at its end"),
        ("127.0.0.1:8000", "is no server"),
        ("http://", "is no server"),
        ("http://[", "cannot be reached"),
    ]:
        with pytest.raises(BadInput, match=message) as error:
            OpenAIPolicy(url)
        assert "\n" not in str(error.value)


def test_an_unknown_model_is_told_with_the_nearest_names(server: Server) -> None:
    with pytest.raises(BadInput, match="it has tiny-large"):
        OpenAIPolicy(server.url, "tiny-larg")


def test_a_completion_carries_no_ids_so_it_is_tokenised_once_later(policy: OpenAIPolicy) -> None:
    [answer] = policy.act([ask("A door.")])
    assert policy.template is None
    assert (answer.ids, answer.logprobs) == (Completion("").ids, Completion("").logprobs)


HANGING = """
import sys, palaestra
from palaestra.agents.collect import Interrupted, collect
from palaestra.agents.policies.openai import OpenAIPolicy
from palaestra.agents.store import EpisodeStore

with EpisodeStore(sys.argv[2]) as store:
    try:
        collect(palaestra.find("bandit").split("train")[:4], OpenAIPolicy(sys.argv[1]), store, progress="quiet")
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        raise SystemExit(130) from None
"""


def test_ctrl_c_ends_a_collection_whose_server_hangs(server: Server, tmp_path: Path) -> None:
    server.hangs = True
    command = [sys.executable, "-c", HANGING, server.url, str(tmp_path / "episodes.sqlite")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while not server.asked.wait(0.1) and process.poll() is None:
            pass
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)  # the server hangs for longer, and the policy asks for longer
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.startswith("stopped: 0 episodes")
    assert "Traceback" not in errors


def test_close_waits_for_nothing_and_nothing_is_asked_again(server: Server) -> None:
    policy, answers = OpenAIPolicy(server.url, pause=1000.0, deadline=10_000.0), list[Completion]()
    waiting = threading.Thread(target=lambda: answers.extend(policy.act([ask("broken")])))
    waiting.start()
    server.asked.wait()
    policy.close()
    waiting.join()  # it would pause for minutes
    assert "was closed" in str(answers[0].error)
    assert server.failures["broken"] == 1


def test_a_password_in_the_address_is_sent_and_kept_nowhere(server: Server) -> None:
    made = OpenAIPolicy(server.url.replace("://", "://me:p%40ss@"), sampling=Sampling(max_tokens=2))
    made.act([ask("A door.")])
    made.close()
    assert server.authorizations == {"Basic bWU6cEBzcw=="}
    assert made.url == made.extra["url"] == server.url
    with pytest.raises(BadInput) as error:
        OpenAIPolicy("http://me:secret@127.0.0.1:9/v1")
    assert "secret" not in str(error.value)
